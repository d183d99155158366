//! The wish to stop: SIGINT or SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ends at the first SIGINT or SIGTERM. Installed when called, not when awaited, so that none is missed in between.
pub(crate) fn requested() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals = install()?;
    Ok(async move { next(&mut signals).await })
}

/// Ends at the second one.
pub(crate) fn requested_twice() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals = install()?;
    Ok(async move {
        next(&mut signals).await;
        next(&mut signals).await;
    })
}

fn install() -> std::io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?])
}

async fn next([interrupt, terminate]: &mut [Signal; 2]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
