//! Weighted cross-entropy plus the token-level preference term, as one coefficient per supervised row.

use super::real::Real;
use super::{Cpu, Modulation, Objective, ObjectiveOps, scalar, tally};
use crate::error::Result;

/// One side of an example: mean of r = log p - log p_ref over its labels.
#[derive(Default)]
struct Side {
    mass: f64,
    sum: f64,
    labels: usize,
}

impl Side {
    fn counts(&self, weighted: bool) -> bool {
        self.labels > 0 && (!weighted || self.mass > 0.0)
    }
}

impl<R: Real> ObjectiveOps for Cpu<R> {
    /// With m = mean_on r - mean_off r and L_e = -log sigmoid(beta m):
    /// dL_e / d nll_j = +-beta sigmoid(-beta m) * share_j, plus on the path.
    fn objective(
        &self, s: Objective, row_start: &Vec<u32>, logp: &Vec<R>, weight: &Vec<R>, path: &Vec<u32>, ref_logp: &Vec<R>,
        scalars: &Vec<R>, coef: &mut Vec<R>, sums: &mut Vec<R>,
    ) -> Result {
        let inv_norm = scalars[scalar::INV_NORM];
        let mut add = [0.0; tally::TALLY];
        for j in s.first..s.first + s.rows {
            let nll = -logp[j].f64();
            let weight = match s.modulation {
                Modulation::None => weight[j],
                modulation => R::of(weight[j].f64() * modulation.factor(logp[j].f64())),
            };
            coef[j] = weight * inv_norm;
            add[tally::WEIGHTED] += weight.f64() * nll;
            let (sum, count) =
                if path[j] != 0 { (tally::ON_PATH, tally::ON_COUNT) } else { (tally::OFF_PATH, tally::OFF_COUNT) };
            add[sum] += nll;
            add[count] += 1.0;
        }
        if s.gamma != 0.0 {
            for e in s.first_example..s.first_example + s.examples {
                let rows = row_start[e] as usize..row_start[e + 1] as usize;
                let mass = |j: usize| if s.weighted_pairs { weight[j].f64() } else { 1.0 };
                let mut sides = [Side::default(), Side::default()];
                for j in rows.clone() {
                    let side = &mut sides[usize::from(path[j] != 0)];
                    side.mass += mass(j);
                    side.sum += mass(j) * (logp[j].f64() - ref_logp[j].f64());
                    side.labels += 1;
                }
                if !sides.iter().all(|side| side.counts(s.weighted_pairs)) {
                    continue;
                }
                let [off, on] = &sides;
                let z = s.beta * (on.sum / on.mass - off.sum / off.mass);
                // log(1 + e^-z), from the side that does not overflow
                add[tally::PREFERENCE] += (-z.abs()).exp().ln_1p() + (-z).max(0.0);
                add[tally::PAIRS] += 1.0;
                let pull = s.gamma * scalars[scalar::INV_PAIRS].f64() * s.beta / (1.0 + z.exp());
                for j in rows {
                    let share = if path[j] != 0 { mass(j) / on.mass } else { -mass(j) / off.mass };
                    coef[j] += R::of(pull * share);
                }
            }
        }
        sums.iter_mut().zip(add).for_each(|(sum, x)| *sum += R::of(x));
        Ok(())
    }
}
