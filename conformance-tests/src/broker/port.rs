//! Free loopback ports, and whether somebody listens on one.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

use super::error::{BrokerError, Result};

/// Below Linux's ephemeral ports (32768 and up), so that no outgoing connection takes it while the broker is down.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A loopback port that nobody listens on, picked at random so that parallel test binaries rarely meet.
pub(super) fn free() -> Result<u16> {
    for attempt in 0..200_u16 {
        let random = RandomState::new().hash_one(attempt);
        let port = FIRST + (random % u64::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    let what = format!("no free loopback port found in {FIRST}..{}", FIRST + COUNT);
    Err(BrokerError::io(what)(std::io::ErrorKind::AddrInUse.into()))
}
