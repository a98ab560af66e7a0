//! The middle of several runs.

/// The middle value; the lower one of two.
pub(crate) fn median<T>(runs: &[T], value: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[9.0, 1.0, 4.0], |&value| value), 4.0);
        assert_eq!(median(&[9.0, 1.0], |&value| value), 1.0);
    }
}
