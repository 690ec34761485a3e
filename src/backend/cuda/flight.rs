//! Registers that a kernel touches while a product that uses them is under way.
//!
//! `wgmma` returns before it has read its left operand and written its sums. Until a wait, no other instruction may
//! touch the sums or write the operand; before a product, a fence follows the writes of its registers. Where a compiler
//! breaks these rules, results are wrong without a message. So machine code is walked here along every path, loops
//! included, with the products that may be under way at each instruction. What cannot be decided counts against the
//! kernel: an unknown instruction while a product is under way, an unknown branch.

use super::sass::{Effect, Next, Range, Registers, Word};
use std::collections::BTreeSet;

/// Batches that are told apart; the last holds all older ones, too.
const BATCHES: usize = 4;

/// Products that may be under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Batch {
    sums: BTreeSet<Range>,
    left: BTreeSet<Range>,
}

impl Batch {
    fn join(&mut self, other: &Batch) {
        self.sums.extend(&other.sums);
        self.left.extend(&other.left);
    }
}

/// What may be true in front of an instruction, whichever way led there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    /// Products not yet committed.
    open: Batch,
    /// Committed batches, the latest first.
    batches: [Batch; BATCHES],
    /// Registers written since the last fence.
    written: Registers,
}

impl State {
    fn join(&mut self, other: &State) {
        self.open.join(&other.open);
        for (mine, theirs) in self.batches.iter_mut().zip(&other.batches) {
            mine.join(theirs);
        }
        self.written = self.written.and(other.written);
    }

    /// All products under way: their sums, their left operands.
    fn flying(&self) -> Batch {
        let mut all = self.open.clone();
        self.batches.iter().for_each(|batch| all.join(batch));
        all
    }

    /// The state behind an instruction that is executed.
    fn after(&self, effect: Effect) -> State {
        let mut state = self.clone();
        match effect {
            Effect::Plain { writes, .. } => state.written = state.written.and(writes),
            Effect::Product { sums, left, commits } => {
                state.open.sums.insert(sums);
                state.open.left.extend(left);
                if commits {
                    let oldest = std::mem::take(&mut state.batches[BATCHES - 1]);
                    state.batches.rotate_right(1);
                    state.batches[BATCHES - 1].join(&oldest);
                    state.batches[0] = std::mem::take(&mut state.open);
                }
            }
            // a wait for more batches than are told apart leaves all of them
            Effect::Wait(n) if n < BATCHES => state.batches[n..].fill(Batch::default()),
            Effect::Wait(_) => {}
            Effect::Fence => state.written = Registers::default(),
            Effect::Unknown => state.written = Registers::ALL,
        }
        state
    }

    /// What is wrong with an instruction in this state.
    fn objection(&self, word: Word, next: Next) -> Option<String> {
        let flying = self.flying();
        let sums = union(&flying.sums);
        let left = union(&flying.left);
        let nothing = flying == Batch::default();
        match (word.effect(), next) {
            (_, Next::Unknown) => Some("branches in an unknown way".into()),
            (_, Next::End | Next::Call(_)) if !nothing => Some("leaves while a product is under way".into()),
            (Effect::Unknown, _) if !nothing => Some("is unknown, and a product is under way".into()),
            (Effect::Plain { reads, writes }, _) => {
                let touched = sums.shared(reads.and(writes)).map(|r| format!("touches R{r}, a sum under way"));
                touched.or_else(|| left.shared(writes).map(|r| format!("writes R{r}, an operand under way")))
            }
            (Effect::Product { sums: own, left: a, .. }, _) => {
                // products into the same sums follow one another
                let others = union(flying.sums.iter().filter(|&&range| range != own));
                let (own, a) = (Registers::range(own), a.map(Registers::range).unwrap_or_default());
                let found = others.shared(own).or(sums.shared(a)).or(left.shared(own));
                let found = found.map(|r| format!("uses R{r} of another product under way"));
                found.or_else(|| self.written.shared(own.and(a)).map(|r| format!("uses R{r} without a fence")))
            }
            _ => None,
        }
    }
}

fn union<'a>(ranges: impl IntoIterator<Item = &'a Range>) -> Registers {
    ranges.into_iter().fold(Registers::default(), |all, &range| all.and(Registers::range(range)))
}

/// What is wrong with a kernel of sm_90a: a sentence for each instruction that touches what a product under way uses.
pub fn hazards(code: &[Word]) -> Vec<String> {
    if !code.iter().any(|word| matches!(word.effect(), Effect::Product { .. })) {
        return Vec::new();
    }
    let mut hazards = Vec::new();
    // where threads meet, they go on behind the BSYNC: the next instruction, if that is where its BSSY meant them to
    let meetings: BTreeSet<(i64, u8)> =
        code.iter().enumerate().filter_map(|(i, word)| Some((word.meeting(i)?, word.barrier()))).collect();
    let mut states: Vec<Option<State>> = vec![None; code.len()];
    let mut changed = vec![(0usize, State::default())];
    while let Some((at, state)) = changed.pop() {
        let Some(word) = code.get(at) else {
            hazards.push("its code runs past its end".into());
            continue;
        };
        let joined = match &states[at] {
            Some(known) => {
                let mut joined = known.clone();
                joined.join(&state);
                if joined == *known {
                    continue;
                }
                joined
            }
            None => state,
        };
        let mut after = joined.after(word.effect());
        if !word.always() {
            after.join(&joined);
        }
        states[at] = Some(joined);
        let mut go = |to: i64, state: State| match usize::try_from(to) {
            Ok(to) => changed.push((to, state)),
            Err(_) => hazards.push("a branch leads out of its code".into()),
        };
        let on = at as i64 + 1;
        match word.next(at) {
            Next::On | Next::Unknown => go(on, after),
            Next::End if word.always() => {}
            Next::End => go(on, after),
            Next::Jump { to, always } => {
                go(to, after.clone());
                if !always {
                    go(on, after);
                }
            }
            Next::Call(to) => {
                go(to, after.clone());
                after.written = Registers::ALL;
                go(on, after);
            }
        }
    }
    for (i, (word, state)) in code.iter().zip(&states).enumerate() {
        let Some(state) = state else { continue };
        let wanders = word.opcode() == 0x941 && !meetings.contains(&(i as i64 + 1, word.barrier()));
        let objection = state.objection(*word, word.next(i));
        let objection = objection.or_else(|| wanders.then(|| "meets threads in an unknown way".into()));
        hazards.extend(objection.map(|why| format!("instruction {:#x} at {:#x} {why}", word.opcode(), 16 * i)));
    }
    hazards
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tests/fixtures/cubins/flight.sm90.cu; addresses below are those of nvdisasm's listing.
    const CUBIN: &[u8] = include_bytes!("../../../tests/fixtures/cubins/flight.sm90.sm_90a.cubin");

    /// Its code, found by its first instruction, LDC R1, c[0x0][0x28].
    fn code() -> Vec<Word> {
        let first = 0x0000_0a00_ff01_7b82u64.to_le_bytes();
        let at = CUBIN.windows(8).position(|bytes| bytes == first).expect("its code");
        CUBIN[at..at + 0x300].chunks_exact(16).map(Word::read).collect()
    }

    /// What is said if the instruction at this address had other bits there.
    fn changed(at: usize, from: u32, count: u32, bits: u128) -> Vec<String> {
        let mut code = code();
        let mask = (1 << count) - 1;
        code[at / 16].0 = code[at / 16].0 & !(mask << from) | bits << from;
        hazards(&code)
    }

    #[test]
    fn a_right_kernel_has_no_hazard() {
        assert_eq!(hazards(&code()), [""; 0]);
        assert_eq!(hazards(&[]), [""; 0]);
    }

    #[test]
    fn a_missing_wait_is_seen() {
        let nop = |at| changed(at, 0, 12, 0x918);
        let sums = |at: [u32; 4], opcode: &str| at.map(|at| format!("instruction {opcode} at {at:#x} touches"));
        let begins = |found: Vec<String>, expected: [String; 4]| {
            assert!(found.len() >= 4, "{found:?}");
            found.iter().zip(expected).for_each(|(found, expected)| assert!(found.starts_with(&expected), "{found}"));
        };
        begins(nop(0x1a0), sums([0x1b0, 0x1c0, 0x1d0, 0x1e0], "0x220"));
        // behind the loop, where products are under way from its last round
        let after = nop(0x260);
        assert!(after[0].starts_with("instruction 0x221 at 0x270 touches R24, a sum under way"), "{after:?}");
        assert_eq!(
            after.last().map(String::as_str),
            Some("instruction 0x94d at 0x2e0 leaves while a product is under way")
        );
        // a wait for one batch too few, and for more than are told apart
        assert!(!changed(0x1a0, 72, 8, 1).is_empty() && !changed(0x1a0, 72, 8, 9).is_empty());
    }

    #[test]
    fn a_missing_fence_is_seen() {
        assert_eq!(changed(0x140, 0, 12, 0x918), ["instruction 0xdf0 at 0x170 uses R36 without a fence"]);
        assert_eq!(changed(0x230, 0, 12, 0x918), ["instruction 0xdf0 at 0x240 uses R28 without a fence"]);
    }

    #[test]
    fn products_under_way_are_followed_around_the_loop() {
        // the load at the top of the loop, into the operand of the last round's product, and into its sums
        assert_eq!(changed(0x130, 16, 8, 28), ["instruction 0x981 at 0x130 writes R28, an operand under way"]);
        assert_eq!(changed(0x130, 16, 8, 24)[0], "instruction 0x981 at 0x130 touches R24, a sum under way");
        // a product whose sums are a part of the other's
        assert!(changed(0x170, 16, 8, 26).iter().any(|why| why.contains("at 0x170 ")));
    }

    #[test]
    fn what_cannot_be_decided_counts() {
        let unknown = changed(0x150, 0, 12, 0xfff);
        assert_eq!(unknown[0], "instruction 0xfff at 0x150 is unknown, and a product is under way");
        assert_eq!(unknown[1..], ["instruction 0xdf0 at 0x170 uses R32 without a fence"]);
        assert_eq!(changed(0x150, 0, 12, 0x949)[0], "instruction 0x949 at 0x150 branches in an unknown way");
        // nothing is under way in front of the loop, but the register that it may write needs a fence, which follows
        assert_eq!(changed(0x110, 0, 12, 0xfff), [""; 0]);
        assert!(changed(0x250, 64, 18, 0).iter().any(|why| why.contains("past its end")));
    }
}
