//! Inputs for timing: random, because a GPU can be faster on zeros.

use crate::backend::{Backend, Elem, F, Ids, Number, S, Stored, Tokens};
use crate::error::Result;
use crate::random::{Purpose, Stream};

/// Distinct values, repeated to any length: a prime, so that the rows of a matrix differ, and few, so that the matrix
/// of a vocabulary is drawn quickly.
const VALUES: usize = 65_537;

/// Makes buffers on a backend.
pub struct Lab<'b, B: Backend> {
    /// The backend.
    pub b: &'b B,
    values: Vec<f64>,
    stream: Stream,
}

impl<'b, B: Backend> Lab<'b, B> {
    /// With a fixed seed, so that every run times the same numbers.
    pub fn new(b: &'b B) -> Lab<'b, B> {
        let mut stream = Stream::new(0, Purpose::Bench, 0);
        let values = (0..VALUES).map(|_| 2.0 * stream.uniform() - 1.0).collect();
        Lab { b, values, stream }
    }

    fn buffer<T: Elem>(&self, host: &[T]) -> Result<B::Buf<T>> {
        let mut buffer = self.b.alloc(host.len())?;
        self.b.write(&mut buffer, host)?;
        Ok(buffer)
    }

    /// `n` values up to `size`, different in each call.
    fn draw<T: Elem>(&mut self, n: usize, size: f64, to: impl Fn(f64) -> T) -> Result<B::Buf<T>> {
        let start = self.stream.below(VALUES as u32) as usize;
        let all: Vec<T> = self.values.iter().map(|&x| to(x * size)).collect();
        let host: Vec<T> = all.iter().cycle().skip(start).take(n).copied().collect();
        self.buffer(&host)
    }

    /// Activations between -`size` and `size`.
    pub fn float(&mut self, n: usize, size: f64) -> Result<F<B>> {
        self.draw(n, size, B::Float::of)
    }

    /// Statistics between -`size` and `size`.
    pub fn stat(&mut self, n: usize, size: f64) -> Result<S<B>> {
        self.draw(n, size, B::Stat::of)
    }

    /// A frozen matrix in working precision with values as large as initial weights.
    pub fn weight(&mut self, n: usize) -> Result<Stored<B>> {
        Ok(Stored::Float(self.float(n, 0.03)?))
    }

    /// A buffer for activations to write.
    pub fn room(&self, n: usize) -> Result<F<B>> {
        self.b.alloc(n)
    }

    /// A buffer for statistics to write.
    pub fn stat_room(&self, n: usize) -> Result<S<B>> {
        self.b.alloc(n)
    }

    /// Indices below `n`.
    pub fn below(&mut self, count: usize, n: usize) -> Result<Ids<B>> {
        let host: Vec<u32> = (0..count).map(|_| self.stream.below(n.max(1) as u32)).collect();
        self.buffer(&host)
    }

    /// These indices.
    pub fn ids(&self, host: &[u32]) -> Result<Ids<B>> {
        self.buffer(host)
    }

    /// Segments of these lengths, end to end, of ids below `vocab`.
    pub fn tokens(&mut self, lengths: &[usize], vocab: usize) -> Result<Tokens<B>> {
        let (mut pos, mut start, mut example) = (Vec::new(), Vec::new(), Vec::new());
        for (e, &length) in (0..).zip(lengths) {
            start.resize(start.len() + length, pos.len() as u32);
            pos.extend(0..length as u32);
            example.resize(pos.len(), e);
        }
        Ok(Tokens {
            count: pos.len(),
            ids: self.below(pos.len(), vocab)?,
            pos: self.ids(&pos)?,
            seg_start: self.ids(&start)?,
            example: self.ids(&example)?,
        })
    }
}

/// Lengths from `least` to `most`, cut at `total`.
pub fn lengths(stream: &mut Stream, total: usize, least: usize, most: usize) -> Vec<usize> {
    let mut list = Vec::new();
    let mut left = total;
    while left > 0 {
        let drawn = least + stream.below((most - least + 1) as u32) as usize;
        list.push(drawn.min(left));
        left -= drawn.min(left);
    }
    list
}
