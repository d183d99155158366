//! How long the disk takes: a broker that writes before it answers is as slow as that, and so is everything beside it.

use std::io::{Seek, Write};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::Fail;
use crate::series::Series;

const EVERY: Duration = Duration::from_millis(50);

/// Times of a write that is on the disk when it ends, one after another, for as long as anybody holds them. Temporary files are where
/// private brokers have their data.
pub(super) fn watched() -> Result<Arc<Series>, Fail> {
    let mut file = tempfile::tempfile().map_err(|error| Fail::new(format!("making a file: {error}")))?;
    let series = Arc::new(Series::new(Duration::ZERO));
    let weak: Weak<Series> = Arc::downgrade(&series);
    std::thread::spawn(move || {
        while let Some(series) = weak.upgrade() {
            series.begin();
            let written =
                file.rewind().and_then(|()| file.write_all(&[0; 512])).and_then(|()| file.sync_data());
            match written {
                Ok(()) => series.end(),
                Err(_) => series.forget(),
            }
            drop(series);
            std::thread::sleep(EVERY);
        }
    });
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[test]
    fn the_disk_is_looked_at_until_nobody_wants_to_know() {
        let began = Instant::now();
        let series = watched().unwrap();
        std::thread::sleep(4 * EVERY);
        assert!(series.worst(began, Instant::now()) > Duration::ZERO);
        assert!(series.longer_than(Duration::ZERO).1 > 0);
    }
}
