//! Whatever the bytes: sound spans or one clear refusal, without a deep stack, and with work in proportion to the
//! length.

use crate::fuzz::{check_code, check_spans};
use crate::snippets;
use crate::support::trials::trials;
use eyekern::salience::labels::compat::artifact;
use eyekern::salience::labels::{Calls, label, label_tree};
use eyekern::salience::syntax::{Language, parse};
use libtest_mimic::Trial;
use proptest::prelude::*;
use std::path::Path;

use Language::*;

pub fn trials() -> Vec<Trial> {
    trials!(plain:
        names_and_extensions_lead_to_languages,
        blank_code_has_no_spans,
        leaves_come_in_order_with_their_bytes,
        a_bare_method_keeps_its_offsets_and_lines,
        a_comment_ends_before_the_carriage_return,
        bytes_that_are_no_utf8_and_nul_are_taken,
        what_is_never_closed_is_labelled_or_left_out,
        characters_across_reads_stay_whole,
        nested_expressions_do_not_need_a_stack,
        nested_blocks_and_chains_do_not_need_a_stack,
        nested_functions_do_not_need_a_stack,
        brackets_without_partners_are_labelled_or_refused,
        code_that_no_parser_gets_through_is_refused,
        steps_of_the_parser_grow_with_the_length,
        labelling_takes_linear_time,
        a_line_of_10_megabytes_is_labelled,
        the_published_listing_does_not_double_without_end,
        any_bytes_are_labelled,
        any_splice_of_code_is_labelled,
    )
    .into()
}

/// Spans of code that must not be refused.
fn spans(code: &[u8], language: Language) -> Vec<eyekern::salience::Span> {
    let spans = label(code, language, Calls::Syntax).expect("spans");
    check_spans(code, &spans);
    spans
}

/// On a thread with a stack of 256 kB: recursion over deep trees would not fit.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(run).expect("a thread");
    thread.join().expect("no panic");
}

fn names_and_extensions_lead_to_languages() {
    for language in Language::ALL {
        assert_eq!(language.to_string().parse::<Language>().expect("its own name"), language);
    }
    let path = |file: &str| Language::from_path(Path::new(file)).expect(file);
    assert_eq!([path("a/B.java"), path("x.CS"), path("x.tsx"), path("x.jsx")], [Java, CSharp, TypeScript, JavaScript]);
}

fn blank_code_has_no_spans() {
    for language in Language::ALL {
        for code in ["", " ", "\n\n\t", "\u{feff}", "\r\n"] {
            assert!(spans(code.as_bytes(), language).is_empty(), "{language} {code:?}");
        }
    }
}

fn leaves_come_in_order_with_their_bytes() {
    let code = b"int f(int a) { return a; } // end";
    let tree = parse(code, Java).expect("a tree");
    assert!(!tree.has_error());
    let leaves: Vec<_> =
        tree.leaves().map(|l| (std::str::from_utf8(&code[l.start..l.end]).expect("text"), l.kind)).collect();
    let texts: Vec<_> = leaves.iter().map(|l| l.0).collect();
    assert_eq!(texts, ["int", "f", "(", "int", "a", ")", "{", "return", "a", ";", "}", "// end"]);
    assert_eq!((leaves[1].1, leaves[2].1), ("identifier", "("));
}

fn a_bare_method_keeps_its_offsets_and_lines() {
    let codes = [
        (Java, "public int f() {\n  return g;\n}"),
        (CSharp, "public int f() {\n  return g;\n}"),
        (JavaScript, "async f() {\n  return g;\n}"),
        (TypeScript, "private f(): void {\n  return g;\n}"),
        (Python, "  def f(self):\n    return g\n"),
        (Cpp, "public:\n virtual int f() override { return g; }"),
    ];
    for (language, code) in codes {
        let list = spans(code.as_bytes(), language);
        let last = list.last().expect("spans");
        assert_eq!((&code[last.start..last.end], last.line), ("g", 1), "{language}");
        assert!(!parse(code.as_bytes(), language).expect("a tree").has_error(), "{language}");
    }
}

fn a_comment_ends_before_the_carriage_return() {
    for language in [Java, C, Rust, Go] {
        let code = "// a b \r\nx";
        assert_eq!(
            spans(code.as_bytes(), language).first().map(|s| &code[s.start..s.end]),
            Some("// a b"),
            "{language}"
        );
    }
}

fn bytes_that_are_no_utf8_and_nul_are_taken() {
    let mut code = b"void f() { String s = \"a\xff\xfeb\"; \xc3\x28 = 1; } // \x80".to_vec();
    assert!(spans(&code, Java).iter().any(|s| &code[s.start..s.end] == b"\"a\xff\xfeb\""));
    code.extend([0, 0, 0xff]);
    let zeros = [0; 5000];
    for language in Language::ALL {
        assert!(!spans(&code, language).is_empty(), "{language}");
        check_code(&zeros, language, Calls::Syntax);
    }
}

fn what_is_never_closed_is_labelled_or_left_out() {
    for language in Language::ALL {
        for open in ["\"abc", "'abc", "`abc ${", "'''abc", "\"\"\"abc", "/* abc", "// abc", "# abc", "R\"x(abc", "@\"a"]
        {
            for before in ["", "int f() { x = ", "f()\n  "] {
                assert!(check_code(format!("{before}{open}").as_bytes(), language, Calls::Syntax), "{language} {open}");
            }
        }
    }
}

/// Reads of the parser end within characters and within bytes that are none.
fn characters_across_reads_stay_whole() {
    for language in [Java, Python, Rust] {
        for byte in ["é", "語", "😀"] {
            for shift in 0..4 {
                let name = format!("x{}{}", "y".repeat(shift), byte.repeat(20_000));
                let mut code = format!("f({name})").into_bytes();
                let list = spans(&code, language);
                assert!(
                    list.iter().any(|s| byte == "😀" || s.end - s.start == name.len()),
                    "{language} {byte} {shift}"
                );
                code.truncate(code.len() - 2);
                spans(&code, language);
            }
        }
        spans(&b"\xe8\xaa".repeat(20_000), language);
    }
}

/// What stands before and behind an expression, and whether there are braces.
fn around(language: Language) -> (&'static str, &'static str) {
    match language {
        Python | JavaScript | TypeScript => ("x = ", "\n"),
        Go => ("func f() { x = ", " }"),
        Rust => ("fn f() { x = ", "; }"),
        _ => ("void f() { x = ", "; }"),
    }
}

const DEEP: usize = 100_000;
/// Where each level takes the parser long.
const LESS_DEEP: usize = 2_000;

/// Parses and labels `code`, of spans at least so many.
fn deep(code: String, language: Language, least: usize) {
    let n = spans(code.as_bytes(), language).len();
    assert!(n >= least, "{language}: {n} spans of {:.60}", code);
}

fn nested_expressions_do_not_need_a_stack() {
    on_a_small_stack(|| {
        for language in Language::ALL {
            let (before, after) = around(language);
            for (open, inner, close) in [("(", "1", ")"), ("f(", "", ")"), ("[", "1", "]"), ("-(", "a", ")")] {
                if open == "[" && matches!(language, Java | CSharp | C | Cpp | Go) {
                    continue; // no list literal
                }
                let n = if open == "(" { DEEP } else { LESS_DEEP };
                let least = if open == "f(" || open == "-(" { n } else { 3 };
                deep(format!("{before}{}{inner}{}{after}", open.repeat(n), close.repeat(n)), language, least);
            }
            let not = if language == Python { "not " } else { "!" };
            let n = if language == Java { DEEP } else { LESS_DEEP };
            deep(format!("{before}{}a{after}", not.repeat(n)), language, n);
        }
    });
}

fn nested_blocks_and_chains_do_not_need_a_stack() {
    on_a_small_stack(|| {
        let braced = [Java, CSharp, JavaScript, TypeScript, Go, C, Cpp, Rust];
        for language in braced {
            let (before, _) = around(language);
            let head = before.trim_end_matches("x = ");
            let end = if head.is_empty() { "" } else { "}" };
            let n = if language == Java { DEEP } else { LESS_DEEP };
            deep(format!("{head}{}x{};{end}", "{".repeat(n), "}".repeat(n)), language, 1);
            let link = match language {
                Go | Rust => "if a { b() } else ",
                _ => "if (a) { b(); } else ",
            };
            deep(format!("{head}{}{{ c() }} {end}", link.repeat(n)), language, 3 * n);
        }
    });
}

fn nested_functions_do_not_need_a_stack() {
    on_a_small_stack(|| {
        let lambdas = [
            (Java, "a -> "),
            (CSharp, "a => "),
            (JavaScript, "a => "),
            (TypeScript, "a => "),
            (Python, "lambda a: "),
            (Rust, "|a| "),
        ];
        for (language, link) in lambdas {
            let (before, after) = around(language);
            let n = if language == Java { DEEP } else { LESS_DEEP };
            deep(format!("{before}{}1{after}", link.repeat(n)), language, n);
        }
        let nested = [
            (Java, "new A() { void f() { ", "} };"),
            (JavaScript, "(function() { ", "})();"),
            (Go, "func() { ", " }()\n"),
        ];
        for (language, open, close) in nested {
            let (before, _) = around(language);
            let head = before.trim_end_matches("x = ");
            let end = if head.is_empty() { "" } else { "}" };
            let n = if language == Java { DEEP } else { LESS_DEEP };
            deep(format!("{head}{}{}{end}", open.repeat(n), close.repeat(n)), language, n);
        }
    });
}

fn brackets_without_partners_are_labelled_or_refused() {
    on_a_small_stack(|| {
        for language in Language::ALL {
            for bracket in ["(", "{", "["] {
                let code = bracket.repeat(if language == Java { DEEP } else { 4 * LESS_DEEP });
                if let Ok(spans) = label(code.as_bytes(), language, Calls::Lexicon) {
                    check_spans(code.as_bytes(), &spans);
                }
            }
            for bracket in [")", "}", "]", "<", ">", "a<", "\"", "'", "`${"] {
                check_code(bracket.repeat(300).as_bytes(), language, Calls::Lexicon);
            }
        }
    });
}

/// Code on which the parser itself would take minutes or gigabytes. Whether it is refused is its own affair; that it
/// comes back is tested.
fn code_that_no_parser_gets_through_is_refused() {
    let worst = [
        // every open bracket may begin a type or a comparison: all readings would take 5 GB and more
        (Java, "", "a<", 100_000),
        (CSharp, "", "a<", 100_000),
        // each `/*` looks for its end in vain
        (JavaScript, "", "x /* ", 100_000),
        (Python, "", "\\\n", 100_000),
        // thousands of reductions for one token
        (Rust, "f(", "}}& ", 12_000),
    ];
    for (language, before, repeated, times) in worst {
        let code = format!("{before}{}", repeated.repeat(times));
        let refusal = label(code.as_bytes(), language, Calls::Lexicon).expect_err(repeated);
        let n = code.len();
        let expected = format!("{n} bytes do not parse as {language} in reasonable time: is the language right?");
        assert_eq!(refusal.to_string(), expected);
        assert_eq!(refusal.exit_code(), 2);
    }
}

fn steps_of_the_parser_grow_with_the_length() {
    let words = "It is a truth universally acknowledged, that a single man in possession of a good fortune. ";
    for (language, list) in snippets::ALL {
        let sound: String = list.iter().map(|(code, _)| format!("{code}\n")).collect();
        for piece in [sound.as_str(), words, "+", "} ", "f(", "0"] {
            let steps = |bytes: usize| {
                let code = piece.repeat(bytes.div_ceil(piece.len()));
                // refused only where a machine stands still: words are no code
                parse(code.as_bytes(), language).ok().map(|tree| tree.steps() as f64 / code.len() as f64)
            };
            let (Some(small), Some(large)) = (steps(2_000), steps(8_000)) else {
                assert!(piece != sound, "{language}: refused");
                continue;
            };
            assert!(large < 1.5 * small, "{language}: {small} steps a byte grow to {large} of {piece:.30}");
            assert!(large < 25.0, "{language}: {large} steps a byte of {piece:.30}");
        }
    }
}

/// The processor's time of this thread, in ticks of 10 ms: other processes do not count.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().expect("fields behind the name").split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum()
}

/// Ticks of one run; the mean of as many as take 20.
fn cost(run: impl Fn()) -> f64 {
    let (begin, mut runs) = (ticks(), 0);
    while ticks() < begin + 20 {
        run();
        runs += 1;
    }
    (ticks() - begin) as f64 / f64::from(runs)
}

fn labelling_takes_linear_time() {
    // many statements; many names and then many methods; many declarations in one scope; one deep expression
    let codes: [fn(usize) -> String; 4] = [
        |n| format!("void f() {{ {} }}", "total = total + g(x, 1); ".repeat(n)),
        |n| {
            let names: String = (0..n).map(|i| format!("int v{i};")).collect();
            format!("void f() {{ {names} }} {}", "void g() { }".repeat(n))
        },
        |n| (0..n).map(|i| format!("int v{i} = v{};\n", i / 2)).collect(),
        |n| format!("void f() {{ x = {}1{}; }}", "(a + ".repeat(n), ")".repeat(n)),
    ];
    for (i, code) in codes.into_iter().enumerate() {
        let time = |n: usize| {
            let code = code(n);
            let tree = parse(code.as_bytes(), Java).expect("a tree");
            assert!(!tree.has_error());
            cost(|| check_spans(b"", &label_tree(code.as_bytes(), &tree, Calls::Lexicon)[..0]))
        };
        let (small, large) = (time(500), time(16_000));
        // 32 times the code: linear is 32, several times that with a full cache on a busy machine; quadratic is 1024
        assert!(large < 400.0 * small, "code {i}: {small} ticks grow to {large} ticks");
    }
}

fn a_line_of_10_megabytes_is_labelled() {
    let piece = format!("total = total + g(x, \"{}\");", "y".repeat(200));
    let n = 10_000_000 / piece.len();
    let code = format!("class A {{ void f() {{ {} }} }}", piece.repeat(n));
    assert_eq!(spans(code.as_bytes(), Java).len(), 4 + n * 7);
    for language in Language::ALL {
        let comment = if language == Python { "# " } else { "// " };
        let code = format!("{comment}{}", "x".repeat(10_000_000));
        assert_eq!(spans(code.as_bytes(), language).len(), 1, "{language}");
    }
}

fn the_published_listing_does_not_double_without_end() {
    let nested = |n: usize, inner: &str| {
        let (open, close) = ("g(new A() { void f() { ".repeat(n), " } });".repeat(n));
        format!("void f() {{ {open}{inner}{close} }}")
    };
    assert!(artifact(nested(20, "x();").as_bytes(), Java, Calls::Lexicon).is_ok());
    // many tokens; many brackets that are none
    for code in [nested(3000, ""), nested(300, &"{}".repeat(100_000))] {
        assert!(label(code.as_bytes(), Java, Calls::Lexicon).is_ok());
        let refusal = artifact(code.as_bytes(), Java, Calls::Lexicon).expect_err("a refusal");
        assert_eq!(
            refusal.to_string(),
            "methods nest so deeply in anonymous classes that listing each by itself has no end: label without the \
             artifact's order"
        );
    }
}

/// Pieces of the snippets of all languages, in any order.
fn splices() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<&str> = snippets::ALL.iter().flat_map(|(_, list)| list.iter().map(|s| s.0)).collect();
    let n = all.len();
    let piece = (0..n, any::<prop::sample::Index>(), 1..60usize).prop_map(move |(i, at, length)| {
        let code = all[i].as_bytes();
        let start = at.index(code.len());
        code[start..(start + length).min(code.len())].to_vec()
    });
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    fn any_bytes_are_labelled(code in prop::collection::vec(any::<u8>(), 0..300), calls in any::<bool>()) {
        let calls = if calls { Calls::Lexicon } else { Calls::Syntax };
        for language in Language::ALL {
            prop_assert!(check_code(&code, language, calls));
        }
    }

    fn any_splice_of_code_is_labelled(code in splices()) {
        for language in Language::ALL {
            prop_assert!(check_code(&code, language, Calls::Syntax));
        }
    }
}
