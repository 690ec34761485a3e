//! Means over examples of one model, or of two on the same examples, from the lines that an evaluation keeps.
//!
//! Lines and summary go through the same text, so that a resumed evaluation has the same summary to the byte.

use super::figures::{HEADS, WHOLE};
use super::measure::{Map, Measured};
use crate::eval::mean::{Interval, Running};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A figure of a model, and where there is a baseline also of the baseline and of the differences of paired examples.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name in [`WHOLE`] or [`HEADS`].
    pub name: &'static str,
    /// Layer and head, from 0; `None` for the mean of an example over all.
    pub place: Option<(usize, usize)>,
    /// The model's.
    pub model: Interval,
    /// The baseline's, and model minus baseline over the examples that have the figure under both.
    pub paired: Option<[Interval; 2]>,
}

/// Seven digits: as many as f32 holds.
fn number(x: f64) -> Value {
    if x.is_finite() { format!("{x:.6e}").parse::<f64>().map_or(Value::Null, Value::from) } else { Value::Null }
}

/// The fields of a line that keep what was measured.
pub fn fields(measured: &Measured, layers: usize) -> Vec<(&'static str, Value)> {
    let whole = WHOLE.iter().zip(measured.whole).map(|(name, x)| (name.to_string(), number(x)));
    let heads = HEADS.iter().zip(&measured.heads);
    let heads = heads.map(|(name, values)| (name.to_string(), values.iter().copied().map(number).collect::<Value>()));
    let map = measured.map.as_ref().map(|map| {
        let row = |row: &Vec<f32>| row.iter().map(|p| number(f64::from(*p))).collect::<Value>();
        ("map", json!({"answer": map.answer, "rows": map.rows.iter().map(row).collect::<Value>()}))
    });
    let values = [
        ("layers", layers.into()),
        ("figures", Value::Object(whole.collect())),
        ("heads", Value::Object(heads.collect())),
    ];
    values.into_iter().chain(map).collect()
}

/// The reverse of [`fields`]; `None` where the line lacks a value.
pub fn of_line(line: &Value) -> Option<Measured> {
    let read = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let whole = WHOLE.map(|name| read(&line["figures"][name]));
    let list = |name: &str| Some(line["heads"][name].as_array()?.iter().map(read).collect());
    let heads = HEADS.iter().map(|name| list(name)).collect::<Option<Vec<Vec<f64>>>>()?;
    let map = line.get("map").map(|map| {
        let answer = map["answer"].as_array()?.iter().map(|id| Some(id.as_u64()? as u32)).collect::<Option<_>>()?;
        let row = |row: &Value| Some(row.as_array()?.iter().map(|p| read(p) as f32).collect());
        Some(Map { answer, rows: map["rows"].as_array()?.iter().map(row).collect::<Option<_>>()? })
    });
    let map = match map {
        Some(map) => Some(map?),
        None => None,
    };
    Some(Measured { whole, heads, map })
}

/// The mean of an example over all layers and heads that have the figure.
fn pooled(values: &[f64]) -> f64 {
    let found = || values.iter().filter(|x| x.is_finite());
    found().sum::<f64>() / found().count() as f64
}

/// Sums over examples; memory does not grow with their number.
#[derive(Debug, Default)]
pub struct Summary {
    /// By name and place: the model's, the baseline's, their differences.
    sums: BTreeMap<(usize, Option<usize>), [Running; 3]>,
    paired: bool,
}

impl Summary {
    /// Adds an example of the model, and the same of the baseline. All examples have one or none has.
    pub fn add(&mut self, model: &Measured, baseline: Option<&Measured>) {
        self.paired = baseline.is_some();
        let mut one = |key, model: f64, baseline: Option<f64>| {
            let sums = self.sums.entry(key).or_default();
            let other = baseline.unwrap_or(f64::NAN);
            sums.iter_mut().zip([model, other, model - other]).for_each(|(sum, x)| sum.add(x));
        };
        for name in 0..WHOLE.len() {
            one((name, None), model.whole[name], baseline.map(|b| b.whole[name]));
        }
        for name in 0..HEADS.len() {
            let (key, values) = (WHOLE.len() + name, &model.heads[name]);
            let others = baseline.map(|b| &b.heads[name]);
            one((key, None), pooled(values), others.map(|others| pooled(others)));
            for (place, x) in values.iter().enumerate() {
                one((key, Some(place)), *x, others.map(|others| others.get(place).copied().unwrap_or(f64::NAN)));
            }
        }
    }

    /// The figures that some example has, the means of examples first; a model has `heads` heads in a layer.
    pub fn figures(&self, heads: usize) -> Vec<Figure> {
        let name = |i: usize| if i < WHOLE.len() { WHOLE[i] } else { HEADS[i - WHOLE.len()] };
        let figure = |(&(i, place), sums): (&(usize, Option<usize>), &[Running; 3])| {
            let [model, baseline, difference] = sums.each_ref().map(Running::interval);
            let paired = self.paired.then_some([baseline, difference]);
            Figure { name: name(i), place: place.map(|at| (at / heads, at % heads)), model, paired }
        };
        let mut all: Vec<Figure> = self.sums.iter().map(figure).filter(|figure| figure.model.n > 0).collect();
        all.sort_by_key(|figure| figure.place.is_some());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(x: f64) -> Measured {
        let heads = (0..HEADS.len()).map(|i| vec![x + i as f64, f64::NAN, x - i as f64, 0.5]).collect();
        let map = Map { answer: vec![3, 9], rows: vec![vec![1.0, 0.25], vec![0.125; 3]] };
        Measured { whole: [x, 2.0 * x, f64::NAN, 0.0, -x], heads, map: Some(map) }
    }

    #[test]
    fn a_line_keeps_what_was_measured() {
        let one = measured(1.0 / 3.0);
        let line = |one: &Measured| Value::Object(fields(one, 2).into_iter().map(|(k, v)| (k.into(), v)).collect());
        let read = of_line(&line(&one)).unwrap();
        assert_eq!(read.map, one.map);
        assert!((read.whole[0] - one.whole[0]).abs() < 1e-7 && read.whole[2].is_nan() && read.heads[1][1].is_nan());
        // what was read is written as it was
        assert_eq!(line(&read), line(&one));
        assert!(of_line(&json!({"figures": {}})).is_none());
    }

    /// Two examples under two models: means, and paired differences whose interval is narrower than either.
    #[test]
    fn differences_are_those_of_the_same_examples() {
        let mut summary = Summary::default();
        for (x, y) in [(1.0, 0.9), (5.0, 4.7)] {
            summary.add(&measured(x), Some(&measured(y)));
        }
        let figures = summary.figures(2);
        let first = &figures[0];
        assert_eq!((first.name, first.place, first.model.n, first.model.mean), ("gen_confidence", None, 2, 3.0));
        let [baseline, difference] = first.paired.unwrap();
        assert!((baseline.mean - 2.8).abs() < 1e-12 && (difference.mean - 0.2).abs() < 1e-12);
        // t = 12.706 with one degree of freedom, s / sqrt 2 = 0.1
        assert!((difference.high - difference.low - 2.0 * 1.2706204736).abs() < 1e-6);
        assert!(figures.iter().all(|figure| figure.name != "gaze_nll"), "a figure that no example has");
        let head = figures.iter().find(|f| f.place == Some((1, 0)) && f.name == HEADS[2]).unwrap();
        assert_eq!(head.model.mean, 1.0);
        assert!(!figures.iter().any(|f| f.place == Some((0, 1))), "a head that no example has a figure of");
        // over all heads that have one: (x + 2 + x - 2 + 0.5) / 3
        let mean = figures.iter().find(|f| f.place.is_none() && f.name == HEADS[2]).unwrap().model.mean;
        assert!((mean - (6.0 + 0.5) / 3.0).abs() < 1e-12);
    }
}
