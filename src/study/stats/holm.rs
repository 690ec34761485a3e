//! Several comparisons at once.

/// Holm's adjusted p, in the order of `p`: of m tests, the k-th smallest p times m - k + 1, at most 1, and never below
/// that of a smaller p. Rejecting where it is at most 5 % keeps the probability of any false rejection at 5 %, however
/// the tests depend on each other. Fails where a value is no probability.
pub fn holm(p: &[f64]) -> Result<Vec<f64>, String> {
    if let Some(i) = p.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(format!("p {} is {}; Holm's correction requires values between 0 and 1", i + 1, p[i]));
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = largest;
    }
    Ok(adjusted)
}
