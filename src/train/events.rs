//! What a run reports while it goes, and how it is asked to stop.

use super::log;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A wish to stop that may come at any time and from any thread: the run finishes its step, writes a checkpoint and
/// ends with [`crate::error::Error::Interrupted`].
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Asks; `code` is the exit status that the run is to end with. 0 is no wish.
    pub fn ask(&self, code: u8) {
        self.0.store(code.into(), Ordering::Relaxed);
    }

    /// The exit status that was asked for, if one was.
    pub fn asked(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::Relaxed)).ok().filter(|&code| code > 0)
    }

    /// The number behind it, for a handler of signals.
    pub fn cell(&self) -> Arc<AtomicUsize> {
        self.0.clone()
    }
}

/// What the run tells while it goes.
pub enum Event<'a> {
    /// Before the first step.
    Header(&'a log::Header),
    /// Something the user should know.
    Note(&'a str),
    /// Reference log-probabilities: examples done, of all.
    Reference(usize, usize),
    /// After an optimiser step.
    Step(&'a log::Step),
    /// After an evaluation.
    Evaluation(&'a log::Evaluation),
    /// A checkpoint lies here.
    Checkpoint(&'a Path),
    /// The result lies here.
    Saved(&'a Path),
}
