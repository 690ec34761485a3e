//! A model on disk, opened: its config, its weights, its tokenizer.

use super::checkpoint::Checkpoint;
use super::config::{self, Spec};
use super::decoder::Init;
use super::keys::{self, Keys};
use super::quantized::Quantizer;
use super::{hub, names, save};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A model on disk.
pub struct ModelFiles {
    /// Its directory.
    pub dir: PathBuf,
    /// Its architecture.
    pub spec: Spec,
    /// Its config.json, for saving a copy.
    pub config: Value,
    /// Its weights.
    pub checkpoint: Checkpoint,
    /// What quantises its weights when they are read, if anything does.
    pub quantizer: Option<Quantizer>,
}

impl ModelFiles {
    /// Opens a directory or an id of the Hugging Face cache.
    pub fn open(name: &str) -> Result<ModelFiles> {
        let dir = hub::resolve(name)?;
        refuse_adapter(&dir)?;
        let file = dir.join("config.json");
        let config = keys::read(&file)?;
        let spec = Spec::parse(&config, &file)?;
        let mut checkpoint = Checkpoint::open(&dir)?;
        let tensors = names::tensors(&spec);
        if spec.tied {
            checkpoint.tie(&tensors[0].name);
        }
        checkpoint.check(&tensors, spec.tied).map_err(|error| match config::absent_size(&config) {
            Some(key) => Error::file(&file, keys::missing(key)),
            None => error,
        })?;
        Ok(ModelFiles { checkpoint, spec, config, dir, quantizer: None })
    }

    /// The same with weights that `quantizer` puts in 4 bits when they are read.
    pub fn quantized(self, quantizer: Option<Quantizer>) -> ModelFiles {
        ModelFiles { quantizer, ..self }
    }

    /// Its values.
    pub fn values(&self) -> Init<'_> {
        Init::File(&self.checkpoint).quantized(self.quantizer.as_ref())
    }

    /// The storage of its values.
    pub fn sizes(&self) -> Init<'_> {
        Init::Sizes(&self.checkpoint).quantized(self.quantizer.as_ref())
    }

    /// Whether any weight is in 4 bits, in the file or once it is read.
    pub fn is_coded(&self) -> bool {
        self.quantizer.is_some() || names::tensors(&self.spec).iter().any(|t| self.checkpoint.is_coded(&t.name))
    }

    /// The hash of config.json and all weights; reads them once.
    pub fn digest(&self) -> Result<blake3::Hash> {
        self.checkpoint.digest_with(&self.dir.join("config.json"))
    }

    /// The tokenizer `given`, else that of `adapter`, which it was trained with, else the model's own; `None` where
    /// none of them has one.
    pub fn tokenizer(&self, given: Option<&Path>, adapter: Option<&Path>) -> Result<Option<Tokenizer>> {
        tokenizer(given, adapter.into_iter().chain([self.dir.as_path()]))
    }
}

/// Refuses the folder of an adapter where a model is expected. The adapter in the folder of a model is refused, too:
/// transformers would put it beside the base that it names.
fn refuse_adapter(dir: &Path) -> Result {
    let file = dir.join(save::ADAPTER_CONFIG);
    if !file.is_file() {
        return Ok(());
    }
    let base = keys::read(&file).ok().and_then(|config| config["base_model_name_or_path"].as_str().map(String::from));
    let base = base.filter(|base| !base.is_empty());
    let of = base.as_ref().map(|base| format!(" of {base}")).unwrap_or_default();
    let why = if [save::MODEL, save::INDEX].iter().any(|name| dir.join(name).is_file()) {
        format!("lies beside a model, and is an adapter{of}; move one of the two to a folder of its own")
    } else {
        let base = base.as_deref().unwrap_or("BASE");
        format!(
            "this is the folder of an adapter{of}, not of a model; to train on, merge the two with `eyekern export \
             --model {base} --adapter {} --merge -o MERGED` and give MERGED, or give {base} as the model and this \
             folder as --adapter of `eyekern generate`",
            dir.display()
        )
    };
    Err(Error::file(&file, why))
}

/// The tokenizer `given`, else that of the model `name`, and the number of ids that rows may use. Needs no weights; the
/// model need not be there where a tokenizer is given, and there may be no model at all (`""`).
pub fn tokenizer_of(name: &str, given: Option<&Path>) -> Result<(Option<Tokenizer>, usize)> {
    let dir = match (name, given) {
        ("", _) => None,
        // the model may yet have to be fetched
        (name, Some(_)) => hub::resolve(name).ok(),
        (name, None) => Some(hub::resolve(name)?),
    };
    let config = dir.as_ref().map(|dir| dir.join("config.json")).filter(|file| file.is_file());
    let vocab = |file: PathBuf| Keys::new(&file, &keys::read(&file)?, Value::Null, &[])?.size_or_null("vocab_size");
    let vocab = config.map(vocab).transpose()?.flatten();
    let tokenizer = tokenizer(given, dir.as_deref())?;
    let ids = vocab.or(tokenizer.as_ref().map(Tokenizer::id_end)).unwrap_or(u32::MAX as usize);
    Ok((tokenizer, ids))
}

/// The tokenizer `given`, else that of the first of `folders` that has one. It may have ids for which the model has no
/// embedding: rows are checked for them, and those of Llama 2 with a `<pad>` of their own never use it.
fn tokenizer<'a>(given: Option<&'a Path>, folders: impl IntoIterator<Item = &'a Path>) -> Result<Option<Tokenizer>> {
    let found = || folders.into_iter().find(|dir| dir.join("tokenizer.json").is_file());
    given.or_else(found).map(Tokenizer::load).transpose()
}

/// Where the model's values come from.
pub enum Origin {
    /// A checkpoint.
    Files(Box<ModelFiles>),
    /// Random values for this shape, with its config.json (the demo).
    Random(Box<Spec>, Value),
}

impl Origin {
    /// The architecture.
    pub fn spec(&self) -> &Spec {
        match self {
            Origin::Files(files) => &files.spec,
            Origin::Random(spec, _) => spec,
        }
    }

    /// The config.json.
    pub fn config(&self) -> &Value {
        match self {
            Origin::Files(files) => &files.config,
            Origin::Random(_, config) => config,
        }
    }

    /// The file that messages about the model name.
    pub fn file(&self) -> PathBuf {
        match self {
            Origin::Files(files) => files.dir.join("config.json"),
            Origin::Random(..) => "the built-in model".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with the demo's tokenizer and, with `vocab`, a config.json.
    fn folder(vocab: Option<usize>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("writes");
        write("tokenizer.json", include_str!("../../assets/demo/tokenizer.json"));
        write("tokenizer_config.json", include_str!("../../assets/demo/tokenizer_config.json"));
        if let Some(vocab) = vocab {
            write("config.json", &format!("{{\"vocab_size\": {vocab}}}"));
        }
        dir
    }

    #[test]
    fn the_first_tokenizer_is_taken() {
        let (a, b, none) = (folder(None), folder(None), tempfile::tempdir().expect("a folder"));
        let end = "\"<|endoftext|>\"";
        let config = fs::read_to_string(a.path().join("tokenizer_config.json")).expect("reads");
        assert!(config.contains(end), "{config}");
        // another EOS tells the two apart
        fs::write(b.path().join("tokenizer_config.json"), config.replace(end, "\"a\"")).expect("writes");
        let eos = |given: Option<&Path>, folders: &[&Path]| {
            let found = tokenizer(given, folders.iter().copied()).expect("reads");
            found.map(|tokenizer| tokenizer.token_text(tokenizer.eos()))
        };
        assert_eq!(eos(None, &[none.path(), a.path(), b.path()]).as_deref(), Some("<|endoftext|>"));
        assert_eq!(eos(Some(b.path()), &[a.path()]).as_deref(), Some("a"));
        assert_eq!(eos(Some(&b.path().join("tokenizer.json")), &[a.path()]).as_deref(), Some("a"));
        assert_eq!(eos(None, &[none.path()]), None);
        assert!(tokenizer(Some(none.path()), [a.path()]).is_err(), "a given tokenizer must be there");
    }

    #[test]
    fn a_tokenizer_needs_no_weights_and_perhaps_no_model() {
        let name = |dir: &tempfile::TempDir| dir.path().to_string_lossy().into_owned();
        let ids = |name: &str, given: Option<&Path>| tokenizer_of(name, given).map(|(t, ids)| (t.is_some(), ids));
        let (model, other) = (folder(Some(5000)), folder(None));
        let end = Tokenizer::load(model.path()).expect("reads").id_end();
        assert_eq!(ids(&name(&model), None).expect("reads"), (true, 5000));
        assert_eq!(ids(&name(&other), None).expect("reads"), (true, end));
        assert_eq!(ids("no/model", Some(model.path())).expect("reads"), (true, end));
        assert_eq!(ids("", None).expect("reads"), (false, u32::MAX as usize));
        assert!(ids("no/model", None).is_err());
    }
}
