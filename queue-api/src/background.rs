//! The thread on which connections live, whatever becomes of the application's runtimes.

use std::future::pending;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::time::Instant;

/// The runtime of a thread of this process's own, `polyqueue`: for connections, and for what must go on while the application's
/// threads are blocked or its runtime has ended. What runs there never blocks, and never runs the application's code.
///
/// Where no thread can be started it is the caller's runtime.
///
/// # Panics
/// Outside a runtime where no thread can be started.
pub fn background() -> Handle {
    static BACKGROUND: LazyLock<Option<Handle>> = LazyLock::new(start);
    BACKGROUND.clone().unwrap_or_else(Handle::current)
}

/// Lives as long as the process.
fn start() -> Option<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.inspect_err(|error| tracing::warn!(%error, "no runtime for connections")).ok()?;
    let handle = runtime.handle().clone();
    let work = move || runtime.block_on(pending::<()>());
    let started = std::thread::Builder::new().name("polyqueue".into()).spawn(work);
    started.inspect_err(|error| tracing::warn!(%error, "no thread for connections")).ok()?;
    Some(handle)
}

/// The runtime for what must go on while the application's threads are blocked: [`background`], or where the caller's clock is
/// paused the caller's, so that nothing happens beside it.
///
/// # Panics
/// Outside a runtime.
pub(crate) fn background_by_the_same_clock() -> Handle {
    if clock_is_paused() { Handle::current() } else { background() }
}

/// A clock that runs has moved on when the machine's has.
fn clock_is_paused() -> bool {
    let (began, machine) = (Instant::now(), std::time::Instant::now());
    while machine.elapsed() < Duration::from_micros(1) {
        std::hint::spin_loop();
    }
    Instant::now() == began
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_is_known() {
        assert!(clock_is_paused());
        tokio::time::resume();
        assert!(!clock_is_paused());
    }

    #[test]
    fn it_goes_on_when_a_runtime_has_ended_and_while_one_is_blocked() {
        let (done, ended) = std::sync::mpsc::channel();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            background().spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                done.send(std::thread::current().name().map(str::to_owned)).unwrap();
            });
            // The only thread of this runtime waits.
            assert_eq!(ended.recv().unwrap().as_deref(), Some("polyqueue"));
        });
        drop(runtime);
        let (done, ended) = std::sync::mpsc::channel();
        background().spawn(async move { done.send(()).unwrap() });
        ended.recv().unwrap();
    }
}
