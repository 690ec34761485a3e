//! Atomic writes, so that no reader ever sees a partial file; and the identity of files.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The temporary name of a file until it is complete: its path with `.partial` appended.
pub fn partial(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    name.into()
}

/// Writes `bytes` to `path` through a temporary file and a rename. An existing file is replaced or, on an error, left
/// unchanged.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result {
    let partial = partial(path);
    let written = std::fs::write(&partial, bytes).map_err(Error::io(&partial, "write"));
    let done = written.and_then(|()| std::fs::rename(&partial, path).map_err(Error::io(path, "write")));
    if done.is_err() {
        // the first error is the one to report
        let _ = std::fs::remove_file(&partial);
    }
    done
}

/// Copies the content of a file through [`write()`], but not its mode: a copy of a read-only file can be replaced. Does
/// nothing if both paths lead to the same file.
pub fn copy(from: &Path, to: &Path) -> Result {
    if same(from, to) {
        return Ok(());
    }
    write(to, std::fs::read(from).map_err(Error::io(from, "read"))?)
}

/// Whether both paths lead to the same file or folder, however they are spelled.
pub fn same(a: &Path, b: &Path) -> bool {
    identity(a).is_some_and(|a| identity(b).is_some_and(|b| a == b))
}

/// A value that identifies a file, however its path is spelled; `None` if there is no file.
pub fn identity(path: &Path) -> Option<impl Ord + use<>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()))
    }
    #[cfg(not(unix))]
    {
        path.canonicalize().ok()
    }
}

/// Refuses to write over an input file. `flag` is the option that names `output`.
pub fn refuse_input<P: AsRef<Path>>(flag: &str, output: &Path, inputs: impl IntoIterator<Item = P>) -> Result {
    if inputs.into_iter().any(|input| same(input.as_ref(), output)) {
        let why = "the command reads this file, and would write over it; name another";
        return Err(Error::Usage(format!("{flag} {}: {why}", output.display())));
    }
    Ok(())
}

/// Waits until a file, or the names in a directory, have reached the disk.
pub fn sync(path: &Path) -> Result {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path, "write"))
}

/// The blake3 hash of a file's bytes.
pub fn hash(path: &Path) -> Result<blake3::Hash> {
    let mut hash = blake3::Hasher::new();
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    hash.update_reader(file).map_err(Error::io(path, "read"))?;
    Ok(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.b");
        write(&path, "old").unwrap();
        write(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let error = write(&folder, "x").unwrap_err();
        assert!(error.to_string().contains("folder: cannot write"), "{error}");
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn what_is_read_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("folder")).unwrap();
        write(&path("a"), "").unwrap();
        write(&path("b"), "").unwrap();
        assert!(refuse_input("-o", &path("a"), [path("b"), path("none")]).is_ok());
        assert!(refuse_input("-o", &path("none"), [path("none")]).is_ok());
        let error = refuse_input("-o", &path("folder/../a"), [path("b"), path("a")]).unwrap_err().to_string();
        assert!(error.starts_with("-o ") && error.contains("folder/../a: the command reads this file"), "{error}");
    }
}
