//! What was logged.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Once};

use parking_lot::Mutex;

thread_local! {
    /// Whoever listens to this thread.
    static LISTENER: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// What was logged on this thread while it was listened to.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// Listens until it is dropped.
pub(crate) struct Listening;

impl Log {
    /// One subscriber for all threads and for good: of a line whose place is found while another comes or goes, tracing may remember
    /// that nobody wants it.
    pub(crate) fn listen(&self) -> Listening {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| ToListener).init());
        LISTENER.set(Some(self.clone()));
        Listening
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    pub(crate) fn lines_with(&self, words: &str) -> usize {
        self.text().lines().filter(|line| line.contains(words)).count()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENER.set(None);
    }
}

struct ToListener;

impl Write for ToListener {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        LISTENER.with_borrow(|log| log.iter().for_each(|log| log.0.lock().extend_from_slice(text)));
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
