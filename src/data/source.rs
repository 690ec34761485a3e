//! Where rows come from and by which rules they are read.

use std::path::{Path, PathBuf};

use super::template::Task;
use super::weights::drawn::PathReading;

/// Where the rows are.
#[derive(Clone, Debug, PartialEq)]
pub enum DataSource {
    /// One JSON object per line.
    Jsonl(PathBuf),
    /// Two text files; line n of the second is the target for line n of the first.
    Parallel(PathBuf, PathBuf),
}

impl DataSource {
    /// A JSONL file, or two parallel ones; `None` without any.
    pub fn of(files: &[PathBuf]) -> Option<DataSource> {
        match files {
            [] => None,
            [file] => Some(DataSource::Jsonl(file.clone())),
            [source, target, ..] => Some(DataSource::Parallel(source.clone(), target.clone())),
        }
    }

    /// The file that messages name: of two parallel ones the source.
    pub fn file(&self) -> &Path {
        match self {
            DataSource::Jsonl(file) | DataSource::Parallel(file, _) => file,
        }
    }

    /// All its files.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            DataSource::Jsonl(file) => vec![file],
            DataSource::Parallel(source, target) => vec![source, target],
        }
    }
}

/// How rows become examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The template for rows of `code` and for parallel files.
    pub task: Task,
    /// Tokens that are kept of an example.
    pub max_length: usize,
    /// Loss weight of the tokens of a prompt; `None`: prompts are not supervised.
    pub prompt_weight: Option<f32>,
    /// Leaves the data's weights aside: each of them is taken as 1. Roles (on or off the path) stay.
    pub uniform: bool,
    /// Draws weights from scan paths; `None`: they are the data's own.
    pub paths: Option<PathReading>,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading { task: Task::None, max_length: 1024, prompt_weight: None, uniform: false, paths: None }
    }
}
