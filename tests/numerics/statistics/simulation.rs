//! Coverage of intervals and the family-wise error of Holm's correction, on simulated runs of arms.
//!
//! The score of an arm on an example and a seed is c + d + u + v + r + noise: u is the difficulty of the example for
//! every arm, v that for this arm, r the run, d the effect of the arm. v, r and noise are drawn for each arm anew, u
//! and v for each example, r for each seed. All are normal; u and v have the deviation 1, r has `ratio` and the noise
//! `noise`. A metric of 0 and 1 is whether the score is above 0, and its true effect a difference of two normal
//! probabilities. Differences of the score have example and seed deviations in the same ratio.

use eyekern::random::{Purpose, Stream};
use eyekern::study::stats::{Table, effect, holm};

const TABLES: u32 = 2000;
const SHAPES: [(usize, usize); 6] = [(3, 50), (3, 300), (5, 50), (5, 300), (10, 50), (10, 300)];

/// What is simulated.
#[derive(Clone, Copy)]
struct Setting {
    seeds: usize,
    examples: usize,
    /// Deviation of runs, in deviations of examples.
    ratio: f64,
    /// Deviation of the noise.
    noise: f64,
    /// The common level c of the score.
    level: f64,
}

/// The scores of several arms, seed by seed; `effects` has d of each arm.
fn scores(setting: Setting, effects: &[f64], stream: &mut Stream) -> Vec<Vec<Vec<f64>>> {
    let Setting { seeds, examples, ratio, noise, level } = setting;
    let common: Vec<f64> = (0..examples).map(|_| level + stream.normal()).collect();
    let mut arm = |d: &f64| {
        let of_example: Vec<f64> = common.iter().map(|u| u + d + stream.normal()).collect();
        let seed = |_| {
            let run = ratio * stream.normal();
            of_example.iter().map(|v| v + run + noise * stream.normal()).collect()
        };
        (0..seeds).map(seed).collect()
    };
    effects.iter().map(&mut arm).collect()
}

/// 1 above 0, else 0.
fn right(scores: &[Vec<f64>]) -> Vec<Vec<f64>> {
    scores.iter().map(|seed| seed.iter().map(|&x| f64::from(u8::from(x > 0.0))).collect()).collect()
}

fn p_above(mean: f64, deviation: f64) -> f64 {
    0.5 * libm::erfc(-mean / deviation / std::f64::consts::SQRT_2)
}

/// The share of intervals with the true effect in them, in percent, of the score and of the metric of 0 and 1.
fn coverage(setting: Setting, index: u32) -> [f64; 2] {
    const EFFECT: f64 = 0.3;
    let Setting { ratio, noise, level, .. } = setting;
    let deviation = (2.0 + ratio * ratio + noise * noise).sqrt();
    let truth = [EFFECT, p_above(level + EFFECT, deviation) - p_above(level, deviation)];
    let mut covered = [0; 2];
    for table in 0..TABLES {
        let mut stream = Stream::new(u64::from(table), Purpose::Bench, index);
        let arms = scores(setting, &[0.0, EFFECT], &mut stream);
        let metrics = [[&arms[1], &arms[0]].map(Clone::clone), [right(&arms[1]), right(&arms[0])]];
        for (i, [arm, baseline]) in metrics.iter().enumerate() {
            let found = effect(&Table::difference(arm, baseline).expect("a complete table"));
            covered[i] += u32::from(found.low <= truth[i] && truth[i] <= found.high);
        }
    }
    covered.map(|n| 100.0 * f64::from(n) / f64::from(TABLES))
}

/// The share of studies without effects, in percent, in which Holm's correction rejects any of 8 tests: 4 arms against
/// one baseline on two metrics, the score and an independent metric of 0 and 1.
fn family_wise_error(setting: Setting, index: u32) -> f64 {
    let mut wrong = 0;
    for study in 0..TABLES {
        let mut stream = Stream::new(u64::from(study), Purpose::Bench, index);
        let arms = scores(setting, &[0.0; 5], &mut stream);
        let others: Vec<_> = scores(setting, &[0.0; 5], &mut stream).iter().map(|arm| right(arm)).collect();
        let p = |metric: &[Vec<Vec<f64>>]| -> Vec<f64> {
            let test = |arm: &Vec<Vec<f64>>| effect(&Table::difference(arm, &metric[0]).expect("complete")).p;
            metric[1..].iter().map(test).collect()
        };
        let adjusted = holm(&[p(&arms), p(&others)].concat()).expect("probabilities");
        wrong += u32::from(adjusted.iter().any(|&p| p <= 0.05));
    }
    100.0 * f64::from(wrong) / f64::from(TABLES)
}

/// All settings of the design, printed as the table of docs/studies.md; then two that are harder, without limits.
#[test]
#[ignore = "takes minutes; tests/interop/check_statistics.py runs it"]
fn intervals_cover_and_holm_holds() {
    // two standard errors above 5 %
    let most = 5.0 + 200.0 * (0.05 * 0.95 / f64::from(TABLES)).sqrt();
    let mut wrong = Vec::new();
    println!("\n| seeds | examples | ratio | coverage, continuous | coverage, 0/1 | family-wise error |");
    println!("|---|---|---|---|---|---|");
    let mut index = 0;
    for (seeds, examples) in SHAPES {
        for ratio in [0.0, 0.5, 2.0] {
            let setting = Setting { seeds, examples, ratio, noise: 1.0, level: 0.0 };
            let (covered, error) = (coverage(setting, index), family_wise_error(setting, index + 1));
            let [score, binary] = covered;
            println!("| {seeds} | {examples} | {ratio} | {score:.1} | {binary:.1} | {error:.1} |");
            let high = if seeds >= 5 && ratio > 0.0 { 97.0 } else { 100.0 };
            if !(covered.iter().all(|c| (93.0..=high).contains(c)) && error <= most) {
                wrong.push(format!("{seeds} seeds, {examples} examples, ratio {ratio}"));
            }
            index += 2;
        }
    }
    println!("\n| seeds | examples | ratio | noise 5: continuous | 0/1 | rarely 1: continuous | 0/1 |");
    println!("|---|---|---|---|---|---|---|");
    for (seeds, examples) in SHAPES {
        for ratio in [0.0, 0.2, 0.5, 2.0] {
            let setting = Setting { seeds, examples, ratio, noise: 5.0, level: 0.0 };
            let [score, binary] = coverage(setting, index);
            let [same, rare] = coverage(Setting { noise: 1.0, level: -3.0, ..setting }, index + 1);
            println!("| {seeds} | {examples} | {ratio} | {score:.1} | {binary:.1} | {same:.1} | {rare:.1} |");
            index += 2;
        }
    }
    assert!(wrong.is_empty(), "coverage outside 93 to 97 %, or family-wise error above {most:.2} %: {wrong:?}");
}
