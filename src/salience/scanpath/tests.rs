use super::super::Label::*;
use super::*;

const KEY: Key = Key { seed: 7, example: 11, epoch: 0 };

/// `n` tokens with random labels and lines, some without a label.
fn random_spans(n: usize, seed: u64) -> Vec<Span> {
    let mut stream = Stream::new(seed, Purpose::Init, 0);
    let mut line = 0;
    let mut span = |i| {
        line += u32::from(stream.below(6) == 0) * stream.below(4);
        // squared, so that a few labels are common
        let id = (stream.uniform().powi(2) * 21.0) as u8;
        Span { start: i, end: i + 1, label: Label::from_id(id), line }
    };
    (0..n).map(&mut span).collect()
}

fn spans(labels: &[Label], lines: &[u32]) -> Vec<Span> {
    let both = labels.iter().zip(lines).enumerate();
    both.map(|(i, (&label, &line))| Span { start: i, end: i + 1, label: Some(label), line }).collect()
}

fn of_label(counts: &[(Label, usize)]) -> [usize; 20] {
    let mut array = [0; 20];
    counts.iter().for_each(|&(label, n)| array[label as usize - 1] = n);
    array
}

/// Three labels with rates 0.6, 0.3, 0.1.
fn share(total: usize, [a, b, c]: [usize; 3]) -> [usize; 3] {
    let mut rate = [0.0; 20];
    (rate[0], rate[1], rate[2]) = (0.6, 0.3, 0.1);
    let quota = quotas(total, of_label(&[(Argument, a), (Assignment, b), (Comment, c)]), rate);
    assert!(quota[3..].iter().all(|&q| q == 0));
    [quota[0], quota[1], quota[2]]
}

#[test]
fn quotas_by_hand() {
    assert_eq!(share(10, [100, 100, 100]), [6, 3, 1]);
    // dues 4.2, 2.1, 0.7: one token is left and goes to the largest remainder
    assert_eq!(share(7, [10, 10, 10]), [4, 2, 1]);
    // n_s matters: 0.6 * 10, 0.3 * 30, 0.1 * 10 of 16 -> 3.0, 4.5, 0.5 of 8; of equal remainders, the smaller id
    assert_eq!(share(8, [10, 30, 10]), [3, 5, 0]);
    // dues 2.5, 12.5, 25: argument is full at 2, and of the other 38 a third and two thirds are 12.67 and 25.33
    assert_eq!(share(40, [2, 20, 120]), [2, 13, 25]);
    // labels become full one after the other
    assert_eq!(share(28, [1, 10, 50]), [1, 10, 17]); // dues 1.95, 9.77, 16.3; then 10.1, 16.9
    assert_eq!(share(99, [1, 3, 6]), [1, 3, 6]);
    assert_eq!(share(0, [1, 3, 6]), [0, 0, 0]);
    assert_eq!(share(5, [0, 0, 0]), [0, 0, 0]);
    // a label without data gets no tokens, however many there are
    assert_eq!(quotas(5, of_label(&[(Loop, 9)]), [0.0; 20]), [0; 20]);
}

#[test]
fn quotas_always_add_up() {
    let mut stream = Stream::new(3, Purpose::Init, 1);
    for _ in 0..20_000 {
        let tokens: [usize; 20] = std::array::from_fn(|_| (stream.uniform().powi(3) * 40.0) as usize);
        let rate: [f64; 20] = std::array::from_fn(|_| if stream.below(9) == 0 { 0.0 } else { stream.uniform() });
        let able: usize = tokens.iter().zip(rate).filter(|(_, r)| *r > 0.0).map(|(n, _)| n).sum();
        let total = stream.below(200) as usize;
        let quota = quotas(total, tokens, rate);
        assert_eq!(quota.iter().sum::<usize>(), total.min(able));
        assert!(quota.iter().zip(tokens).all(|(q, n)| *q <= n));
    }
}

#[test]
fn segments_by_hand() {
    let labels = [Loop, Loop, Comment, Loop, Loop, Parameter, Loop];
    let valid = |n: &[Label]| n == [Loop, Loop, Loop] || n == [Loop, Loop] || n == [Parameter, Loop];
    let cut = |lines: &[u32], mask: &[bool], max_lines| -> Vec<Vec<usize>> {
        let segments = segment(&spans(&labels, lines), mask, max_lines, valid);
        segments.iter().map(|s| s.places().to_vec()).collect()
    };
    let near = [0, 0, 1, 1, 2, 2, 2];
    // token 2 is not on the path, so that 0, 1, 3 are neighbours on it
    let mask = [true, true, false, true, true, true, true];
    assert_eq!(cut(&near, &mask, 4), [vec![0, 1, 3], vec![4], vec![5, 6]]);
    // the trigram spans 1 line, which is too much for L = 0: a bigram, and the following segments shift
    assert_eq!(cut(&near, &mask, 0), [vec![0, 1], vec![3], vec![4], vec![5, 6]]);
    assert_eq!(cut(&[0, 0, 4, 4, 5, 5, 5], &mask, 4)[0], [0, 1, 3]);
    assert_eq!(cut(&[0, 0, 5, 5, 5, 5, 5], &mask, 4)[..2], [vec![0, 1], vec![3, 4]]);
    assert_eq!(cut(&near, &[true; 7], 4), [vec![0, 1], vec![2], vec![3, 4], vec![5, 6]]);
    assert_eq!(cut(&near, &[false; 7], 4), Vec::<Vec<usize>>::new());
    assert_eq!(cut(&near, &[], 4), Vec::<Vec<usize>>::new());
    // a token without a label is a segment of its own
    let mut bare = spans(&labels, &near);
    bare[1].label = None;
    let segments = segment(&bare, &mask, 4, |_| true);
    assert_eq!(segments.iter().map(|s| s.places().len()).collect::<Vec<_>>(), [1, 1, 3, 1]);
    assert_eq!((segments[1].ngram(&bare), segments[3].ngram(&bare)), (None, Some(vec![Loop])));
}

#[test]
fn the_same_key_gives_the_same_path_and_another_another() {
    let priors = Priors::builtin("combined").unwrap();
    let code = random_spans(300, 1);
    let draw = |mode, dynamic, key| ScanPath::draw(&code, &priors, &PathSettings { mode, dynamic, max_lines: 4 }, key);
    for mode in [Mode::Paper, Mode::Artifact] {
        let fixed = draw(mode, false, KEY);
        assert_eq!(fixed, draw(mode, false, KEY));
        let later = Key { epoch: 1, ..KEY };
        assert_eq!(fixed, draw(mode, false, later));
        assert_eq!(fixed, draw(mode, true, KEY));
        assert_ne!(fixed, draw(mode, true, later));
        for other in [Key { seed: 8, ..KEY }, Key { example: 12, ..KEY }, Key { example: 11 | 1 << 32, ..KEY }] {
            assert_ne!(fixed, draw(mode, false, other));
        }
        assert_ne!(draw(mode, false, Key { seed: 1 << 32, ..KEY }), draw(mode, false, Key { seed: 0, ..KEY }));
        // neither threads nor the order of examples matter
        let here: Vec<_> = (0..8).map(|example| draw(mode, false, Key { example, ..KEY })).collect();
        let there: Vec<_> = std::thread::scope(|scope| {
            let draw = &draw;
            let workers: Vec<_> =
                (0..8).rev().map(|example| scope.spawn(move || draw(mode, false, Key { example, ..KEY }))).collect();
            workers.into_iter().rev().map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(here, there);
    }
}

/// A change of this value changes every recorded run.
#[test]
fn the_path_of_a_key_is_pinned() {
    let priors = Priors::builtin("combined").unwrap();
    let code = random_spans(40, 5);
    let places =
        |mode| -> Vec<usize> { (0..40).zip(mask(&code, &priors, mode, KEY)).filter(|x| x.1).map(|x| x.0).collect() };
    assert_eq!(places(Mode::Paper), [5, 6, 7, 12, 14, 15, 21, 25, 27, 29, 30, 31, 34, 39]);
    assert_eq!(places(Mode::Artifact), [6, 12, 31, 39]);
}

#[test]
fn segments_cover_the_mask_once_for_any_input() {
    let priors = Priors::builtin("writing").unwrap();
    for seed in 0..300 {
        let code = random_spans(seed as usize % 90, seed);
        for mode in [Mode::Paper, Mode::Artifact] {
            let key = Key { seed, ..KEY };
            let mask = mask(&code, &priors, mode, key);
            let path = ScanPath::draw(&code, &priors, &PathSettings { mode, ..Default::default() }, key);
            let covered: Vec<usize> = path.segments.iter().flat_map(|s| s.places().to_vec()).collect();
            assert_eq!(covered, (0..code.len()).filter(|&i| mask[i]).collect::<Vec<_>>());
            assert!(covered.iter().all(|&i| code[i].label.is_some_and(|label| priors.beta(label).is_some())));
            assert_eq!(path.by_token(code.len()).iter().filter(|s| s.is_some()).count(), covered.len());
            assert_eq!(path.by_token(0), []);
            let writing = compat(&code, &mask, &priors);
            assert!((0..code.len()).all(|i| !mask[i] || writing.written[i].is_some()));
        }
    }
}

/// Every token of a label has the same chance: 20,000 random choices of k of 10, within 4.5 standard deviations.
#[test]
fn the_choice_inside_a_label_is_uniform() {
    let priors = Priors::builtin("combined").unwrap();
    let code = spans(&[Loop; 10], &[0; 10]);
    let draws = 20_000;
    let mut hits = [0u32; 10];
    for example in 0..draws {
        for (hit, on) in hits.iter_mut().zip(mask(&code, &priors, Mode::Paper, Key { example, ..KEY })) {
            *hit += u32::from(on);
        }
    }
    // floor(10 rho) = 3: rho = 0.352 +- 0.0019
    assert_eq!(hits.iter().sum::<u32>(), 3 * draws as u32);
    let sd = (draws as f64 * 0.3 * 0.7).sqrt();
    assert!(hits.iter().all(|&hit| (f64::from(hit) - 0.3 * draws as f64).abs() < 4.5 * sd), "{hits:?}");
}

/// In paper mode the density itself is a draw, from Beta(21937, 40381): mean 0.3520, standard deviation 0.0019.
#[test]
fn the_density_of_a_path_is_drawn() {
    let priors = Priors::builtin("combined").unwrap();
    let code = spans(&[Loop; 5000], &[0; 5000]);
    let n = 300;
    let density = |example| {
        let mask = mask(&code, &priors, Mode::Paper, Key { example, ..KEY });
        mask.iter().filter(|&&on| on).count() as f64 / 5000.0
    };
    let densities: Vec<f64> = (0..n).map(density).collect();
    let mean = densities.iter().sum::<f64>() / n as f64;
    let sd = (densities.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    assert!((mean - 0.3519).abs() < 0.0005, "{mean}"); // rounding down costs 0.0001
    assert!((sd - 0.00191).abs() < 0.0003, "{sd}"); // four standard errors
}

#[test]
fn time_grows_with_the_number_of_tokens_alone() {
    let priors = Priors::builtin("combined").unwrap();
    let code = random_spans(1_000_000, 1);
    // one label for all tokens, the worst case of the choice within a label
    let same: Vec<Span> = code.iter().map(|span| Span { label: Some(Loop), ..*span }).collect();
    for spans in [&code, &same] {
        // about 0.1 s in a release build; a time that grew with the square would take hours
        let path = ScanPath::draw(spans, &priors, &PathSettings::default(), KEY);
        assert!(path.segments.len() > 10_000);
    }
}

#[test]
fn compat_writes_to_neighbours_and_numbers_what_it_misses_last() {
    let priors = Priors::builtin("combined").unwrap();
    let code = spans(&[Loop; 9], &[0; 9]);
    let mask = [true, false, false, true, false, true, false, false, true];
    let writing = compat(&code, &mask, &priors);
    // the trigram 0, 3, 5 is written to 0, 1, 2; the monogram 8 is the second segment; 3 and 5 are missed
    let numbers: Vec<_> = writing.written.iter().map(|w| w.map_or(0, |(number, _)| number + 1)).collect();
    assert_eq!(numbers, [1, 1, 1, 3, 0, 4, 0, 0, 2]);
    assert_eq!(writing.segments[0].places(), [0, 3, 5]);
    let pair = spans(&[ConditionalBlock, ExternalClass], &[0, 0]);
    assert_eq!(compat(&pair, &[true, true], &priors).segments.len(), 2); // left out, although observed
    assert_eq!(segment(&pair, &[true, true], 4, |n| priors.valid(n)).len(), 1);
}
