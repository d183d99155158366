//! A bound on how often one process connects again, whatever the number of its handles.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// One connection each two and a half milliseconds …
const EACH: Duration = Duration::from_micros(2_500);
/// … and as many at once as that allows in this time: well below 600 in any second, for what begins at its time may arrive late.
const BURST: Duration = Duration::from_millis(100);

static DIALS: Mutex<Option<DialRate>> = Mutex::new(None);

/// For backends: waits until this process may dial `connections` again. A broker that comes back is not overrun by all that it
/// lost; who connects for the first time need not wait.
pub async fn wait_to_reconnect(connections: u32) {
    let now = Instant::now();
    let wait = DIALS.lock().get_or_insert(DialRate { used_until: now }).take(connections, now);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

struct DialRate {
    used_until: Instant,
}

impl DialRate {
    /// Takes so many dials; how long to wait for them.
    fn take(&mut self, connections: u32, now: Instant) -> Duration {
        let wait = self.used_until.saturating_duration_since(now + BURST);
        self.used_until = self.used_until.max(now) + EACH * connections;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_fall_into_a_second_and_the_first_wait_for_nothing() {
        let start = Instant::now();
        let mut rate = DialRate { used_until: start };
        let dials: Vec<Duration> = (0..2_000).map(|_| rate.take(1, start)).collect();
        assert!(dials[..40].iter().all(Duration::is_zero));
        assert!(dials[1_999] < Duration::from_secs(5));
        for from in &dials {
            let until = *from + Duration::from_secs(1);
            let within = dials.iter().filter(|at| (*from..until).contains(at)).count();
            assert!(within <= 450, "{within} from {from:?} on");
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let start = Instant::now();
        let mut rate = DialRate { used_until: start };
        let later = start + Duration::from_secs(60);
        let waiting = (0..1_000).filter(|_| !rate.take(1, later).is_zero()).count();
        assert!(waiting > 900, "{waiting}");
    }
}
