//! The files of a tokenizer: every read goes through [`Beside`], so that a hash covers whatever decided the ids.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::json;
use crate::error::{Error, Result};
use crate::files;

/// tokenizer.json and the files of its folder, with a hash of those that were read so far.
pub(crate) struct Beside {
    tokenizer: PathBuf,
    hash: blake3::Hasher,
}

impl Beside {
    /// The files beside `tokenizer`, a tokenizer.json of any name.
    pub fn new(tokenizer: PathBuf) -> Beside {
        Beside { tokenizer, hash: blake3::Hasher::new() }
    }

    /// The tokenizer.json itself; `None` where there is none.
    pub fn tokenizer(&mut self) -> Result<Option<Vec<u8>>> {
        let file = self.tokenizer.clone();
        self.read_as("tokenizer.json", &file)
    }

    /// The path of the file `name` in the same folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.tokenizer.with_file_name(name)
    }

    /// The bytes of the file `name` in the same folder; `None` where there is none.
    pub fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let file = self.path(name);
        self.read_as(name, &file)
    }

    /// The JSON of the file `name` in the same folder; `None` where there is none.
    pub fn json(&mut self, name: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let wrong = |e| Error::file(&self.path(name), format!("not valid JSON ({e}); repair the file or remove it"));
        json::document(&String::from_utf8_lossy(&bytes)).map(Some).map_err(wrong)
    }

    /// The hash of name and bytes of every file that was asked for, absent ones too.
    pub fn hash(&self) -> blake3::Hash {
        self.hash.finalize()
    }

    fn read_as(&mut self, name: &str, file: &Path) -> Result<Option<Vec<u8>>> {
        let bytes = match files::read(file) {
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            bytes => Some(bytes.map_err(Error::io(file, "read"))?),
        };
        let digest = bytes.as_ref().map(|bytes| blake3::hash(bytes));
        self.hash.update(format!("{name:?}: {digest:?}\n").as_bytes());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_hash_covers_names_contents_and_absence() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let hash = || {
            let mut files = Beside::new(dir.path().join("my.json"));
            let read = (files.tokenizer().unwrap(), files.json("a.json").unwrap(), files.read("b.json").unwrap());
            (read, files.hash())
        };
        let (read, none) = hash();
        assert_eq!(read, (None, None, None));
        write("my.json", "{}");
        let (read, first) = hash();
        assert_eq!(read.0.as_deref(), Some(&b"{}"[..]));
        write("a.json", "{}");
        let (read, second) = hash();
        assert_eq!(read.1, Some(serde_json::json!({})));
        fs::rename(dir.path().join("a.json"), dir.path().join("b.json")).unwrap();
        let (read, third) = hash();
        assert_eq!(read.2.as_deref(), Some(&b"{}"[..]));
        let hashes = std::collections::HashSet::from([none, first, second, third]);
        assert_eq!((hashes.len(), hash().1), (4, third));
        let asked = |name: &str| {
            let mut files = Beside::new(dir.path().join("my.json"));
            assert_eq!(files.read(name).unwrap(), None);
            files.hash()
        };
        assert_ne!(asked("c.json"), asked("d.json"));
    }
}
