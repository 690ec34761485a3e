//! `metrics.jsonl`, read back: what became of a run, whether or not it came to its end.

use super::events::Header;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A run by its lines.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The first line.
    pub header: Header,
    /// A line per optimiser step.
    pub steps: Vec<Step>,
    /// A line per evaluation.
    pub evaluations: Vec<Evaluation>,
    /// Steps after which the run went on under other conditions, and what changed.
    pub changes: Vec<(u64, Vec<String>)>,
    /// Whether the last line is only the beginning of one: the run was cut while it wrote.
    pub cut: bool,
}

/// A step; `None` is what was not finite, or not told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // docs/metrics.md has the meaning of each
pub struct Step {
    pub step: u64,
    pub epoch: f64,
    pub loss: Option<f64>,
    pub dpo_loss: Option<f64>,
    pub path_loss: Option<f64>,
    pub off_path_loss: Option<f64>,
    pub grad_norm: Option<f64>,
    pub clipped: bool,
    pub learning_rate: f64,
    pub tokens: u64,
    pub supervised_tokens: u64,
    pub flops: Option<f64>,
    pub seconds: f64,
    pub peak_bytes: Option<u64>,
    pub seconds_left: Option<f64>,
}

/// An evaluation, likewise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // as above
pub struct Evaluation {
    pub step: u64,
    pub eval_loss: Option<f64>,
    pub eval_dpo_loss: Option<f64>,
    pub eval_path_loss: Option<f64>,
    pub eval_off_path_loss: Option<f64>,
}

#[derive(Deserialize)]
struct Resumed {
    resumed: u64,
    changes: Vec<String>,
}

impl History {
    /// Of a file that a run has written, or is writing.
    pub fn read(path: &Path) -> Result<History> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let mut history = History::default();
        let (mut lines, mut headed) = (bytes.split_inclusive(|&byte| byte == b'\n').enumerate(), false);
        lines.try_for_each(|(i, line)| match history.line(line, &mut headed) {
            Ok(()) => Ok(()),
            Err(_) if !line.ends_with(b"\n") => {
                history.cut = true;
                Ok(())
            }
            Err(why) => Err(Error::row(path, i + 1, format!("is no line of a run's metrics: {why}"))),
        })?;
        match headed {
            true => Ok(history),
            false => Err(Error::file(path, "has no whole first line: the run was cut before it began")),
        }
    }

    fn line(&mut self, line: &[u8], headed: &mut bool) -> std::result::Result<(), String> {
        let mut value: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        fn typed<T: for<'a> Deserialize<'a>>(value: Value) -> std::result::Result<T, String> {
            serde_json::from_value(value).map_err(|e| e.to_string())
        }
        let has = |key: &str| value.get(key).is_some();
        match (*headed, has("run"), has("loss"), has("eval_loss"), has("resumed")) {
            (false, true, ..) => {
                self.header = typed(value["run"].take())?;
                *headed = true;
            }
            (true, _, true, ..) => self.steps.push(typed(value)?),
            (true, _, _, true, _) => self.evaluations.push(typed(value)?),
            (true, _, _, _, true) => {
                let Resumed { resumed, changes } = typed(value)?;
                self.changes.push((resumed, changes));
            }
            (true, ..) => return Err("none of `loss`, `eval_loss` and `resumed` is there".into()),
            (false, ..) => return Err("the first line has no `run`".into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
             {{\"step\": 1, \"eval_loss\": 0.5}}\n{{\"resumed\": 1, \"changes\": [\"a\"]}}\n{{\"step\": 2, \"loss\": 1.0}}\n"
        ));
        let h = history.expect("reads");
        assert_eq!((h.header.model.as_str(), h.header.steps, h.cut), ("m", 2, false));
        assert_eq!(h.steps.iter().map(|s| (s.step, s.loss)).collect::<Vec<_>>(), [(1, None), (2, Some(1.0))]);
        assert_eq!((h.steps[0].grad_norm, h.steps[0].clipped), (Some(2.5), true));
        assert_eq!((h.evaluations[0].eval_loss, &h.changes[0]), (Some(0.5), &(1, vec!["a".to_string()])));
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
