//! Timing of asynchronous work on a device.
//!
//! A repeat queues as many calls as fill [`REPEAT`] and then waits for them by reading one value. This measures the
//! time per call of a busy device, without the latency of the wait. Inputs change from call to call, so that they are
//! not in a cache.

use super::case::Call;
use crate::backend::Backend;
use crate::error::Result;
use std::time::Instant;

/// The least duration of a repeat, in seconds.
const REPEAT: f64 = 0.02;
/// The largest number of calls of a repeat: the queue of the driver is finite.
const MOST: f64 = 500.0;

/// Seconds of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Of the median repeat.
    pub median: f64,
    /// Of the fastest repeat.
    pub min: f64,
    /// Of the slowest repeat.
    pub max: f64,
}

impl Times {
    /// Of at least one repeat.
    pub fn of(mut seconds: Vec<f64>) -> Times {
        seconds.sort_by(f64::total_cmp);
        let at = |i: usize| seconds.get(i).copied().unwrap_or(f64::NAN);
        let n = seconds.len();
        let median = if n % 2 == 1 { at(n / 2) } else { (at((n / 2).wrapping_sub(1)) + at(n / 2)) / 2.0 };
        Times { median, min: at(0), max: at(n.wrapping_sub(1)) }
    }
}

/// Times calls that do the same work, each on its own inputs. Each runs once beforehand to warm up, and once more to
/// find the number of calls of a repeat.
pub fn measure<B: Backend>(b: &B, calls: &mut [Call<B>], repeats: u32) -> Result<Times> {
    let one = b.alloc::<B::Stat>(1)?;
    let sets = calls.len();
    let mut turns = (0..sets).cycle();
    let mut repeat = |count: usize| -> Result<f64> {
        b.read(&one, &mut [B::Stat::default()])?;
        let start = Instant::now();
        for i in turns.by_ref().take(count) {
            calls[i](b)?;
        }
        b.read(&one, &mut [B::Stat::default()])?;
        Ok(start.elapsed().as_secs_f64() / count as f64)
    };
    repeat(sets)?;
    let count = (REPEAT / repeat(sets)?.max(1e-9)).clamp(1.0, MOST).ceil() as usize;
    (0..repeats).map(|_| repeat(count)).collect::<Result<_>>().map(Times::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Times::of(vec![3.0, 1.0, 2.0]), Times { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Times::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert!(Times::of(Vec::new()).median.is_nan());
    }

    #[test]
    fn inputs_take_turns_and_a_repeat_is_divided_by_its_calls() {
        let cpu = Cpu::<f32>::new(1).unwrap();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let call = |set: usize| -> Call<Cpu<f32>> {
            let seen = seen.clone();
            Box::new(move |_| {
                std::thread::sleep(Duration::from_millis(2));
                seen.borrow_mut().push(set);
                Ok(())
            })
        };
        let times = measure(&cpu, &mut [call(0), call(1), call(2)], 3).unwrap();
        // two rounds of three, then three repeats of at most 20 ms / 2 ms
        let order = seen.borrow();
        assert!(order.iter().enumerate().all(|(i, &set)| set == i % 3), "{order:?}");
        assert!((9..=36).contains(&order.len()), "{order:?}");
        assert!(times.min >= 0.002 && times.min <= times.median && times.median <= times.max, "{times:?}");
        // a repeat has four calls at least, however long the sleeps turn out
        assert!(times.min < 0.008, "{times:?} is that of a whole repeat");
    }
}
