//! Figures of attention rows. A row is the probabilities with which one query of one head looks at its context: the
//! tokens of its sequence up to itself.
//!
//! The first token of the context is the *sink*: many heads leave their mass there when they look for nothing (Xiao et
//! al. 2024). Every figure is computed without it and, under the suffix `_with_sink`, with it. Without it, the first
//! token is left out and the other probabilities are divided by their sum; a row without another token, or with no mass
//! on the others, has no figure.

/// Figures of each head, in the order of their values.
pub const HEADS: [&str; 13] = [
    "sink_mass",
    "recency_focus",
    "avg_focus",
    "attn_entropy",
    "attn_entropy_normalised",
    "gaze_mass",
    "gaze_mass_reference",
    "recency_focus_with_sink",
    "avg_focus_with_sink",
    "attn_entropy_with_sink",
    "attn_entropy_normalised_with_sink",
    "gaze_mass_with_sink",
    "gaze_mass_reference_with_sink",
];

/// Figures of an example as a whole.
pub const WHOLE: [&str; 5] = ["gen_confidence", "gen_probability", "gaze_nll", "gaze_nll_off_path", "gaze_nll_gap"];

/// Whether a figure depends on scan paths.
pub fn needs_path(name: &str) -> bool {
    name.starts_with("gaze_")
}

/// Figures of a row for one side, with or without the sink; NaN where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Side {
    /// Mass on the last tokens.
    pub recency: f64,
    /// The largest probability.
    pub focus: f64,
    /// `-sum p log2 p`, in bits.
    pub entropy: f64,
    /// Entropy divided by log2 of the number of tokens.
    pub normalised: f64,
    /// Mass on the tokens of the path, divided by their share of the tokens.
    pub gaze: f64,
}

/// How many of the last tokens count as recent in a context of `keys` tokens: 10 %, rounded up, and at least 16.
pub fn recent(keys: usize) -> usize {
    keys.div_ceil(10).max(16)
}

/// Figures of some probabilities and of the roles of their tokens; the probabilities are divided by their sum. `last`
/// is how many tokens count as recent.
pub fn side(probs: &[f32], path: &[bool], last: usize) -> Side {
    let n = probs.len();
    let sum = |probs: &[f32]| probs.iter().copied().map(f64::from).sum::<f64>();
    let total = sum(probs);
    if total.is_nan() || total <= 0.0 {
        return Side { recency: f64::NAN, focus: f64::NAN, entropy: f64::NAN, normalised: f64::NAN, gaze: f64::NAN };
    }
    let weighted = |p: f32| if p > 0.0 { f64::from(p) * f64::from(p).log2() } else { 0.0 };
    let entropy = (total.log2() - probs.iter().copied().map(weighted).sum::<f64>() / total).max(0.0);
    let gazed: f64 = probs.iter().zip(path).filter(|(_, on)| **on).map(|(p, _)| f64::from(*p)).sum();
    let share = path[..n].iter().filter(|on| **on).count() as f64 / n as f64;
    Side {
        recency: sum(&probs[n - last.min(n)..]) / total,
        focus: probs.iter().copied().fold(0.0, f32::max) as f64 / total,
        entropy,
        normalised: if n > 1 { entropy / (n as f64).log2() } else { f64::NAN },
        gaze: if share > 0.0 { gazed / total / share } else { f64::NAN },
    }
}

/// Means over rows of one head, of those that have a figure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Means([(f64, u32); HEADS.len()]);

impl Means {
    fn add(&mut self, name: usize, value: f64) {
        if value.is_finite() {
            self.0[name].0 += value;
            self.0[name].1 += 1;
        }
    }

    /// Adds a row of a generated token, whose context has these roles.
    pub fn generated(&mut self, probs: &[f32], path: &[bool], last: usize) {
        let (without, with) = (side(&probs[1..], &path[1..], last), side(probs, path, last));
        self.add(0, probs.first().copied().unwrap_or(0.0).into());
        for (first, side) in [(1, without), (7, with)] {
            let values = [side.recency, side.focus, side.entropy, side.normalised, side.gaze];
            (first..).zip(values).for_each(|(name, value)| self.add(name, value));
        }
        // `gaze_mass_reference` stands between the two sides
    }

    /// Adds a row of a token of the reference.
    pub fn reference(&mut self, probs: &[f32], path: &[bool]) {
        self.add(6, side(&probs[1..], &path[1..], 0).gaze);
        self.add(12, side(probs, path, 0).gaze);
    }

    /// The means, in the order of [`HEADS`]; NaN where no row has a figure.
    pub fn values(&self) -> [f64; HEADS.len()] {
        self.0.map(|(sum, n)| if n > 0 { sum / f64::from(n) } else { f64::NAN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-7, "{a} and {b}");
    }

    /// Of 20 tokens, 16 are recent; of 161, 17.
    #[test]
    fn a_tenth_is_recent_and_at_least_sixteen() {
        assert_eq!([1, 20, 160, 161, 1000].map(recent), [16, 16, 16, 17, 100]);
    }

    /// By hand: p = 1/2, 1/4, 1/8, 1/8; without the first 1/2, 1/4, 1/4.
    #[test]
    fn figures_are_those_of_their_definitions() {
        let (probs, path) = ([0.5, 0.25, 0.125, 0.125], [false, true, false, true]);
        let mut means = Means::default();
        means.generated(&probs, &path, 2);
        let v = means.values();
        near(v[0], 0.5);
        near(v[1], 0.5); // the last two of three
        near(v[2], 0.5);
        near(v[3], 1.5);
        near(v[4], 1.5 / 3f64.log2());
        near(v[5], 0.75 / (2.0 / 3.0));
        assert!(v[6].is_nan() && v[12].is_nan());
        near(v[7], 0.25);
        near(v[8], 0.5);
        near(v[9], 1.75);
        near(v[10], 1.75 / 2.0);
        near(v[11], 0.375 / 0.5);
        means.reference(&probs, &path);
        near(means.values()[6], 1.125);
        near(means.values()[12], 0.75);
        near(means.values()[3], 1.5);
        assert_eq!((HEADS[6], HEADS[12]), ("gaze_mass_reference", "gaze_mass_reference_with_sink"));
    }

    /// An indifferent row has a gaze mass of 1 whatever the path, with the sink and without it.
    #[test]
    fn an_indifferent_row_has_a_gaze_mass_of_one() {
        for n in [2usize, 5, 40] {
            let probs = vec![1.0 / n as f32; n];
            let path: Vec<bool> = (0..n).map(|i| i == n - 1 || i % 3 == 1).collect();
            let side = side(&probs, &path, 3);
            near(side.gaze, 1.0);
            near(side.normalised, 1.0);
            near(side.recency, 3f64.min(n as f64) / n as f64);
        }
    }

    /// A sink that has all the mass leaves nothing to say about the rest; a context of one token has no rest.
    #[test]
    fn a_row_without_a_rest_has_no_figure() {
        for (probs, path) in [(&[1.0, 0.0, 0.0][..], &[false, true, true][..]), (&[1.0], &[false])] {
            let mut means = Means::default();
            means.generated(probs, path, 16);
            let v = means.values();
            assert!(v[1..6].iter().all(|x| x.is_nan()), "{v:?}");
            assert_eq!((v[0], v[7], v[8], v[9]), (1.0, 1.0, 1.0, 0.0));
        }
        // no token of the context is on the path
        let mut means = Means::default();
        means.generated(&[0.5, 0.5], &[false; 2], 16);
        assert!(means.values()[5].is_nan() && means.values()[11].is_nan() && means.values()[2] == 1.0);
    }
}
