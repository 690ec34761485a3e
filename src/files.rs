//! Files: read within bounds, and written so that no reader ever sees a part of one; the identity of files.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The largest file that is read whole: a device may never end, and memory does.
const LARGEST: u64 = 1 << 30;

/// The temporary name of a file or folder until it is complete: its path with `.partial` appended.
pub fn partial(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    name.into()
}

/// The bytes of a file. Fails where it has more than 1 GiB.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_all(File::open(path)?)
}

/// As [`read`], as text.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let text = String::from_utf8(read(path)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8; save it as UTF-8"))
}

/// What is left of a stream. Fails where that is more than 1 GiB.
pub fn read_all(stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if stream.take(LARGEST + 1).read_to_end(&mut bytes)? as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 GiB; is it the right file"));
    }
    Ok(bytes)
}

/// Writes `bytes` to `path` through a temporary file beside it and a rename, and waits until both have reached the
/// disk. An existing file is replaced or, on an error, left unchanged. Where `path` is a link, the file that it leads
/// to is replaced. Pipes and devices are written to as they are.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result {
    let place = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let special = fs::metadata(&place).is_ok_and(|about| !about.is_file() && !about.is_dir());
    if special {
        return fs::write(&place, bytes).map_err(Error::io(path, "write"));
    }
    let partial = partial(&place);
    let mut file = open_alone(&partial).map_err(Error::io(&partial, "write"))?;
    let written = file.set_len(0).and_then(|()| file.write_all(bytes.as_ref())).and_then(|()| file.sync_all());
    let written = written.map_err(Error::io(&partial, "write"));
    let done = written.and_then(|()| fs::rename(&partial, &place).map_err(Error::io(path, "write")));
    if done.is_err() {
        // the first error is the one to report
        let _ = fs::remove_file(&partial);
    }
    done.and_then(|()| sync_parent(&place))
}

/// The folder in which [`publish`] makes the files of a result.
const STAGE: &str = "result.partial";

/// Puts the files that `fill` makes into the folder `out`, as a whole or not at all, by the file that stands for them:
/// the one of `last` comes last, and an earlier one goes before anything else changes. So where a file of `last` is
/// there, the others beside it are those that it was saved with, whenever the process or the machine stops.
///
/// `fill` is given a temporary folder in `out`. Its files reach the disk before the first of them is renamed. The
/// caller holds the lock of `out`; so a temporary folder that is there already is a dead process's, and is removed.
pub fn publish(out: &Path, last: &[&str], fill: impl FnOnce(&Path) -> Result) -> Result {
    remove_stage(out)?;
    let stage = out.join(STAGE);
    fs::create_dir(&stage).map_err(Error::io(&stage, "create"))?;
    let made = fill(&stage).map_err(|error| error.moved(&stage, out));
    let done = made.and_then(|()| move_all(&stage, out, last));
    let removed = remove_stage(out);
    done.and(removed)
}

/// Removes what a process that was killed in [`publish`] left behind.
pub fn remove_stage(out: &Path) -> Result {
    let stage = out.join(STAGE);
    if !stage.exists() {
        return Ok(());
    }
    fs::remove_dir_all(&stage).map_err(Error::io(&stage, "remove"))
}

/// Moves the files of `stage` to `out`, those of `last` after all others.
fn move_all(stage: &Path, out: &Path, last: &[&str]) -> Result {
    let parts = parts(names(stage)?, last);
    for name in parts.iter().flatten() {
        sync(&stage.join(name))?;
        let place = out.join(name);
        if place.is_dir() && !stage.join(name).is_dir() {
            return Err(Error::file(&place, "is a folder, and a file is to be saved there; move it away"));
        }
    }
    sync(stage)?;
    for place in last.iter().map(|name| out.join(name)).filter(|place| place.is_file()) {
        fs::remove_file(&place).map_err(Error::io(&place, "remove"))?;
    }
    for part in &parts {
        // what was removed or renamed is so on the disk, too, before the next part begins
        sync(out)?;
        for name in part {
            let place = out.join(name);
            if place.is_dir() {
                fs::remove_dir_all(&place).map_err(Error::io(&place, "remove"))?;
            }
            fs::rename(stage.join(name), &place).map_err(Error::io(&place, "write"))?;
        }
    }
    sync(out)
}

/// The names that come first, and those of `last`.
fn parts(names: Vec<String>, last: &[&str]) -> [Vec<String>; 2] {
    let (last, first) = names.into_iter().partition(|name| last.contains(&name.as_str()));
    [first, last]
}

/// Names in a folder, sorted; a name that is not UTF-8 is none of ours.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        names.extend(entry.map_err(Error::io(dir, "read"))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Opens a file, which is made where it is missing, and tries to lock it for as long as it stays open. The system gives
/// the lock back when the process ends, however it does.
pub fn try_lock(path: &Path) -> io::Result<(File, std::result::Result<(), TryLockError>)> {
    loop {
        let file = File::options().create(true).append(true).open(path)?;
        let lock = file.try_lock();
        // whoever had it may have removed it in between
        if lock.is_err() || is_at(&file, path) {
            return Ok((file, lock));
        }
    }
}

/// Opens a file for writing that no other process writes at the same time: waits for the one that does.
fn open_alone(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        // some network file systems have no locks
        let _ = file.lock();
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

/// Whether a file that was opened by this path is still there, and was not renamed or removed since.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let number = |about: io::Result<fs::Metadata>| about.ok().map(|about| (about.dev(), about.ino()));
        number(file.metadata()) == number(fs::metadata(path))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Waits until a name has reached the disk; a folder that may be written but not read is passed over.
fn sync_parent(path: &Path) -> Result {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(parent) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        folder => folder.and_then(|folder| folder.sync_all()).map_err(Error::io(path, "write")),
    }
}

/// Copies the content of a file through [`write()`], but not its mode: a copy of a read-only file can be replaced. Does
/// nothing if both paths lead to the same file.
pub fn copy(from: &Path, to: &Path) -> Result {
    if same(from, to) {
        return Ok(());
    }
    write(to, read(from).map_err(Error::io(from, "read"))?)
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
    fn links_lead_to_what_is_written_and_devices_stay_devices() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("elsewhere")).unwrap();
        write(&path("elsewhere/a"), "old").unwrap();
        std::os::unix::fs::symlink("elsewhere/a", path("link")).unwrap();
        write(&path("link"), "new").unwrap();
        assert!(path("link").is_symlink());
        assert_eq!(std::fs::read_to_string(path("elsewhere/a")).unwrap(), "new");
        write(Path::new("/dev/null"), "x").unwrap();
        assert!(!Path::new("/dev/null.partial").exists() && !std::fs::metadata("/dev/null").unwrap().is_file());
        let full = write(Path::new("/dev/full"), "x").unwrap_err().to_string();
        assert_eq!(full, "/dev/full: cannot write: No space left on device (os error 28)");
    }

    #[test]
    fn writers_of_one_file_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::thread::scope(|scope| {
            for byte in *b"abcd" {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| write(path, vec![byte; 100_000]).unwrap()));
            }
        });
        let bytes = read(&path).unwrap();
        assert!(bytes.len() == 100_000 && bytes.iter().all(|b| *b == bytes[0]));
        assert_eq!(names(dir.path()).unwrap(), ["a"]);
    }

    #[test]
    fn what_never_ends_is_not_read() {
        let why = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(why, "it has more than 1 GiB; is it the right file");
    }

    #[test]
    fn the_file_that_stands_for_a_result_comes_last() {
        let names = ["a", "model", "z"].map(String::from).to_vec();
        assert_eq!(
            parts(names.clone(), &["model", "index"]),
            [vec!["a".to_string(), "z".into()], vec!["model".into()]]
        );
        assert_eq!(parts(names.clone(), &[]), [names, vec![]]);
    }

    /// The files of a folder and what is in them.
    fn content(dir: &Path) -> Vec<(String, String)> {
        let read = |name: &String| std::fs::read_to_string(dir.join(name)).unwrap_or("a folder".into());
        names(dir).unwrap().into_iter().map(|name| (name.clone(), read(&name))).collect()
    }

    #[test]
    fn a_result_is_there_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let fill = |text: &'static str, names: &'static [&str]| {
            move |stage: &Path| names.iter().try_for_each(|name| write(&stage.join(name), text))
        };
        let pairs =
            |list: &[(&str, &str)]| list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect::<Vec<_>>();
        // a dead process's folder is removed, and other files stay
        std::fs::create_dir(out.join(STAGE)).unwrap();
        write(&out.join(STAGE).join("torn"), "x").unwrap();
        write(&out.join("other"), "x").unwrap();
        publish(out, &["model", "index"], fill("1", &["config", "model"])).unwrap();
        assert_eq!(content(out), pairs(&[("config", "1"), ("model", "1"), ("other", "x")]));
        // a result in other files: the file that stood for the old one is gone
        publish(out, &["model", "index"], fill("2", &["config", "index", "part"])).unwrap();
        assert_eq!(content(out), pairs(&[("config", "2"), ("index", "2"), ("other", "x"), ("part", "2")]));
        // a failure while it is made changes nothing, and names the file where it was to be
        let before = content(out);
        let fail = |stage: &Path| write(&stage.join("config"), "3").and(Err(Error::file(&stage.join("a"), "fails")));
        let error = publish(out, &["index"], fail).unwrap_err().to_string();
        assert_eq!((error, content(out)), (format!("{}: fails", out.join("a").display()), before.clone()));
        // and so does a folder in the way
        std::fs::create_dir(out.join("z")).unwrap();
        let error = publish(out, &["index"], fill("4", &["config", "index", "z"])).unwrap_err().to_string();
        assert!(error.ends_with("z: is a folder, and a file is to be saved there; move it away"), "{error}");
        std::fs::remove_dir(out.join("z")).unwrap();
        assert_eq!(content(out), before);
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
