//! The source of rows, and the rules for reading them.

use std::path::{Path, PathBuf};

use super::cut::Cutting;
use super::jinja::Date;
use super::template::Task;
use super::weights::drawn::PathReading;

/// Files of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum DataSource {
    /// One JSON object per line.
    Jsonl(PathBuf),
    /// Two text files; line n of the second is the target for line n of the first.
    Parallel(PathBuf, PathBuf),
}

impl DataSource {
    /// A JSONL file, or two parallel files; `None` without files.
    pub fn of(files: &[PathBuf]) -> Option<DataSource> {
        match files {
            [] => None,
            [file] => Some(DataSource::Jsonl(file.clone())),
            [source, target, ..] => Some(DataSource::Parallel(source.clone(), target.clone())),
        }
    }

    /// The file that messages name: for parallel files, the source.
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
    /// What completion leaves out of code that has no target of its own.
    pub cutting: Cutting,
    /// Largest number of tokens of an example.
    pub max_length: usize,
    /// Loss weight of prompt tokens; with `None`, prompts are not supervised.
    pub prompt_weight: Option<f32>,
    /// Draws weights from scan paths; with `None`, the data bring their own weights.
    pub paths: Option<PathReading>,
    /// The day that chat templates write; with `None`, today.
    pub date: Option<Date>,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading {
            task: Task::None,
            cutting: Cutting::default(),
            max_length: 1024,
            prompt_weight: None,
            paths: None,
            date: None,
        }
    }
}
