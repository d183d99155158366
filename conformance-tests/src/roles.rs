//! What child processes do: each role is played by another process of this test binary.

use std::collections::BTreeMap;
use std::io::Write;

use futures_util::future::BoxFuture;

use crate::cases::arrival::patience;
use crate::verbs::receive_one;
use crate::{Env, Outcome};

/// The arguments of a role, by name.
pub type Args = BTreeMap<String, String>;

/// What a child process runs.
pub type Role = fn(Env, Args) -> BoxFuture<'static, Outcome>;

/// All roles, by name.
const ROLES: &[(&str, Role)] = &[("crash_on_receipt", |env, args| Box::pin(crash_on_receipt(env, args)))];

pub(crate) fn find(name: &str) -> Option<Role> {
    ROLES.iter().find(|(role, _)| *role == name).map(|(_, body)| *body)
}

/// The role of C-ATT-03: takes a message, says so, and crashes.
async fn crash_on_receipt(env: Env, args: Args) -> Outcome {
    let q = env.queue_name(args.get("queue").ok_or("no queue given")?);
    let queue = env.open().await?;
    let consumer = queue.subscribe(&env.subscription(&q)).await?;
    let delivery = receive_one(&*consumer, patience(&env)).await?;
    let mut out = std::io::stdout();
    writeln!(out, "attempt {}", delivery.attempt)
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string())?;
    std::process::abort()
}
