//! Standard output and standard error for a command that is piped, redirected and cut short.
//!
//! `println!` panics when the reader is gone (`eyekern demo | head -3`). Here a closed standard output ends the process
//! with exit code 0, because the reader has all that it wanted. Other failures of standard output are reported at the
//! end. Failures of standard error are ignored, because they cannot be reported.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

pub use super::heat::{Colour, Role, paint_weight, printable};
use crate::error::{Error, Result};

/// Standard output and standard error of a command.
pub struct Terminal {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    colour: Colour,
    interactive: bool,
    /// The first failure of standard output.
    failed: Option<io::Error>,
    /// What to do when the reader of standard output is gone.
    on_closed: fn(),
}

impl Terminal {
    /// The process's own streams.
    pub fn stdio() -> Terminal {
        Terminal {
            colour: Colour::decide(io::stdout().is_terminal(), |name| std::env::var_os(name)),
            interactive: io::stderr().is_terminal(),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            failed: None,
            on_closed: || std::process::exit(0),
        }
    }

    /// A log: both streams go to the end of a file.
    pub fn log(path: &Path) -> Result<Terminal> {
        let open = || File::options().create(true).append(true).open(path).map_err(Error::io(path, "create"));
        Ok(Terminal {
            colour: Colour::None,
            interactive: false,
            stdout: Box::new(open()?),
            stderr: Box::new(open()?),
            failed: None,
            on_closed: || (),
        })
    }

    /// From now on a closed standard output does not end the process, because there is work to save first.
    pub fn outlive_reader(&mut self) {
        self.on_closed = || ();
    }

    /// Whether the reader of standard output is gone.
    pub fn closed(&self) -> bool {
        self.failed.as_ref().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    }

    /// The colours of standard output.
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// Whether standard error is a terminal: whether a progress bar makes sense.
    pub fn interactive(&self) -> bool {
        self.interactive
    }

    /// Writes a line to standard output.
    pub fn line(&mut self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// Writes to standard output.
    pub fn print(&mut self, text: &str) {
        if self.failed.is_some() {
            return;
        }
        // in one piece and flushed, so that a line is visible at once, in a pipe too
        let Err(error) = self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush()) else { return };
        let closed = error.kind() == ErrorKind::BrokenPipe;
        self.failed = Some(error);
        if closed {
            (self.on_closed)();
        }
    }

    /// Writes a line to standard error.
    pub fn note(&mut self, text: &str) {
        let _ = self.stderr.write_all(format!("{text}\n").as_bytes());
    }

    /// The text in bold, where standard output has colours.
    pub fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    /// The text dimmed, where standard output has colours.
    pub fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    /// The text in red, where standard output has colours.
    pub fn red(&self, text: &str) -> String {
        self.styled("31", text)
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour == Colour::None { text.to_string() } else { format!("\x1b[{style}m{text}\x1b[0m") }
    }

    /// [`paint_weight`] in the colours of standard output.
    pub fn paint_weight(&self, text: &str, weight: f32, lo: f32, hi: f32, role: Role) -> String {
        paint_weight(self.colour, text, weight, lo, hi, role)
    }

    /// Five weights from `lo` to `hi`, each in its colour.
    pub fn weight_scale(&self, lo: f32, hi: f32) -> String {
        let at = |step: u8| lo + (hi - lo) * f32::from(step) / 4.0;
        let paint = |weight: f32| self.paint_weight(&format!(" {weight:.2} "), weight, lo, hi, Role::Off);
        format!("weight {}", (0..=4).map(|step| paint(at(step))).collect::<String>())
    }

    /// Reports how the command ended and returns its exit code.
    pub fn finish(mut self, result: Result) -> u8 {
        let result = match self.failed.take() {
            Some(closed) if closed.kind() == ErrorKind::BrokenPipe => return 0,
            // an error of the command explains more than an error of the stream
            Some(source) if result.is_ok() => {
                Err(Error::Io { file: PathBuf::from("standard output"), action: "write", source })
            }
            _ => result,
        };
        match result {
            Ok(()) => 0,
            Err(error) => {
                // a sentence may quote a file; a page of help is not a sentence
                let sentence = printable(&error.to_string());
                let help = matches!(error, Error::Usage(_));
                self.note(&format!("eyekern: {}", if help { sentence } else { shortened(&sentence) }));
                error.exit_code()
            }
        }
    }
}

/// `1 segment`, `2 segments`.
pub fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Shortens a long sentence in its middle: a value quoted from a file may have any length, while the place is at the
/// beginning of a message and the remedy at its end.
fn shortened(sentence: &str) -> String {
    const HEAD: usize = 600;
    const TAIL: usize = 300;
    let chars: Vec<char> = sentence.chars().collect();
    if chars.len() <= HEAD + TAIL {
        return sentence.into();
    }
    let (head, tail) = (&chars[..HEAD], &chars[chars.len() - TAIL..]);
    head.iter().chain(&[' ', '…', ' ']).chain(tail).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A stream that keeps what is written, or fails.
    #[derive(Clone, Default)]
    pub struct Sink(Arc<Mutex<Vec<u8>>>, Option<ErrorKind>);

    impl Sink {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(kind) = self.1 {
                return Err(kind.into());
            }
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Terminal {
        /// A terminal that writes to memory: itself, its standard output, its standard error.
        pub fn captured(colour: Colour) -> (Terminal, Sink, Sink) {
            with(Sink::default(), Sink::default(), colour)
        }
    }

    fn with(stdout: Sink, stderr: Sink, colour: Colour) -> (Terminal, Sink, Sink) {
        let (out, err) = (stdout.clone(), stderr.clone());
        let terminal = Terminal {
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            colour,
            interactive: false,
            failed: None,
            on_closed: || (),
        };
        (terminal, out, err)
    }

    fn failing(kind: ErrorKind) -> Sink {
        Sink(Arc::default(), Some(kind))
    }

    #[test]
    fn streams_are_kept_apart() {
        let (mut out, stdout, stderr) = Terminal::captured(Colour::None);
        out.line("a");
        out.print("b");
        out.note("c");
        assert_eq!((stdout.text(), stderr.text()), ("a\nb".into(), "c\n".into()));
        assert_eq!(out.finish(Ok(())), 0);
    }

    #[test]
    fn an_error_is_a_sentence_and_a_code() {
        let (out, _, stderr) = Terminal::captured(Colour::None);
        let error = Error::Recipe { origin: "r.toml:2".into(), why: "unknown\x1b key".into() };
        assert_eq!(out.finish(Err(error)), 2);
        assert_eq!(stderr.text(), "eyekern: r.toml:2: unknown\u{fffd} key\n");
    }

    #[test]
    fn what_is_quoted_may_be_long_and_the_sentence_is_not() {
        let (out, _, stderr) = Terminal::captured(Colour::None);
        let why = format!("{} is no number; mend it", "é".repeat(5000));
        out.finish(Err(Error::file(Path::new("a.json"), why)));
        let text = stderr.text();
        assert!(text.starts_with("eyekern: a.json: éé") && text.ends_with("é is no number; mend it\n"), "{text}");
        assert_eq!(text.chars().count(), 600 + 3 + 300 + "eyekern: ".len() + 1);
    }

    #[test]
    fn a_closed_pipe_is_the_end_but_no_failure() {
        let (mut out, _, stderr) = with(failing(ErrorKind::BrokenPipe), Sink::default(), Colour::None);
        out.line("a");
        out.line("b");
        assert_eq!(out.finish(Err(Error::Usage("late".into()))), 0);
        assert_eq!(stderr.text(), "");
        let (mut out, ..) = with(Sink::default(), failing(ErrorKind::BrokenPipe), Colour::None);
        out.note("nobody listens");
        assert_eq!(out.finish(Err(Error::Device("d".into()))), 4);
    }

    #[test]
    fn a_full_disk_is_reported_once_at_the_end() {
        let (mut out, _, stderr) = with(failing(ErrorKind::StorageFull), Sink::default(), Colour::None);
        out.line("a");
        out.line("b");
        assert_eq!(out.finish(Ok(())), 3);
        let text = stderr.text();
        assert!(text.starts_with("eyekern: standard output: cannot write: ") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn nothing_is_written_after_a_hole() {
        let (mut out, stdout, _) = Terminal::captured(Colour::None);
        out.failed = Some(ErrorKind::StorageFull.into());
        out.line("a");
        assert_eq!(stdout.text(), "");
    }

    #[test]
    fn things_are_counted_in_words() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "row")), ["0 rows", "1 row", "2 rows"]);
    }

    #[test]
    fn styles_need_colours() {
        let (out, ..) = Terminal::captured(Colour::None);
        assert_eq!(format!("{}{}", out.bold("a"), out.dim("b")), "ab");
        let (out, ..) = Terminal::captured(Colour::Basic);
        assert_eq!(format!("{}{}", out.bold("a"), out.dim("b")), "\x1b[1ma\x1b[0m\x1b[2mb\x1b[0m");
        assert_eq!(out.paint_weight("x", 1.0, 0.0, 1.0, Role::Off), "\x1b[37;41mx\x1b[0m");
    }
}
