//! One optimiser step: micro-batches forward and backward, then clip and AdamW. The trainer's two screens.

use super::feed::{Chunk, Feed, chunks};
use super::recipe::Normalize;
use crate::backend::{self, AdamW, Backend, Head, Ids, Modulation, Number, Objective, Rows, S, scalar, tally};
use crate::data::Batch;
use crate::data::pack::Totals;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::forward::{Mode, Rates};
use crate::model::workspace::{Need, Recompute, Workspace};

/// What the loss is.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What the weighted cross-entropy is divided by.
    pub normalize: Normalize,
    /// Factor on the preference term.
    pub gamma: f64,
    /// Its temperature.
    pub beta: f64,
    /// Whether its means are weighted.
    pub dpo_weights: bool,
    /// A factor on the weights of the cross-entropy that follows from the model's own probabilities.
    pub modulation: Modulation,
}

impl Default for Rule {
    /// Weighted cross-entropy over the count of supervised tokens, without a preference term.
    fn default() -> Rule {
        Rule { normalize: Normalize::Tokens, gamma: 0.0, beta: 0.1, dpo_weights: false, modulation: Modulation::None }
    }
}

impl Rule {
    /// The divisor of an optimiser step, over all its micro-batches. "weights" refuses a sum that is not positive.
    pub fn normaliser(&self, totals: &Totals) -> std::result::Result<f64, String> {
        match self.normalize {
            Normalize::Tokens => Ok((totals.supervised as f64).max(1.0)),
            Normalize::None => Ok(1.0),
            Normalize::Weights if totals.weight_sum > 0.0 => Ok(totals.weight_sum),
            Normalize::Weights => Err(format!(
                "the weights of the step sum to {}, by which objective.normalize = \"weights\" would divide; \
                 use \"tokens\"",
                totals.weight_sum
            )),
        }
    }
}

/// What a step or an evaluation saw. Losses are of the model before the update.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Weighted cross-entropy plus gamma times the preference loss.
    pub loss: f64,
    /// Weighted cross-entropy over the normaliser.
    pub sft: f64,
    /// Mean preference loss over its examples; 0 without any.
    pub dpo: f64,
    /// Mean negative log-likelihood on the scan path; NaN without such labels.
    pub on_path: f64,
    /// Mean negative log-likelihood off the path; NaN without such labels.
    pub off_path: f64,
    /// Global gradient norm before clipping; 0 where nothing was updated.
    pub grad_norm: f64,
    /// Whether the gradient was clipped.
    pub clipped: bool,
    /// Totals over the micro-batches.
    pub totals: Totals,
}

/// How gradients are applied.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Decay rates and their kin.
    pub adamw: AdamW,
    /// Learning rate.
    pub lr: f64,
    /// Largest norm of the gradient; 0 is no limit.
    pub max_norm: f64,
}

/// The largest micro-batch that a machine must hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capacity {
    /// Tokens of a micro-batch, padding included.
    pub tokens: usize,
    /// Supervised labels of one example.
    pub supervised: usize,
}

/// What a machine is made for.
#[derive(Clone, Copy, Debug)]
pub struct StepSettings {
    /// The objective.
    pub rule: Rule,
    /// Dropout of training passes.
    pub rates: Rates,
    /// What must fit.
    pub capacity: Capacity,
    /// Whether there will be gradients.
    pub train: bool,
    /// What backward computes anew.
    pub recompute: Recompute,
    /// Seed of the dropout masks.
    pub seed: u64,
}

impl Default for StepSettings {
    /// Training with the default objective and no dropout; the capacity is still to be given.
    fn default() -> StepSettings {
        let (rule, rates, capacity, recompute) = Default::default();
        StepSettings { rule, rates, capacity, train: true, recompute, seed: 0 }
    }
}

/// A model on a backend with everything a step needs, allocated once.
pub struct Machine<B: Backend> {
    /// The device.
    pub backend: B,
    /// The model.
    pub model: Decoder<B>,
    /// The objective.
    pub rule: Rule,
    /// Dropout of training passes.
    pub rates: Rates,
    pub(super) work: Workspace<B>,
    feed: Feed<B>,
    scalars: S<B>,
    key: Ids<B>,
    sums: S<B>,
    seed: u32,
}

impl<B: Backend> Machine<B> {
    /// Allocates the workspace of `model`, whose adapters are already in place.
    pub fn new(backend: B, model: Decoder<B>, settings: StepSettings) -> Result<Self> {
        let StepSettings { rule, rates, capacity, train, recompute, seed } = settings;
        let b = &backend;
        let (tokens, lora_dropout, resid_dropout) = (capacity.tokens, rates.lora > 0.0, rates.resid > 0.0);
        let need = Need { tokens, train, recompute, lora_dropout, resid_dropout };
        let longest = if rule.gamma != 0.0 && model.trains_head() { capacity.supervised } else { 1 };
        let feed = Feed::new(b, capacity.tokens, longest, model.spec.hidden, model.spec.vocab, train)?;
        let (scalars, key, sums) = (b.alloc(scalar::SCALARS)?, b.alloc(2)?, b.alloc(tally::TALLY)?);
        let work = Workspace::new(b, &model, need)?;
        Ok(Machine { work, feed, scalars, key, sums, seed: (seed ^ (seed >> 32)) as u32, backend, model, rule, rates })
    }

    /// The parts that a pass works on, and what its dropout is keyed by.
    fn pass(&mut self) -> (Pass<'_, B>, &Ids<B>, &Rates) {
        let Machine { backend, model, rule, rates, work, feed, scalars, key, sums, .. } = self;
        (Pass { b: backend, model, rule, work, feed, scalars, sums }, key, rates)
    }

    /// log p of every supervised label, `[R]`; `adapters` off gives the reference of a LoRA run.
    pub fn logp(&mut self, batch: &Batch, adapters: bool) -> Result<Vec<f32>> {
        let (mut pass, ..) = self.pass();
        pass.hidden(batch, &Mode::eval(adapters))?;
        pass.logp(batch, false)?;
        let mut host = vec![B::Stat::default(); batch.rows.len()];
        self.backend.read(&self.feed.logp, &mut host)?;
        Ok(host.into_iter().map(|x| x.f64() as f32).collect())
    }

    /// Losses over `batches` without gradients or dropout.
    pub fn evaluate(&mut self, batches: &[Batch]) -> Result<Outcome> {
        let settled = self.begin(batches, 0, None)?;
        let (mut pass, ..) = self.pass();
        for batch in batches {
            pass.hidden(batch, &Mode::eval(true))?;
            pass.objective(batch, false)?;
        }
        self.outcome(settled, false)
    }

    /// Gradients of one optimiser step, left in the parameters: zeroed first, summed over the micro-batches.
    /// `step` counts from 1 and keys the dropout masks.
    pub fn gradients(&mut self, batches: &[Batch], step: u64) -> Result<Outcome> {
        let settled = self.begin(batches, step, None)?;
        self.accumulate(batches, step)?;
        self.outcome(settled, false)
    }

    /// One optimiser step: [`Machine::gradients`], clipped and applied. The host waits for the device once, at the end.
    /// Where the gradient is not finite (its norm says so), the parameters stay as they were.
    pub fn step(&mut self, batches: &[Batch], step: u64, update: &Update) -> Result<Outcome> {
        let settled = self.begin(batches, step, Some(update))?;
        self.accumulate(batches, step)?;
        let mut parameters: Vec<backend::Update<B>> =
            self.model.trained().into_iter().filter_map(|p| p.into_update()).collect();
        let grads: Vec<(&S<B>, usize)> = parameters.iter().map(|p| (p.grad, p.len)).collect();
        self.backend.clip(&grads, &mut self.scalars)?;
        self.backend.adamw(update.adamw, &self.key, &self.scalars, &mut parameters)?;
        self.outcome(settled, true)
    }

    /// Writes the step's scalars and clears its sums.
    fn begin(&mut self, batches: &[Batch], step: u64, update: Option<&Update>) -> Result<Settled> {
        let totals: Totals = batches.iter().map(|b| Totals::of(b, self.rule.dpo_weights)).sum();
        let norm = self.rule.normaliser(&totals).map_err(|why| Error::Training { step, why })?;
        let mut host = vec![B::Stat::default(); scalar::SCALARS];
        host[scalar::INV_NORM] = B::Stat::of(1.0 / norm);
        host[scalar::INV_PAIRS] = B::Stat::of(1.0 / (totals.pairs as f64).max(1.0));
        if let Some(update) = update {
            let power = step.min(i32::MAX as u64) as i32;
            host[scalar::LR] = B::Stat::of(update.lr);
            host[scalar::BIAS1] = B::Stat::of(1.0 - update.adamw.beta1.powi(power));
            host[scalar::BIAS2] = B::Stat::of(1.0 - update.adamw.beta2.powi(power));
            host[scalar::MAX_NORM] = B::Stat::of(update.max_norm);
        }
        self.backend.write(&mut self.scalars, &host)?;
        self.backend.zero(&mut self.sums, tally::TALLY)?;
        Ok(Settled { norm, totals })
    }

    /// Forward and backward over the micro-batches.
    fn accumulate(&mut self, batches: &[Batch], step: u64) -> Result {
        self.backend.write(&mut self.key, &[self.seed, step as u32])?;
        let b = &self.backend;
        for mut param in self.model.trained() {
            let len = param.len();
            if let Some(train) = param.train() {
                b.zero(&mut train.grad, len)?;
            }
        }
        let (mut pass, key, rates) = self.pass();
        let mode = Mode { adapters: true, dropout: Some((rates, key)) };
        for batch in batches {
            pass.hidden(batch, &mode)?;
            pass.objective(batch, true)?;
            pass.backward(batch, &mode)?;
        }
        Ok(())
    }

    /// Waits for the device and reads what it summed.
    fn outcome(&self, Settled { norm, totals }: Settled, updated: bool) -> Result<Outcome> {
        let mut host = vec![B::Stat::default(); tally::TALLY];
        self.backend.read(&self.sums, &mut host)?;
        let sum = |i: usize| host[i].f64();
        let sft = sum(tally::WEIGHTED) / norm;
        let dpo = sum(tally::PREFERENCE) / sum(tally::PAIRS).max(1.0);
        let mut outcome = Outcome {
            loss: sft + self.rule.gamma * dpo,
            sft,
            dpo,
            on_path: sum(tally::ON_PATH) / sum(tally::ON_COUNT),
            off_path: sum(tally::OFF_PATH) / sum(tally::OFF_COUNT),
            totals,
            ..Outcome::default()
        };
        if updated {
            let mut host = vec![B::Stat::default(); scalar::SCALARS];
            self.backend.read(&self.scalars, &mut host)?;
            outcome.grad_norm = host[scalar::SQ_NORM].f64().sqrt();
            outcome.clipped = host[scalar::CLIP].f64() < 1.0;
        }
        Ok(outcome)
    }
}

/// What is known of a step before it runs.
struct Settled {
    norm: f64,
    totals: Totals,
}

/// One micro-batch on its way through the machine's parts.
struct Pass<'a, B: Backend> {
    b: &'a B,
    model: &'a mut Decoder<B>,
    rule: &'a Rule,
    work: &'a mut Workspace<B>,
    feed: &'a mut Feed<B>,
    scalars: &'a S<B>,
    sums: &'a mut S<B>,
}

impl<B: Backend> Pass<'_, B> {
    /// Hidden rows of a batch, gathered for the head.
    fn hidden(&mut self, batch: &Batch, mode: &Mode<B>) -> Result {
        let (tokens, capacity) = (batch.ids.len(), self.work.capacity);
        if tokens > capacity {
            let why = format!("a micro-batch of {tokens} tokens was given to a machine made for {capacity}");
            return Err(Error::Device(why));
        }
        self.feed.load(self.b, batch)?;
        self.model.forward(self.b, self.work, &self.feed.tokens, mode)?;
        self.feed.gather(self.b, batch, &self.work.hidden, self.model.spec.hidden)
    }

    fn head(&self, chunk: Chunk) -> Head {
        let s = &self.model.spec;
        Head { first: chunk.first, rows: chunk.rows, width: s.hidden, vocab: s.vocab, scale: s.logit_scale }
    }

    /// log p of the gathered rows and, with `unit`, the gradient of each row's -log p: chunk by chunk, so that the
    /// logits of only one exist.
    fn logp(&mut self, batch: &Batch, unit: bool) -> Result {
        for c in chunks(&batch.row_start, self.feed.chunk, false) {
            let (head, b, f) = (self.head(c), self.b, &mut *self.feed);
            let w = self.model.head_weight();
            let (logits, logp, lse) = (&mut f.logits, &mut f.logp, &mut f.lse);
            if unit {
                b.head_unit(head, &f.active, w, &f.labels, logits, logp, lse, &mut f.d_active)?;
            } else {
                b.head_logp(head, &f.active, w, &f.labels, logits, logp, lse)?;
            }
        }
        Ok(())
    }

    /// Whether there is a preference term.
    fn pairs(&self, batch: &Batch) -> bool {
        self.rule.gamma != 0.0 && !batch.ref_logp.is_empty()
    }

    /// Loss sums and coefficients of these rows, whose log p are known.
    fn coefficients(&mut self, batch: &Batch, c: Chunk) -> Result {
        let s = Objective {
            first: c.first,
            rows: c.rows,
            first_example: c.first_example,
            examples: c.examples,
            gamma: if self.pairs(batch) { self.rule.gamma } else { 0.0 },
            beta: self.rule.beta,
            weighted_pairs: self.rule.dpo_weights,
            modulation: self.rule.modulation,
        };
        let (f, scalars, sums) = (&mut *self.feed, self.scalars, &mut *self.sums);
        self.b.objective(s, &f.row_start, &f.logp, &f.weights, &f.path, &f.ref_logp, scalars, &mut f.coef, sums)
    }

    /// log p, loss sums, coefficients and, with `grad`, the gradient of the active rows and of a trained head.
    fn objective(&mut self, batch: &Batch, grad: bool) -> Result {
        if grad && self.model.trains_head() {
            return self.trained_head(batch);
        }
        self.logp(batch, grad)?;
        let examples = batch.row_start.len() - 1;
        self.coefficients(batch, Chunk { first: 0, rows: batch.rows.len(), first_example: 0, examples })
    }

    /// The gradient of a head's weight is a sum over rows, coefficients included: they must be known while the chunk's
    /// logits exist. So with pairs a chunk holds whole examples.
    fn trained_head(&mut self, batch: &Batch) -> Result {
        for c in chunks(&batch.row_start, self.feed.chunk, self.pairs(batch)) {
            if c.rows > self.feed.chunk {
                let (rows, room) = (c.rows, self.feed.chunk);
                let why = format!("an example of {rows} supervised tokens was given to a machine made for {room}");
                return Err(Error::Device(why));
            }
            let (head, b, f) = (self.head(c), self.b, &mut *self.feed);
            let w = self.model.head_weight();
            b.head_logp(head, &f.active, w, &f.labels, &mut f.logits, &mut f.logp, &mut f.lse)?;
            self.coefficients(batch, c)?;
            // the head's weight is read and its gradient written: two fields of one matrix
            let (f, matrix) = (&mut *self.feed, self.model.head.as_mut().unwrap_or(&mut self.model.embed));
            let (w, dw) = (&matrix.w, matrix.train.as_mut().map(|t| &mut t.grad));
            let (logits, dx) = (&mut f.logits, &mut f.d_active);
            b.head_bwd(head, &f.active, w, &f.labels, &f.logp, &f.lse, &f.coef, logits, dx, dw)?;
        }
        Ok(())
    }

    /// From the gradient of the gathered rows to those of the parameters.
    fn backward(&mut self, batch: &Batch, mode: &Mode<B>) -> Result {
        let rows = Rows { n: batch.rows.len(), width: self.model.spec.hidden };
        if let Some(grads) = &mut self.work.grads {
            let f = &*self.feed;
            let coef = (!self.model.trains_head()).then_some(&f.coef);
            self.b.gather_bwd(rows, &f.rows, batch.ids.len(), coef, &f.d_active, &mut grads.dx)?;
        }
        self.model.backward(self.b, self.work, &self.feed.tokens, mode)
    }
}
