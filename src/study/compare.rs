//! Arms beside a baseline: paired differences over the same rows and seeds, and whether they are comparable.

use serde::Serialize;

use super::load::{Arm, Sample};
use super::stats::{Effect, Table, Verdict, effect, holm, mcnemar, sign_flip};
use crate::error::{Error, Result};

/// Draws of a sign-flip test.
const DRAWS: u32 = 10_000;

/// An arm in figures: means over its seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Its name.
    pub arm: String,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// Name and mean of each metric, in the order of the first sample.
    pub metrics: Vec<(String, f64)>,
    /// Mean weight of the supervised tokens; `None` where the training is not known, as for all that follow.
    pub mean_weight: Option<f64>,
    /// Size of the loss beside that of weights of 1.
    pub loss_scale: Option<f64>,
    /// Share of steps whose gradient was clipped.
    pub clipped: Option<f64>,
    /// Share of rows whose EOS is supervised.
    pub eos: Option<f64>,
    /// Optimiser steps.
    pub steps: Option<f64>,
}

/// Two checkpoints of one seed: their tests say nothing of another run.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The seed.
    pub seed: u64,
    /// Arm minus baseline.
    pub difference: f64,
    /// p of McNemar's exact test, for metrics of 0 and 1.
    pub mcnemar: Option<f64>,
    /// p of a permutation of signs.
    pub sign_flip: f64,
}

/// An arm beside the baseline, by one metric.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The metric.
    pub metric: String,
    /// Its best value; `None` for log p.
    pub scale: Option<f64>,
    /// The arm.
    pub arm: String,
    /// Mean of the baseline over the seeds that both have.
    pub baseline_value: f64,
    /// Mean of the arm over them.
    pub value: f64,
    /// Arm minus baseline.
    pub effect: Effect,
    /// Whether the metric was declared to decide.
    pub primary: bool,
    /// p after Holm's correction over the arms and the primary metrics; `None` for other metrics.
    pub adjusted: Option<f64>,
    /// The sign of the difference, if it is shown; `None` for metrics that are not primary.
    pub verdict: Option<Verdict>,
    /// Seed by seed.
    pub pairs: Vec<Pair>,
}

/// All comparisons with a baseline.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// The baseline.
    pub baseline: String,
    /// Metrics that decide.
    pub primary: Vec<String>,
    /// Rows that every sample was evaluated on.
    pub rows: usize,
    /// Why a comparison may not be fair.
    pub marks: Vec<String>,
    /// The arms, the baseline first.
    pub arms: Vec<Summary>,
    /// By metric, then by arm.
    pub comparisons: Vec<Comparison>,
}

/// Keys of the recipe in which arms may differ.
const FREE: [&str; 6] = [
    "objective.arm",
    "objective.arm_constant",
    "objective.arm_focal",
    "objective.gamma",
    "salience.condition",
    "train.seed",
];

/// Compares all arms with the baseline, by every metric that all of them have. Errors where rows differ, where no seed
/// is shared, and where a name is unknown.
pub fn compare(arms: &[Arm], baseline: &str, primary: &[String]) -> Result<Study> {
    let Some(base) = arms.iter().find(|arm| arm.name == baseline) else {
        let known: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
        return Err(Error::Usage(format!("no arm is named {baseline:?}; there are {}", known.join(", "))));
    };
    let others: Vec<&Arm> = arms.iter().filter(|arm| arm.name != baseline).collect();
    if others.is_empty() {
        let why = format!("only the baseline {baseline} is there; compare it with another arm");
        return Err(Error::Usage(why));
    }
    let first = &base.samples[0];
    for sample in arms.iter().flat_map(|arm| &arm.samples) {
        same_rows(first, sample)?;
    }
    let shared = |name: &String| arms.iter().flat_map(|arm| &arm.samples).all(|sample| sample.values(name).is_some());
    let metrics: Vec<&String> = first.names().filter(|name| shared(name)).collect();
    if let Some(unknown) = primary.iter().find(|name| !metrics.contains(name)) {
        let known: Vec<&str> = metrics.iter().map(|name| name.as_str()).collect();
        let why = format!("the primary metric {unknown:?} is not one that all arms have: {}", known.join(", "));
        return Err(Error::Usage(why));
    }

    let mut comparisons = Vec::new();
    for name in &metrics {
        for arm in &others {
            comparisons.push(one(base, arm, name, primary.contains(name))?);
        }
    }
    let decisive: Vec<f64> = comparisons.iter().filter(|c| c.primary).map(|c| c.effect.p).collect();
    let adjusted = holm(&decisive).map_err(|why| Error::Usage(format!("Holm's correction: {why}")))?;
    for (comparison, adjusted) in comparisons.iter_mut().filter(|c| c.primary).zip(adjusted) {
        comparison.adjusted = Some(adjusted);
        comparison.verdict = Some(comparison.effect.verdict(adjusted));
    }
    let arms = std::iter::once(base).chain(others.iter().copied());
    Ok(Study {
        baseline: baseline.into(),
        primary: primary.to_vec(),
        rows: first.rows.len(),
        marks: others.iter().flat_map(|arm| marks(base, arm)).collect(),
        arms: arms.map(|arm| summary(arm, &metrics)).collect(),
        comparisons,
    })
}

/// Refuses samples that were evaluated on other rows.
fn same_rows(a: &Sample, b: &Sample) -> Result {
    let why = if a.rows.len() != b.rows.len() {
        format!("{} rows, and {} has {}", b.rows.len(), a.dir.display(), a.rows.len())
    } else if a.rows != b.rows {
        let place = a.rows.iter().zip(&b.rows).position(|(x, y)| x != y).unwrap_or(0);
        format!("row {} where {} has row {}", b.rows[place], a.dir.display(), a.rows[place])
    } else if let (Some(x), Some(y)) = (&a.references, &b.references)
        && x != y
    {
        format!("other references than {}", a.dir.display())
    } else {
        return Ok(());
    };
    Err(Error::file(&b.dir, format!("has {why}; a paired comparison requires the same rows")))
}

/// The samples of the seeds that both arms have.
fn paired<'a>(base: &'a Arm, arm: &'a Arm) -> Vec<(&'a Sample, &'a Sample)> {
    let of = |a: &'a Sample| Some((base.samples.iter().find(|b| b.seed == a.seed)?, a));
    arm.samples.iter().filter_map(of).collect()
}

fn one(base: &Arm, arm: &Arm, metric: &str, primary: bool) -> Result<Comparison> {
    let pairs = paired(base, arm);
    if pairs.is_empty() {
        let seeds = |arm: &Arm| arm.samples.iter().map(|s| s.seed.to_string()).collect::<Vec<_>>().join(", ");
        let why = format!(
            "{} and {} share no seed: {} and {}; a paired comparison requires one",
            base.name,
            arm.name,
            seeds(base),
            seeds(arm)
        );
        return Err(Error::Usage(why));
    }
    let broken = |why: String| Error::Usage(format!("{metric} of {} and {}: {why}", arm.name, base.name));
    let values = |sample: &Sample| sample.values(metric).unwrap_or_default().to_vec();
    let of_base: Vec<Vec<f64>> = pairs.iter().map(|(b, _)| values(b)).collect();
    let of_arm: Vec<Vec<f64>> = pairs.iter().map(|(_, a)| values(a)).collect();
    let effect = effect(&Table::difference(&of_arm, &of_base).map_err(broken)?);
    let mean = |lists: &[Vec<f64>]| lists.iter().map(|list| average(list)).sum::<f64>() / lists.len() as f64;
    let mut seeds = Vec::new();
    for (((_, sample), a), b) in pairs.iter().zip(&of_arm).zip(&of_base) {
        let d: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        // pseudo-values of a mean are its values but for rounding
        let near = |x: f64, y: f64| (x - y).abs() < 1e-9;
        let binary = a.iter().chain(b).all(|&x| near(x, 0.0) || near(x, 1.0));
        let count = |sign: f64| d.iter().filter(|&&d| near(d, sign)).count() as u64;
        seeds.push(Pair {
            seed: sample.seed,
            difference: average(&d),
            mcnemar: binary.then(|| mcnemar(count(1.0), count(-1.0))),
            sign_flip: sign_flip(&d, DRAWS, sample.seed).map_err(broken)?,
        });
    }
    Ok(Comparison {
        metric: metric.into(),
        scale: pairs[0].0.scale(metric),
        arm: arm.name.clone(),
        baseline_value: mean(&of_base),
        value: mean(&of_arm),
        effect,
        primary,
        adjusted: None,
        verdict: None,
        pairs: seeds,
    })
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn summary(arm: &Arm, metrics: &[&String]) -> Summary {
    let trainings: Vec<_> =
        arm.samples.iter().filter_map(|sample| sample.record.as_ref().map(|r| &r.training)).collect();
    let mean = |values: Vec<f64>| (!values.is_empty()).then(|| average(&values));
    let of = |name: &String| {
        let values = arm.samples.iter().filter_map(|sample| sample.values(name)).map(average).collect();
        mean(values).map(|value| (name.clone(), value))
    };
    Summary {
        arm: arm.name.clone(),
        seeds: arm.samples.iter().map(|sample| sample.seed).collect(),
        metrics: metrics.iter().copied().filter_map(of).collect(),
        mean_weight: mean(trainings.iter().map(|t| t.mean_weight).collect()),
        loss_scale: mean(trainings.iter().map(|t| t.loss_scale).collect()),
        clipped: mean(trainings.iter().map(|t| t.clipped).collect()),
        eos: mean(trainings.iter().filter_map(|t| t.eos).collect()),
        steps: mean(trainings.iter().map(|t| t.steps as f64).collect()),
    }
}

/// What is not the same in two arms although a fair comparison requires it, a sentence each.
fn marks(base: &Arm, arm: &Arm) -> Vec<String> {
    let mut marks: Vec<String> = Vec::new();
    let mut add = |mark: String| {
        if !marks.contains(&mark) {
            marks.push(mark);
        }
    };
    let pairs = paired(base, arm);
    let unpaired = base.samples.len() + arm.samples.len() - 2 * pairs.len();
    if unpaired > 0 {
        add(format!(
            "{} and {}: {unpaired} runs have no partner with their seed and are left out",
            arm.name, base.name
        ));
    }
    for (b, a) in pairs {
        let place = |what: &str, here: &str, there: &str| {
            format!("{} and {} differ in {what}: {here} and {there}", arm.name, base.name)
        };
        let (Some(x), Some(y)) = (&a.record, &b.record) else {
            if a.decoding != b.decoding {
                let text = |value: &serde_json::Value| value.to_string();
                add(place("decoding", &text(&a.decoding), &text(&b.decoding)));
            }
            continue;
        };
        for (key, here, there) in x.inputs.differences(&y.inputs) {
            if !FREE.contains(&key.as_str()) {
                add(place(&key, &here, &there));
            }
        }
        if a.decoding != b.decoding {
            add(place("decoding", &a.decoding.to_string(), &b.decoding.to_string()));
        }
        let (p, q) = (&x.training, &y.training);
        for (what, here, there) in [
            ("optimiser steps", p.steps as f64, q.steps as f64),
            ("rows trained on", p.rows as f64, q.rows as f64),
            ("tokens of an epoch", p.tokens as f64, q.tokens as f64),
            ("the share of supervised tokens", p.supervised, q.supervised),
            ("the share of rows with a supervised EOS", p.eos.unwrap_or(-1.0), q.eos.unwrap_or(-1.0)),
        ] {
            if here != there {
                add(place(what, &format!("{here}"), &format!("{there}")));
            }
        }
        if p.device != q.device {
            add(place("the device", &p.device, &q.device));
        }
        if x.eyekern != y.eyekern {
            add(place("the version of eyekern", &x.eyekern, &y.eyekern));
        }
    }
    marks
}
