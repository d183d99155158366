//! What a process does that was started as the child of another.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::Info;

use super::one::runtime;
use crate::child::{CHILD_VAR, Part};
use crate::env::Setting;
use crate::lateness::Controls;
use crate::{Env, Fail, Harness, Outcome, roles};

/// Plays the part that this process was started for; `None` when it was not started as a child.
pub(crate) fn play(harness: &Arc<dyn Harness>) -> Option<ExitCode> {
    let part = std::env::var(CHILD_VAR).ok()?;
    match played(harness, &part) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(fail) => {
            eprintln!("child: {fail}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn played(harness: &Arc<dyn Harness>, part: &str) -> Outcome {
    let part: Part = serde_json::from_str(part).map_err(|error| Fail::new(error.to_string()))?;
    let role = roles::find(&part.role).ok_or_else(|| Fail::new(format!("no role {:?}", part.role)))?;
    let setting = |info| Setting {
        namespace: part.namespace.clone(),
        seed: part.seed,
        lateness: Duration::from_millis(part.lateness_ms),
        controls: Controls::none(),
        info,
    };
    let runtime = runtime(harness.time(), &Arc::default()).map_err(|error| Fail::new(error.to_string()))?;
    runtime.block_on(async {
        let look = Env::new(harness.clone(), setting(Info::new("unknown")));
        let queue = look.open_unrecorded(|options| options).await?;
        let info = queue.info();
        queue.close().await?;
        role(Env::new(harness.clone(), setting(info)), part.args.into_iter().collect()).await
    })
}
