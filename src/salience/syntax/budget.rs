//! Limits on the work of a parse.
//!
//! Parsing valid code takes steps and reads in proportion to its length. Error recovery can need more: it can search
//! for the end of a comment to the end of the file many times, or try thousands of reductions for one token. Such code
//! is refused.
//!
//! Steps and reads are counted, so that a refusal does not depend on the machine. The cost of a single step cannot be
//! counted, only timed, and a step that uses much memory also takes time. Time above an allowance therefore adds to a
//! debt, time below it reduces the debt, and the debt has a limit. Ordinary code takes a fiftieth of the allowance,
//! broken code a tenth; a single long pause (a busy machine, a stopped process) does not reach the limit.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Steps between two calls of [`Budget::step`], as chosen by the parser.
const STEPS_PER_CALL: u64 = 100;
/// Parsing takes 1 to 10 steps a byte.
const STEPS_PER_BYTE: u64 = 100;
/// Bytes per read.
const CHUNK: usize = 16 << 10;
/// A chunk is read 1 to 10 times: if two readings of the code meet in it, each of them reads it.
const READS_PER_CHUNK: u64 = 100;
/// Calls that every parse may use, however short the code.
const CALLS_AT_LEAST: u64 = 1000;
const READS_AT_LEAST: u64 = 1000;
/// Time that a hundred steps may take without adding to the debt.
const ALLOWANCE: Duration = Duration::from_millis(2);
/// The largest amount that one pause adds.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const MOST_DEBT: Duration = Duration::from_secs(1);

/// The largest number of angle brackets that may be open at once. In Java and C#, `a<b` may begin a type or a
/// comparison. The parser keeps both readings of every open bracket and lists all of them at the end of the code, in a
/// single step whose memory is quadratic in their number: 5 GB for 50 kB of `a<a<a<`.
const MOST_OPEN_ANGLES: usize = 1500;

/// Whether more angle brackets are open between statement boundaries than the parser can handle. `<<` and `<=` do not
/// count.
pub(super) fn too_many_angles(code: &[u8]) -> bool {
    let (mut open, mut before) = (0usize, 0);
    code.iter().any(|&byte| {
        match byte {
            b'<' if before == b'<' => open = open.saturating_sub(1),
            b'=' if before == b'<' => open = open.saturating_sub(1),
            b'<' => open += 1,
            b'>' => open = open.saturating_sub(1),
            b';' | b'{' | b'}' => open = 0,
            _ => {}
        }
        before = if byte == b'<' && before == b'<' { 0 } else { byte };
        open > MOST_OPEN_ANGLES
    })
}

/// The remaining budget of a parse.
pub(super) struct Budget {
    calls: Cell<u64>,
    most_calls: u64,
    reads: Cell<u64>,
    most_reads: u64,
    debt: Cell<Duration>,
    last: Cell<Instant>,
}

impl Budget {
    /// The budget for code of this many bytes.
    pub fn of(bytes: usize) -> Budget {
        let bytes = bytes as u64;
        Budget {
            calls: Cell::new(0),
            most_calls: CALLS_AT_LEAST + bytes * STEPS_PER_BYTE / STEPS_PER_CALL,
            reads: Cell::new(0),
            most_reads: READS_AT_LEAST + bytes / CHUNK as u64 * READS_PER_CHUNK,
            debt: Cell::new(Duration::ZERO),
            last: Cell::new(Instant::now()),
        }
    }

    /// Counts a hundred steps; returns whether to continue.
    pub fn step(&self) -> bool {
        self.calls.set(self.calls.get() + 1);
        let now = Instant::now();
        self.owe(now.duration_since(self.last.replace(now)));
        !self.is_spent()
    }

    fn owe(&self, taken: Duration) {
        self.debt.set((self.debt.get() + taken.min(LONGEST_PAUSE)).saturating_sub(ALLOWANCE));
    }

    /// The next chunk of the remaining code. It also returns code when the budget is spent: the parser reads again if a
    /// chunk ends inside a character, and crashes if it then gets nothing.
    pub fn read<'c>(&self, rest: &'c [u8]) -> &'c [u8] {
        self.reads.set(self.reads.get() + 1);
        &rest[..rest.len().min(CHUNK)]
    }

    pub fn is_spent(&self) -> bool {
        self.calls.get() > self.most_calls || self.reads.get() > self.most_reads || self.is_late()
    }

    /// Whether the budget is spent because single steps took too long.
    pub fn is_late(&self) -> bool {
        self.debt.get() > MOST_DEBT
    }

    /// Steps taken, in hundreds, rounded up.
    pub fn steps(&self) -> u64 {
        (self.calls.get() + 1) * STEPS_PER_CALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_reads_are_bounded_by_the_length() {
        let budget = Budget::of(50_000);
        assert!((0..51_000).all(|_| budget.step()) && !budget.step());
        assert_eq!(budget.steps(), 5_100_200);
        let budget = Budget::of(3 * CHUNK);
        let code = vec![b'x'; 3 * CHUNK];
        assert!((0..1300).all(|_| budget.read(&code).len() == CHUNK));
        assert!(!budget.is_spent() && budget.read(&code).len() == CHUNK);
        assert!(budget.is_spent() && !budget.step());
    }

    #[test]
    fn open_angle_brackets_are_counted() {
        let n = MOST_OPEN_ANGLES;
        let many = |piece: &str, times: usize| too_many_angles(piece.repeat(times).as_bytes());
        assert!(!many("a<", n) && many("a<", n + 1) && many("<b<c", n));
        assert!(!many("a<b>", 2 * n) && !many("1 << 2, ", 2 * n) && !many("a <= b, ", 2 * n) && !many("a < b;", 2 * n));
    }

    #[test]
    fn slow_steps_make_a_debt_and_fast_ones_pay_it_off() {
        let ms = Duration::from_millis;
        let budget = Budget::of(1 << 20);
        // a pause of an hour, five times, with fast steps between
        for _ in 0..5 {
            budget.owe(Duration::from_secs(3600));
            (0..99).for_each(|_| budget.owe(Duration::ZERO));
            assert!(!budget.is_spent());
        }
        (0..100_000).for_each(|_| budget.owe(Duration::from_micros(1990)));
        assert_eq!(budget.debt.get(), Duration::ZERO);
        (0..100).for_each(|_| budget.owe(ms(12)));
        assert!(!budget.is_spent());
        budget.owe(ms(12));
        assert!(budget.is_spent());
    }
}
