//! Special and added tokens of the files beside tokenizer.json, in the order in which transformers (5.23) adds them.
//!
//! The order decides ids: a token that the vocabulary does not have gets the next free one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::class::{Class, truth};

/// Names that every tokenizer may give to special tokens.
const STANDARD: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token as a file has it: a text, or a text with rules of where it matches.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Text(String),
    Ruled(Ruled),
}

/// A token with the rules of where it matches.
#[derive(Clone, Debug, PartialEq)]
struct Ruled {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    /// `None`: unless it is special.
    normalized: Option<bool>,
    special: bool,
}

impl Ruled {
    fn read(json: &Value) -> Option<Ruled> {
        let flag = |key: &str| json[key] == true;
        Some(Ruled {
            content: json["content"].as_str()?.to_string(),
            single_word: flag("single_word"),
            lstrip: flag("lstrip"),
            rstrip: flag("rstrip"),
            normalized: json["normalized"].as_bool(),
            special: flag("special"),
        })
    }

    fn special(content: &str) -> Ruled {
        let (single_word, lstrip, rstrip, normalized) = (false, false, false, None);
        Ruled { content: content.to_string(), single_word, lstrip, rstrip, normalized, special: true }
    }

    fn added(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

impl Token {
    fn read(json: &Value) -> Option<Token> {
        json.as_str().map(|text| Token::Text(text.to_string())).or_else(|| Ruled::read(json).map(Token::Ruled))
    }

    fn text(&self) -> &str {
        match self {
            Token::Text(text) => text,
            Token::Ruled(token) => &token.content,
        }
    }

    fn ruled(&self) -> Ruled {
        match self {
            Token::Text(text) => Ruled::special(text),
            Token::Ruled(token) => token.clone(),
        }
    }
}

/// The tokens that the files beside a tokenizer.json name.
pub(super) struct Special {
    /// Special tokens by name, the standard names first.
    named: Vec<(String, Token)>,
    /// Special tokens without a name.
    extra: Vec<Token>,
    /// Added tokens, by the id that the file gives.
    added: BTreeMap<u64, Ruled>,
    /// Whether special tokens in a text are split as any other text.
    pub split: bool,
    /// Whether the class adds its special tokens once more, without their rules.
    again: bool,
}

/// The files that are read only where tokenizer_config.json has no `added_tokens_decoder`, as older ones have not.
pub(super) struct Older {
    /// special_tokens_map.json.
    pub map: Option<Value>,
    /// added_tokens.json.
    pub added: Option<Value>,
}

impl Special {
    /// The tokens of tokenizer_config.json, of the `older` files and of `listed`, the added tokens of tokenizer.json.
    ///
    /// Errors with a sentence about a key of tokenizer_config.json or special_tokens_map.json.
    pub fn read(
        config: &Value, older: Option<Older>, listed: &Value, class: Option<&Class>,
    ) -> Result<Special, String> {
        let mut keys = config.as_object().cloned().unwrap_or_default();
        if !truth(config, "extra_special_tokens", false)
            && let Some(list) = keys.shift_remove("additional_special_tokens")
        {
            keys.insert("extra_special_tokens".into(), list);
        }
        // names of the model's own
        let own = |key: &str| key.ends_with("_token") && !STANDARD.contains(&key);
        let texts = |keys: &Map<String, Value>| {
            let text = keys.iter().filter(|(key, value)| own(key) && value.is_string());
            text.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>()
        };
        let mut explicit = texts(&keys);
        keys.retain(|key, value| !(own(key) && value.is_string()));
        take_names(&mut keys, &mut explicit);
        if explicit.is_empty()
            && let Some(Value::Object(names)) = keys.get("model_specific_special_tokens")
        {
            explicit = names.clone();
        }

        let mut added = BTreeMap::new();
        match older {
            None => {
                for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
                    let read = id.parse().ok().zip(Ruled::read(token));
                    let why = || format!("`added_tokens_decoder`[{id}] must be a token with a `content`, under its id");
                    let (id, token) = read.ok_or_else(why)?;
                    added.insert(id, token);
                }
            }
            Some(older) => {
                merge(&mut keys, older.map);
                take_names(&mut keys, &mut explicit);
                let special: Vec<String> = (STANDARD.iter().filter_map(|key| keys.get(*key)))
                    .chain(keys.get("extra_special_tokens").and_then(Value::as_array).into_iter().flatten())
                    .filter_map(|value| Some(Token::read(value)?.text().to_string()))
                    .collect();
                for (content, id) in older.added.iter().filter_map(Value::as_object).flatten() {
                    let why = || format!("added_tokens.json: `{content}` must have an id, not {id}");
                    let id = id.as_u64().ok_or_else(why)?;
                    let special = special.contains(content);
                    added.insert(id, Ruled { normalized: Some(!special), special, ..Ruled::special(content) });
                }
                for token in listed.as_array().into_iter().flatten() {
                    added.extend(token["id"].as_u64().zip(Ruled::read(token)));
                }
            }
        }
        let rules: BTreeMap<&str, &Ruled> = added.values().map(|token| (token.content.as_str(), token)).collect();
        let token = |key: &str, value: &Value| {
            let why = || format!("`{key}` must be a string, or an object with `content`, not {value}");
            Token::read(value).ok_or_else(why)
        };
        let defaults = class.map_or(&[][..], |class| class.defaults);
        let mut named: Vec<(String, Option<Token>)> = Vec::new();
        for key in STANDARD {
            let default = defaults.iter().find(|(name, _)| *name == key).map(|(_, text)| Token::Text(text.to_string()));
            let token = match keys.get(key) {
                None => default,
                Some(Value::Null) => None,
                Some(value) => {
                    let token = token(key, value)?;
                    let ruled = rules.get(token.text()).map(|ruled| Token::Ruled((*ruled).clone()));
                    Some(ruled.unwrap_or(token))
                }
            };
            named.push((key.to_string(), token));
        }
        // keys that are left by now come before those that were collected as names
        let left = keys.iter().filter(|(key, value)| own(key) && Token::read(value).is_some());
        let mut specific: Map<String, Value> = left.map(pair).collect();
        let class_own = defaults.iter().filter(|(key, _)| !STANDARD.contains(key));
        for (key, text) in class_own.clone() {
            specific.entry(*key).or_insert_with(|| Value::from(*text));
        }
        specific.extend(explicit);
        for (key, value) in &specific {
            let token = Some(token(key, value)?);
            match named.iter_mut().find(|(name, _)| name == key) {
                Some(standard) => standard.1 = token,
                None => named.push((key.clone(), token)),
            }
        }
        let named = named.into_iter().filter_map(|(name, token)| Some((name, token?))).collect();
        let list = |key: &str| {
            let list = keys.get(key).and_then(Value::as_array).into_iter().flatten();
            list.map(|value| token(key, value)).collect::<Result<Vec<_>, _>>()
        };
        let mut extra = list("extra_special_tokens")?;
        if !keys.contains_key("extra_special_tokens") {
            extra = list("additional_special_tokens")?;
            extra.extend(class_own.map(|(_, text)| Token::Text(text.to_string())));
        }
        let (split, again) = (truth(config, "split_special_tokens", false), class.is_some_and(Class::adds_again));
        Ok(Special { named, extra, added, split, again })
    }

    /// Adds the tokens to `inner`.
    pub fn add_to(&self, inner: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
        let mut known: Vec<String> = inner.get_added_tokens_decoder().into_values().map(|t| t.content).collect();
        let mut tokens: Vec<Token> = self.added.values().cloned().map(Token::Ruled).collect();
        known.extend(self.added.values().map(|token| token.content.clone()));
        for token in self.named.iter().map(|(_, token)| token).chain(&self.extra) {
            if !known.iter().any(|known| known == token.text()) && !tokens.contains(token) {
                tokens.push(token.clone());
            }
        }
        let is_named = |text: &str| self.named.iter().any(|(_, token)| token.text() == text);
        inner.add_tokens(tokens.iter().map(|token| {
            let token = token.ruled();
            let special = token.special || is_named(&token.content);
            Ruled { special, ..token }.added()
        }))?;
        if self.again {
            let all = self.named.iter().map(|(_, token)| token).chain(&self.extra);
            inner.add_tokens(all.map(|token| Ruled::special(token.text()).added()))?;
        }
        inner.set_encode_special_tokens(self.split);
        Ok(())
    }

    /// Name and text of the special tokens that have a name.
    pub fn names(&self) -> Vec<(String, String)> {
        self.named.iter().map(|(name, token)| (name.clone(), token.text().to_string())).collect()
    }
}

fn pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// Moves extra special tokens that have names to `names`.
fn take_names(keys: &mut Map<String, Value>, names: &mut Map<String, Value>) {
    if let Some(Value::Object(extra)) = keys.get("extra_special_tokens") {
        names.extend(extra.iter().map(pair));
        keys.shift_remove("extra_special_tokens");
    }
}

/// Lets special_tokens_map.json overwrite keys of tokenizer_config.json; its extra tokens are added to those there.
fn merge(keys: &mut Map<String, Value>, map: Option<Value>) {
    let Some(Value::Object(map)) = map else { return };
    for (key, mut value) in map {
        if let (Value::Array(list), "extra_special_tokens") = (&mut value, key.as_str()) {
            let mut all = keys.get(&key).and_then(Value::as_array).cloned().unwrap_or_default();
            for token in list.drain(..) {
                if !all.contains(&token) {
                    all.push(token);
                }
            }
            value = all.into();
        } else if value["content"].is_string() {
            value["special"] = true.into();
        }
        keys.insert(key, value);
    }
}
