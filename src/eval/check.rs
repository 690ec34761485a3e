//! A command of the user, run on predictions: it passes where it ends with exit status 0.
//!
//! This is no sandbox: the command, and the prediction if the command runs it, may do whatever the user may. What is
//! kept: the command gets no input, runs in a temporary folder of its own, and in a process group of its own. The whole
//! group is killed when the command ends, when its time is over, and when eyekern is interrupted.

mod words;

use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io::{ErrorKind, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes of a command's output that are kept.
const OUTPUT: usize = 2000;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;

/// Bytes that a pipe holds, at most, by default (pipe(7)).
const PIPE: usize = 1 << 20;

/// The place of the prediction in the command.
const PLACE: &str = "{}";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With exit status 0.
    Pass,
    /// With another exit status.
    Fail,
    /// By a signal, or it could not be started.
    Error,
    /// It was killed at the end of its time.
    Timeout,
}

impl Verdict {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Error => "error",
            Verdict::Timeout => "timeout",
        }
    }
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// The first 2000 bytes of its standard output and standard error, or why it could not be started.
    pub output: String,
}

/// A prediction to check.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Its row, from 0.
    pub row: usize,
    /// Its place among the predictions of the row, from 0.
    pub sample: usize,
    /// The prediction.
    pub text: &'a str,
}

/// Asks whether the user wants to stop: the exit status that the process is to end with.
pub type Interrupt = Box<dyn Fn() -> Option<u8> + Send + Sync>;

/// Runs the command on predictions.
pub struct Checker {
    words: Vec<String>,
    program: PathBuf,
    file: String,
    timeout: Duration,
    jobs: usize,
    interrupt: Interrupt,
}

impl Checker {
    /// A checker that runs `command`, split into words as a shell splits them, at most `jobs` at a time and each for at
    /// most `timeout`. `extension` is that of the prediction's file. Errors with a command that cannot work: without
    /// `{}`, with an open quote, or with a program that does not exist.
    pub fn new(
        command: &str, extension: &str, timeout: Duration, jobs: usize, interrupt: Interrupt,
    ) -> Result<Checker> {
        let usage = |why: String| Error::Usage(format!("--check {command:?}: {why}"));
        let words = words::split(command).map_err(|why| usage(why.into()))?;
        let Some(program) = words.first() else { return Err(usage("the command is empty".into())) };
        if !words[1..].iter().any(|word| word.contains(PLACE)) {
            return Err(usage("put {} where the command takes the path of the prediction".into()));
        }
        let program = find(program)
            .ok_or_else(|| usage(format!("there is no program {program:?}; give its path, or install it")))?;
        let file = format!("prediction.{extension}");
        Ok(Checker { words, program, file, timeout, jobs: jobs.max(1), interrupt })
    }

    /// Checks predictions: one outcome each, in their order. Fails where the user interrupts, and where a temporary
    /// folder cannot be made.
    pub fn run(&self, tasks: &[Task]) -> Result<Vec<Outcome>> {
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, Result<Outcome>)>> = Mutex::new(Vec::with_capacity(tasks.len()));
        let work = || {
            while let Some((i, task)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, tasks.get(i)?)))
            {
                let outcome = self.check(task);
                let failed = outcome.is_err();
                done.lock().unwrap_or_else(|e| e.into_inner()).push((i, outcome));
                if failed {
                    next.store(tasks.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| (0..self.jobs.min(tasks.len())).for_each(|_| drop(scope.spawn(work))));
        let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
        done.sort_by_key(|(i, _)| *i);
        done.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn check(&self, task: &Task) -> Result<Outcome> {
        stopped((self.interrupt)())?;
        let folder = TempDir::with_prefix("eyekern-check-").map_err(Error::io(&std::env::temp_dir(), "write"))?;
        let file = folder.path().join(&self.file);
        std::fs::write(&file, task.text).map_err(Error::io(&file, "write"))?;
        match self.start(task, folder.path(), &file) {
            Ok((child, output)) => self.watch(child, output),
            Err(e) => Ok(Outcome { verdict: Verdict::Error, output: format!("not started: {e}") }),
        }
    }

    fn start(&self, task: &Task, folder: &Path, file: &Path) -> std::io::Result<(Child, PipeReader)> {
        let (reader, writer) = std::io::pipe()?;
        fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        let path = file.to_string_lossy();
        let mut command = Command::new(&self.program);
        command.args(self.words[1..].iter().map(|word| word.replace(PLACE, &path))).current_dir(folder);
        command.env("EYEKERN_ROW", (task.row + 1).to_string()).env("EYEKERN_SAMPLE", (task.sample + 1).to_string());
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        Ok((command.spawn()?, reader))
    }

    /// Waits for the end of a command or of its time, and ends its process group.
    fn watch(&self, mut child: Child, mut output: PipeReader) -> Result<Outcome> {
        let deadline = Instant::now() + self.timeout;
        let (mut text, mut open, mut stop) = (Vec::new(), true, None);
        let pid = Pid::from_child(&child);
        // the leader stays a zombie until the group is killed, so that its number belongs to nobody else
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let ended = loop {
            if matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_))) {
                break true;
            }
            stop = (self.interrupt)();
            if stop.is_some() || Instant::now() >= deadline {
                break false;
            }
            let rest = deadline.saturating_duration_since(Instant::now()).min(Duration::from_millis(10));
            if open {
                wait(&output, rest);
                open = read(&mut output, &mut text);
            } else {
                std::thread::sleep(rest.min(Duration::from_millis(2)));
            }
        };
        // nothing is left to kill where every process has ended
        let _ = kill_process_group(pid, Signal::KILL);
        let status = child.wait().ok();
        // what the command wrote at its end; a process that left the group may write on without one
        for _ in 0..PIPE / BUFFER {
            open = open && wait(&output, Duration::ZERO) && read(&mut output, &mut text);
        }
        stopped(stop)?;
        let verdict = if ended { verdict(status) } else { Verdict::Timeout };
        Ok(Outcome { verdict, output: String::from_utf8_lossy(&text).into_owned() })
    }
}

/// The error of an evaluation that the user wants to stop, if so: `code` is the exit status.
pub fn stopped(code: Option<u8>) -> Result {
    match code {
        Some(code) => Err(Error::Interrupted { code, why: "interrupted; no report was written".into() }),
        None => Ok(()),
    }
}

fn verdict(status: Option<ExitStatus>) -> Verdict {
    match status {
        Some(status) if status.success() => Verdict::Pass,
        Some(status) if status.signal().is_none() => Verdict::Fail,
        _ => Verdict::Error,
    }
}

/// Waits until there is output to read, the other end is closed, or the time is over.
fn wait(output: &PipeReader, time: Duration) -> bool {
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    poll(&mut [PollFd::new(output, PollFlags::IN)], Some(&time)).is_ok_and(|ready| ready > 0)
}

/// Reads what is there and keeps the beginning. Returns whether the other end is open.
fn read(output: &mut PipeReader, text: &mut Vec<u8>) -> bool {
    let mut buffer = [0; BUFFER];
    match output.read(&mut buffer) {
        Ok(0) => false,
        Ok(n) => {
            text.extend(&buffer[..n.min(OUTPUT - text.len())]);
            true
        }
        Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

/// The program that a shell would run by this name.
fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        // relative to the folder of this process, not to that of a check
        return std::path::absolute(name).ok().filter(|file| file.is_file());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.is_file())
}
