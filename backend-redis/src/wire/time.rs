//! Times as the server is told them, and names that sort by time.

use std::time::Duration;

use uuid::Uuid;

/// Whole milliseconds, rounded up, so that nothing is early.
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(1_000_000) as u64
}

/// Names a delayed message: sorts by time, so that of two that are due at once the older is first.
pub(crate) fn uid() -> String {
    Uuid::now_v7().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_rounded_up() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_nanos(1_000_001)), 2);
        assert_eq!(millis(Duration::from_micros(1_001)), 2);
        assert_eq!(millis(Duration::from_secs(365 * 24 * 3600)), 31_536_000_000);
    }

    #[test]
    fn uids_sort_as_they_are_made() {
        let uids: Vec<String> = (0..10_000).map(|_| uid()).collect();
        assert!(uids.is_sorted());
    }
}
