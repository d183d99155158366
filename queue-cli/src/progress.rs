//! How far long work is, on a terminal: one line that is written over, and nothing at all in a pipe or a file.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::stderr::CLEAR;

/// Short work shows nothing.
const FIRST: Duration = Duration::from_millis(500);
const EVERY: Duration = Duration::from_millis(200);

/// Counts what is done while it is done.
pub(crate) struct Progress {
    /// What was done with each, as `moved`.
    done: &'static str,
    count: AtomicU64,
}

impl Progress {
    pub(crate) fn new(done: &'static str) -> Self {
        Self { done, count: AtomicU64::new(0) }
    }

    pub(crate) fn add(&self, count: u64) {
        self.count.fetch_add(count, Relaxed);
    }

    /// Does the work, and shows meanwhile how far it is.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        match std::io::stderr().is_terminal() {
            true => self.shown(&mut std::io::stderr(), work).await,
            false => work.await,
        }
    }

    /// The same where the work prints lines: on one terminal, they are progress enough.
    pub(crate) async fn beside_lines<T>(&self, work: impl Future<Output = T>) -> T {
        match std::io::stdout().is_terminal() {
            true => work.await,
            false => self.during(work).await,
        }
    }

    async fn shown<T>(&self, out: &mut impl Write, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let mut tick = interval_at(began + FIRST, EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(work);
        let mut shown = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut work => break ended,
                _ = tick.tick() => {
                    shown = true;
                    write(out, &self.line(began.elapsed()));
                }
            }
        };
        if shown {
            write(out, CLEAR);
        }
        ended
    }

    fn line(&self, elapsed: Duration) -> String {
        let (count, seconds) = (self.count.load(Relaxed), elapsed.as_secs());
        let rate = count as f64 / elapsed.as_secs_f64();
        match count {
            0 => format!("{CLEAR}polyqueue: nothing {} yet, {seconds} s", self.done),
            _ => format!("{CLEAR}polyqueue: {count} {}, {seconds} s, {rate:.0} a second", self.done),
        }
    }
}

/// A terminal that has gone is no reason to end the work.
fn write(out: &mut impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn long_work_is_shown_and_cleared_away() {
        let (progress, mut out) = (Progress::new("moved"), Vec::new());
        let work = async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            progress.add(1500);
            tokio::time::sleep(Duration::from_millis(500)).await;
            7
        };
        assert_eq!(progress.shown(&mut out, work).await, 7);
        let said = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = said.split(CLEAR).collect();
        assert_eq!(lines.first(), Some(&""), "each is written over the one before");
        assert_eq!(lines[1], "polyqueue: nothing moved yet, 0 s");
        assert!(lines.contains(&"polyqueue: 1500 moved, 0 s, 2143 a second"), "{lines:?}");
        assert_eq!(lines.last(), Some(&""), "nothing is left at the end");
    }

    #[tokio::test(start_paused = true)]
    async fn short_work_is_not_shown() {
        let (progress, mut out) = (Progress::new("moved"), Vec::new());
        progress.shown(&mut out, tokio::time::sleep(Duration::from_millis(400))).await;
        assert_eq!(out, b"");
    }
}
