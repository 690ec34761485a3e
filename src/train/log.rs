//! The lines of `metrics.jsonl`: one type for each kind, which writes the line and reads it back, and a whole file of
//! them. docs/metrics.md has the meaning and the unit of every field.

use super::step::Outcome;
use crate::error::{Error, Result};
use crate::files;
use crate::salience::syntax::Parsing;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct First {
    /// The run in numbers.
    pub run: Header,
}

/// The run in numbers, known before it starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// `model.model_name_or_path`.
    pub model: String,
    /// `model_type` of its config.json.
    pub model_type: String,
    /// Values of the base model; a tied head counts once.
    pub parameters: usize,
    /// Trained values.
    pub trainable: usize,
    /// `lora` or `full`.
    pub method: String,
    /// Rows that are trained on.
    pub rows: usize,
    /// Rows of the file.
    pub rows_read: usize,
    /// Tokens of an epoch, without padding.
    pub tokens: usize,
    /// Supervised tokens as a share of `tokens`.
    pub supervised: f64,
    /// Share of rows whose EOS is supervised; `None` without a tokenizer.
    pub eos: Option<f64>,
    /// Share of supervised tokens on the scan path.
    pub on_path: f64,
    /// Smallest, mean and largest weight of a supervised token.
    pub weights: [f64; 3],
    /// Priors, paths and alignment; `None` where the weights are those of the data.
    pub salience: Option<String>,
    /// How the code that weights are drawn through parses; absent if they are not drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Parsing>,
    /// `objective.normalize`.
    pub normalize: String,
    /// `objective.arm`.
    pub arm: String,
    /// Factor on the preference term.
    pub gamma: f64,
    /// Optimiser steps of the run.
    pub steps: u64,
    /// `train.seed`.
    pub seed: u64,
    /// Device, number format and memory.
    pub device: String,
    /// Peak of the device in FLOP/s, the reference of MFU; `None` where it is unknown.
    pub peak_flops: Option<f64>,
}

/// The line of an optimiser step. A number that is not finite is written as null and read as `None`, like one that an
/// older file lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// Optimiser step, from 1.
    pub step: u64,
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
    /// Weighted cross-entropy plus gamma times the preference loss, before the update.
    pub loss: Option<f64>,
    /// Weighted cross-entropy over the normaliser.
    pub sft_loss: Option<f64>,
    /// Mean preference loss over its examples.
    pub dpo_loss: Option<f64>,
    /// Mean nll of the tokens on the scan path, in nats.
    pub path_loss: Option<f64>,
    /// Mean nll of the other supervised tokens, in nats.
    pub off_path_loss: Option<f64>,
    /// Norm of the gradient before clipping.
    pub grad_norm: Option<f64>,
    /// Whether the gradient was clipped.
    pub clipped: bool,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens that went through the model, padding included.
    pub tokens: u64,
    /// Supervised tokens of the step.
    pub supervised_tokens: u64,
    /// Examples in the preference term.
    pub pairs: u64,
    /// Model FLOPs of the step ([`crate::model::flops`]).
    pub flops: Option<f64>,
    /// Wall time of the step.
    pub seconds: f64,
    /// Model FLOPs utilisation; `None` where the peak of the device is unknown.
    pub mfu: Option<f64>,
    /// Peak memory so far.
    pub peak_bytes: Option<u64>,
    /// Estimated time to the end of the run, in seconds.
    pub seconds_left: Option<f64>,
    /// Seconds since 1970, UTC.
    pub time: f64,
}

impl Step {
    /// What a step saw, as of now; its place in the run and its speed are still to be given.
    pub fn of(outcome: &Outcome) -> Step {
        let Outcome { loss, sft, dpo, on_path, off_path, grad_norm, clipped, totals } = *outcome;
        Step {
            loss: Some(loss),
            sft_loss: Some(sft),
            dpo_loss: Some(dpo),
            path_loss: finite(on_path),
            off_path_loss: finite(off_path),
            grad_norm: Some(grad_norm),
            clipped,
            tokens: totals.tokens,
            supervised_tokens: totals.supervised,
            pairs: totals.pairs,
            time: now(),
            ..Step::default()
        }
    }
}

/// The line of an evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evaluation {
    /// Optimiser steps done.
    pub step: u64,
    /// As `loss` of a step, over the validation file and without dropout.
    pub eval_loss: Option<f64>,
    /// As `sft_loss`.
    pub eval_sft_loss: Option<f64>,
    /// As `dpo_loss`.
    pub eval_dpo_loss: Option<f64>,
    /// As `path_loss`.
    pub eval_path_loss: Option<f64>,
    /// As `off_path_loss`.
    pub eval_off_path_loss: Option<f64>,
    /// Wall time of the evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_seconds: Option<f64>,
    /// The part of it that generating and scoring texts took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_generate_seconds: Option<f64>,
    /// Tokens that were generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_generated_tokens: Option<u64>,
    /// Metrics of the texts, by `eval_` and their name; the headline first.
    #[serde(flatten)]
    pub metrics: Map<String, Value>,
    /// Seconds since 1970, UTC.
    pub time: f64,
}

impl Evaluation {
    /// What an evaluation after `step` steps saw, as of now.
    pub fn of(step: u64, outcome: &Outcome) -> Evaluation {
        let Outcome { loss, sft, dpo, on_path, off_path, .. } = *outcome;
        Evaluation {
            step,
            eval_loss: Some(loss),
            eval_sft_loss: Some(sft),
            eval_dpo_loss: Some(dpo),
            eval_path_loss: finite(on_path),
            eval_off_path_loss: finite(off_path),
            time: now(),
            ..Evaluation::default()
        }
    }
}

/// The line of a resume under other conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Steps that were done before it.
    pub resumed: u64,
    /// What is not as it was, a phrase each.
    pub changes: Vec<String>,
}

/// A mean over nothing is NaN.
fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// Seconds since 1970, in UTC.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The lines of a run, whether or not it came to its end.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The first line.
    pub header: Header,
    /// A line per optimiser step.
    pub steps: Vec<Step>,
    /// A line per evaluation.
    pub evaluations: Vec<Evaluation>,
    /// A line per resume under other conditions.
    pub changes: Vec<Changes>,
    /// Whether the last line is only the beginning of one: the run was cut while it wrote.
    pub cut: bool,
}

impl History {
    /// Of a file that a run has written, or is writing.
    pub fn read(path: &Path) -> Result<History> {
        let bytes = files::read(path).map_err(Error::io(path, "read"))?;
        let (mut history, mut headed) = (History::default(), false);
        for (i, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            match history.line(line, headed) {
                Ok(()) => headed = true,
                Err(_) if !line.ends_with(b"\n") => history.cut = true,
                Err(why) => return Err(Error::row(path, i + 1, format!("is no line of a run's metrics: {why}"))),
            }
        }
        match headed {
            true => Ok(history),
            false => Err(Error::file(path, "has no whole first line: the run was cut before it began")),
        }
    }

    fn line(&mut self, line: &[u8], headed: bool) -> std::result::Result<(), String> {
        fn typed<T: for<'a> Deserialize<'a>>(value: Value) -> std::result::Result<T, String> {
            serde_json::from_value(value).map_err(|e| e.to_string())
        }
        let value: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let has = |key: &str| value.get(key).is_some();
        match (headed, has("run"), has("loss"), has("eval_loss"), has("resumed")) {
            (false, true, ..) => self.header = typed::<First>(value)?.run,
            (false, ..) => return Err("the first line has no `run`".into()),
            (true, _, true, ..) => self.steps.push(typed(value)?),
            (true, _, _, true, _) => self.evaluations.push(typed(value)?),
            (true, _, _, _, true) => self.changes.push(typed(value)?),
            (true, ..) => return Err("none of `loss`, `eval_loss` and `resumed` is there".into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pack::Totals;

    fn read(text: &str) -> Result<History> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("metrics.jsonl");
        std::fs::write(&file, text).expect("writes");
        History::read(&file).map_err(|e| match e.to_string().split_once("metrics.jsonl") {
            Some((_, why)) => Error::Usage(why.to_string()),
            None => e,
        })
    }

    const RUN: &str = "{\"run\": {\"model\": \"m\", \"steps\": 2}}\n";

    #[test]
    fn each_kind_of_line_is_told_apart() {
        let history = read(&format!(
            "{RUN}{{\"step\": 1, \"loss\": null, \"grad_norm\": 2.5, \"clipped\": true}}\n\
             {{\"step\": 1, \"eval_loss\": 0.5}}\n{{\"resumed\": 1, \"changes\": [\"a\"]}}\n{{\"step\": 2, \"loss\": \
             1.0}}\n"
        ));
        let h = history.expect("reads");
        assert_eq!((h.header.model.as_str(), h.header.steps, h.cut), ("m", 2, false));
        assert_eq!(h.steps.iter().map(|s| (s.step, s.loss)).collect::<Vec<_>>(), [(1, None), (2, Some(1.0))]);
        assert_eq!((h.steps[0].grad_norm, h.steps[0].clipped), (Some(2.5), true));
        assert_eq!((h.evaluations[0].eval_loss, h.changes[0].resumed), (Some(0.5), 1));
        assert_eq!(h.changes[0].changes, ["a"]);
    }

    #[test]
    fn lines_of_0_1_0_are_read_and_written_to_the_byte() {
        let old = include_str!("../../tests/fixtures/metrics_0.1.0.jsonl");
        let h = read(old).expect("reads");
        let lines = [
            serde_json::to_string(&First { run: h.header }),
            serde_json::to_string(&h.steps[0]),
            serde_json::to_string(&h.evaluations[0]),
            serde_json::to_string(&h.changes[0]),
        ];
        assert_eq!(lines.map(|line| line.expect("JSON") + "\n").concat(), old);
    }

    #[test]
    fn every_number_of_an_outcome_comes_back_under_its_name() {
        let totals = Totals { tokens: 7, supervised: 8, weight_sum: 9.0, pairs: 10, pairs_skipped: 11 };
        let outcome = Outcome {
            loss: 1.5,
            sft: 2.5,
            dpo: 3.5,
            on_path: 4.5,
            off_path: 5.5,
            grad_norm: 6.5,
            clipped: true,
            totals,
        };
        let (step, evaluation) = (Step::of(&outcome), Evaluation::of(12, &outcome));
        let losses = [step.loss, step.sft_loss, step.dpo_loss, step.path_loss, step.off_path_loss];
        assert_eq!((losses, step.grad_norm, step.clipped), ([1.5, 2.5, 3.5, 4.5, 5.5].map(Some), Some(6.5), true));
        assert_eq!((step.tokens, step.supervised_tokens, step.pairs), (7, 8, 10));
        let Evaluation { eval_sft_loss, eval_dpo_loss, eval_path_loss, eval_off_path_loss, .. } = evaluation;
        assert_eq!([evaluation.eval_loss, eval_sft_loss, eval_dpo_loss, eval_path_loss, eval_off_path_loss], losses);
        let lost = Step::of(&Outcome { loss: f64::INFINITY, on_path: f64::NAN, ..outcome });
        let json = |line: &Step| serde_json::to_string(line).expect("JSON");
        let h = read(&format!("{RUN}{}\n{}\n", json(&step), json(&lost))).expect("reads");
        assert_eq!(h.steps, [step, Step { loss: None, path_loss: None, ..lost }]);
    }

    #[test]
    fn a_line_that_was_cut_off_is_left_out() {
        let h = read(&format!("{RUN}{{\"step\": 1, \"loss\": 1.0}}\n{{\"step\": 2, \"lo")).expect("reads");
        assert_eq!((h.steps.len(), h.cut), (1, true));
        assert!(read(RUN).expect("a run without a step").steps.is_empty());
    }

    #[test]
    fn what_is_no_history_is_refused() {
        for (text, why) in [
            (String::new(), ": has no whole first line: the run was cut before it began"),
            ("{\"run\": {".into(), ": has no whole first line: the run was cut before it began"),
            ("{\"step\": 1}\n".into(), ":1: is no line of a run's metrics: the first line has no `run`"),
            (
                format!("{RUN}[1]\n"),
                ":2: is no line of a run's metrics: none of `loss`, `eval_loss` and `resumed` is there",
            ),
            (
                format!("{RUN}{{\"step\": 1\n{{\"step\": 2, \"loss\": 1.0}}\n"),
                ":2: is no line of a run's metrics: EOF while parsing an object at line 2 column 0",
            ),
            (
                format!("{RUN}{{\"step\": -1, \"loss\": 1.0}}\n"),
                ":2: is no line of a run's metrics: invalid value: integer `-1`, expected u64",
            ),
        ] {
            assert_eq!(read(&text).expect_err(&text).to_string(), why);
        }
    }
}
