//! What child processes do: each role is played by another process of this test binary.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use crate::{Env, Outcome, cases};

/// The arguments of a role, by name.
pub type Args = BTreeMap<String, String>;

/// What a child process runs.
pub type Role = fn(Env, Args) -> BoxFuture<'static, Outcome>;

/// All roles, by name.
const ROLES: &[(&str, Role)] =
    &[("crash_on_receipt", |env, args| Box::pin(cases::attempts::crash_on_receipt(env, args)))];

pub(crate) fn find(name: &str) -> Option<Role> {
    ROLES.iter().find(|(role, _)| *role == name).map(|(_, body)| *body)
}
