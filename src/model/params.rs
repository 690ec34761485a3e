//! Parameters on a device: a value and, where it is trained, everything the optimiser keeps beside it.

use super::checkpoint::Values;
use crate::backend::moments::{Moments, Optim};
use crate::backend::nf4::Nf4;
use crate::backend::{Backend, Elem, F, Number, S, Stored, Update};
use crate::error::Result;

/// Gradient and optimiser state of one parameter.
pub struct Train<B: Backend> {
    /// Gradient, accumulated over an optimiser step.
    pub grad: S<B>,
    /// What AdamW remembers of earlier gradients.
    pub moments: Moments<B>,
    /// Full-precision copy, where the working copy is narrower.
    pub master: Option<S<B>>,
}

impl<B: Backend> Train<B> {
    fn new(b: &B, values: &[f32], len: usize, optim: Optim) -> Result<Train<B>> {
        let mut master = if B::MASTER { Some(b.alloc(len)?) } else { None };
        if let Some(master) = &mut master {
            let wide: Vec<B::Stat> = values.iter().map(|&x| B::Stat::of(f64::from(x))).collect();
            b.write(master, &wide)?;
        }
        Ok(Train { grad: b.alloc(len)?, moments: Moments::new(b, len, optim)?, master })
    }
}

/// Host values in working precision on the device. `values` may be empty where only sizes count.
fn upload<B: Backend>(b: &B, values: &[f32], len: usize) -> Result<F<B>> {
    let mut w = b.alloc(len)?;
    let floats: Vec<B::Float> = values.iter().map(|&x| B::Float::of(f64::from(x))).collect();
    b.write(&mut w, &floats)?;
    Ok(w)
}

/// The `len` values of a parameter without rounding: of its master where it has one.
fn download<B: Backend>(b: &B, w: &F<B>, train: Option<&Train<B>>, len: usize) -> Result<Vec<B::Stat>> {
    if let Some(master) = train.and_then(|t| t.master.as_ref()) {
        return read(b, master, len);
    }
    Ok(read(b, w, len)?.into_iter().map(|x| B::Stat::of(x.f64())).collect())
}

/// The first `len` values of a buffer.
pub(super) fn read<B: Backend, T: Elem>(b: &B, buffer: &B::Buf<T>, len: usize) -> Result<Vec<T>> {
    let mut host = vec![T::default(); len];
    b.read(buffer, &mut host)?;
    Ok(host)
}

fn narrow<B: Backend>(values: Vec<B::Stat>) -> Vec<f32> {
    values.into_iter().map(|x| x.f64() as f32).collect()
}

/// A matrix `[rows, cols]`; decays when trained.
pub struct Matrix<B: Backend> {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Values.
    pub w: Stored<B>,
    /// Present when trained.
    pub train: Option<Train<B>>,
}

impl<B: Backend> Matrix<B> {
    /// From host values (row-major), with what `train` needs where it is trained; a frozen matrix in bf16 or
    /// 4 bits stays so.
    pub fn new(b: &B, rows: usize, cols: usize, values: Values, train: Option<Optim>) -> Result<Matrix<B>> {
        let len = rows * cols;
        if let (Values::Bf16(narrow), None) = (&values, train) {
            let mut w = b.alloc(len)?;
            b.write(&mut w, narrow)?;
            return Ok(Matrix { rows, cols, w: Stored::Bf16(w), train: None });
        }
        if let (Values::Nf4(coded), None) = (&values, train) {
            return Ok(Matrix { rows, cols, w: Stored::Nf4(coded.upload(b)?), train: None });
        }
        let values = values.into_f32();
        let state = train.map(|optim| Train::new(b, &values, len, optim)).transpose()?;
        Ok(Matrix { rows, cols, w: Stored::Float(upload(b, &values, len)?), train: state })
    }

    /// The gradient, where there is one.
    pub fn grad(&mut self) -> Option<&mut S<B>> {
        self.train.as_mut().map(|t| &mut t.grad)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values in f32, from the full-precision copy where there is one.
    pub fn values(&self, b: &B) -> Result<Vec<f32>> {
        match &self.w {
            Stored::Float(w) => download(b, w, self.train.as_ref(), self.len()).map(narrow::<B>),
            Stored::Bf16(w) => Ok(read(b, w, self.len())?.into_iter().map(f32::from).collect()),
            Stored::Nf4(w) => Ok(Nf4::download(b, w)?.decode()),
        }
    }

    fn update(&mut self) -> Option<Update<'_, B>> {
        let len = self.len();
        match (&mut self.w, &mut self.train) {
            (Stored::Float(weight), Some(train)) => Some(update(len, weight, train, true)),
            _ => None,
        }
    }
}

/// A parameter that is always held in working precision: norms, biases, adapter matrices.
pub struct Dense<B: Backend> {
    /// Number of values.
    pub len: usize,
    /// Values.
    pub w: F<B>,
    /// Present when trained.
    pub train: Option<Train<B>>,
    /// Whether weight decay applies: to matrices, not to norms and biases (the grouping of Hugging Face's Trainer).
    pub decay: bool,
}

impl<B: Backend> Dense<B> {
    /// A vector (norm or bias) from host values, with what `train` needs where it is trained.
    pub fn vector(b: &B, len: usize, values: &[f32], train: Option<Optim>) -> Result<Dense<B>> {
        let state = train.map(|optim| Train::new(b, values, len, optim)).transpose()?;
        Ok(Dense { len, w: upload(b, values, len)?, train: state, decay: false })
    }

    /// A matrix of `len` values, likewise.
    pub fn matrix(b: &B, len: usize, values: &[f32], train: Option<Optim>) -> Result<Dense<B>> {
        Ok(Dense { decay: true, ..Dense::vector(b, len, values, train)? })
    }

    /// The gradient, where there is one.
    pub fn grad(&mut self) -> Option<&mut S<B>> {
        self.train.as_mut().map(|t| &mut t.grad)
    }

    /// All values in f32, from the full-precision copy where there is one.
    pub fn values(&self, b: &B) -> Result<Vec<f32>> {
        download(b, &self.w, self.train.as_ref(), self.len).map(narrow::<B>)
    }

    fn update(&mut self) -> Option<Update<'_, B>> {
        let (len, weight, decay) = (self.len, &mut self.w, self.decay);
        self.train.as_mut().map(|train| update(len, weight, train, decay))
    }
}

fn update<'a, B: Backend>(len: usize, weight: &'a mut F<B>, train: &'a mut Train<B>, decay: bool) -> Update<'a, B> {
    let Train { grad, moments, master } = train;
    Update { len, weight, master: master.as_mut(), grad, moments, decay }
}

/// A reference to either kind, for walks over the whole model.
pub enum Param<'a, B: Backend> {
    /// A matrix.
    Matrix(&'a mut Matrix<B>),
    /// A norm, bias or adapter matrix.
    Dense(&'a mut Dense<B>),
}

impl<'a, B: Backend> Param<'a, B> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Param::Matrix(p) => p.len(),
            Param::Dense(p) => p.len,
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Training state, where there is any.
    pub fn train(&mut self) -> Option<&mut Train<B>> {
        match self {
            Param::Matrix(p) => p.train.as_mut(),
            Param::Dense(p) => p.train.as_mut(),
        }
    }

    /// What the optimiser needs, where it is trained.
    pub fn into_update(self) -> Option<Update<'a, B>> {
        match self {
            Param::Matrix(p) => p.update(),
            Param::Dense(p) => p.update(),
        }
    }

    /// All values in f32.
    pub fn values(&self, b: &B) -> Result<Vec<f32>> {
        match self {
            Param::Matrix(p) => p.values(b),
            Param::Dense(p) => p.values(b),
        }
    }

    /// The whole gradient on the host, where there is one.
    pub fn gradient(&mut self, b: &B) -> Result<Option<Vec<f64>>> {
        let len = self.len();
        let Some(train) = self.train() else { return Ok(None) };
        Ok(Some(read(b, &train.grad, len)?.into_iter().map(Number::f64).collect()))
    }

    /// The values in full, of the master where there is one: what training goes on from.
    pub fn exact(&self, b: &B) -> Result<Vec<B::Stat>> {
        match self {
            Param::Matrix(Matrix { w: Stored::Float(w), train, .. }) => download(b, w, train.as_ref(), self.len()),
            Param::Dense(Dense { w, train, .. }) => download(b, w, train.as_ref(), self.len()),
            Param::Matrix(p) => Ok(p.values(b)?.into_iter().map(|x| B::Stat::of(f64::from(x))).collect()),
        }
    }

    /// Overwrites the values: for tests that perturb them and for what continues from a file.
    pub fn set(&mut self, b: &B, values: &[f64]) -> Result {
        let floats: Vec<B::Float> = values.iter().map(|&x| B::Float::of(x)).collect();
        match self {
            Param::Matrix(Matrix { w: Stored::Float(w), .. }) | Param::Dense(Dense { w, .. }) => b.write(w, &floats)?,
            Param::Matrix(_) => {} // what is frozen in bf16 or 4 bits is never set
        }
        if let Some(master) = self.train().and_then(|t| t.master.as_mut()) {
            let wide: Vec<B::Stat> = values.iter().map(|&x| B::Stat::of(x)).collect();
            b.write(master, &wide)?;
        }
        Ok(())
    }
}
