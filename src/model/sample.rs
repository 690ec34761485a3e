//! From logits to the next token, in the order of transformers' processors: repetition penalty, temperature, top-k,
//! top-p, a draw.
//!
//! A draw is a pure function of (seed, row, position) and the logits: it does not depend on what else is in the batch.

use crate::random::{Purpose, philox, unit};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token instead of drawing one.
    pub temperature: f32,
    /// Draws among this many of the most likely tokens, and those level with the last of them; 0 is no limit.
    pub top_k: usize,
    /// Draws among the most likely tokens that together reach this probability (Holtzman et al. 2020); 1 is no limit.
    pub top_p: f64,
    /// Logits of tokens seen before are divided by it where they are positive, else multiplied (Keskar et al. 2019).
    pub repetition_penalty: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    /// The most likely token.
    fn default() -> Sampling {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// The token after `seen` (prompt and continuation) of the row `row`. `None` where `logits [vocab]` has a NaN or no
    /// finite largest value.
    pub fn choose(&self, logits: &mut [f32], seen: &[u32], row: u32) -> Option<u32> {
        self.penalise(logits, seen);
        let (best, most) = largest(logits)?;
        if self.temperature == 0.0 {
            return Some(best);
        }
        let candidates = self.candidates(logits, most);
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let words = philox(key, [seen.len() as u32, row, Purpose::Sample as u32, 0]);
        let mut left = unit(words[0], words[1]);
        for &(id, p) in &candidates {
            left -= p;
            if left < 0.0 {
                return Some(id);
            }
        }
        candidates.last().map(|c| c.0) // the probabilities add up to 1 but for rounding
    }

    fn penalise(&self, logits: &mut [f32], seen: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut ids = seen.to_vec();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let z = &mut logits[id as usize];
            *z = if *z < 0.0 { *z * self.repetition_penalty } else { *z / self.repetition_penalty };
        }
    }

    /// What may be drawn with its probability, the least likely first, level ones by id. `most` is the largest logit.
    fn candidates(&self, logits: &[f32], most: f32) -> Vec<(u32, f64)> {
        let temperature = self.temperature;
        let scaled = logits.iter().map(|&z| z / temperature);
        let mut list: Vec<(u32, f32)> = (0..).zip(scaled).collect();
        if (1..list.len()).contains(&self.top_k) {
            let (_, &mut (_, last), _) = list.select_nth_unstable_by(self.top_k - 1, |a, b| b.1.total_cmp(&a.1));
            list.retain(|&(_, z)| z >= last);
        }
        list.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let weigh = |&(id, z): &(u32, f32)| (id, f64::from(z - most / temperature).exp());
        let mut list: Vec<(u32, f64)> = list.iter().map(weigh).collect();
        normalise(&mut list);
        if self.top_p < 1.0 {
            let mut below = 0.0;
            let unlikely = list.iter().take_while(|(_, p)| {
                below += p;
                below <= 1.0 - self.top_p
            });
            let cut = unlikely.count().min(list.len() - 1);
            list.drain(..cut);
            normalise(&mut list);
        }
        list
    }
}

/// The first of the largest values. Parts first, since a loop that looks for both takes three times as long.
fn largest(logits: &[f32]) -> Option<(u32, f32)> {
    let (mut most, mut nan) = ([f32::NEG_INFINITY; 16], [false; 16]);
    for part in logits.chunks(16) {
        for ((most, nan), &z) in most.iter_mut().zip(&mut nan).zip(part) {
            *most = if z > *most { z } else { *most };
            *nan |= z.is_nan();
        }
    }
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let id = logits.iter().position(|&z| z == most).filter(|_| most.is_finite() && !nan.contains(&true))?;
    Some((id as u32, most))
}

fn normalise(list: &mut [(u32, f64)]) {
    let total: f64 = list.iter().map(|c| c.1).sum();
    list.iter_mut().for_each(|c| c.1 /= total);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, seed: 0 };

    /// Logits with probabilities 0.1, 0.4, 0.05, 0.3, 0.15.
    fn logits() -> Vec<f32> {
        [0.1f32, 0.4, 0.05, 0.3, 0.15].iter().map(|p| p.ln() + 3.0).collect()
    }

    /// Ids that can be drawn, in the order of ids.
    fn ids(sampling: Sampling, logits: &[f32]) -> Vec<u32> {
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let mut ids: Vec<u32> = sampling.candidates(logits, most).iter().map(|c| c.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let greedy = |mut logits: Vec<f32>| Sampling::default().choose(&mut logits, &[], 0);
        assert_eq!(greedy(vec![0.0, 2.0, -1.0, 2.0]), Some(1));
        assert_eq!(greedy(vec![f32::NEG_INFINITY, -3.0]), Some(1));
        assert_eq!(greedy(vec![0.0, f32::NAN]), None);
        assert_eq!(greedy(vec![0.0, f32::INFINITY]), None);
        assert_eq!(greedy(vec![f32::NEG_INFINITY; 2]), None);
    }

    #[test]
    fn a_penalty_moves_what_was_seen_once_however_often() {
        let mut logits = vec![4.0, 3.0, -1.0, 0.5];
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(sampling.choose(&mut logits, &[0, 2, 0], 0), Some(1));
        assert_eq!(logits, [2.0, 3.0, -2.0, 0.5]);
    }

    #[test]
    fn top_k_keeps_the_k_largest_and_what_is_level() {
        let top = |top_k| ids(Sampling { top_k, ..DRAW }, &logits());
        assert_eq!([top(1), top(2), top(3)], [vec![1], vec![1, 3], vec![1, 3, 4]]);
        assert_eq!([top(0).len(), top(5).len(), top(9).len()], [5, 5, 5]);
        assert_eq!(ids(Sampling { top_k: 2, ..DRAW }, &[1.0, 3.0, 2.0, 2.0]), [1, 2, 3]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_p() {
        let top = |top_p| ids(Sampling { top_p, ..DRAW }, &logits());
        assert_eq!([top(0.01), top(0.39), top(0.41)], [vec![1], vec![1], vec![1, 3]]);
        assert_eq!([top(0.69), top(0.71), top(0.86)], [vec![1, 3], vec![1, 3, 4], vec![0, 1, 3, 4]]);
        assert_eq!(top(1.0).len(), 5);
        // of the two that top-k leaves, 4/7 and 3/7; of all five, 0.4 would not reach 0.5
        assert_eq!(ids(Sampling { top_k: 2, top_p: 0.5, ..DRAW }, &logits()), [1]);
    }

    /// Shares of 20,000 draws against the probabilities themselves: four standard deviations.
    #[test]
    fn draws_follow_the_distribution() {
        let counts = |sampling: Sampling| {
            let mut counts = [0usize; 5];
            for row in 0..20_000 {
                let id = sampling.choose(&mut logits(), &[], row).expect("finite");
                counts[id as usize] += 1;
            }
            counts
        };
        let squares = [0.01, 0.16, 0.0025, 0.09, 0.0225].map(|p: f64| p / 0.285);
        for (sampling, expected) in [
            (DRAW, [0.1, 0.4, 0.05, 0.3, 0.15]),
            (Sampling { temperature: 0.5, ..DRAW }, squares), // p^(1 / 0.5), normalised
            (Sampling { top_k: 2, ..DRAW }, [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0, 0.0]),
            (Sampling { top_p: 0.8, ..DRAW }, [0.0, 8.0 / 17.0, 0.0, 6.0 / 17.0, 3.0 / 17.0]),
        ] {
            for (&n, p) in counts(sampling).iter().zip(expected) {
                let limit = 4.0 * (20_000.0 * p * (1.0 - p)).sqrt();
                assert!((n as f64 - 20_000.0 * p).abs() <= limit, "{sampling:?}: {n} draws of p = {p}");
            }
        }
    }

    #[test]
    fn a_draw_depends_on_seed_row_and_position() {
        let flat = || vec![0.0f32; 1000];
        let draw = |seed, row, seen: &[u32]| Sampling { seed, ..DRAW }.choose(&mut flat(), seen, row);
        assert_eq!(draw(1, 2, &[3]), draw(1, 2, &[9]));
        let all = [draw(1, 2, &[3]), draw(2, 2, &[3]), draw(1 << 40, 2, &[3]), draw(1, 3, &[3]), draw(1, 2, &[3, 3])];
        for i in 0..all.len() {
            assert!(all[..i].iter().all(|other| *other != all[i]), "{all:?}");
        }
    }
}
