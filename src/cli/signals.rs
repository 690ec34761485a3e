//! Signals that ask a run to stop: the first finishes the step and writes a checkpoint, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::machine;
use crate::error::{Error, Result};
use crate::train::events::Stop;

/// Hands signals to `stop` from now on. Those that the parent has the process ignore (`nohup`, a shell's background
/// job) stay ignored.
pub fn watch(stop: &Stop) -> Result {
    let second = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|&signal| !machine::ignores(signal)) {
        let code = 128 + signal;
        // handlers run in this order: the first signal finds the flag down
        flag::register_conditional_shutdown(signal, code, second.clone())
            .and_then(|_| flag::register_usize(signal, stop.cell(), code as usize))
            .and_then(|_| flag::register(signal, second.clone()))
            .map_err(|e| Error::Device(format!("signal {signal} cannot be handled: {e}")))?;
    }
    Ok(())
}
