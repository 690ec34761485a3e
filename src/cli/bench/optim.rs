//! Clipping and AdamW.

use super::case::{Case, call};
use super::lab::Lab;
use super::sizes::Sizes;
use crate::backend::moments::{Moments, Optim};
use crate::backend::{AdamW, Backend, F, Ids, Number, S, Update, scalar};
use crate::error::Result;

/// Over as many parameters as the adapters, or the whole, of a model of the size have.
pub fn cases<B: Backend + 'static>(s: Sizes) -> Vec<Case<B>> {
    let (float, stat) = (size_of::<B::Float>(), size_of::<B::Stat>());
    let n = s.parameters;
    let shape = format!("{n} parameters");
    // gradient, moments and the master (or the weight itself) are read; all but the gradient written
    let master = if B::MASTER { 2 * stat + float } else { 2 * float };
    vec![
        Case::moving("clip", shape.clone(), n * stat, move |lab| {
            let (grad, mut scalars) = (lab.stat(n, 1.0)?, scalars(lab)?);
            call(move |b: &B| b.clip(&[(&grad, n)], &mut scalars))
        }),
        Case::moving("adamw", shape.clone(), n * (5 * stat + master), move |lab| {
            let mut at = Parameter::new(lab, n, Optim::AdamW)?;
            call(move |b: &B| at.update(b))
        }),
        // a byte of each moment; the maxima of groups are too few to count
        Case::moving("adamw_8bit", shape, n * (stat + 4 + master), move |lab| {
            let mut at = Parameter::new(lab, n, Optim::AdamW8bit)?;
            call(move |b: &B| at.update(b))
        }),
    ]
}

fn scalars<B: Backend>(lab: &mut Lab<B>) -> Result<S<B>> {
    let mut host = vec![B::Stat::of(1.0); scalar::SCALARS];
    (host[scalar::LR], host[scalar::BIAS1], host[scalar::BIAS2]) =
        (B::Stat::of(1e-4), B::Stat::of(0.5), B::Stat::of(0.5));
    let mut scalars = lab.stat_room(scalar::SCALARS)?;
    lab.b.write(&mut scalars, &host)?;
    Ok(scalars)
}

struct Parameter<B: Backend> {
    len: usize,
    weight: F<B>,
    master: Option<S<B>>,
    grad: S<B>,
    moments: Moments<B>,
    key: Ids<B>,
    scalars: S<B>,
}

impl<B: Backend> Parameter<B> {
    fn new(lab: &mut Lab<B>, len: usize, optim: Optim) -> Result<Parameter<B>> {
        let master = if B::MASTER { Some(lab.stat(len, 0.03)?) } else { None };
        let (weight, grad) = (lab.float(len, 0.03)?, lab.stat(len, 1.0)?);
        // moments start at 0, as in training, and are filled by the first call
        let (moments, key, scalars) = (Moments::new(lab.b, len, optim)?, lab.b.alloc(2)?, scalars(lab)?);
        Ok(Parameter { len, weight, master, grad, moments, key, scalars })
    }

    fn update(&mut self, b: &B) -> Result {
        let k = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
        let update = Update {
            len: self.len,
            weight: &mut self.weight,
            master: self.master.as_mut(),
            grad: &self.grad,
            moments: &mut self.moments,
            decay: true,
        };
        b.adamw(k, &self.key, &self.scalars, &mut [update])
    }
}
