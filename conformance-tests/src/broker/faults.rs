//! The faults of a broker that is a process of ours.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::contract::Broker;
use super::error::Result;
use crate::{Fail, Fault, Faults, Outcome, async_trait};

/// Control over a broker that is a process of ours: what any process can suffer, and what this broker adds.
#[derive(Clone, Debug)]
pub struct BrokerFaults(Arc<dyn Broker>);

impl BrokerFaults {
    /// Of this broker.
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self(broker)
    }
}

#[async_trait]
impl Faults for BrokerFaults {
    fn offer(&self, fault: Fault) -> Option<BoxFuture<'_, Outcome>> {
        let happening = match fault {
            Fault::Kill9 => self.0.kill9().boxed(),
            Fault::StopGracefully => self.0.stop_gracefully().boxed(),
            Fault::Pause => async { self.0.freeze() }.boxed(),
            own => self.0.own_fault(own)?,
        };
        Some(happening.map(outcome).boxed())
    }

    async fn heal(&self) -> Outcome {
        // A process that is down cannot be thawed, and need not be.
        let _ = self.0.thaw();
        outcome(self.0.start_again().await)?;
        outcome(self.0.undo().await)
    }
}

fn outcome(done: Result<()>) -> Outcome {
    done.map_err(|error| Fail::new(error.to_string()))
}
