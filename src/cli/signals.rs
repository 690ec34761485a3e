//! Signals that stop a run: after the first the run finishes its step and writes a checkpoint, the second ends the
//! process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::machine;
use crate::error::{Error, Result};
use crate::train::events::Stop;

/// Forwards signals to `stop` from now on. Signals that the parent process made this one ignore (`nohup`, a background
/// job of a shell) stay ignored.
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
