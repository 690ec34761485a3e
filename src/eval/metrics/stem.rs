//! The Porter stemmer with NLTK's changes, which METEOR and ROUGE of the Python packages use.
//!
//! M. Porter, "An algorithm for suffix stripping", Program 14.3 (1980); the changes are those of NLTK 3.10.4 in its
//! mode NLTK_EXTENSIONS. Any text may come: a character that is none of a, e, i, o, u, y counts as a consonant.

/// Words that have a stem by themselves.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes and their replacements, where the measure of the rest is above 0.
const STEP_2: [(&str, &str); 20] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: [(&str, &str); 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

/// Suffixes that go where the measure of the rest is above 1.
const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// The stem of a word in lower case.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return stem.to_string();
    }
    if length(word) <= 2 {
        return word.to_string();
    }
    let word = step_1b(step_1a(word));
    let word = step_3(step_2(step_1c(word)));
    step_5(step_4(word))
}

/// The number of characters.
fn length(word: &str) -> usize {
    word.chars().count()
}

/// Whether each character is a consonant: y is one at the start and after a vowel.
fn consonants(word: &str) -> impl Iterator<Item = bool> {
    word.chars().scan(false, |last, c| {
        *last = match c {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => !*last,
            _ => true,
        };
        Some(*last)
    })
}

/// The measure m of a word `[C](VC)^m[V]`.
fn measure(word: &str) -> usize {
    consonants(word).zip(consonants(word).skip(1)).filter(|pair| *pair == (false, true)).count()
}

/// The last three characters, and whether each is a consonant; the first may be missing.
fn tail(word: &str) -> [Option<(char, bool)>; 3] {
    word.chars().zip(consonants(word)).fold([None; 3], |[_, b, c], next| [b, c, Some(next)])
}

/// Ends in a consonant that stands twice.
fn ends_double(word: &str) -> bool {
    matches!(tail(word), [_, Some((a, _)), Some((b, true))] if a == b)
}

/// Ends in consonant, vowel, consonant other than w, x and y; or is a vowel and a consonant.
fn ends_short(word: &str) -> bool {
    match tail(word) {
        [Some((_, true)), Some((_, false)), Some((last, true))] => !"wxy".contains(last),
        [None, Some((_, false)), Some((_, true))] => true,
        _ => false,
    }
}

fn step_1a(word: &str) -> String {
    match word {
        _ if word.ends_with("ies") && length(word) == 4 => &word[..word.len() - 1],
        _ if word.ends_with("sses") || word.ends_with("ies") => &word[..word.len() - 2],
        _ if word.ends_with("ss") => word,
        _ => word.strip_suffix('s').unwrap_or(word),
    }
    .to_string()
}

fn step_1b(word: String) -> String {
    if let Some(rest) = word.strip_suffix("ied") {
        return rest.to_string() + if length(&word) == 4 { "ie" } else { "i" };
    }
    if let Some(rest) = word.strip_suffix("eed") {
        return if measure(rest) > 0 { rest.to_string() + "ee" } else { word };
    }
    let Some(rest) = word.strip_suffix("ed").or_else(|| word.strip_suffix("ing")) else { return word };
    if consonants(rest).all(|consonant| consonant) {
        return word;
    }
    let last = rest.chars().next_back().unwrap_or(' ');
    if ["at", "bl", "iz"].iter().any(|end| rest.ends_with(end)) {
        return rest.to_string() + "e";
    }
    if ends_double(rest) {
        return if "lsz".contains(last) { rest } else { &rest[..rest.len() - last.len_utf8()] }.to_string();
    }
    // the package's table names the rule of double consonants "*d", and so takes these characters for a suffix too
    if let Some(rest) = rest.strip_suffix("*d") {
        return rest.to_string() + "d";
    }
    rest.to_string() + if measure(rest) == 1 && ends_short(rest) { "e" } else { "" }
}

fn step_1c(word: String) -> String {
    match word.strip_suffix('y') {
        Some(rest) if length(rest) > 1 && consonants(rest).last() == Some(true) => rest.to_string() + "i",
        _ => word,
    }
}

fn step_2(word: String) -> String {
    // first, so that "conditionally" becomes "conditional" and then "condition"
    if let Some(rest) = word.strip_suffix("alli")
        && measure(rest) > 0
    {
        return replace(rest.to_string() + "al", &STEP_2);
    }
    match word.strip_suffix("logi") {
        // the l belongs to the rest, so that "geology" and "archaeology" agree
        Some(_) if measure(&word[..word.len() - 3]) > 0 => word[..word.len() - 1].to_string(),
        Some(_) => word,
        None => replace(word, &STEP_2),
    }
}

fn step_3(word: String) -> String {
    replace(word, &STEP_3)
}

/// Applies the first rule whose suffix the word has, if the measure of the rest is above 0.
fn replace(word: String, rules: &[(&str, &str)]) -> String {
    let found = rules.iter().find_map(|(suffix, new)| Some((word.strip_suffix(suffix)?, new)));
    match found {
        Some((rest, new)) if measure(rest) > 0 => rest.to_string() + new,
        _ => word,
    }
}

fn step_4(word: String) -> String {
    let found = STEP_4.iter().find_map(|suffix| Some((word.strip_suffix(suffix)?, suffix)));
    match found {
        Some((rest, suffix)) if measure(rest) > 1 && (*suffix != "ion" || rest.ends_with(['s', 't'])) => {
            rest.to_string()
        }
        _ => word,
    }
}

fn step_5(word: String) -> String {
    let word = match word.strip_suffix('e') {
        Some(rest) if measure(rest) > 1 || measure(rest) == 1 && !ends_short(rest) => rest.to_string(),
        _ => word,
    };
    let single = &word[..word.len() - usize::from(word.ends_with("ll"))];
    if measure(single) > 1 { single.to_string() } else { word }
}

#[cfg(test)]
mod tests {
    use super::stem;

    /// Stems of NLTK 3.10.4.
    #[test]
    fn stems_are_those_of_nltk() {
        #[rustfmt::skip]
        let pairs = [
            ("skies", "sky"), ("dying", "die"), ("innings", "inning"), ("flies", "fli"), ("spied", "spi"),
            ("died", "die"), ("agreed", "agre"), ("feed", "feed"), ("plastered", "plaster"), ("bled", "bled"),
            ("motoring", "motor"), ("sing", "sing"), ("conflated", "conflat"), ("troubled", "troubl"),
            ("sized", "size"), ("hopping", "hop"), ("falling", "fall"), ("hissing", "hiss"), ("fizzed", "fizz"),
            ("failing", "fail"), ("filing", "file"), ("happy", "happi"), ("sky", "sky"), ("enjoy", "enjoy"),
            ("spy", "spi"), ("relational", "relat"), ("conditional", "condit"), ("rational", "ration"),
            ("hesitancy", "hesit"), ("digitizer", "digit"), ("conformably", "conform"), ("radically", "radic"),
            ("differently", "differ"), ("vilely", "vile"), ("vietnamization", "vietnam"), ("predication", "predic"),
            ("operator", "oper"), ("feudalism", "feudal"), ("decisiveness", "decis"), ("hopefulness", "hope"),
            ("formality", "formal"), ("sensitivity", "sensit"), ("sensibility", "sensibl"), ("geology", "geolog"),
            ("archaeology", "archaeolog"), ("hopefully", "hope"), ("formative", "form"), ("formalize", "formal"),
            ("electricity", "electr"), ("electrical", "electr"), ("goodness", "good"), ("revival", "reviv"),
            ("airliner", "airlin"), ("gyroscopic", "gyroscop"), ("adjustable", "adjust"), ("replacement", "replac"),
            ("adjustment", "adjust"), ("adoption", "adopt"), ("homologous", "homolog"), ("angularity", "angular"),
            ("probate", "probat"), ("rate", "rate"), ("cease", "ceas"), ("roll", "roll"), ("yyying", "yy"),
            ("sayings", "say"), ("a*ding", "ad"), ("a*ded", "ad"), ("is", "is"), ("as", "as"), ("éés", "éé"),
            ("naïves", "naïv"), ("x2ed", "x2ed"), ("日本ed", "日本ed"), ("aed", "a"), ("oed", "o"), ("by", "by"),
            ("ies", "i"), ("eed", "eed"), ("ing", "ing"), ("ed", "ed"), ("'returns'", "'returns'"),
            ("value,", "value,"), ("returns;", "returns;"), ("getvalue()", "getvalue()"), ("alogi", "alog"),
            ("eating", "eat"), ("thing", "thing"), ("things", "thing"), ("using", "use"), ("used", "use"),
            ("uses", "use"), ("conditionally", "condit"), ("ally", "alli"), ("totally", "total"),
            ("generically", "gener"), ("abli", "abli"),
        ];
        for (word, expected) in pairs {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
