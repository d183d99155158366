//! How far a run is: a line now and then, so that nobody has to guess whether it still goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(20);

/// Prints `redis 80/146, 0 failed, after 40 s` now and then, for as long as the value lives.
#[derive(Debug)]
pub(super) struct Progress {
    counts: Arc<Counts>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    ended: AtomicUsize,
    failed: AtomicUsize,
}

impl Progress {
    pub(super) fn start(name: &'static str, of: usize) -> Self {
        let (stop, stopped) = channel::<()>();
        let counts: Arc<Counts> = Arc::default();
        let its_counts = counts.clone();
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let (ended, failed) = (its_counts.ended.load(Relaxed), its_counts.failed.load(Relaxed));
                println!("{name} {ended}/{of}, {failed} failed, after {} s", began.elapsed().as_secs());
            }
        });
        Self { counts, stop: Some(stop), thread: Some(thread) }
    }

    /// One more has come to its end.
    pub(super) fn ended(&self, failed: bool) {
        self.counts.ended.fetch_add(1, Relaxed);
        self.counts.failed.fetch_add(usize::from(failed), Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
