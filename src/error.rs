//! Every error of the crate, as sentences for the user.
//!
//! The whole crate has one enum. A variant names the place (file, row, key, tensor), and its text states the problem
//! and the remedy; [`Error::exit_code`] is the documented exit status of the command.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T = ()> = std::result::Result<T, Error>;

/// A failure that a user can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line names something that does not exist, or its options conflict.
    #[error("{0}")]
    Usage(String),
    /// A key of the recipe (file, environment or `--set`) is unknown, mistyped or out of range.
    #[error("{origin}: {why}")]
    Recipe {
        /// The recipe file, `--set`, or the environment variable.
        origin: String,
        /// The problem and the remedy.
        why: String,
    },
    /// A row of a data file cannot be used. Rows are counted from 1, as editors count lines.
    #[error("{}:{row}: {why}", file.display())]
    Row {
        /// The data file.
        file: PathBuf,
        /// Line number, from 1.
        row: usize,
        /// The problem and the remedy.
        why: String,
    },
    /// A file (config.json, tokenizer.json, *.safetensors, data as a whole) cannot be used.
    #[error("{}: {why}", file.display())]
    File {
        /// The file or directory.
        file: PathBuf,
        /// The problem and the remedy.
        why: String,
    },
    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// `read`, `write`, `create` and so on.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Training cannot continue (a loss or gradient that is not finite).
    #[error("training stopped at step {step}: {why}")]
    Training {
        /// Optimiser step, from 1.
        step: u64,
        /// The observation and a suggestion.
        why: String,
    },
    /// A signal or a closed pipe interrupted the run.
    #[error("{why}")]
    Interrupted {
        /// The exit status of the signal: 128 + its number.
        code: u8,
        /// How far the run came and how to resume it.
        why: String,
    },
    /// A compute device is absent, too old, or out of memory.
    #[error("{0}")]
    Device(String),
}

impl Error {
    /// The exit status of the command: 1 training failed, 2 usage or recipe, 3 data or model, 4 device; 128 + the
    /// signal's number if interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Training { .. } => 1,
            Error::Usage(_) | Error::Recipe { .. } => 2,
            Error::Row { .. } | Error::File { .. } | Error::Io { .. } => 3,
            Error::Device(_) => 4,
            Error::Interrupted { code, .. } => *code,
        }
    }

    /// An error in a row of a data file; `row` counts from 1.
    pub fn row(file: &Path, row: usize, why: impl Into<String>) -> Error {
        Error::Row { file: file.to_path_buf(), row, why: why.into() }
    }

    /// An error in a file as a whole.
    pub fn file(file: &Path, why: impl Into<String>) -> Error {
        Error::File { file: file.to_path_buf(), why: why.into() }
    }

    /// The error as one of the folder `to`, where it names a file in the folder `from` that stands for it.
    pub fn moved(mut self, from: &Path, to: &Path) -> Error {
        if let Error::Row { file, .. } | Error::File { file, .. } | Error::Io { file, .. } = &mut self
            && let Ok(inside) = file.strip_prefix(from)
        {
            *file = if inside.as_os_str().is_empty() { to.to_path_buf() } else { to.join(inside) };
        }
        self
    }

    /// An adapter for `map_err` on I/O: `fs::read(p).map_err(Error::io(p, "read"))`.
    pub fn io(file: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let file = file.to_path_buf();
        move |source| Error::Io { file, action, source }
    }
}
