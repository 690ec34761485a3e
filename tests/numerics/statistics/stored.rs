//! Stored results of scipy and statsmodels; `EYEKERN_STATISTICS` names a file with others
//! (`tests/interop/check_statistics.py`).

use crate::support::{fixtures, json, num, nums};
use eyekern::eval::mean::Running;
use eyekern::study::stats::{Over, Table, effect, holm, jackknife, mcnemar, sign_flip};
use serde_json::Value;

/// Rounding of both sides, relative: the packages find quantiles by iteration.
const LIMIT: f64 = 1e-9;

fn cases(key: &str) -> Vec<Value> {
    let file = std::env::var_os("EYEKERN_STATISTICS").map_or(fixtures().join("statistics.json"), Into::into);
    let cases = json(&file)[key].as_array().expect("a list of cases").clone();
    assert!(cases.len() >= 4, "{} cases of {key}", cases.len());
    cases
}

/// Whether the two agree to rounding, relative to the larger of `scale` and the expected value.
fn close(name: &str, case: usize, ours: f64, expected: f64, scale: f64) {
    let error = (ours - expected).abs() / expected.abs().max(scale).max(1e-300);
    assert!(error <= LIMIT, "{name} of case {}: {ours}, expected {expected}", case + 1);
}

fn columns(case: &Value) -> Vec<Vec<f64>> {
    case["seeds"].as_array().expect("a list of seeds").iter().map(nums).collect()
}

#[test]
fn effects_are_those_of_statsmodels_and_scipy() {
    let mut shares = [0; 3];
    for (i, case) in cases("effects").iter().enumerate() {
        let columns = columns(case);
        let zeros = vec![vec![0.0; columns[0].len()]; columns.len()];
        let found = effect(&Table::difference(&columns, &zeros).expect("a complete table"));
        assert_eq!((found.seeds, found.examples), (columns.len(), columns[0].len()));
        let over = match (found.examples, found.seeds) {
            (_, 1) => Over::Examples,
            (1, _) => Over::Seeds,
            _ => Over::Both,
        };
        assert_eq!(found.over, over);
        // Components and ends are differences of numbers as large as the mean or as the largest component.
        let squares = num(&case["example"]) + num(&case["seed"]) + num(&case["noise"]);
        let size = num(&case["mean"]).abs().max(squares.sqrt());
        for (key, ours, scale) in [
            ("mean", found.mean, size),
            ("low", found.low, size),
            ("high", found.high, size),
            ("p", found.p, 0.0),
            ("df", found.df, 0.0),
            ("example", found.of.example, squares),
            ("seed", found.of.seed, squares),
            ("noise", found.of.noise, squares),
        ] {
            close(key, i, ours, num(&case[key]), scale);
        }
        shares[0] += usize::from(over == Over::Both && found.of.example == 0.0);
        shares[1] += usize::from(over == Over::Both && found.of.seed == 0.0);
        shares[2] += usize::from(over != Over::Both);
    }
    assert!(shares.iter().all(|&n| n >= 2), "components set to 0 and tables of one example or seed: {shares:?}");
}

#[test]
fn means_are_those_of_scipy() {
    for (i, case) in cases("means").iter().enumerate() {
        let mut running = Running::default();
        nums(&case["values"]).into_iter().for_each(|x| running.add(x));
        let found = running.interval();
        for (key, ours) in [("mean", found.mean), ("low", found.low), ("high", found.high)] {
            close(key, i, ours, num(&case[key]), 1.0);
        }
    }
}

#[test]
fn mcnemar_is_that_of_statsmodels() {
    for (i, case) in cases("mcnemar").iter().enumerate() {
        let count = |j: usize| case[j].as_u64().expect("a count");
        close("p", i, mcnemar(count(0), count(1)), num(&case[2]), 0.0);
        assert_eq!(mcnemar(count(0), count(1)), mcnemar(count(1), count(0)));
    }
}

#[test]
fn all_choices_of_signs_are_those_of_scipy() {
    for (i, case) in cases("sign_flip").iter().enumerate() {
        let d: Vec<f64> = nums(&case["d"]);
        close("p", i, sign_flip(&d, 10_000, 1).expect("finite"), num(&case["p"]), 0.0);
        // drawn: 4 standard errors of 4000 draws, of fixed seeds
        if d.len() == 12 {
            let (p, drawn) = (num(&case["p"]), sign_flip(&d, 4000, 3).expect("finite"));
            assert!((drawn - p).abs() < 4.0 * (p * (1.0 - p) / 4000.0).sqrt() + 1.0 / 4000.0, "{drawn} for {p}");
            assert!((4..9).any(|seed| sign_flip(&d, 4000, seed).expect("finite") != drawn), "seeds change nothing");
        }
    }
}

#[test]
fn holm_is_that_of_statsmodels() {
    for (i, case) in cases("holm").iter().enumerate() {
        let found = holm(&nums(&case["p"])).expect("probabilities");
        let expected: Vec<f64> = nums(&case["adjusted"]);
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(ours, expected)| close("adjusted p", i, *ours, expected, 0.0));
    }
}

/// The metrics of `METRICS` in check_statistics.py.
fn metric(name: &str) -> fn(&[f64]) -> f64 {
    match name {
        "mean" => |s| s[0] / s[1],
        "f1" => |s| 2.0 * s[0] / (s[1] + s[2]),
        "bleu" => |s| 100.0 * (s[0] / s[1] * (s[2] / s[3])).sqrt() * (1.0 - s[4] / s[1]).exp().min(1.0),
        other => panic!("metric {other}"),
    }
}

#[test]
fn pseudo_values_are_those_of_leaving_each_example_out() {
    for (i, case) in cases("jackknife").iter().enumerate() {
        let width = case["width"].as_u64().expect("a width") as usize;
        let (stats, value) = (nums(&case["stats"]), metric(case["metric"].as_str().expect("a name")));
        let found = jackknife(&stats, width, value).expect("finite");
        let expected: Vec<f64> = nums(&case["values"]);
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(ours, expected)| close("pseudo-value", i, *ours, expected, 1.0));
    }
}
