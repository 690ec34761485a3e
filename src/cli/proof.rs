//! Whether attention may use the kernels for Hopper. They are proven in a child process with a limit of time, because a
//! kernel that hangs or faults takes the process with it that started it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::terminal::Terminal;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::devices::Properties;
use crate::backend::cuda::gpu::Gpu;
use crate::error::{Error, Result};

/// Chooses the attention kernels by hand.
const CHOICE: &str = "EYEKERN_KERNELS";
/// The limit of the proof, in seconds.
const LIMIT: &str = "EYEKERN_KERNELS_SECONDS";

/// The limit where kernels are embedded, and where NVRTC compiles them first.
const SECONDS: [u64; 2] = [60, 300];

/// What a killed child may take to be gone. One whose kernel cannot be stopped is left to the system.
const GRACE: Duration = Duration::from_secs(5);

/// The compute capability that has kernels of its own.
pub const HOPPER: (u32, u32) = (9, 0);

/// Why the proof failed on a GPU, by its number.
static PROVEN: Mutex<BTreeMap<usize, Option<String>>> = Mutex::new(BTreeMap::new());

/// Which attention kernels a GPU gets.
#[derive(Default)]
pub struct Proof {
    /// Whether those for Hopper.
    pub hopper: bool,
    /// Why not, where they failed.
    pub failed: Option<String>,
    by_hand: bool,
}

impl Proof {
    /// What `eyekern doctor` says of it.
    pub fn finding(&self) -> std::result::Result<String, String> {
        match &self.failed {
            Some(why) => Err(format!("the kernels for Hopper {why}; those for all GPUs are used in their place")),
            None if self.by_hand => {
                let kernels = if self.hopper { "Hopper, not checked" } else { "all GPUs" };
                Ok(format!("the kernels for {kernels} ({CHOICE} is set)"))
            }
            None => Ok("the kernels for Hopper agree with those for all GPUs".into()),
        }
    }
}

/// The kernels for a GPU, by hand or by the proof; `compiles` says that NVRTC has to compile them. To be called before
/// the process opens the GPU: in the compute mode "exclusive process" the child could not open it any more.
pub fn of(gpu: &Properties, compiles: bool) -> Result<Proof> {
    let given = std::env::var(CHOICE).unwrap_or_default();
    let by_hand = match given.as_str() {
        "" | "auto" => None,
        "hopper" => Some(true),
        "portable" => Some(false),
        _ => return Err(Error::Usage(format!("{CHOICE} is {given:?}; it can be auto, hopper or portable"))),
    };
    let seconds = limit(compiles)?;
    match by_hand {
        _ if gpu.capability != HOPPER => Ok(Proof::default()),
        Some(hopper) => Ok(Proof { hopper, by_hand: true, failed: None }),
        None => {
            // once a process: a grid opens the GPU for each cell
            let mut known = PROVEN.lock().unwrap_or_else(PoisonError::into_inner);
            let failed = known.entry(gpu.gpu.index).or_insert_with(|| prove(gpu.gpu.index, seconds).err()).clone();
            Ok(Proof { hopper: failed.is_none(), failed, by_hand: false })
        }
    }
}

fn limit(compiles: bool) -> Result<u64> {
    match std::env::var(LIMIT) {
        Err(_) => Ok(SECONDS[usize::from(compiles)]),
        Ok(given) => given.parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).ok_or_else(|| {
            Error::Usage(format!("{LIMIT} is {given:?}; it must be a whole number of seconds from 1 to 86400"))
        }),
    }
}

/// Runs the proof in a child process. The error says what went wrong, without a subject.
fn prove(index: usize, seconds: u64) -> std::result::Result<(), String> {
    let program = std::env::current_exe().map_err(|why| format!("could not be checked ({why})"))?;
    let arguments = ["prove-kernels", "--gpu", &index.to_string(), "--seconds", &(seconds + 1).to_string()];
    // of its own group, so that Ctrl-C does not look like a failure of the kernels
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|why| format!("could not be checked ({why})"))?;
    let (send, said) = mpsc::channel();
    if let Some(mut stderr) = child.stderr.take() {
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            let _ = send.send(String::from_utf8_lossy(&text).into_owned());
        });
    }
    match ended(&mut child, Duration::from_secs(seconds)) {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let text = said.recv_timeout(GRACE).unwrap_or_default();
            Err(reason(status, &text))
        }
        None => {
            let _ = child.kill();
            ended(&mut child, GRACE);
            Err(format!("did not end within {seconds} s"))
        }
    }
}

/// How a child ended, where it does so in time.
fn ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Why a child failed: its last line, else its signal.
fn reason(status: ExitStatus, said: &str) -> String {
    let last = said.lines().rev().find_map(|line| line.strip_prefix("eyekern: "));
    match (last, status.signal()) {
        (Some(line), _) => format!("failed ({line})"),
        (None, Some(signal)) => format!("ended the process that checked them with signal {signal}"),
        (None, None) => format!("ended the process that checked them with {status}"),
    }
}

/// Arguments of `eyekern prove-kernels`, the child.
#[derive(Args, Debug)]
pub struct ProveArgs {
    /// Number of the GPU.
    #[arg(long)]
    pub gpu: usize,
    /// The process ends after so many seconds, also where nobody waits for it any more.
    #[arg(long)]
    pub seconds: u64,
}

/// The proof itself: opens the GPU and compares Hopper's kernels with those for all GPUs.
pub fn run(args: &ProveArgs, _: &mut Terminal) -> Result {
    let limit = Duration::from_secs(args.seconds);
    thread::spawn(move || {
        thread::sleep(limit);
        std::process::abort();
    });
    let gpu = Gpu::open(args.gpu, None, None)?;
    if let Some(why) = gpu.driver().refused() {
        return Err(Error::Device(format!("a check of their machine code refuses them: {why}")));
    }
    Cuda::new(gpu).proven().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).spawn().unwrap()
    }

    #[test]
    fn a_child_is_waited_for_as_long_as_it_may() {
        let mut child = shell("exit 3");
        assert_eq!(ended(&mut child, Duration::from_secs(60)).unwrap().code(), Some(3));
        let mut child = shell("exec sleep 1000");
        assert!(ended(&mut child, Duration::from_millis(20)).is_none());
        child.kill().unwrap();
        let status = ended(&mut child, Duration::from_secs(60)).unwrap();
        assert_eq!(reason(status, "a warning\n"), "ended the process that checked them with signal 9");
        assert_eq!(reason(status, "note: x\neyekern: GPU 0: lost\n"), "failed (GPU 0: lost)");
    }
}
