//! A Hugging Face `tokenizer.json`, with the ids of `AutoTokenizer`, one rule for BOS, a known EOS and honest byte
//! offsets.

mod behind;
mod class;
mod growth;
mod special;
mod spelling;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokenizers::{Encoding, PostProcessorWrapper};

use self::class::{Class, Frame};
use self::special::{Older, Special};
use super::beside::Beside;
use super::chat::Chat;
use super::contain::contained;
use super::cut::Fim;
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
/// The BOS rule: an example begins with BOS exactly once, and only where the tokenizer's post-processor puts it there.
/// Text is always encoded without special tokens, so that parts of a row can be encoded on their own and joined;
/// special tokens spelled out in the text are kept.
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// For text behind other text, where that makes a difference.
    behind: Option<Arc<tokenizers::Tokenizer>>,
    file: PathBuf,
    digest: blake3::Hash,
    inputs: blake3::Hash,
    chat: Option<Chat>,
    special: Vec<(String, String)>,
    notes: Vec<String>,
    bos: Option<u32>,
    eos: u32,
    id_end: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in `dir` (or the .json file that `dir` names) and the files beside it, as `AutoTokenizer`
    /// of transformers does. EOS is `eos_token` there, else `eos_token_id` of generation_config.json or config.json,
    /// else the token that the post-processor puts behind a text.
    ///
    /// Errors with one sentence if the file is missing or unusable, or if no EOS is known.
    pub fn load(dir: &Path) -> Result<Tokenizer> {
        let file = if dir.extension().is_some_and(|e| e == "json") && !dir.is_dir() {
            dir.to_path_buf()
        } else {
            dir.join("tokenizer.json")
        };
        let mut files = Beside::new(file.clone());
        let missing = || Error::file(&file, format!("there is no such file, and a tokenizer is needed; {SAVE}"));
        let bytes = files.tokenizer()?.ok_or_else(missing)?;
        let config = files.json("tokenizer_config.json")?.unwrap_or_default();
        let model = files.json("config.json")?.unwrap_or_default();
        let older = match config.get("added_tokens_decoder") {
            Some(_) => None,
            None => {
                Some(Older { map: files.json("special_tokens_map.json")?, added: files.json("added_tokens.json")? })
            }
        };
        let of_config = |why| Error::file(&files.path("tokenizer_config.json"), why);
        let byte_level = || String::from_utf8_lossy(&bytes).contains("\"ByteLevel\"");
        let class = Class::of(&config, &model, byte_level).map_err(of_config)?;
        let (mut tokenizer, listed) = Tokenizer::parse(&bytes, &file, class.as_ref())?;
        let special = Special::read(&config, older, &listed, class.as_ref()).map_err(of_config)?;
        tokenizer.add(&special, &listed, class.as_ref())?;
        if class::own_code(&config) {
            let (file, note) = (files.path("tokenizer_config.json"), "`auto_map` names code, which is not run");
            tokenizer.notes.push(format!("{}: {note}", file.display()));
        }
        tokenizer.chat = Chat::beside(&mut files, &config, &tokenizer.special)?;
        let mut eos = tokenizer.special("eos_token").map(|text| tokenizer.id("eos_token", text)).transpose()?;
        if eos.is_none() {
            let generation = files.json("generation_config.json")?.unwrap_or_default();
            let id = |config: &Value| {
                let id = &config["eos_token_id"];
                let id = id.as_u64().or_else(|| id[0].as_u64()).and_then(|id| u32::try_from(id).ok());
                id.filter(|&id| tokenizer.inner.id_to_token(id).is_some())
            };
            eos = id(&generation).or_else(|| id(&model));
        }
        tokenizer.inputs = files.hash();
        Ok(tokenizer.framed(eos)?.shared())
    }

    /// A tokenizer held in memory, in the form of `tokenizer.json`. `eos` is the text of the EOS token; it may be
    /// left out where the post-processor itself ends a sequence with EOS.
    pub fn from_bytes(tokenizer_json: &[u8], eos: Option<&str>) -> Result<Tokenizer> {
        let (mut tokenizer, _) = Tokenizer::parse(tokenizer_json, Path::new("tokenizer.json"), None)?;
        tokenizer.special.extend(eos.map(|text| ("eos_token".to_string(), text.to_string())));
        tokenizer.inputs = blake3::keyed_hash(tokenizer.digest.as_bytes(), eos.unwrap_or_default().as_bytes());
        let eos = eos.map(|text| tokenizer.id("eos_token", text)).transpose()?;
        tokenizer.framed(eos)
    }

    /// With this chat template.
    pub fn with_chat(self, chat: Chat) -> Tokenizer {
        Tokenizer { chat: Some(chat), ..self }
    }

    /// Splits `text`, which begins a row, into subwords, without BOS and EOS.
    pub fn encode(&self, text: &str) -> Result<Vec<Piece>> {
        self.encode_with(&self.inner, text)
    }

    /// Splits `text`, which stands behind another part of a row, into subwords: as [`Tokenizer::encode`], but without
    /// the mark of a first word that some tokenizers put in front of a text, which would be a space inside the row.
    pub fn encode_behind(&self, text: &str) -> Result<Vec<Piece>> {
        self.encode_with(self.behind.as_ref().unwrap_or(&self.inner), text)
    }

    fn encode_with(&self, inner: &tokenizers::Tokenizer, text: &str) -> Result<Vec<Piece>> {
        let encoding = outcome(|| inner.encode(text, false)).map_err(|e| self.fault("cannot encode a text", &e))?;
        let offsets = encoding.get_offsets();
        Ok(encoding.get_ids().iter().zip(offsets).map(|(&id, &(start, end))| Piece { id, start, end }).collect())
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
        self.decode_behind(&[], ids)
    }

    /// Text of `ids` that stand behind the tokens `front`, as [`Tokenizer::decode`]: a space that begins it is kept.
    pub fn decode_behind(&self, front: &[u32], ids: &[u32]) -> Result<String> {
        let first = front.iter().all(|&id| Some(id) == self.bos);
        let inner = self.behind.as_ref().filter(|_| !first).unwrap_or(&self.inner);
        outcome(|| inner.decode(ids, true)).map_err(|e| self.fault("cannot decode", &e))
    }

    /// Whether the text before this token may still change by the tokens behind it: it is a byte of its own, or has no
    /// text and so does not part two bytes.
    pub(crate) fn may_change(&self, id: u32) -> bool {
        let special = |token: &str| self.inner.get_added_vocabulary().is_special_token(token);
        self.inner.id_to_token(id).is_none_or(|token| spelling::lone_byte(&token).is_some() || special(&token))
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
        match spelling::lone_byte(&spelled) {
            Some(byte) => vec![byte],
            None => spelled.chars().map(spelling::spelled_byte).collect::<Option<_>>().unwrap_or(text.into_bytes()),
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

    /// A hash of all that was read: tokenizer.json and the files beside it, also of the absence of a file.
    pub fn inputs(&self) -> blake3::Hash {
        self.inputs
    }

    /// Name and text of the special tokens that have a name, as `special_tokens_map` of transformers.
    pub fn special_tokens(&self) -> &[(String, String)] {
        &self.special
    }

    /// The tokens for filling in the middle, if it has them.
    pub fn fim(&self) -> Option<Fim> {
        Fim::ALL.into_iter().find(|fim| fim.0.iter().all(|token| self.inner.token_to_id(token).is_some()))
    }

    /// What a person should know about the ids: where they follow transformers and not tokenizer.json.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The text of an id of the vocabulary, as the vocabulary spells it.
    pub(super) fn spelling(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
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

    /// The tokenizer of a tokenizer.json, or what `class` makes of it; and the added tokens that the file lists.
    fn parse(bytes: &[u8], file: &Path, class: Option<&Class>) -> Result<(Tokenizer, Value)> {
        let unusable =
            |e: &dyn std::fmt::Display| Error::file(file, format!("not a usable tokenizer.json ({e}); {SAVE}"));
        let mut json: Value = serde_json::from_slice(bytes).map_err(|e| unusable(&format!("not valid JSON: {e}")))?;
        let (listed, mut rebuilt, mut notes) = (json["added_tokens"].clone(), None, Vec::new());
        if let Some(class) = class {
            let (ours, parts) = outcome(|| Ok(class.rebuild(json))).map_err(|e| unusable(&e))?;
            if !parts.is_empty() {
                let (file, name, parts) = (file.display(), &class.name, parts.join(" and "));
                notes.push(format!("{file}: ids are those of {name} in transformers, which replaces its {parts}"));
            }
            rebuilt = Some(ours.to_string().into_bytes());
            json = ours;
        }
        for part in ["normalizer", "decoder"] {
            let growth = growth::growth(&json[part]);
            if growth > growth::MOST_GROWTH {
                return Err(unusable(&format!("its {part} can make a text {growth:.0} times as long")));
            }
        }
        drop(json);
        let used = rebuilt.as_deref().unwrap_or(bytes);
        let mut inner = outcome(|| tokenizers::Tokenizer::from_bytes(used)).map_err(|e| unusable(&e))?;
        // Length is the business of the corpus, which counts what it cuts.
        inner.with_truncation(None).map_err(|e| unusable(&e))?;
        inner.with_padding(None);
        let processor = inner.get_post_processor().cloned().map(keep_spaces);
        inner.with_post_processor(processor);
        let digest = blake3::hash(bytes);
        let tokenizer = Tokenizer {
            inner: Arc::new(inner),
            behind: None,
            file: file.to_path_buf(),
            digest,
            inputs: digest,
            chat: None,
            special: Vec::new(),
            notes,
            bos: None,
            eos: 0,
            id_end: 0,
        };
        Ok((tokenizer, listed))
    }

    /// Adds the special tokens of the files beside tokenizer.json, which lists the added tokens `listed`.
    fn add(&mut self, special: &Special, listed: &Value, class: Option<&Class>) -> Result<()> {
        let added = outcome(|| special.add_to(Arc::make_mut(&mut self.inner)));
        added.map_err(|e| self.fault("cannot add the tokens of tokenizer_config.json", &e))?;
        self.special = special.names();
        if let Some(bos) = self.special("bos_token").filter(|_| class.is_some_and(|class| class.frame == Frame::Bos)) {
            let token = json!({"id": bos, "ids": [self.id("bos_token", bos)?], "tokens": [bos]});
            let place = |kind: &str, id: &str| json!({kind: {"id": id, "type_id": 0}});
            let frame = json!({
                "type": "TemplateProcessing",
                "single": [place("SpecialToken", bos), place("Sequence", "A")],
                "pair": [place("Sequence", "A"), place("Sequence", "B")],
                "special_tokens": {bos: token},
            });
            let frame: PostProcessorWrapper =
                serde_json::from_value(frame).map_err(|e| self.fault("cannot put BOS before a text", &e))?;
            Arc::make_mut(&mut self.inner).with_post_processor(Some(frame));
        }
        let listed = listed.as_array().map_or(&[][..], Vec::as_slice);
        let stored = |text: &str| {
            let listed = listed.iter().find(|token| token["content"] == text).and_then(|token| token["id"].as_u64());
            listed.or_else(|| tokenizers::Model::token_to_id(self.inner.get_model(), text).map(u64::from))
        };
        let mut new: Vec<_> = self.inner.get_added_tokens_decoder().into_iter().collect();
        new.retain(|(id, token)| stored(&token.content) != Some(u64::from(*id)));
        new.sort_unstable_by_key(|(id, _)| *id);
        let new: Vec<String> = new.iter().map(|(id, token)| format!("`{}` {id}", token.content)).collect();
        let gone = listed.iter().filter_map(|token| token["content"].as_str());
        let gone: Vec<String> =
            gone.filter(|text| self.inner.token_to_id(text).is_none()).map(|t| format!("`{t}`")).collect();
        for (what, tokens) in [("adds tokens with their ids:", new), ("leaves tokens out:", gone)] {
            if !tokens.is_empty() {
                let more = if tokens.len() > 8 { ", ..." } else { "" };
                let tokens = tokens[..tokens.len().min(8)].join(", ");
                let file = self.file.display();
                self.notes.push(format!("{file}: ids are those of transformers, which {what} {tokens}{more}"));
            }
        }
        Ok(())
    }

    /// The same, with the parts of one that was read from the same files before. Each thread keeps what it has split by
    /// a tokenizer of the library until the thread ends, so a grid must not make one anew for every cell.
    fn shared(mut self) -> Tokenizer {
        type Parts = (Arc<tokenizers::Tokenizer>, Option<Arc<tokenizers::Tokenizer>>);
        static READ: Mutex<Vec<(blake3::Hash, Parts)>> = Mutex::new(Vec::new());
        let mut read = READ.lock().unwrap_or_else(|e| e.into_inner());
        match read.iter().find(|(inputs, _)| *inputs == self.inputs) {
            Some((_, parts)) => (self.inner, self.behind) = parts.clone(),
            None => read.push((self.inputs, (self.inner.clone(), self.behind.clone()))),
        }
        self
    }

    /// The special tokens that the post-processor puts right before and right after a text.
    fn added(&self) -> Result<(Option<u32>, Option<u32>)> {
        // The processor is shown a token of our own, since a small vocabulary may have none for any text of ours.
        let text = Encoding::from_tokens(vec![tokenizers::Token::new(0, String::new(), (0, 0))], 0);
        let framed = outcome(|| self.inner.post_process(text, None, true));
        let framed = framed.map_err(|e| self.fault("cannot frame a text", &e))?;
        let (ids, special) = (framed.get_ids(), framed.get_special_tokens_mask());
        let front = special.iter().take_while(|&&special| special == 1).count();
        if front > 1 {
            let why = format!("its post-processor puts {front} tokens before a text; only one is supported");
            return Err(Error::file(&self.file, why));
        }
        Ok((ids[..front].first().copied(), ids.last().copied().filter(|_| special.last() == Some(&1))))
    }

    /// The finished tokenizer, with `eos` or else the token that the post-processor puts behind a text.
    fn framed(mut self, eos: Option<u32>) -> Result<Tokenizer> {
        let why = "no end-of-sequence token is known; name `eos_token` in tokenizer_config.json or `eos_token_id` in \
                   config.json beside it";
        let (front, end) = self.added()?;
        self.bos = front;
        self.eos = eos.or(end).ok_or_else(|| Error::file(&self.file, why))?;
        self.id_end = self.inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let behind = outcome(|| behind::behind(&self.inner));
        self.behind = behind.map_err(|e| self.fault("cannot split a text behind another one", &e))?.map(Arc::new);
        Ok(self)
    }

    fn special(&self, name: &str) -> Option<&str> {
        self.special.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
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

#[cfg(test)]
mod tests;

#[cfg(test)]
mod parity;
