//! Products against sums in f64, over shapes at and around the borders of tiles, parts and blocks.

use super::*;
use crate::backend::nf4::{Host, Nf4, PerHead, Scheme, Slice};
use crate::random::{Purpose, Stream};

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Rows,
    Columns,
    /// Neither rows nor columns in a line.
    Strided,
}

/// A matrix in one form, and its values by rows.
fn operand<R: Real>(stream: &mut Stream, rows: usize, cols: usize, form: Form) -> (Vec<R>, [usize; 2], Vec<f64>) {
    // lines are longer than they need be; what lies between is never to be read
    let (strides, len) = match form {
        Form::Rows => ([cols + 3, 1], rows * (cols + 3)),
        Form::Columns => ([1, rows + 1], cols * (rows + 1)),
        Form::Strided => ([2 * cols + 1, 2], rows * (2 * cols + 1)),
    };
    let mut data = vec![R::nan(); len];
    let mut values = Vec::with_capacity(rows * cols);
    for i in 0..rows {
        for j in 0..cols {
            // few bits, so that bf16 holds it
            let x = f64::from(half::bf16::from_f64(stream.normal()));
            data[i * strides[0] + j * strides[1]] = R::of(x);
            values.push(x);
        }
    }
    (data, strides, values)
}

fn mat<T>(data: &[T], [row, col]: [usize; 2]) -> Mat<'_, T> {
    Mat { data, row, col }
}

/// Calls the product with every number of threads in `pools` and compares each result with sums in f64; the bits do not
/// depend on the threads.
fn check<R: Real>(
    (m, n, k): (usize, usize, usize), [left, right]: [Form; 2], accumulate: bool, operands: Operands, epsilon: f64,
) {
    let mut stream = Stream::new((m * 31 + n * 7 + k) as u64, Purpose::Bench, 0);
    let (a, sa, va) = operand::<R>(&mut stream, m, k, left);
    let (b, sb, vb) = operand::<R>(&mut stream, k, n, right);
    let narrow: Vec<half::bf16> = b.iter().map(|x| half::bf16::from_f64(x.f64())).collect();
    let ldc = n + 2;
    let start: Vec<R> = (0..m * ldc).map(|_| R::of(stream.normal())).collect();
    let mut first: Option<Vec<R>> = None;
    for threads in [1, 3] {
        for wide in [true, false] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let mode = Mode { threads, operands };
            let mut c = start.clone();
            let right = if wide { Plain::Full(mat(&b, sb)) } else { Plain::Bf16(mat(&narrow, sb)) };
            pool.install(|| gemm((m, n, k), mat(&a, sa), right, &mut c, ldc, 0.5, accumulate, mode));
            let what = format!("{m} x {n} x {k}, {operands:?}, {left:?} {}", right_name(right));
            for i in 0..m {
                for j in 0..ldc {
                    let (found, before) = (c[i * ldc + j].f64(), start[i * ldc + j].f64());
                    if j >= n {
                        assert!(found == before, "{what}: written beyond a row");
                        continue;
                    }
                    let terms = (0..k).map(|l| va[i * k + l] * vb[l * n + j]);
                    let (sum, size) = terms.fold((0.0, 0.0), |(s, z), x| (s + x, z + f64::abs(x)));
                    let expected = 0.5 * sum + if accumulate { before } else { 0.0 };
                    let bound = epsilon * (k as f64).sqrt() * (size + before.abs() + 1.0);
                    assert!((found - expected).abs() <= bound, "{what} at {i}, {j}: {found} for {expected}");
                }
            }
            match &first {
                None => first = Some(c),
                Some(first) => {
                    assert!(first.iter().zip(&c).all(|(x, y)| x.f64().to_bits() == y.f64().to_bits()), "{what}")
                }
            }
        }
    }
}

fn right_name<R>(right: Plain<R>) -> &'static str {
    match right {
        Plain::Full(_) => "full",
        Plain::Bf16(_) => "bf16",
    }
}

/// Sides of tiles, with one less and one more, alone and with others; parts of the depth; blocks of rows and columns.
#[test]
fn products_are_sums_in_f64() {
    use Form::{Columns, Rows, Strided};
    let shapes = [
        (1, 1, 1),
        (2, 3, 0),
        (1, 37, 19),
        (1, 40, 330),
        (5, 15, 7),
        (6, 16, 8),
        (7, 17, 9),
        (12, 32, 16),
        (13, 33, 641),
        (11, 31, 1281),
        (121, 9, 5),
        (245, 130, 12),
        (3, 1030, 10),
        // few rows: whole fours and what is left, columns of every tile and vector, one more row than few
        (4, 51, 67),
        (30, 150, 33),
        (32, 97, 129),
        (33, 97, 129),
    ];
    for shape in shapes {
        for left in [Rows, Columns, Strided] {
            for right in [Rows, Columns, Strided] {
                let accumulate = (shape.0 + left as usize + right as usize).is_multiple_of(2);
                // the values are bf16: with operands in bf16 nothing is rounded but sums
                for operands in [Operands::Full, Operands::Bf16] {
                    check::<f32>(shape, [left, right], accumulate, operands, f64::from(f32::EPSILON));
                }
                check::<f64>(shape, [left, right], !accumulate, Operands::Full, f64::EPSILON);
            }
        }
    }
}

/// Every kernel that this processor can run gives the bits of the others, unless one has no fused multiplication and
/// addition: then to rounding.
#[test]
fn kernels_agree() {
    fn check<R: Real>(epsilon: f64) {
        let (m, n, k) = (29, 77, 650);
        let mut stream = Stream::new(9, Purpose::Bench, 0);
        let mut draw = |len: usize| -> Vec<R> { (0..len).map(|_| R::of(stream.normal())).collect() };
        let (a, b) = (draw(m * k), draw(k * n));
        for turned in [false, true] {
            let whole = if turned { Mat::rows(&a, m).t() } else { Mat::rows(&a, k) };
            for (few, a) in [(false, whole), (true, Mat::rows(&a, k))] {
                let b = if turned { Mat::rows(&b, k).t() } else { Mat::rows(&b, n) };
                let results = Target::ALL.into_iter().filter_map(|target| {
                    let (kernel, mut c) = (R::kernel(target, Operands::Full)?, vec![R::of(1.0); m * n]);
                    if few {
                        let few = Few { a, m, depth: k, alpha: R::of(0.5), add: true };
                        few_rows(kernel, few, b.into(), &mut c, n, 1);
                    } else {
                        blocks(kernel, (m, n, k), a, b.into(), &mut c, n, R::of(0.5), true, 1);
                    }
                    Some((target, c))
                });
                let results: Vec<_> = results.collect();
                for (target, c) in &results[1..] {
                    for (x, y) in c.iter().zip(&results[0].1) {
                        let difference = (x.f64() - y.f64()).abs();
                        let bound = if matches!(target, Target::Baseline) { epsilon * 400.0 } else { 0.0 };
                        assert!(difference <= bound, "{target:?}, few {few}: {x:?} and {y:?}");
                    }
                }
            }
        }
    }
    check::<f32>(f64::from(f32::EPSILON));
    check::<f64>(f64::EPSILON);
}

/// A row has the same bits alone and among others, as long as they are few, and with any number of threads.
#[test]
fn few_rows_do_not_touch_each_other() {
    let (n, k) = (101, 203);
    let mut stream = Stream::new(11, Purpose::Bench, 0);
    let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| stream.normal() as f32).collect() };
    let (a, b) = (draw(FEW * k), draw(k * n));
    let forms = [Mat::rows(&b, k).t(), Mat::rows(&b, n)];
    for (b, operands) in forms.into_iter().flat_map(|b| [(b, Operands::Full), (b, Operands::Bf16)]) {
        let product = |a: &[f32], m: usize, threads: usize| {
            let mode = Mode { threads, operands };
            let mut c = vec![0.0; m * n];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| gemm((m, n, k), Mat::rows(a, k), b, &mut c, n, 1.0, false, mode));
            c
        };
        let alone: Vec<f32> = a.chunks(k).flat_map(|row| product(row, 1, 1)).collect();
        for m in 1..=FEW {
            for threads in [1, 2, 3] {
                let found = product(&a, m, threads);
                assert!(
                    found.iter().zip(&alone).all(|(x, y)| x.to_bits() == y.to_bits()),
                    "{m} rows, {threads} threads"
                );
            }
        }
    }
}

/// A NaN is met in its row and nowhere else: what pads a panel is no part of a sum, whatever an earlier product left in
/// the room for panels.
#[test]
fn what_is_not_finite_stays_in_its_row() {
    let (m, n, k) = (13, 35, 19);
    let b = vec![1.0f32; 24 * n];
    for turned in [false, true] {
        let mut a = vec![f32::NAN; m * 24];
        let mut c = vec![0.0f32; m * n];
        let mut multiply = |a: &[f32], b: &[f32], k: usize| {
            let a = if turned { Mat::rows(a, m).t() } else { Mat::rows(a, k) };
            let b = if turned { Mat::rows(b, k).t() } else { Mat::rows(b, n) };
            gemm((m, n, k), a, b, &mut c, n, 1.0, false, Mode::PLAIN);
            c.clone()
        };
        assert!(multiply(&a, &vec![f32::NAN; 24 * n], 24).iter().all(|x| x.is_nan()));
        a.fill(1.0);
        a[if turned { 18 * m + 3 } else { 3 * k + 18 }] = f32::NAN;
        for (i, row) in multiply(&a, &b, k).chunks(n).enumerate() {
            assert!(row.iter().all(|x| if i == 3 { x.is_nan() } else { *x == k as f32 }), "{turned}, row {i}: {row:?}");
        }
    }
}

#[test]
#[should_panic = "a shape exceeds its buffer"]
fn a_shape_beyond_its_buffer_is_a_defect() {
    gemm((2, 2, 3), Mat::rows(&[0.0f64; 5], 3), Mat::rows(&[0.0; 6], 2), &mut [0.0; 4], 2, 1.0, false, Mode::PLAIN);
}

/// A matrix in 4 bits is decoded to the values that a product with the decoded matrix reads, whole or in parts.
#[test]
fn coded_operands_are_decoded_ones() {
    let mut stream = Stream::new(11, Purpose::Bench, 0);
    let mut part = |rows: usize, cols: usize, double: bool, order: Option<PerHead>| {
        let values: Vec<f32> = (0..rows * cols).map(|_| stream.normal() as f32).collect();
        Nf4 { cols, slices: vec![Slice { row: 0, rows, order, values: Host::of(&values, Scheme { double }) }] }
    };
    let matrices = [
        // rows that share blocks; three tensors; more than the room of a task; heads in another order
        part(7, 13, true, None),
        [part(33, 100, true, None), part(65, 100, false, None), part(1, 100, true, None)].into_iter().collect(),
        part(300, 1300, true, None),
        part(3 * 4 * 6, 24, true, Some(PerHead { heads: 4, dim: 6 })),
    ];
    for coded in matrices {
        let (out, inp) = (coded.rows(), coded.cols);
        let decoded = coded.decode();
        for (m, operands) in [(1, Operands::Full), (5, Operands::Bf16), (40, Operands::Full), (70, Operands::Bf16)] {
            let x: Vec<f32> = (0..m * out.max(inp)).map(|_| stream.normal() as f32).collect();
            for (threads, turned) in [(1, false), (1, true), (3, false), (3, true)] {
                let (n, k) = if turned { (inp, out) } else { (out, inp) };
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                let product = |b: Right<f32>| {
                    let mut c = vec![0.0; m * n];
                    let b = if turned { b } else { b.t() };
                    let mode = Mode { threads, operands };
                    pool.install(|| gemm((m, n, k), Mat::rows(&x, k), b, &mut c, n, 1.0, false, mode));
                    c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                let plain = product(Mat::rows(&decoded, inp).into());
                // decoding is no reason to take other loops, but with few rows of coded ones in turn there are none
                if turned && m <= FEW && operands == Operands::Full {
                    continue;
                }
                assert!(product(Right::Coded(Coded::new(&coded))) == plain, "{m} x {n} x {k}, {operands:?}, {turned}");
            }
        }
    }
}
