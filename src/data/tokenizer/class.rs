//! What the tokenizer classes of transformers (5.23) replace of a tokenizer.json.
//!
//! `AutoTokenizer` takes most tokenizers as tokenizer.json has them. Some classes take only its vocabulary, merges and
//! post-processor, and write everything else anew, so that ids may differ from those of the file. The ids here are
//! those of `AutoTokenizer`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

/// A class that writes the pipeline anew.
pub(super) struct Class {
    /// Its name, without `Fast`.
    pub name: String,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// Options of the BPE model.
    model: Value,
    /// Special tokens that tokenizer_config.json does not name.
    pub defaults: &'static Names,
    /// What it puts around a text.
    pub frame: Frame,
}

/// What a class puts around a text.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Frame {
    /// What the post-processor of tokenizer.json puts there.
    Stored,
    /// BOS in front.
    Bos,
    /// Nothing.
    Bare,
}

/// Tokenizers that transformers builds in a way that is not built here: from other files than tokenizer.json, or by a
/// pipeline of their own.
const FOREIGN: &str = "\
    AlbertTokenizer BartTokenizer BarthezTokenizer BartphoTokenizer BertGenerationTokenizer BertJapaneseTokenizer \
    BertTokenizer BertweetTokenizer BigBirdTokenizer BioGptTokenizer BlenderbotSmallTokenizer BlenderbotTokenizer \
    ByT5Tokenizer CLIPTokenizer CTRLTokenizer CamembertTokenizer CanineTokenizer ClvpTokenizer CohereTokenizer \
    ConvBertTokenizer CpmAntTokenizer CpmTokenizer DPRContextEncoderTokenizer DPRQuestionEncoderTokenizer \
    DPRReaderTokenizer DebertaTokenizer DebertaV2Tokenizer DiaTokenizer DistilBertTokenizer EsmTokenizer \
    EsmcTokenizer FNetTokenizer FSMTTokenizer FastSpeech2ConformerTokenizer FlaubertTokenizer FunnelTokenizer \
    GPTNeoXJapaneseTokenizer GPTSw3Tokenizer HerbertTokenizer LEDTokenizer LasrTokenizer LayoutLMv2Tokenizer \
    LayoutLMv3Tokenizer LayoutXLMTokenizer LukeTokenizer LxmertTokenizer M2M100Tokenizer MBart50Tokenizer \
    MBartTokenizer MLukeTokenizer MPNetTokenizer MarianTokenizer MarkupLMTokenizer MgpstrTokenizer \
    MistralCommonBackend MobileBertTokenizer MvpTokenizer MyT5Tokenizer NllbTokenizer NougatTokenizer \
    OpenAIGPTTokenizer PLBartTokenizer PegasusTokenizer PerceiverTokenizer PhobertTokenizer Pop2PianoTokenizer \
    ProphetNetTokenizer Qwen3_5Tokenizer RagTokenizer ReformerTokenizer RemBertTokenizer RoCBertTokenizer \
    RoFormerTokenizer RobertaTokenizer SeamlessM4TTokenizer Siglip2Tokenizer SiglipTokenizer Speech2TextTokenizer \
    SpeechT5Tokenizer SplinterTokenizer SqueezeBertTokenizer T5Tokenizer TapasTokenizer Tipsv2Tokenizer \
    UdopTokenizer VideoPrismTokenizer VitsTokenizer Wav2Vec2CTCTokenizer Wav2Vec2PhonemeCTCTokenizer \
    WhisperTokenizer XGLMTokenizer XLMRobertaTokenizer XLMTokenizer XLNetTokenizer";

/// GPT-2's end of text, its only special token.
const END: &str = "<|endoftext|>";

/// Special tokens by name.
pub(super) type Names = [(&'static str, &'static str)];

const GPT2: [(&str, &str); 3] = [("bos_token", END), ("eos_token", END), ("unk_token", END)];
const GPT_NEOX: [(&str, &str); 4] = [GPT2[0], GPT2[1], GPT2[2], ("pad_token", "<|padding|>")];
const QWEN2: [(&str, &str); 3] = [GPT2[1], GPT2[2], ("pad_token", END)];
const LLAMA: [(&str, &str); 3] = [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
const CODE_LLAMA: [(&str, &str); 8] = [
    LLAMA[0],
    LLAMA[1],
    LLAMA[2],
    ("prefix_token", "▁<PRE>"),
    ("middle_token", "▁<MID>"),
    ("suffix_token", "▁<SUF>"),
    ("eot_token", "▁<EOT>"),
    ("fill_token", "<FILL_ME>"),
];
const GEMMA: [(&str, &str); 5] =
    [("bos_token", "<bos>"), ("eos_token", "<eos>"), LLAMA[2], ("pad_token", "<pad>"), ("mask_token", "<mask>")];

/// Where transformers splits a text for Qwen2.
const QWEN2_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Class {
    /// The class of a folder with this tokenizer_config.json and config.json; `None` where tokenizer.json is taken as
    /// it is. `byte_level` tells whether tokenizer.json speaks of `"ByteLevel"`.
    ///
    /// Errors with a sentence where the class is not built here.
    pub fn of(config: &Value, model: &Value, byte_level: impl FnOnce() -> bool) -> Result<Option<Class>, String> {
        let mut files = config["fast_tokenizer_files"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if let Some(file) = files.find(|name| *name != "tokenizer.json") {
            return Err(format!(
                "`fast_tokenizer_files` names {file} for some versions of transformers; copy the file of yours to \
                 tokenizer.json, and remove the key"
            ));
        }
        let slow = |name: &str| name.strip_suffix("Fast").unwrap_or(name).to_string();
        let named = |json: &Value| json["tokenizer_class"].as_str().filter(|name| !name.is_empty()).map(slow);
        let (own, declared) = (named(config), named(config).or(named(model)));
        // the classes that transformers has registered for a model type
        let model_type = model["model_type"].as_str().unwrap_or_default();
        let registered = match model_type {
            "qwen2" => Some("Qwen2Tokenizer"),
            "starcoder2" | "gpt2" => Some("GPT2Tokenizer"),
            "granite" | "gpt_bigcode" => Some("TokenizersBackend"),
            _ => None,
        };
        if !own_code(config) {
            if declared.as_deref() == Some("LlamaTokenizer") && model_type != "qwen2" && byte_level() {
                return Ok(None);
            }
            if let (Some(declared), Some(registered)) = (&declared, registered)
                && declared != registered
            {
                return match registered {
                    "TokenizersBackend" => Ok(None),
                    // the class that files on the hub name for this type is known to be wrong
                    "Qwen2Tokenizer" => Class::named(registered, config),
                    _ => Class::named(declared, config),
                };
            }
        }
        own.or(declared).as_deref().or(registered).map_or(Ok(None), |name| Class::named(name, config))
    }

    /// The class of this name, with the keys of tokenizer_config.json that it reads.
    fn named(name: &str, config: &Value) -> Result<Option<Class>, String> {
        let (prefix, marked) = (truth(config, "add_prefix_space", false), truth(config, "add_prefix_space", true));
        let unknown = match &config["unk_token"] {
            Value::Null => json!("<unk>"),
            Value::String(text) => json!(text),
            token => token["content"].clone(),
        };
        let class = |normalizer: Value, pre_tokenizer: Value, decoder: Value, model: Value, defaults, frame| Class {
            name: name.to_string(),
            normalizer,
            pre_tokenizer,
            decoder,
            model,
            defaults,
            frame,
        };
        let byte_level = |normalizer: Value, pre_tokenizer: Value, defaults, frame| {
            class(normalizer, pre_tokenizer, bytes(true, true), json!({}), defaults, frame)
        };
        let fallback = |normalizer: Value, pre_tokenizer: Value, strip: bool, unknown: Value, defaults, frame| {
            let model = json!({"fuse_unk": true, "byte_fallback": true, "unk_token": unknown});
            class(normalizer, pre_tokenizer, unmarked(strip), model, defaults, frame)
        };
        let nfc = json!({"type": "NFC"});
        Ok(Some(match name {
            "GPT2Tokenizer" | "CodeGenTokenizer" => byte_level(Value::Null, bytes(prefix, true), &GPT2, Frame::Stored),
            "GPTNeoXTokenizer" => byte_level(nfc, bytes(prefix, true), &GPT_NEOX, Frame::Bare),
            "Qwen2Tokenizer" => {
                let parts = [split(json!({"Regex": QWEN2_SPLIT}), "Isolated"), bytes(prefix, false)];
                byte_level(nfc, json!({"type": "Sequence", "pretokenizers": parts}), &QWEN2, Frame::Stored)
            }
            "LlamaTokenizer" => {
                let scheme = if truth(config, "legacy", false) { "always" } else { "first" };
                let pre_tokenizer = marks(if marked { scheme } else { "never" });
                fallback(Value::Null, pre_tokenizer, marked, Value::Null, &LLAMA, Frame::Stored)
            }
            "CodeLlamaTokenizer" => {
                let pre_tokenizer = marks(if marked { "first" } else { "never" });
                fallback(Value::Null, pre_tokenizer, true, unknown, &CODE_LLAMA, Frame::Bos)
            }
            "GemmaTokenizer" => {
                let normalizer = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
                let pre_tokenizer = split(json!({"String": " "}), "MergedWithPrevious");
                fallback(normalizer, pre_tokenizer, false, unknown, &GEMMA, Frame::Stored)
            }
            name if FOREIGN.split(' ').any(|foreign| foreign == name) => {
                return Err(format!(
                    "`tokenizer_class` is {name}, which transformers does not build from tokenizer.json alone and \
                     eyekern does not know; if tokenizer.json has the right ids, set `tokenizer_class` to \
                     \"PreTrainedTokenizerFast\" in tokenizer_config.json"
                ));
            }
            _ => return Ok(None),
        }))
    }

    /// Whether it adds its special tokens once more, without the rules of where they match.
    pub fn adds_again(&self) -> bool {
        self.name == "Qwen2Tokenizer"
    }

    /// The tokenizer.json that this class makes of another one, and the parts in which the two differ.
    pub fn rebuild(&self, mut stored: Value) -> (Value, Vec<&'static str>) {
        let (normalizer, pre_tokenizer) = (&stored["normalizer"], &stored["pre_tokenizer"]);
        let option = |model: &Value, key: &str| model[key] == true;
        let differs = |key: &&str| option(&stored["model"], key) != option(&self.model, key);
        let parts = [
            ("normalizer", whole::<NormalizerWrapper>(normalizer) != whole::<NormalizerWrapper>(&self.normalizer)),
            (
                "pre_tokenizer",
                whole::<PreTokenizerWrapper>(pre_tokenizer) != whole::<PreTokenizerWrapper>(&self.pre_tokenizer),
            ),
            ("model", ["byte_fallback", "ignore_merges"].iter().any(differs)),
        ];
        let mut model = self.model.clone();
        model["type"] = json!("BPE");
        model["vocab"] = match take(&mut stored, "/model/vocab") {
            // tokens in order, perhaps with their scores
            Value::Array(list) => {
                let text = |token: &Value| token[0].as_str().or(token.as_str()).unwrap_or_default().to_string();
                list.iter().zip(0..).map(|(token, id)| (text(token), json!(id))).collect::<Map<_, _>>().into()
            }
            vocab => vocab,
        };
        model["merges"] = match take(&mut stored, "/model/merges") {
            Value::Null => json!([]),
            merges => merges,
        };
        let stored_frame = self.frame == Frame::Stored;
        let rebuilt = json!({
            "version": "1.0",
            "added_tokens": [],
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "post_processor": if stored_frame { take(&mut stored, "/post_processor") } else { Value::Null },
            "decoder": self.decoder,
            "model": model,
        });
        (rebuilt, parts.into_iter().filter_map(|(part, differs)| differs.then_some(part)).collect())
    }
}

/// Whether tokenizer_config.json names code of its own, which a person may let transformers run.
pub(super) fn own_code(config: &Value) -> bool {
    match &config["auto_map"] {
        Value::Array(_) => true,
        map => !map["AutoTokenizer"].is_null(),
    }
}

/// Whether Python takes the value of `key` for true; `absent` where there is none.
pub(super) fn truth(json: &Value, key: &str, absent: bool) -> bool {
    match &json[key] {
        Value::Null => absent,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn take(json: &mut Value, place: &str) -> Value {
    json.pointer_mut(place).map(Value::take).unwrap_or_default()
}

/// The pre-tokenizer and the decoder of bytes in GPT-2's alphabet.
fn bytes(prefix: bool, use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": use_regex})
}

fn marks(prepend: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend, "split": false})
}

fn split(pattern: Value, behavior: &str) -> Value {
    json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false})
}

/// The decoder of words with marks and of single bytes; the space before the first word may be left out.
fn unmarked(strip: bool) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let mut decoders = vec![replace, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    decoders.extend(strip.then(|| json!({"type": "Strip", "content": " ", "start": 1, "stop": 0})));
    json!({"type": "Sequence", "decoders": decoders})
}

/// A part of a pipeline with all options that change ids, whichever of them the file leaves out.
fn whole<T: Serialize + DeserializeOwned>(part: &Value) -> Value {
    let read = serde_json::from_value::<Option<T>>(part.clone()).ok();
    let mut part = read.and_then(|part| serde_json::to_value(part).ok()).unwrap_or_else(|| part.clone());
    let bare = |part: &mut Value| drop(part.as_object_mut().map(|options| options.shift_remove("trim_offsets")));
    bare(&mut part);
    part.get_mut("pretokenizers").and_then(Value::as_array_mut).into_iter().flatten().for_each(bare);
    part
}
