//! What must hold for every table: order does not matter, a constant moves the mean alone, degenerate tables have
//! their documented answer, and what is no number is refused.

use eyekern::random::{Purpose, Stream};
use eyekern::study::stats::{Components, Effect, Over, Table, Verdict, effect, holm, jackknife, mcnemar, sign_flip};

const LIMIT: f64 = 1e-12;
const RANGE: &str = "between -1e100 and 1e100";

/// The effect of a table given seed by seed.
fn of(columns: &[Vec<f64>]) -> Effect {
    let zeros: Vec<Vec<f64>> = columns.iter().map(|column| vec![0.0; column.len()]).collect();
    effect(&Table::difference(columns, &zeros).expect("a complete table"))
}

/// The same value in every cell.
fn flat(value: f64, examples: usize, seeds: usize) -> Vec<Vec<f64>> {
    vec![vec![value; examples]; seeds]
}

/// Tables of several shapes, with effects of examples and seeds from none to strong, and some of values -1, 0 and 1.
fn tables() -> Vec<Vec<Vec<f64>>> {
    let mut all = Vec::new();
    for (index, (examples, seeds)) in [(2, 2), (7, 3), (30, 5), (5, 12), (64, 10), (40, 1), (1, 6)].iter().enumerate() {
        for (kind, strength) in [0.0, 0.5, 3.0, 0.5].iter().enumerate() {
            let mut stream = Stream::new(kind as u64, Purpose::Bench, index as u32);
            let of_example: Vec<f64> = (0..*examples).map(|_| strength * stream.normal()).collect();
            let columns = (0..*seeds).map(|_| {
                let of_seed = strength * stream.normal();
                let cell = |a: &f64| 0.3 + a + of_seed + stream.normal();
                let cells: Vec<f64> = of_example.iter().map(cell).collect();
                if kind < 3 { cells } else { cells.iter().map(|x| x.round().clamp(-1.0, 1.0)).collect() }
            });
            all.push(columns.collect());
        }
    }
    all
}

fn numbers(e: &Effect) -> [f64; 8] {
    [e.mean, e.low, e.high, e.p, e.df, e.of.example, e.of.seed, e.of.noise]
}

/// Largest difference, relative to values above 1.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |worst, (x, y)| {
        let error = (x - y).abs() / x.abs().max(1.0);
        if error <= worst { worst } else { error }
    })
}

#[test]
fn the_order_of_examples_and_seeds_changes_nothing() {
    for (i, table) in tables().iter().enumerate() {
        let mut stream = Stream::new(9, Purpose::Shuffle, i as u32);
        let (rows, columns) = (stream.permutation(table[0].len()), stream.permutation(table.len()));
        let moved: Vec<Vec<f64>> = columns.iter().map(|&s| rows.iter().map(|&e| table[s][e]).collect()).collect();
        let error = apart(&numbers(&of(table)), &numbers(&of(&moved)));
        assert!(error <= LIMIT, "table {i}: {error:e}");
    }
}

#[test]
fn a_constant_moves_the_mean_and_its_interval_alone() {
    for (i, table) in tables().iter().enumerate() {
        let moved: Vec<Vec<f64>> = table.iter().map(|column| column.iter().map(|x| x + 1.75).collect()).collect();
        let (base, there) = (of(table), of(&moved));
        let expected = [base.mean + 1.75, base.low + 1.75, base.high + 1.75, base.df, base.of.example, base.of.seed];
        let found = [there.mean, there.low, there.high, there.df, there.of.example, there.of.seed];
        let error = apart(&found, &expected).max((base.of.noise - there.of.noise).abs());
        assert!(error <= LIMIT, "table {i}: {error:e}");
        assert!(there.p != base.p, "table {i}: p {}", there.p);
    }
}

#[test]
fn arms_that_change_places_change_the_sign() {
    for table in tables() {
        let zeros = flat(0.0, table[0].len(), table.len());
        let [ours, theirs] = [(&table, &zeros), (&zeros, &table)]
            .map(|(arm, baseline)| effect(&Table::difference(arm, baseline).expect("complete")));
        let turned = Effect { mean: -theirs.mean, low: -theirs.high, high: -theirs.low, ..theirs };
        assert_eq!(ours, turned);
        assert!((ours.p < 0.05) == (ours.low > 0.0 || ours.high < 0.0), "{ours:?}");
    }
}

/// The figures are those of the same table at any scale.
#[test]
fn nothing_overflows_or_vanishes() {
    let table = &tables()[8];
    let base = of(table);
    for scale in [1e-300, 1e-160, 1e99] {
        let scaled = of(&table.iter().map(|column| column.iter().map(|x| x * scale).collect()).collect::<Vec<_>>());
        let found = [scaled.mean / scale, scaled.low / scale, scaled.high / scale, scaled.p, scaled.df];
        let error = apart(&found, &[base.mean, base.low, base.high, base.p, base.df]);
        assert!(error <= 1e-12, "{scale:e}: {error:e}");
    }
}

#[test]
fn degenerate_tables_have_their_documented_answer() {
    let none = Components { example: 0.0, seed: 0.0, noise: 0.0 };
    // one value: nothing to generalise to
    let single = of(&[vec![0.25]]);
    let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    let expected =
        Effect { mean: 0.25, low, high, p: 1.0, df: 0.0, of: none, over: Over::Nothing, examples: 1, seeds: 1 };
    assert_eq!(single, expected);
    assert_eq!(serde_json::to_string(&single).expect("JSON").matches("null").count(), 2, "infinite ends");
    // equal values, also those that have no exact sum
    for (value, p) in [(0.0, 1.0), (0.1, 0.0), (-1.0, 0.0)] {
        let both = of(&flat(value, 7, 5));
        let expected = Effect {
            mean: value,
            low: value,
            high: value,
            p,
            df: 4.0,
            of: none,
            over: Over::Both,
            examples: 7,
            seeds: 5,
        };
        assert_eq!(both, expected);
        let (examples, seeds) = (of(&flat(value, 7, 1)), of(&flat(value, 1, 5)));
        assert_eq!((examples.low, examples.high, examples.p, examples.df), (value, value, p, 6.0));
        assert_eq!((examples.over, seeds.over, seeds.df), (Over::Examples, Over::Seeds, 4.0));
    }
    // runs that are the same run: t over examples; examples that agree: t over seeds
    let column = vec![0.0, 1.0, 1.0, -1.0, 0.0, 1.0];
    let (once, five) = (of(std::slice::from_ref(&column)), of(&vec![column.clone(); 5]));
    assert!(apart(&numbers(&once)[..5], &numbers(&five)[..5]) < LIMIT, "{once:?} {five:?}");
    assert!(five.over == Over::Both && five.of.seed < 1e-30 && five.of.noise < 1e-30, "{five:?}");
    let rows: Vec<Vec<f64>> = column.iter().map(|x| vec![*x; 4]).collect();
    assert!(apart(&numbers(&of(&rows))[..5], &numbers(&once)[..5]) < LIMIT);
}

#[test]
fn a_verdict_requires_five_seeds_and_two_examples() {
    let up = |examples, seeds| of(&flat(0.5, examples, seeds));
    assert_eq!(up(10, 4).verdict(0.0), Verdict::Withheld);
    assert_eq!(up(1, 9).verdict(0.0), Verdict::Withheld);
    assert_eq!(up(10, 5).verdict(0.05), Verdict::Higher);
    assert_eq!(up(10, 5).verdict(0.0501), Verdict::Open);
    assert_eq!(of(&flat(-0.5, 10, 5)).verdict(0.01), Verdict::Lower);
    assert_eq!(of(&flat(0.0, 10, 5)).verdict(1.0), Verdict::Open);
}

#[test]
fn tables_that_do_not_fit_and_values_that_are_no_numbers_are_refused() {
    let refused = |arm: &[Vec<f64>], baseline: &[Vec<f64>]| Table::difference(arm, baseline).err().expect("refused");
    let two = flat(1.0, 3, 2);
    assert_eq!(refused(&two, &two[..1]), "2 seeds with 3 examples have no difference from 1 seeds");
    assert_eq!(refused(&[], &[]), "0 seeds with 0 examples have no difference from 0 seeds");
    let uneven = vec![vec![1.0; 3], vec![1.0; 2]];
    let message = "seed 2 has 3 examples in the arm and 2 in the baseline; the first seed has 3";
    assert_eq!(refused(&two, &uneven), message);
    for (x, y, difference) in
        [(f64::NAN, 0.0, "NaN"), (f64::INFINITY, f64::INFINITY, "NaN"), (1.0, f64::INFINITY, "-inf")]
    {
        let (mut arm, mut baseline) = (two.clone(), two.clone());
        (arm[1][2], baseline[1][2]) = (x, y);
        let message =
            format!("the difference of example 3 and seed 2 is {difference}; statistics require numbers {RANGE}");
        assert_eq!(refused(&arm, &baseline), message);
    }
    let message = "difference 2 is NaN; statistics require numbers between -1e100 and 1e100";
    assert_eq!(sign_flip(&[1.0, f64::NAN], 100, 1), Err(message.into()));
    for wrong in [f64::NAN, -0.1, 1.1] {
        let message = format!("p 2 is {wrong}; Holm's correction requires values between 0 and 1");
        assert_eq!(holm(&[0.5, wrong]), Err(message));
    }
    let ratio = |sums: &[f64]| sums[0] / sums[1];
    assert_eq!(jackknife(&[], 2, ratio), Err("0 statistics are not those of examples with 2 each".into()));
    assert_eq!(jackknife(&[1.0; 3], 2, ratio), Err("3 statistics are not those of examples with 2 each".into()));
    let message = "the metric of the corpus is NaN; statistics require numbers between -1e100 and 1e100";
    assert_eq!(jackknife(&[0.0; 4], 2, ratio), Err(message.into()));
    let message =
        "the metric of the corpus without example 2 is NaN; statistics require numbers between -1e100 and 1e100";
    assert_eq!(jackknife(&[0.0, 0.0, 1.0, 2.0], 2, ratio), Err(message.into()));
    assert_eq!(jackknife(&[1.0, 2.0], 2, ratio), Ok(vec![0.5]));
}

/// Of differences of one size, the permutation test is McNemar's test; 0 is no difference.
#[test]
fn signs_of_equal_differences_are_mcnemars_test() {
    for (b, c) in [(0, 1), (4, 1), (3, 3), (9, 2), (0, 12)] {
        let d: Vec<f64> = [vec![0.1; b], vec![0.0; 40], vec![-0.1; c]].concat();
        let (flipped, exact) = (sign_flip(&d, 1 << 13, 1).expect("finite"), mcnemar(b as u64, c as u64));
        assert!((flipped - exact).abs() < LIMIT, "{b} {c}: {flipped} {exact}");
    }
    assert_eq!(sign_flip(&[], 100, 1), Ok(1.0));
    assert_eq!(sign_flip(&[0.0; 3], 100, 1), Ok(1.0));
    // drawn: never 0, and the same for the same seed, also above the 32 signs of a word
    let far = sign_flip(&[1.0; 70], 999, 1).expect("finite");
    assert_eq!(far, 0.001);
    let d: Vec<f64> = (0..70).map(|i| f64::from(i % 7) - 2.6).collect();
    assert_eq!(sign_flip(&d, 999, 5), sign_flip(&d, 999, 5));
}

/// The mean of pseudo-values is the metric of the corpus, and a mean has its examples as pseudo-values.
#[test]
fn pseudo_values_have_the_metric_as_their_mean() {
    let mut stream = Stream::new(4, Purpose::Bench, 0);
    let stats: Vec<f64> = (0..120).map(|i| if i % 3 == 2 { 1.0 } else { 1.0 + stream.uniform() }).collect();
    let sums = |k: usize| stats.iter().skip(k).step_by(3).sum::<f64>();
    let curved = |s: &[f64]| (s[0] / s[1]).ln() * (s[2] + 1.0).sqrt();
    let values = jackknife(&stats, 3, curved).expect("finite");
    assert!((values.iter().sum::<f64>() / 40.0 - curved(&[sums(0), sums(1), sums(2)])).abs() < LIMIT);
    let plain = jackknife(&stats, 3, |s| s[0] / s[2]).expect("finite");
    assert!(apart(&plain, &stats.iter().step_by(3).copied().collect::<Vec<_>>()) < LIMIT);
}
