//! The loop in which a kernel spends its time, in instructions: the cost of a change of its source, without a GPU.

use super::sass::{Next, Word};
use std::collections::{BTreeMap, BTreeSet};

/// Instructions of a kernel's main loop (machine code of sm_90a): of the smallest loop with a tensor-core product, else
/// of the largest loop; 0 without a loop. A loop is all that leads back to the target of a backward branch, waits for
/// barriers and slow paths included.
pub fn main(code: &[Word], product: impl Fn(&Word) -> bool) -> u32 {
    let loops = natural(code);
    let size = |body: &BTreeSet<usize>| body.len() as u32;
    let products = loops.values().filter(|body| body.iter().any(|&i| product(&code[i])));
    products.map(size).min().or_else(|| loops.values().map(size).max()).unwrap_or(0)
}

fn successors(code: &[Word], at: usize) -> Vec<usize> {
    let on = at as i64 + 1;
    let list = match code[at].next(at) {
        Next::End if code[at].always() => vec![],
        Next::Jump { to, always: true } => vec![to],
        Next::Jump { to, .. } => vec![on, to],
        Next::On | Next::End | Next::Call(_) | Next::Unknown => vec![on],
    };
    list.into_iter().filter_map(|to| usize::try_from(to).ok()).filter(|&to| to < code.len()).collect()
}

/// Loops by their first instructions: found by a walk in depth, as edges back to an instruction on its path.
fn natural(code: &[Word]) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut before = vec![Vec::new(); code.len()];
    let (mut seen, mut on_path) = (vec![false; code.len()], vec![false; code.len()]);
    let mut back = Vec::new();
    let mut path = Vec::new();
    let enter = |at: usize, seen: &mut Vec<bool>, on_path: &mut Vec<bool>| {
        (seen[at], on_path[at]) = (true, true);
        (at, successors(code, at).into_iter())
    };
    if !code.is_empty() {
        path.push(enter(0, &mut seen, &mut on_path));
    }
    while let Some((at, rest)) = path.last_mut() {
        let at = *at;
        let Some(to) = rest.next() else {
            on_path[at] = false;
            path.pop();
            continue;
        };
        before[to].push(at);
        if on_path[to] {
            back.push((at, to));
        } else if !seen[to] {
            path.push(enter(to, &mut seen, &mut on_path));
        }
    }
    let mut loops: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (end, head) in back {
        let body = loops.entry(head).or_insert_with(|| BTreeSet::from([head]));
        let mut found = vec![end];
        while let Some(at) = found.pop() {
            if body.insert(at) {
                found.extend(&before[at]);
            }
        }
    }
    loops
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nvdisasm lists the instructions of a loop that ends at `end` with a branch to `start`.
    fn branch(end: usize, start: usize, always: bool) -> Word {
        let distance = 4 * (start as i64 - end as i64 - 1);
        let (near, far) = (distance as u8, (distance >> 8) as u64 & ((1 << 48) - 1));
        Word(0x947 | if always { 0x7000 } else { 0 } | u128::from(near) << 16 | u128::from(far) << 34 | 7 << 87)
    }

    const PLAIN: Word = Word(0x7918);
    const PRODUCT: Word = Word(0x723c);

    fn main_of(code: &[Word]) -> u32 {
        main(code, |word| word.opcode() == 0x23c)
    }

    #[test]
    fn the_main_loop_is_counted() {
        let mut code = vec![PLAIN; 40];
        code[39] = Word(0x794d);
        assert_eq!(main_of(&code), 0);
        code[9] = branch(9, 4, false);
        assert_eq!(main_of(&code), 6);
        // a longer one behind it, and one around both
        code[20] = branch(20, 12, false);
        assert_eq!(main_of(&code), 9);
        code[30] = branch(30, 2, false);
        assert_eq!(main_of(&code), 29);
        // products outside of the inner loops make the outer one count, inside of one only that
        code[25] = PRODUCT;
        assert_eq!(main_of(&code), 29);
        code[5] = PRODUCT;
        assert_eq!(main_of(&code), 6);
        // a slow path behind the code that comes back into the loop belongs to it
        code[6] = branch(6, 35, false);
        code[34] = Word(0x794d);
        code[36] = branch(36, 8, true);
        assert_eq!(main_of(&code), 8);
    }
}
