//! Fixations by dispersion threshold (I-DT; Salvucci and Goldberg, "Identifying fixations and saccades in eye-tracking
//! protocols", ETRA 2000), as a stream.

use std::collections::VecDeque;

/// One valid gaze sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds, never decreasing within a stream.
    pub ms: f64,
    /// Pixels from the left edge of the screen; finite.
    pub x: f64,
    /// Pixels from its upper edge; finite.
    pub y: f64,
}

/// Definition of a fixation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Largest (max x - min x) + (max y - min y) of its samples, in pixels.
    pub dispersion_px: f64,
    /// Shortest time between its first and last sample, in milliseconds.
    pub min_ms: f64,
    /// Samples farther apart than this, in milliseconds, do not belong to one fixation.
    pub gap_ms: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { dispersion_px: 60.0, min_ms: 100.0, gap_ms: 60.0 }
    }
}

/// A run of samples that lie close together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fixation {
    /// Time of the first sample, milliseconds.
    pub start_ms: f64,
    /// Time of the last sample, milliseconds.
    pub end_ms: f64,
    /// Mean of the samples, pixels.
    pub x: f64,
    /// Mean of the samples, pixels.
    pub y: f64,
}

impl Fixation {
    /// From first to last sample, milliseconds.
    pub fn ms(&self) -> f64 {
        self.end_ms - self.start_ms
    }
}

/// Finds fixations in a stream of samples. It takes the longest window from its first sample whose dispersion stays
/// within the threshold. If the window lasts long enough, it is a fixation and the next window begins after it;
/// otherwise the next window begins one sample later. Time and memory are linear in the number of samples, at any
/// sampling rate.
pub struct Detector {
    thresholds: Thresholds,
    /// The samples of the window; their indices in the stream count from `first`.
    window: VecDeque<Sample>,
    first: u64,
    /// Candidates for the extremes of x, -x, y, -y, each as (index in the stream, value), with falling values.
    extremes: [VecDeque<(u64, f64)>; 4],
}

impl Detector {
    /// A detector at the start of a stream.
    pub fn new(thresholds: Thresholds) -> Detector {
        Detector { thresholds, window: VecDeque::new(), first: 0, extremes: Default::default() }
    }

    /// Takes the next sample. Returns the fixation that ended before it, if one did.
    pub fn push(&mut self, sample: Sample) -> Option<Fixation> {
        let mut ended = None;
        if self.window.back().is_some_and(|last| sample.ms - last.ms > self.thresholds.gap_ms) {
            ended = self.finish();
        }
        while !self.window.is_empty() && self.dispersion_with(sample) > self.thresholds.dispersion_px {
            // After dropping the first sample the rest is shorter still, so it needs no check of its own.
            match self.finished() {
                Some(fixation) => {
                    self.clear();
                    ended = Some(fixation);
                }
                None => self.drop_first(),
            }
        }
        self.add(sample);
        ended
    }

    /// Ends the stream (or a part of it that fixations do not cross). Returns the open fixation, if any.
    pub fn finish(&mut self) -> Option<Fixation> {
        let fixation = self.finished();
        self.clear();
        fixation
    }

    /// The window as a fixation, if it lasts long enough.
    fn finished(&self) -> Option<Fixation> {
        let (first, last) = (self.window.front()?, self.window.back()?);
        if last.ms - first.ms < self.thresholds.min_ms {
            return None;
        }
        let n = self.window.len() as f64;
        let sum = self.window.iter().fold((0.0, 0.0), |(x, y), s| (x + s.x, y + s.y));
        Some(Fixation { start_ms: first.ms, end_ms: last.ms, x: sum.0 / n, y: sum.1 / n })
    }

    /// (max x - min x) + (max y - min y) of the window and one more sample.
    fn dispersion_with(&self, sample: Sample) -> f64 {
        let most = |i: usize, v: f64| self.extremes[i].front().map_or(v, |e| e.1.max(v));
        most(0, sample.x) + most(1, -sample.x) + most(2, sample.y) + most(3, -sample.y)
    }

    fn add(&mut self, sample: Sample) {
        let at = self.first + self.window.len() as u64;
        for (list, value) in self.extremes.iter_mut().zip([sample.x, -sample.x, sample.y, -sample.y]) {
            while list.back().is_some_and(|e| e.1 <= value) {
                list.pop_back();
            }
            list.push_back((at, value));
        }
        self.window.push_back(sample);
    }

    fn drop_first(&mut self) {
        self.window.pop_front();
        self.first += 1;
        for list in &mut self.extremes {
            while list.front().is_some_and(|e| e.0 < self.first) {
                list.pop_front();
            }
        }
    }

    fn clear(&mut self) {
        self.first += self.window.len() as u64;
        self.window.clear();
        self.extremes.iter_mut().for_each(VecDeque::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn detect(thresholds: Thresholds, samples: &[Sample]) -> Vec<Fixation> {
        let mut detector = Detector::new(thresholds);
        let mut list: Vec<Fixation> = samples.iter().filter_map(|&s| detector.push(s)).collect();
        list.extend(detector.finish());
        list
    }

    /// Samples every 20 ms.
    fn every_20(points: &[(f64, f64)]) -> Vec<Sample> {
        points.iter().enumerate().map(|(i, &(x, y))| Sample { ms: 20.0 * i as f64, x, y }).collect()
    }

    #[test]
    fn two_fixations_and_a_saccade_by_hand() {
        // six samples around (12, 20): 0 to 100 ms; one in flight; seven at (310, 40): 140 to 260 ms
        let mut points = vec![(10.0, 20.0), (12.0, 20.0), (14.0, 20.0), (10.0, 20.0), (12.0, 20.0), (14.0, 20.0)];
        points.push((160.0, 30.0));
        points.extend([(310.0, 40.0); 7]);
        let found = detect(Thresholds::default(), &every_20(&points));
        let first = Fixation { start_ms: 0.0, end_ms: 100.0, x: 12.0, y: 20.0 };
        let second = Fixation { start_ms: 140.0, end_ms: 260.0, x: 310.0, y: 40.0 };
        assert_eq!(found, [first, second]);
        assert_eq!(found[1].ms(), 120.0);
    }

    #[test]
    fn thresholds_belong_to_the_fixation() {
        let fixations = |points: &[(f64, f64)]| detect(Thresholds::default(), &every_20(points)).len();
        // 100 ms is enough, 80 ms is not
        assert_eq!((fixations(&[(0.0, 0.0); 6]), fixations(&[(0.0, 0.0); 5])), (1, 0));
        // dispersion adds both directions: 30 + 30 is within, 30 + 31 is not
        let spread = |y: f64| [(0.0, 0.0), (30.0, 0.0), (30.0, y), (0.0, y), (0.0, 0.0), (9.0, 9.0)];
        assert_eq!((fixations(&spread(30.0)), fixations(&spread(31.0))), (1, 0));
    }

    #[test]
    fn a_gap_ends_a_fixation() {
        let at = |times: &[f64]| -> Vec<Sample> { times.iter().map(|&ms| Sample { ms, x: 5.0, y: 5.0 }).collect() };
        let times = |list: &[Fixation]| list.iter().map(|f| (f.start_ms, f.end_ms)).collect::<Vec<_>>();
        let whole = detect(Thresholds::default(), &at(&[0.0, 50.0, 110.0, 160.0, 210.0]));
        assert_eq!(times(&whole), [(0.0, 210.0)]);
        let split = detect(Thresholds::default(), &at(&[0.0, 50.0, 100.0, 161.0, 210.0, 261.0]));
        assert_eq!(times(&split), [(0.0, 100.0), (161.0, 261.0)]);
        assert_eq!(times(&detect(Thresholds::default(), &at(&[0.0, 50.0, 111.0, 150.0]))), []);
    }

    #[test]
    fn a_slow_drift_is_cut_where_the_window_is_full() {
        // 10 px per sample: seven samples span 60 px and 120 ms
        let points: Vec<_> = (0..14).map(|i| (10.0 * f64::from(i), 0.0)).collect();
        let found = detect(Thresholds::default(), &every_20(&points));
        assert_eq!(found.iter().map(|f| f.x).collect::<Vec<_>>(), [30.0, 100.0]);
        // 15 px per sample: five samples span 60 px but only 80 ms, so there is never a fixation
        let points: Vec<_> = (0..30).map(|i| (15.0 * f64::from(i), 0.0)).collect();
        assert_eq!(detect(Thresholds::default(), &every_20(&points)), []);
    }

    /// The definition without any bookkeeping: quadratic.
    fn by_definition(t: Thresholds, samples: &[Sample]) -> Vec<Fixation> {
        let (mut list, mut i) = (Vec::new(), 0);
        while i < samples.len() {
            let mut end = i + 1;
            while end < samples.len() && samples[end].ms - samples[end - 1].ms <= t.gap_ms {
                let window = &samples[i..=end];
                let extent = |f: fn(&Sample) -> f64| {
                    let values = || window.iter().map(f);
                    values().fold(f64::MIN, f64::max) - values().fold(f64::MAX, f64::min)
                };
                if extent(|s| s.x) + extent(|s| s.y) > t.dispersion_px {
                    break;
                }
                end += 1;
            }
            let window = &samples[i..end];
            if samples[end - 1].ms - samples[i].ms >= t.min_ms {
                let mean = |f: fn(&Sample) -> f64| window.iter().map(f).sum::<f64>() / window.len() as f64;
                let (start_ms, end_ms) = (samples[i].ms, samples[end - 1].ms);
                list.push(Fixation { start_ms, end_ms, x: mean(|s| s.x), y: mean(|s| s.y) });
                i = end;
            } else {
                i += 1;
            }
        }
        list
    }

    proptest! {
        #[test]
        fn the_stream_finds_what_the_definition_finds(
            steps in proptest::collection::vec((0u8..40, -9i8..10, -9i8..10), 0..400),
            dispersion_px in 5.0..80.0, min_ms in 0.0..200.0, gap_ms in 5.0..60.0,
        ) {
            let (mut ms, mut x, mut y) = (0.0, 0.0, 0.0);
            let samples: Vec<Sample> = steps.iter().map(|&(dt, dx, dy)| {
                // whole pixels, so that sums in any order are the same bits
                (ms, x, y) = (ms + f64::from(dt), x + f64::from(dx), y + f64::from(dy));
                Sample { ms, x, y }
            }).collect();
            let t = Thresholds { dispersion_px, min_ms, gap_ms };
            prop_assert_eq!(detect(t, &samples), by_definition(t, &samples));
        }
    }
}
