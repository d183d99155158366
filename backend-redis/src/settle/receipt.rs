//! A receipt is the lease's name on the server, and beside it when it was handed out and when it ends, by our own clock.

use polyqueue::backend::ReceiptTimes;
use polyqueue::{Error, Receipt, Result};
use tokio::time::Instant;

/// What a receipt says.
#[derive(Debug, PartialEq)]
pub(crate) struct Held<'a> {
    /// The member of the set of leases: `priority:stream id:nonce:max attempts:consumer`.
    pub(crate) lease: &'a str,
    /// Which consumer of which handle it was given to.
    pub(crate) holder: &'a str,
    pub(crate) times: ReceiptTimes,
    /// When the lease was to end as it was handed out, by the server's clock, in ms.
    pub(crate) ends: u64,
}

/// Makes a receipt; times are told from `epoch`.
pub(crate) fn write(lease: &str, epoch: Instant, times: ReceiptTimes, ends: u64) -> Receipt {
    Receipt::new(format!("{};{ends};{lease}", times.display(epoch)))
}

/// Reads a receipt.
///
/// # Errors
/// [`Error::Invalid`] for one that we did not make.
pub(crate) fn read(receipt: &Receipt, epoch: Instant) -> Result<Held<'_>> {
    let held = receipt.text().and_then(|text| parse(text, epoch));
    held.ok_or_else(|| Error::invalid("receipt", "not one of this backend"))
}

fn parse(text: &str, epoch: Instant) -> Option<Held<'_>> {
    let (times, lease) = text.split_once(';')?;
    let times = ReceiptTimes::read(times, epoch)?;
    let (ends, lease) = lease.split_once(';')?;
    let ends = ends.parse().ok()?;
    let mut parts = lease.splitn(5, ':');
    let (p, id, nonce, max) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let (ms, seq) = id.split_once('-')?;
    let numbers = [p, ms, seq, max].iter().all(|part| part.parse::<u64>().is_ok());
    let (holder, _) = nonce.split_once('.')?;
    numbers.then_some(Held { lease, holder, times, ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_written_is_read() {
        let epoch = Instant::now();
        let (handed, until) = (epoch + Duration::from_micros(5), epoch + Duration::from_secs(30));
        let times = ReceiptTimes { handed, until };
        let receipt = write("10:17-0:ab.1:4:na:me;", epoch, times, 9);
        let held = read(&receipt, epoch).unwrap();
        assert_eq!(held, Held { lease: "10:17-0:ab.1:4:na:me;", holder: "ab", times, ends: 9 });
    }

    #[test]
    fn anything_else_is_invalid() {
        for text in [
            "",
            "garbage",
            "0.0;",
            "0.0;1;1:2:3:4:5",
            "x.y;1;1:2-3:a.1:4:n",
            "0.0;1;1:2-3:a.1:4",
            "0.0;x;1:2-3:a.1:4:n",
            "🦀",
        ] {
            let error = read(&Receipt::new(text), Instant::now()).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{text}");
        }
    }
}
