//! The progress of a run: a header, a bar on a terminal and a line per interval, and the end.

use super::machine::gib;
use super::terminal::Terminal;
use crate::error::{Error, Result};
use crate::train::events::{Event, Stop};
use crate::train::log::{Evaluation, Header, Step};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write;

/// Metrics of texts on the line of an evaluation.
const METRICS: usize = 3;

/// The exit status of a process that a closed pipe ends, as shells report it.
const SIGPIPE: u8 = 128 + 13;

/// Turns the events of a run into text.
pub struct Reporter<'a> {
    out: &'a mut Terminal,
    every: u64,
    bar: Option<ProgressBar>,
    /// Steps of the run.
    total: u64,
    interval: Vec<Step>,
    stop: Stop,
}

impl<'a> Reporter<'a> {
    /// Prints a line every `every` steps. Stops the run when standard output is closed.
    pub fn new(out: &'a mut Terminal, every: u64, stop: Stop) -> Reporter<'a> {
        Reporter { out, every, bar: None, total: 0, interval: Vec::new(), stop }
    }

    /// One event of [`crate::train::run::run`].
    pub fn event(&mut self, event: Event) -> Result {
        match event {
            Event::Header(header) => self.header(header),
            Event::Note(note) => self.out.note(&format!("note: {note}")),
            Event::Reference(done, of) if done == of => self.line(&format!("reference log-probabilities of {of} rows")),
            Event::Reference(..) => {
                if let Some(code) = self.stop.asked() {
                    return Err(Error::Interrupted { code, why: "interrupted before the first step".into() });
                }
            }
            Event::Checkpoint(dir) => self.line(&format!("checkpoint {}", dir.display())),
            Event::Step(log) => self.step(log),
            Event::Evaluation(log) => self.evaluation(log),
            Event::Saved(dir) => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                let text = format!("saved to {}", dir.display());
                self.line(&text);
            }
        }
        if self.out.closed() {
            self.stop.ask(SIGPIPE);
        }
        Ok(())
    }

    /// Prints a line above the bar.
    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.line(text)),
            None => self.out.line(text),
        }
    }

    fn header(&mut self, h: &Header) {
        self.total = h.steps;
        for (name, text) in facts(h) {
            let name = self.out.bold(&format!("{name:8}"));
            self.out.line(&format!("{name}{text}"));
        }
        if self.out.interactive() {
            let bar = ProgressBar::new(h.steps);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, log: &Step) {
        self.interval.push(*log);
        if let Some(bar) = &self.bar {
            bar.set_position(log.step);
            let left = log.seconds_left.map(|left| format!("{} left  ", span(left))).unwrap_or_default();
            bar.set_message(format!("{left}loss {:.4}", number(log.loss)));
        }
        if log.step.is_multiple_of(self.every) || log.step == self.total {
            let text = interval(&self.interval, self.total);
            self.line(&text);
            self.interval.clear();
        }
    }

    fn evaluation(&mut self, log: &Evaluation) {
        let sides = sides(&[[log.eval_path_loss, log.eval_off_path_loss, log.eval_dpo_loss]]);
        let mut text = format!("step {}  eval loss {:.4}{sides}", log.step, number(log.eval_loss));
        for (name, value) in log.metrics.iter().take(METRICS) {
            let _ = write!(text, "  {} {:.4}", name.trim_start_matches("eval_"), number(value.as_f64()));
        }
        if let (Some(seconds), Some(tokens)) = (log.eval_generate_seconds, log.eval_generated_tokens) {
            let _ = write!(text, "  ({tokens} tokens generated in {})", span(seconds));
        }
        self.line(&text);
    }
}

/// The run in words: names and texts. A line without a name continues the line before.
pub fn facts(h: &Header) -> Vec<(&'static str, String)> {
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let [low, mean, high] = h.weights;
    let preference = if h.gamma > 0.0 { format!(" + {} x token DPO", h.gamma) } else { String::new() };
    let trained = format!("{} trained ({})", count(h.trainable), h.method);
    let rows = if h.rows == h.rows_read { h.rows.to_string() } else { format!("{} of {}", h.rows, h.rows_read) };
    let eos = match h.eos {
        Some(share) => format!("EOS supervised in {} of rows", percent(share)),
        None => "EOS unknown without a tokenizer".into(),
    };
    let table = [
        ("model", format!("{} ({}), {} parameters, {trained}", h.model, h.model_type, count(h.parameters))),
        ("data", format!("{rows} rows, {} tokens, {} supervised", h.tokens, percent(h.supervised))),
        ("", eos),
        ("weights", format!("{low:.3} to {high:.3}, mean {mean:.3}; {} on the scan path", percent(h.on_path))),
        ("", h.salience.clone().unwrap_or_default()),
        ("loss", format!("arm {}, weighted cross-entropy / {}{preference}", h.arm, h.normalize)),
        ("run", format!("{} steps, seed {}, {}", h.steps, h.seed, h.device)),
    ];
    table.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// Means over the steps of an interval; the speed is tokens divided by time.
fn interval(steps: &[Step], total: u64) -> String {
    let Some(last) = steps.last() else { return String::new() };
    let n = steps.len() as f64;
    let mean = |f: &dyn Fn(&Step) -> f64| steps.iter().map(f).sum::<f64>() / n;
    let seconds = steps.iter().map(|s| s.seconds).sum::<f64>().max(1e-9);
    let rate = |f: &dyn Fn(&Step) -> u64| short(steps.iter().map(f).sum::<u64>() as f64 / seconds);
    let losses: Vec<_> = steps.iter().map(|s| [s.path_loss, s.off_path_loss, s.dpo_loss]).collect();
    let clipped = steps.iter().filter(|s| s.clipped).count() as f64 / n;
    let mut text = format!(
        "step {}/{}  epoch {:.2}  loss {:.4}{}  grad {:.2} ({:.0} % clipped)  lr {:.1e}  {} tok/s ({} supervised)",
        last.step,
        total,
        last.epoch,
        mean(&|s| number(s.loss)),
        sides(&losses),
        mean(&|s| number(s.grad_norm)),
        100.0 * clipped,
        last.learning_rate,
        rate(&|s| s.tokens),
        rate(&|s| s.supervised_tokens),
    );
    if last.mfu.is_some() {
        // the mean of the steps' shares, weighted by time: all FLOPs over those that the device could do
        let mfu = steps.iter().filter_map(|s| Some(s.mfu? * s.seconds)).sum::<f64>() / seconds;
        text += &format!("  MFU {:.1} %", 100.0 * mfu);
    }
    if let Some(bytes) = last.peak_bytes {
        text += &format!("  peak {:.2} GiB", gib(bytes));
    }
    if let Some(left) = last.seconds_left.filter(|_| last.step < total) {
        text += &format!("  {} left", span(left));
    }
    text
}

/// 4000 seconds as 1 h 07 min; seconds below two minutes.
pub fn span(seconds: f64) -> String {
    let s = seconds.round().max(0.0) as u64;
    match s {
        0..120 => format!("{s} s"),
        120..3570 => format!("{} min", (s + 30) / 60),
        _ => format!("{} h {:02} min", (s + 30) / 3600, (s + 30) % 3600 / 60),
    }
}

fn number(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

/// Means of path, off-path and preference losses, where there are any.
fn sides(losses: &[[Option<f64>; 3]]) -> String {
    let mean = |which: usize| {
        let finite: Vec<f64> = losses.iter().filter_map(|l| l[which]).filter(|x| x.is_finite()).collect();
        (!finite.is_empty()).then(|| finite.iter().sum::<f64>() / finite.len() as f64)
    };
    let mut text = String::new();
    if let (Some(on), Some(off)) = (mean(0), mean(1)) {
        text += &format!("  path {on:.4}  off {off:.4}");
    }
    if losses.iter().any(|l| l[2] != Some(0.0)) {
        text += &format!("  dpo {:.4}", mean(2).unwrap_or_default());
    }
    text
}

/// 1234567 as 1.23 M.
fn count(n: usize) -> String {
    match n as f64 {
        x if x >= 1e9 => format!("{:.2} G", x / 1e9),
        x if x >= 1e6 => format!("{:.2} M", x / 1e6),
        x if x >= 1e3 => format!("{:.1} k", x / 1e3),
        _ => n.to_string(),
    }
}

/// 12345 as 12.3k.
fn short(x: f64) -> String {
    if x >= 1e4 { format!("{:.1}k", x / 1e3) } else { format!("{x:.0}") }
}
