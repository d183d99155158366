//! What happens when, as a seed decides: storms, and calms long enough that everything must work again in them.

use std::time::Duration;

use super::deed::Deed;
use super::order::{Only, Order};
use super::setting::{Role, queues_for};
use crate::link::Direction;
use crate::mishap::OnTheWay;
use crate::{Fault, Rng};

/// A storm and the calm after it.
const CYCLE: Duration = Duration::from_secs(20);
/// How much of it is a storm.
const STORM: f64 = 0.55;
/// Messages flow before anything happens.
const FIRST: Duration = Duration::from_millis(500);
/// Cuts come after so many bytes at most.
const FAR: u64 = 5_000;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) deed: Deed,
    pub(super) lasts: Duration,
}

/// The steps of a drill on a broker that can suffer these faults; the same for the same seed.
pub(super) fn plan(order: &Order, offered: &[Fault]) -> Vec<Step> {
    let mut rng = Rng::new(order.seed).fork();
    let cycle = CYCLE.min(order.lasts);
    let mut steps = Vec::new();
    let mut begins = Duration::ZERO;
    // A cycle that is cut short would have no calm.
    while begins + cycle <= order.lasts && !cycle.is_zero() {
        let storm_ends = begins + cycle.mul_f64(STORM);
        let mut at = begins + FIRST.min(cycle / 4);
        while at < storm_ends {
            let lasts = Duration::from_secs_f64(0.8 * rng.unit());
            let mut deed = any(order, offered, &mut rng);
            while steps.is_empty() && !deed.is_fault() {
                deed = any(order, offered, &mut rng);
            }
            steps.push(Step { at, deed, lasts });
            at += lasts + Duration::from_secs_f64(0.1 + 0.5 * rng.unit());
        }
        begins += cycle;
    }
    steps
}

fn any(order: &Order, offered: &[Fault], rng: &mut Rng) -> Deed {
    let crash = |rng: &mut Rng| match rng.chance(0.5) {
        true => Deed::Crash(Role::Producer, rng.below(order.producers as u64) as usize),
        false => Deed::Crash(Role::Consumer, rng.below(order.consumers as u64) as usize),
    };
    match order.only {
        Some(Only::Kills) => crash(rng),
        Some(Only::Cuts) => {
            let direction = if rng.chance(0.5) { Direction::ToBroker } else { Direction::ToClient };
            // Most calls are short.
            Deed::Way(OnTheWay::CutAfter(direction, rng.below(FAR) >> rng.below(6)))
        }
        // Where nothing can be done to the broker, it is somebody else's.
        None if offered.is_empty() => Deed::Way(OnTheWay::any(rng)),
        None => match (rng.below(100), rng.pick(offered)) {
            (0..45, Some(fault)) => Deed::Broker(*fault),
            (0..80, _) => Deed::Way(OnTheWay::any(rng)),
            (80..92, _) => crash(rng),
            _ => Deed::Redrive(rng.below(queues_for(order.consumers) as u64) as usize),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mishap::OF_THE_BROKER;

    #[test]
    fn a_seed_decides_and_each_storm_has_a_calm_longer_than_the_recovery() {
        let order = Order::new(7, Duration::from_secs(60));
        let steps = plan(&order, OF_THE_BROKER);
        assert_eq!(steps, plan(&order, OF_THE_BROKER));
        assert_ne!(steps, plan(&Order { seed: 8, ..order.clone() }, OF_THE_BROKER));
        let pauses = steps.windows(2).filter(|pair| pair[1].at - pair[0].at > Duration::from_secs(6)).count();
        assert_eq!(pauses, 2, "two of the three calms lie between steps");
        assert!(steps.last().unwrap().at < Duration::from_secs(52));
    }

    #[test]
    fn a_broker_of_somebody_else_suffers_nothing() {
        let steps = plan(&Order::new(7, Duration::from_secs(60)), &[]);
        assert!(steps.len() > 20 && steps.iter().all(|step| matches!(step.deed, Deed::Way(_))));
    }

    #[test]
    fn even_the_shortest_drill_has_a_fault() {
        for seed in 0..50 {
            assert!(plan(&Order::new(seed, Duration::from_secs(1)), OF_THE_BROKER)[0].deed.is_fault());
        }
    }
}
