//! Metrics of a corpus as values of its examples.

use super::usable;

/// The pseudo-values of a corpus metric, one per example. With theta the metric of all n examples and theta_(-e) that
/// of all but e, they are n theta - (n - 1) theta_(-e), shifted together so that their mean is theta. For a metric that
/// is a mean over examples they are the values of the examples.
///
/// `stats` are the statistics of the examples one after the other, `width` numbers each, which add up to those of the
/// corpus; `value` is the metric of such a sum. Fails without examples, and where the metric is not finite.
pub fn jackknife(stats: &[f64], width: usize, value: impl Fn(&[f64]) -> f64) -> Result<Vec<f64>, String> {
    if width == 0 || stats.is_empty() || !stats.len().is_multiple_of(width) {
        return Err(format!("{} statistics are not those of examples with {width} each", stats.len()));
    }
    let count = stats.len() / width;
    let mut sums = vec![0.0; width];
    for example in stats.chunks_exact(width) {
        sums.iter_mut().zip(example).for_each(|(sum, x)| *sum += x);
    }
    let theta = value(&sums);
    usable(theta, || "the metric of the corpus".into())?;
    if count == 1 {
        return Ok(vec![theta]);
    }
    let n = count as f64;
    let mut rest = vec![0.0; width];
    let mut values = Vec::with_capacity(count);
    for (i, example) in stats.chunks_exact(width).enumerate() {
        rest.iter_mut().zip(sums.iter().zip(example)).for_each(|(rest, (sum, x))| *rest = sum - x);
        let without = value(&rest);
        usable(without, || format!("the metric of the corpus without example {}", i + 1))?;
        values.push(theta + (n - 1.0) * (theta - without));
    }
    let shift = theta - values.iter().sum::<f64>() / n;
    values.iter_mut().for_each(|x| *x += shift);
    Ok(values)
}
