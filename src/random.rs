//! Counter-based random numbers: a pure function of (key, counter), so that a stream does not depend on threads,
//! packing, batch order or the step at which a run was resumed.
//!
//! Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Four independent uniform 32-bit words for one counter and key.
pub fn philox(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [mut k0, mut k1] = key;
    let mut c = counter;
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIER[0]) * u64::from(c[0]);
        let p1 = u64::from(MULTIPLIER[1]) * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    c
}

/// The purpose of a stream, which separates the streams of one seed.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Order of the examples in an epoch.
    Shuffle = 1,
    /// Initial values of a model made from scratch.
    Init = 2,
    /// Initial values of an adapter.
    Adapter = 3,
    /// Pseudo scan paths.
    Path = 4,
    /// Inputs of a benchmark.
    Bench = 5,
    /// Tokens drawn by a generation.
    Sample = 6,
    /// The stretch of code that a completion leaves out.
    Cut = 7,
    /// Shuffled references of an evaluation.
    Panel = 8,
    /// Signs of a permutation test.
    Signs = 9,
    /// Weights exchanged within an example (the arm shuffled).
    Shuffled = 10,
    /// Weights exchanged within a file (the arm random-matched).
    Matched = 11,
    /// Labels exchanged (the arm shuffled-labels).
    Labels = 12,
}

/// Two words as a number in the open interval (0, 1), 53 bits.
pub fn unit(a: u32, b: u32) -> f64 {
    let bits = (u64::from(a) << 21) ^ u64::from(b >> 11);
    (bits as f64 + 0.5) / (1u64 << 53) as f64
}

/// A sequential reader of one stream, for host code.
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream `index` (an epoch, a tensor) of a seed and purpose.
    pub fn new(seed: u64, purpose: Purpose, index: u32) -> Stream {
        let key = [seed as u32, (seed >> 32) as u32];
        Stream { key, counter: [0, index, purpose as u32, 0], block: [0; 4], used: 4 }
    }

    /// The same stream, starting at its `block`-th group of four words; a normal value uses a whole group.
    pub fn from_block(&self, block: u32) -> Stream {
        let [_, index, purpose, rest] = self.counter;
        Stream { key: self.key, counter: [block, index, purpose, rest], block: [0; 4], used: 4 }
    }

    /// The next uniform word.
    pub fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.key, self.counter);
            self.counter[0] += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in the open interval (0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        unit(self.word(), self.word())
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in `0..n` without bias (rejection).
    pub fn below(&mut self, n: u32) -> u32 {
        let limit = u32::MAX - u32::MAX % n;
        loop {
            let word = self.word();
            if word < limit {
                return word % n;
            }
        }
    }

    /// A permutation of `0..n` (Fisher and Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u32 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 2], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        assert_eq!(philox([ones; 2], [ones; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn a_stream_goes_on_from_any_block() {
        let mut whole = Stream::new(3, Purpose::Init, 5);
        let values: Vec<f64> = (0..50).map(|_| whole.normal()).collect();
        let mut rest = Stream::new(3, Purpose::Init, 5).from_block(17);
        assert!(values[17..].iter().all(|x| *x == rest.normal()));
    }

    #[test]
    fn a_stream_is_uniform_and_repeats() {
        let mean = |seed| {
            let mut s = Stream::new(seed, Purpose::Init, 0);
            (0..10_000).map(|_| s.uniform()).sum::<f64>() / 1e4
        };
        assert!((mean(1) - 0.5).abs() < 0.02);
        assert_eq!(mean(1), mean(1));
        assert_ne!(mean(1), mean(2));
        let mut order = Stream::new(7, Purpose::Shuffle, 0).permutation(100);
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
