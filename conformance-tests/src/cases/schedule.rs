//! FLT: one fault after another, as a seed decides, under load; then everything comes to its end.

use std::time::Duration;

use tokio::time::sleep;

use super::traffic::Traffic;
use crate::link::Link;
use crate::mishap::{OF_THE_BROKER, OnTheWay};
use crate::{Case, Env, Fail, Fault, Outcome, case};

const FAULTS: usize = 15;
/// How long a fault lasts at most.
const LONGEST: f64 = 0.6;

/// Half of the handles go over the link, the others do not.
async fn one_fault_after_another(env: Env) -> Outcome {
    let linked = env.link().await?;
    let handles = vec![linked.queue, env.open().await?, env.open_at(&linked.url).await?, env.open().await?];
    let traffic = Traffic::start(&env, handles).await?;
    let mut happened = Vec::new();
    let outcome = suffer(&env, &traffic, &*linked.link, &mut happened).await;
    let outcome = match outcome {
        Ok(()) => traffic.drain().await,
        failed => failed,
    };
    outcome.map_err(|fail| Fail::new(format!("{fail}\nafter {}", happened.join(", "))))
}

async fn suffer(env: &Env, traffic: &Traffic, link: &dyn Link, happened: &mut Vec<String>) -> Outcome {
    let faults = env.faults().await?;
    let offered: Vec<Fault> =
        OF_THE_BROKER.iter().copied().filter(|fault| faults.offers(fault.kind())).collect();
    let mut rng = env.rng();
    for _ in 0..FAULTS {
        let lasts = Duration::from_secs_f64(LONGEST * rng.unit());
        match rng.pick(&offered).copied().filter(|_| rng.clone().chance(0.5)) {
            Some(fault) => {
                happened.push(format!("{fault:?} for {lasts:?}"));
                traffic.suffers(fault, lasts).await?;
            }
            None => {
                let order = OnTheWay::any(&mut rng);
                happened.push(format!("{order:?} for {lasts:?}"));
                traffic.suffers_on_the_way(link, order, lasts).await;
            }
        }
        sleep(env.t(rng.unit())).await;
    }
    traffic.recovers().await
}

pub(crate) const CASES: &[Case] = &[case!(
    "C-FLT-11",
    "one fault after another, as a seed decides: nothing is lost, nothing acked comes again, everything works in the end",
    ["S-FLT-1", "S-FLT-2", "S-PUB-1", "S-PUB-2", "S-DEL-1", "S-DEL-2", "S-SET-2"],
    Both,
    [Fault(Kill9), Link],
    one_fault_after_another
)];
