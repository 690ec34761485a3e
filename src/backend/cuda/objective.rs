//! Weighted cross-entropy plus the preference term, as one coefficient per supervised row.

use super::backend::Cuda;
use super::device::{Args, Device};
use crate::backend::{Ids, Objective, ObjectiveOps, S};
use crate::error::Result;

impl<D: Device> ObjectiveOps for Cuda<D> {
    fn objective(
        &self, s: Objective, row_start: &Ids<Self>, logp: &S<Self>, weight: &S<Self>, path: &Ids<Self>,
        ref_logp: &S<Self>, scalars: &S<Self>, coef: &mut S<Self>, tally: &mut S<Self>,
    ) -> Result {
        let (modulation, exponent) = s.modulation.coded();
        let args = Args::default()
            .addresses([
                row_start.address(),
                logp.address(),
                weight.address(),
                path.address(),
                ref_logp.address(),
                scalars.address(),
                coef.address(),
                tally.address(),
            ])
            .int(s.first)
            .int(s.rows)
            .int(s.first_example)
            .int(s.examples)
            .float(s.gamma)
            .float(s.beta)
            .int(s.weighted_pairs.into())
            .int(modulation)
            .float(exponent);
        let threads = 256;
        self.blocks("objective", [1, 1], threads, threads * 8, args)
    }
}
