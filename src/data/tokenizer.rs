//! A Hugging Face `tokenizer.json`, with one rule for BOS, a known EOS and honest byte offsets.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::{Encoding, PostProcessorWrapper};

use super::chat::Chat;
use super::contain::contained;
use crate::error::{Error, Result};

const SAVE: &str = "`AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)` writes one";

/// One subword of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Token id.
    pub id: u32,
    /// First byte of the text that the subword stands for.
    pub start: usize,
    /// One past its last byte. Subwords that share a character all span the whole of it, and so does a mark that the
    /// tokenizer puts before the first word.
    pub end: usize,
}

/// Text to ids and back.
///
/// The BOS rule: an example begins with BOS exactly once, and only where the tokenizer itself adds it (its
/// post-processor, or `add_bos_token` in tokenizer_config.json). Text is always encoded without special tokens, so
/// that parts of a row can be encoded on their own and joined; special tokens spelled out in the text are kept.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: PathBuf,
    digest: blake3::Hash,
    chat: Option<Chat>,
    bos: Option<u32>,
    eos: u32,
    id_end: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `dir` (or the .json file that `dir` names). EOS and BOS come from
    /// tokenizer_config.json beside it, else EOS from generation_config.json or config.json.
    ///
    /// Errors with one sentence if the file is missing or unusable, or if no EOS is known.
    pub fn load(dir: &Path) -> Result<Tokenizer> {
        let file = if dir.extension().is_some_and(|e| e == "json") && !dir.is_dir() {
            dir.to_path_buf()
        } else {
            dir.join("tokenizer.json")
        };
        let bytes = match fs::read(&file) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::file(&file, format!("there is no such file, and a tokenizer is needed; {SAVE}")));
            }
            bytes => bytes.map_err(Error::io(&file, "read"))?,
        };
        let mut tokenizer = Tokenizer::parse(&bytes, &file)?;

        let config = optional_json(&file.with_file_name("tokenizer_config.json"))?.unwrap_or_default();
        tokenizer.chat = Chat::beside(&file, &config)?;
        let bos = tokenizer.declared(&config, "bos_token")?;
        tokenizer.bos = tokenizer.added()?.0;
        if tokenizer.bos.is_none() && config["add_bos_token"] == Value::Bool(true) {
            let why = "`add_bos_token` is set in tokenizer_config.json, but no `bos_token` is named there";
            tokenizer.bos = Some(bos.ok_or_else(|| Error::file(&file, why))?);
        }
        let mut eos = tokenizer.declared(&config, "eos_token")?;
        for name in ["generation_config.json", "config.json"] {
            if eos.is_none() {
                let config = optional_json(&file.with_file_name(name))?.unwrap_or_default();
                let id = &config["eos_token_id"];
                let id = id.as_u64().or_else(|| id[0].as_u64()).and_then(|id| u32::try_from(id).ok());
                eos = id.filter(|&id| tokenizer.inner.id_to_token(id).is_some());
            }
        }
        tokenizer.end_with(eos)
    }

    /// A tokenizer held in memory, in the form of `tokenizer.json`. `eos` is the text of the EOS token; it may be
    /// left out where the post-processor itself ends a sequence with EOS.
    pub fn from_bytes(tokenizer_json: &[u8], eos: Option<&str>) -> Result<Tokenizer> {
        let mut tokenizer = Tokenizer::parse(tokenizer_json, Path::new("tokenizer.json"))?;
        tokenizer.bos = tokenizer.added()?.0;
        let eos = eos.map(|text| tokenizer.id("eos_token", text)).transpose()?;
        tokenizer.end_with(eos)
    }

    /// With this chat template.
    pub fn with_chat(self, chat: Chat) -> Tokenizer {
        Tokenizer { chat: Some(chat), ..self }
    }

    /// Splits `text` into subwords, without BOS and EOS.
    pub fn encode(&self, text: &str) -> Result<Vec<Piece>> {
        let encoding =
            outcome(|| self.inner.encode(text, false)).map_err(|e| self.fault("cannot encode a text", &e))?;
        let offsets = encoding.get_offsets();
        Ok(encoding.get_ids().iter().zip(offsets).map(|(&id, &(start, end))| Piece { id, start, end }).collect())
    }

    /// TEMPORARY
    pub fn encode_behind(&self, text: &str) -> Result<Vec<Piece>> {
        self.encode(text)
    }

    /// What a model is given to continue `prompt`: the same ids that begin a training example with this prompt.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let pieces = self.encode(prompt)?;
        let bos = self.missing_bos(pieces.first().map(|p| p.id));
        Ok(bos.into_iter().chain(pieces.iter().map(|p| p.id)).collect())
    }

    /// The BOS to put before a sequence whose text starts with the id `first`; `None` where the tokenizer adds none
    /// or the text has it already.
    pub fn missing_bos(&self, first: Option<u32>) -> Option<u32> {
        self.bos.filter(|&bos| first != Some(bos))
    }

    /// Text of `ids`, special tokens left out; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        outcome(|| self.inner.decode(ids, true)).map_err(|e| self.fault("cannot decode", &e))
    }

    /// Whether the text before this token may still change by the tokens behind it: it is a byte of its own, or has no
    /// text and so does not part two bytes.
    pub(crate) fn may_change(&self, id: u32) -> bool {
        let special = |token: &str| self.inner.get_added_vocabulary().is_special_token(token);
        self.inner.id_to_token(id).is_none_or(|token| lone_byte(&token).is_some() || special(&token))
    }

    /// Whether a token is marked as special: no text that a model writes has it by chance.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        self.inner.id_to_token(id).is_some_and(|token| added.is_special_token(&token))
    }

    /// What one token looks like inside a text, for display: its leading space is kept, special tokens are shown.
    pub fn token_text(&self, id: u32) -> String {
        // Some decoders drop the space before the first token, so look at what a second one adds.
        let text = |ids: &[u32]| outcome(|| self.inner.decode(ids, false)).unwrap_or_default();
        let once = text(&[id]);
        text(&[id, id]).strip_prefix(&once).map_or(once.clone(), str::to_string)
    }

    /// The bytes that a token stands for; several tokens may share a character, and each has some of its bytes.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let text = self.token_text(id);
        if !text.contains('\u{fffd}') {
            return text.into_bytes();
        }
        // no whole characters: the vocabulary spells the bytes, as `<0xE6>` or in the alphabet of GPT-2
        let spelled = self.inner.id_to_token(id).unwrap_or_default();
        match lone_byte(&spelled) {
            Some(byte) => vec![byte],
            None => spelled.chars().map(spelled_byte).collect::<Option<_>>().unwrap_or(text.into_bytes()),
        }
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// One more than the largest id that can come out of [`Tokenizer::encode`].
    pub fn id_end(&self) -> usize {
        self.id_end
    }

    /// A hash of tokenizer.json, byte for byte, and of the chat template.
    pub fn digest(&self) -> blake3::Hash {
        match &self.chat {
            None => self.digest,
            Some(chat) => {
                let mut hash = blake3::Hasher::new_keyed(self.digest.as_bytes());
                for (_, text) in chat.sources() {
                    hash.update(text.as_bytes());
                }
                hash.finalize()
            }
        }
    }

    /// The model's chat template, if it brings one.
    pub fn chat(&self) -> Option<&Chat> {
        self.chat.as_ref()
    }

    /// The id that begins every example, where the tokenizer adds one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The id that ends every completion.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    fn parse(bytes: &[u8], file: &Path) -> Result<Tokenizer> {
        let unusable =
            |e: &dyn std::fmt::Display| Error::file(file, format!("not a usable tokenizer.json ({e}); {SAVE}"));
        let json: Value = serde_json::from_slice(bytes).map_err(|e| unusable(&format!("not valid JSON: {e}")))?;
        for part in ["normalizer", "decoder"] {
            let growth = growth(&json[part]);
            if growth > MOST_GROWTH {
                return Err(unusable(&format!("its {part} can make a text {growth:.0} times as long")));
            }
        }
        drop(json);
        let mut inner = outcome(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(|e| unusable(&e))?;
        // Length is the business of the corpus, which counts what it cuts.
        inner.with_truncation(None).map_err(|e| unusable(&e))?;
        inner.with_padding(None);
        let processor = inner.get_post_processor().cloned().map(keep_spaces);
        inner.with_post_processor(processor);
        let id_end = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        Ok(Tokenizer {
            inner,
            file: file.to_path_buf(),
            digest: blake3::hash(bytes),
            chat: None,
            bos: None,
            eos: 0,
            id_end,
        })
    }

    /// The special tokens that the post-processor puts right before and right after a text.
    fn added(&self) -> Result<(Option<u32>, Option<u32>)> {
        // The processor is shown a token of our own, since a small vocabulary may have none for any text of ours.
        let text = Encoding::from_tokens(vec![tokenizers::Token::new(0, String::new(), (0, 0))], 0);
        let framed = outcome(|| self.inner.post_process(text, None, true));
        let framed = framed.map_err(|e| self.fault("cannot frame a text", &e))?;
        let mut tokens = framed.get_ids().iter().zip(framed.get_special_tokens_mask());
        let special = |token: Option<(&u32, &u32)>| token.filter(|&(_, &special)| special == 1).map(|(&id, _)| id);
        Ok((special(tokens.next()), special(tokens.next_back())))
    }

    fn end_with(mut self, eos: Option<u32>) -> Result<Tokenizer> {
        let why = "no end-of-sequence token is known; name `eos_token` in tokenizer_config.json or `eos_token_id` in \
                   config.json beside it";
        self.eos = match eos {
            Some(eos) => eos,
            None => self.added()?.1.ok_or_else(|| Error::file(&self.file, why))?,
        };
        Ok(self)
    }

    /// The id of a token that tokenizer_config.json names as a string or as `{"content": ...}`.
    fn declared(&self, config: &Value, key: &str) -> Result<Option<u32>> {
        let token = &config[key];
        let text = token.as_str().or_else(|| token["content"].as_str());
        text.map(|text| self.id(key, text)).transpose()
    }

    fn id(&self, key: &str, text: &str) -> Result<u32> {
        let why = || {
            let text: String = text.chars().take(80).collect();
            format!("the vocabulary has no token `{text}`, which is named as `{key}`")
        };
        self.inner.token_to_id(text).ok_or_else(|| Error::file(&self.file, why()))
    }

    fn fault(&self, what: &str, e: &dyn std::fmt::Display) -> Error {
        Error::file(&self.file, format!("{what} ({e})"))
    }
}

/// What the library gives, or why not, in a line.
fn outcome<T>(f: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, String> {
    let text = |e: tokenizers::Error| e.to_string().replace('\n', " ").chars().take(200).collect();
    contained(f)?.map_err(text)
}

/// How many times as long a text may become by replacements. Those in use make it 3 times as long, a space of one byte
/// being written as a mark of three; six of that kind fit.
const MOST_GROWTH: f64 = 4096.0;

/// By what factor the parts of a normalizer or decoder can lengthen a text, one after the other: a list of
/// replacements that double it exhausts any memory.
fn growth(part: &Value) -> f64 {
    let inner = || match part {
        Value::Object(map) => map.values().map(growth).product(),
        Value::Array(list) => list.iter().map(growth).product::<f64>(),
        _ => 1.0,
    };
    match part["type"].as_str() {
        Some("Replace") => {
            // a pattern may match between any two characters, too
            part["content"].as_str().map_or(1.0, |text| text.len() as f64 + 1.0)
        }
        Some("ByteLevel") => 2.0,
        _ => inner(),
    }
}

/// The same post-processor with offsets that keep leading spaces: byte-level ones may cut them ("trim_offsets"),
/// which leaves a subword of spaces without a place in the text.
fn keep_spaces(processor: PostProcessorWrapper) -> PostProcessorWrapper {
    match processor {
        PostProcessorWrapper::ByteLevel(p) => p.trim_offsets(false).into(),
        PostProcessorWrapper::Roberta(p) => p.trim_offsets(false).into(),
        PostProcessorWrapper::Sequence(mut p) => {
            p.as_mut().iter_mut().for_each(|part| *part = keep_spaces(part.clone()));
            p.into()
        }
        other => other,
    }
}

/// The byte that a token such as `<0xE6>` stands for.
fn lone_byte(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())
}

/// The byte that a character of GPT-2's alphabet stands for: itself where it prints in Latin-1; the others follow from
/// U+0100 on, in order.
fn spelled_byte(c: char) -> Option<u8> {
    let prints = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(prints),
        code => (0..=u8::MAX).filter(|byte| !prints(byte)).nth(usize::try_from(code - 0x100).ok()?),
    }
}

/// The JSON of a file that may be absent.
fn optional_json(file: &Path) -> Result<Option<Value>> {
    match fs::read(file) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(file, "read")(e)),
        Ok(bytes) => {
            let json = super::json::document(&String::from_utf8_lossy(&bytes));
            json.map(Some).map_err(|e| Error::file(file, format!("not valid JSON ({e}); repair the file or remove it")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;
    use serde_json::json;

    fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<(u32, usize, usize)> {
        tokenizer.encode(text).unwrap().into_iter().map(|p| (p.id, p.start, p.end)).collect()
    }

    #[test]
    fn byte_level_offsets_keep_spaces_whatever_the_file_says() {
        let nested = json!({"type": "Sequence", "processors": [trimming(true), template(&["<s>", "A"], BOS, EOS)]});
        let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", EOS], "cls": ["<s>", BOS],
                             "trim_offsets": true, "add_prefix_space": false});
        for processor in [trimming(false), trimming(true), nested, roberta] {
            let tokenizer = Tokenizer::from_bytes(&byte_level(processor.clone()), Some("</s>")).unwrap();
            // The rule of GPT-2 leaves the last space of a run to the word. More than three ids: no truncation; and
            // no pads.
            let expected = [(257, 0, 3), (259, 3, 5), (258, 5, 9), (32, 9, 10), (200, 10, 11), (120, 11, 12)];
            assert_eq!(pieces(&tokenizer, "int   int \nx"), expected, "{processor}");
        }
    }

    #[test]
    fn subwords_of_one_character_span_it() {
        let expected =
            [(201, 0, 2), (202, 0, 2), (203, 2, 5), (204, 2, 5), (205, 2, 5), (260, 5, 9), (208, 5, 9), (209, 5, 9)];
        assert_eq!(pieces(&plain(), "é漢🙂"), expected);
        assert_eq!(plain().decode(&expected.map(|(id, ..)| id)).unwrap(), "é漢🙂");
    }

    #[test]
    fn word_start_marks_have_the_place_of_their_space() {
        let tokenizer = metaspace();
        // The mark before the first word has no space of its own and spans the first character.
        assert_eq!(pieces(&tokenizer, "x  x y"), [(5, 0, 1), (3, 1, 2), (5, 2, 4), (3, 4, 5), (6, 5, 6)]);
        assert_eq!(pieces(&tokenizer, "y"), [(3, 0, 1), (6, 0, 1)]);
        assert_eq!(pieces(&tokenizer, "漢"), [(3, 0, 3), (7, 0, 3), (8, 0, 3), (9, 0, 3)]);
    }

    #[test]
    fn bos_comes_once_and_only_where_the_tokenizer_adds_it() {
        let prompt = |processor: Value, text: &str| {
            Tokenizer::from_bytes(&byte_level(processor), Some("</s>")).unwrap().encode_prompt(text).unwrap()
        };
        let x = u32::from(b'x');
        assert_eq!(prompt(trimming(true), "x"), [x]);
        assert_eq!(prompt(template(&["<s>", "A"], BOS, EOS), "x"), [BOS, x]);
        assert_eq!(prompt(template(&["<s>", "A"], BOS, EOS), "<s>x"), [BOS, x]);
        assert_eq!(prompt(template(&["<s>", "A", "</s>"], BOS, EOS), ""), [BOS]);
        assert_eq!(prompt(template(&["A", "</s>"], BOS, EOS), "x"), [x]);
        assert_eq!(prompt(Value::Null, "<s>x"), [BOS, x]);
    }

    #[test]
    fn tokens_show_as_in_the_text() {
        let (bytes, marks) = (plain(), metaspace());
        assert_eq!([258, 259, 201, EOS].map(|id| bytes.token_text(id)), [" int", "  ", "\u{fffd}", "</s>"]);
        assert_eq!([5, 4, 3, 2].map(|id| marks.token_text(id)), [" x", "x", " ", "</s>"]);
        assert_eq!(bytes.token_text(999), "");
        assert_eq!(bytes.decode(&[258, EOS]).unwrap(), " int");
        assert_eq!((marks.vocab_size(), marks.id_end()), (11, 11));
        assert_eq!((bytes.vocab_size(), bytes.id_end()), (94 + 11 + 5 + 2, 302));
        assert_eq!((bytes.eos(), bytes.bos(), marks.bos()), (301, None, Some(1)));
    }

    #[test]
    fn every_token_has_its_bytes() {
        let (plain, marks) = (plain(), metaspace());
        let bytes = |id| plain.token_bytes(id);
        assert_eq!([bytes(258), bytes(EOS), bytes(200)], [b" int".to_vec(), b"</s>".to_vec(), b"\n".to_vec()]);
        // é, 漢, 🙂: alone, none of them is text
        let odd: Vec<u8> = [201, 202, 203, 204, 205, 260, 208, 209].into_iter().flat_map(bytes).collect();
        assert_eq!(odd, "é漢🙂".as_bytes());
        assert_eq!(bytes(260), [0xF0, 0x9F]);
        assert_eq!([7, 8, 9, 5].map(|id| marks.token_bytes(id)), [vec![0xE6], vec![0xBC], vec![0xA2], b" x".to_vec()]);
        let mapped: std::collections::BTreeSet<u8> =
            (0..0x200).filter_map(char::from_u32).filter_map(spelled_byte).collect();
        assert_eq!(mapped.len(), 256);
        assert_eq!([spelled_byte('Ā'), spelled_byte('Ġ'), spelled_byte('Ń')], [Some(0), Some(b' '), Some(0xAD)]);
        assert_eq!(spelled_byte('漢'), None);
    }

    /// A directory with a tokenizer and the given files.
    fn folder(processor: Value, files: &[(&str, Value)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), byte_level(processor)).unwrap();
        for (name, json) in files {
            fs::write(dir.path().join(name), json.to_string()).unwrap();
        }
        dir
    }

    #[test]
    fn eos_and_bos_are_found_beside_the_tokenizer() {
        let framed = template(&["<s>", "A"], BOS, EOS);
        let flagged = |add: bool| json!({"eos_token": "</s>", "bos_token": "<s>", "add_bos_token": add});
        let cases = [
            (Value::Null, "tokenizer_config.json", json!({"eos_token": "</s>"}), None, EOS),
            (Value::Null, "tokenizer_config.json", json!({"eos_token": {"content": "int"}}), None, 257),
            (Value::Null, "config.json", json!({"eos_token_id": 257}), None, 257),
            (framed.clone(), "generation_config.json", json!({"eos_token_id": [256, 257]}), Some(BOS), 256),
            (framed, "tokenizer_config.json", json!({"eos_token": "<s>"}), Some(BOS), BOS),
            (Value::Null, "tokenizer_config.json", flagged(true), Some(BOS), EOS),
            (Value::Null, "tokenizer_config.json", flagged(false), None, EOS),
            (template(&["A", "</s>"], BOS, EOS), "other.json", json!({}), None, EOS),
        ];
        for (processor, name, json, bos, eos) in cases {
            let dir = folder(processor, &[(name, json.clone())]);
            for path in [dir.path().to_path_buf(), dir.path().join("tokenizer.json")] {
                let tokenizer = Tokenizer::load(&path).unwrap();
                assert_eq!((tokenizer.bos(), tokenizer.eos()), (bos, eos), "{name} {json}");
            }
        }
        let named = ("tokenizer_config.json", json!({"eos_token": "</s>"}));
        let first = [named, ("generation_config.json", json!({"eos_token_id": 257}))];
        assert_eq!(Tokenizer::load(folder(Value::Null, &first).path()).unwrap().eos(), EOS);
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let error = |dir: &Path| {
            let text = Tokenizer::load(dir).err().map(|e| e.to_string()).unwrap();
            text.replace(&format!("{}/", dir.display()), "")
        };
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            error(dir.path()),
            "tokenizer.json: there is no such file, and a tokenizer is needed; \
             `AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)` writes one"
        );
        fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
        assert_eq!(
            error(dir.path()),
            "tokenizer.json: not a usable tokenizer.json (not valid JSON: EOF while parsing an object at line 1 \
             column 1); `AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)` writes one"
        );
        fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        assert!(error(dir.path()).starts_with("tokenizer.json: not a usable tokenizer.json ("));

        let dir = folder(Value::Null, &[("config.json", json!({"eos_token_id": 999}))]);
        assert_eq!(
            error(dir.path()),
            "tokenizer.json: no end-of-sequence token is known; name `eos_token` in tokenizer_config.json or \
             `eos_token_id` in config.json beside it"
        );
        for (config, why) in [
            (json!({"eos_token": "<eos>"}), "the vocabulary has no token `<eos>`, which is named as `eos_token`"),
            (
                json!({"eos_token": "</s>", "add_bos_token": true}),
                "`add_bos_token` is set in tokenizer_config.json, but no `bos_token` is named there",
            ),
        ] {
            fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
            assert_eq!(error(dir.path()), format!("tokenizer.json: {why}"));
        }
        fs::write(dir.path().join("tokenizer_config.json"), "{\n]").unwrap();
        assert_eq!(
            error(dir.path()),
            "tokenizer_config.json: not valid JSON (key must be a string at line 2 column 1); repair the file or \
             remove it"
        );
    }
}
