//! How long something that is done again and again took, and when: what lateness is compared with.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Samples in the order in which they began, and the one that is under way.
#[derive(Debug)]
pub(crate) struct Series {
    /// What a sample takes where nothing is slow: only what it took beyond that counts.
    usual: Duration,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    samples: Vec<Sample>,
    under_way: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    began: Instant,
    ended: Instant,
}

impl Series {
    pub(crate) fn new(usual: Duration) -> Self {
        Self { usual, taken: Mutex::default() }
    }

    pub(crate) fn begin(&self) {
        self.taken.lock().under_way = Some(Instant::now());
    }

    pub(crate) fn end(&self) {
        let mut taken = self.taken.lock();
        if let Some(began) = taken.under_way.take() {
            taken.samples.push(Sample { began, ended: Instant::now() });
        }
    }

    /// What is under way says nothing: it failed, which is not the same as taking long.
    pub(crate) fn forget(&self) {
        self.taken.lock().under_way = None;
    }

    /// The longest of those that were under way at some time between these two.
    pub(crate) fn worst(&self, from: Instant, to: Instant) -> Duration {
        let taken = self.taken.lock();
        let young = taken.samples.partition_point(|sample| sample.ended < from);
        let ended = taken.samples[young..].iter().take_while(|sample| sample.began <= to);
        let open = taken.under_way.filter(|&began| began <= to);
        let open = open.map(|began| Sample { began, ended: Instant::now() });
        let all = ended.copied().chain(open).map(|sample| self.beyond(sample));
        all.max().unwrap_or_default()
    }

    /// How many there are, and how many of them took longer than this.
    pub(crate) fn longer_than(&self, bound: Duration) -> (usize, usize) {
        let taken = self.taken.lock();
        let long = taken.samples.iter().filter(|sample| self.beyond(**sample) > bound).count();
        (long, taken.samples.len())
    }

    /// What half of them did not exceed.
    pub(crate) fn median(&self) -> Duration {
        let mut all: Vec<Duration> =
            self.taken.lock().samples.iter().map(|sample| self.beyond(*sample)).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    fn beyond(&self, sample: Sample) -> Duration {
        (sample.ended - sample.began).saturating_sub(self.usual)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    async fn sample(series: &Series, took: Duration) {
        series.begin();
        advance(took).await;
        series.end();
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_under_way_in_between_counts_and_only_what_is_unusual() {
        let (series, start) = (Series::new(10 * MS), Instant::now());
        sample(&series, 90 * MS).await;
        sample(&series, 12 * MS).await;
        sample(&series, 5 * MS).await;
        let end = Instant::now();
        assert_eq!(series.worst(start, end), 80 * MS);
        assert_eq!(series.worst(start + 95 * MS, end), 2 * MS);
        assert_eq!((series.longer_than(MS), series.median()), ((2, 3), 2 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_not_ended_counts_and_what_failed_does_not() {
        let (series, start) = (Series::new(Duration::ZERO), Instant::now());
        series.begin();
        advance(70 * MS).await;
        assert_eq!(series.worst(start, Instant::now()), 70 * MS);
        series.forget();
        assert_eq!(series.worst(start, Instant::now()), Duration::ZERO);
    }
}
