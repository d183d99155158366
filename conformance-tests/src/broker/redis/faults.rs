//! What Redis can suffer beyond being a process.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::operator::Operator;
use crate::broker::error::{BrokerError, Result};
use crate::broker::process::{TICK, within};
use crate::{Fault, Part, Right};

const SAVED_WITHIN: Duration = Duration::from_secs(10);
/// Nobody listens on port 1.
const A_DEAD_HOST: &str = "127.0.0.1 1";

/// Not where a run looks for what is left behind.
const ELSEWHERE: &str = "elsewhere:";

/// Server-side commands for each fault; `None` for what Redis does not have: an alarm, channels, policies, a clock of its own,
/// a right to make queues.
pub(super) fn own(redis: &Operator, fault: Fault) -> Option<BoxFuture<'_, Result<()>>> {
    let commands = match fault {
        Fault::CloseConnections => return Some(close_connections(redis).boxed()),
        Fault::DiskFull => return Some(fill_disk(redis).boxed()),
        Fault::Wipe => {
            vec!["FLUSHALL SYNC".to_owned(), "SCRIPT FLUSH SYNC".into(), "FUNCTION FLUSH SYNC".into()]
        }
        Fault::Delete(Part::Ready) => vec![each("*}:s:*", "redis.call('DEL', k)")],
        // Nothing can be added to what is no stream.
        Fault::Delete(Part::Dead) => {
            vec![each("*}:q", "redis.call('SET', k:sub(1, -2) .. 'dlq', 'no stream')")]
        }
        Fault::Rename => vec![each("*}:s:*", &format!("redis.call('RENAME', k, '{ELSEWHERE}' .. k)"))],
        Fault::DestroyGroups => vec![each("*}:s:*", "redis.call('XGROUP', 'DESTROY', k, 'g')")],
        Fault::FlushScripts => vec!["SCRIPT FLUSH SYNC".into(), "FUNCTION FLUSH SYNC".into()],
        Fault::OutOfMemory => vec!["CONFIG SET maxmemory 1".into()],
        Fault::ReadOnly => vec![format!("REPLICAOF {A_DEAD_HOST}")],
        Fault::DenyPermission(Right::Write) => vec!["ACL SETUSER default -@write".into()],
        Fault::DenyPermission(Right::Read) => vec!["ACL SETUSER default -@read".into()],
        // It takes no less than 1 MiB.
        Fault::SizeLimit(bytes) if bytes >= 1 << 20 => vec![format!("CONFIG SET proto-max-bulk-len {bytes}")],
        _ => return None,
    };
    Some(all(redis, commands).boxed())
}

/// Takes everything back, whatever was done.
pub(super) async fn undo(redis: &Operator) -> Result<()> {
    let commands = [
        "ACL SETUSER default on nopass ~* &* +@all",
        "REPLICAOF NO ONE",
        "CONFIG SET maxmemory 0",
        "CONFIG SET proto-max-bulk-len 512mb",
    ];
    all(redis, commands.map(str::to_owned).to_vec()).await?;
    let no_streams = each("*}:dlq", "if redis.call('TYPE', k).ok == 'string' then redis.call('DEL', k) end");
    let renamed = each(&format!("{ELSEWHERE}*"), "redis.call('DEL', k)");
    all(redis, vec![no_streams, renamed]).await?;
    empty_disk(redis).await
}

/// One command that does this to each key `k` of a pattern.
fn each(pattern: &str, deed: &str) -> String {
    format!("EVAL \"for _, k in ipairs(redis.call('KEYS', '{pattern}')) do {deed} end return 1\" 0")
}

pub(super) async fn close_connections(redis: &Operator) -> Result<()> {
    all(redis, ["normal", "pubsub"].map(|kind| format!("CLIENT KILL TYPE {kind}")).to_vec()).await
}

async fn all(redis: &Operator, commands: Vec<String>) -> Result<()> {
    for command in commands {
        redis.command(&command).await?;
    }
    Ok(())
}

/// A directory stands where the snapshot would be written: it fails, and Redis refuses writes from then on.
async fn fill_disk(redis: &Operator) -> Result<()> {
    let blocked = std::fs::create_dir_all(redis.snapshot.join("in the way"));
    blocked.map_err(BrokerError::io("blocking the snapshot"))?;
    redis.command("CONFIG SET stop-writes-on-bgsave-error yes").await?;
    redis.command(r#"CONFIG SET save "86400 1""#).await?;
    saved(redis, "err").await
}

async fn empty_disk(redis: &Operator) -> Result<()> {
    match std::fs::remove_dir_all(&redis.snapshot) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(BrokerError::io("freeing the snapshot")(error)),
    }
    saved(redis, "ok").await?;
    redis.command(r#"CONFIG SET save """#).await.map(drop)
}

/// Lets Redis write a snapshot until it has come to this end.
async fn saved(redis: &Operator, status: &str) -> Result<()> {
    let wanted = format!("rdb_last_bgsave_status:{status}");
    within(SAVED_WITHIN, "redis-server: a snapshot", async {
        loop {
            // Refused while one is being written.
            let _ = redis.command("BGSAVE").await;
            sleep(TICK).await;
            let info = redis.ask("INFO persistence").await?;
            if info.contains(&wanted) && info.contains("rdb_bgsave_in_progress:0") {
                return Ok(());
            }
        }
    })
    .await
}
