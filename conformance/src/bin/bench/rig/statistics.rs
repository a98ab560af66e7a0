//! The middle of several runs, and how many of many values lie below.

/// The middle value; the lower one of two.
pub(crate) fn median<T>(runs: &[T], value: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which this part of all lies; they have to be in order.
pub(crate) fn quantile<T: Copy + Default>(sorted: &[T], part: f64) -> T {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{median, quantile};

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[9.0, 1.0, 4.0], |&value| value), 4.0);
        assert_eq!(median(&[9.0, 1.0], |&value| value), 1.0);
    }

    #[test]
    fn quantiles_are_values() {
        let values: Vec<u32> = (1..=1000).collect();
        assert_eq!(quantile(&values, 0.5), 501);
        assert_eq!(quantile(&values, 0.99), 991);
        assert_eq!(quantile(&values, 0.999), 1000);
        assert_eq!(quantile(&values, 1.0), 1000);
        assert_eq!(quantile::<u32>(&[], 0.5), 0);
    }
}
