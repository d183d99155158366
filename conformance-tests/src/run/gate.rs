//! Which cases mean something on this backend.

use std::sync::Arc;

use polyqueue::{Error, Info, MessageId, Reschedule};

use crate::dedup_store::KeysInMemory;
use crate::faults::not_offered;
use crate::{Case, Env, Fail, FaultKind, Need, NoFaults, Time};

/// Whether a case is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It is run.
    Open,
    /// It means nothing here, for this reason. No skip.
    NotApplicable(String),
    /// It would mean something, but the harness lacks what it needs. Fails the run unless allowed.
    Skip(String),
}

/// What is known of the backend and its harness before the first case.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    durable: bool,
    shared: bool,
    faults: Gate,
    /// What of the broker's faults there is.
    offered: Vec<FaultKind>,
    link: Gate,
    child: bool,
    time: Time,
    reschedules: bool,
    takes_store: bool,
    footprint: bool,
}

impl Facts {
    pub(crate) async fn gather(env: &Env, info: &Info) -> Result<Self, Fail> {
        let harness = env.harness().as_ref();
        let (faults, offered) = match harness.faults(env.namespace()).await {
            Ok(faults) => (Gate::Open, FaultKind::ALL.into_iter().filter(|&it| faults.offers(it)).collect()),
            Err(none) => (lacking(none, "faults()"), Vec::new()),
        };
        let link = match harness.link(env.namespace()).await {
            Ok(_) => Gate::Open,
            Err(none) => lacking(none, "link()"),
        };
        let (durable, shared) = (info.durable, info.shared);
        Ok(Self {
            durable,
            shared,
            faults,
            offered,
            link,
            child: harness.child().is_some(),
            time: harness.time(),
            reschedules: reschedules(env).await?,
            takes_store: takes_store(env).await?,
            footprint: harness.footprint(env.namespace()).await?.is_some(),
        })
    }

    pub(crate) fn gate(&self, case: &Case) -> Gate {
        let gates = case.needs.iter().map(|need| self.meets(*need));
        gates.fold(Gate::Open, |worst, gate| match (&worst, &gate) {
            (Gate::NotApplicable(_), _) | (_, Gate::Open) => worst,
            (Gate::Skip(_), Gate::Skip(_)) => worst,
            _ => gate,
        })
    }

    fn meets(&self, need: Need) -> Gate {
        match need {
            Need::Durable if !self.durable => Gate::NotApplicable("needs durable".into()),
            Need::Shared if !self.shared => Gate::NotApplicable("needs shared".into()),
            Need::Shared if !self.child => Gate::Skip("no child()".into()),
            Need::VirtualTime if self.time != Time::Virtual => {
                Gate::NotApplicable("needs virtual time".into())
            }
            Need::Reschedule if !self.reschedules => {
                Gate::NotApplicable("reschedule is not supported, and says so".into())
            }
            Need::DedupStore if !self.takes_store => {
                Gate::NotApplicable("keeps dedup keys itself, and says so".into())
            }
            Need::Footprint if !self.footprint => {
                Gate::NotApplicable("the broker cannot say what it uses".into())
            }
            Need::RealTime if self.time != Time::Real => Gate::NotApplicable("needs real time".into()),
            Need::Faults => self.faults.clone(),
            Need::Fault(kind) if self.faults == Gate::Open && !self.offered.contains(&kind) => {
                Gate::NotApplicable(not_offered(kind))
            }
            Need::Fault(_) => self.faults.clone(),
            Need::Link => self.link.clone(),
            Need::Durable | Need::Shared | Need::Nothing | Need::Minutes => Gate::Open,
            Need::VirtualTime | Need::RealTime | Need::Reschedule | Need::DedupStore | Need::Footprint => {
                Gate::Open
            }
        }
    }
}

fn lacking(none: NoFaults, what: &str) -> Gate {
    match none {
        NoFaults::NotApplicable(reason) => Gate::NotApplicable(reason),
        NoFaults::Missing => Gate::Skip(format!("no {what}")),
    }
}

/// Whether a message can be rescheduled. Only `Unsupported` says that none can.
async fn reschedules(env: &Env) -> Result<bool, Fail> {
    let queue = env.open_unrecorded(|options| options).await?;
    let name = env.queue_name("look");
    queue.declare(&name.clone().into()).await?;
    let answer = queue.reschedule(&name, &MessageId::random(), Reschedule::Cancel).await;
    queue.delete(&name).await?;
    queue.close().await?;
    match answer {
        Err(Error::Unsupported { .. }) => Ok(false),
        answer => Ok(answer.map(|_| true)?),
    }
}

/// Whether a client takes a store for dedup keys. Only `Unsupported` says that none does.
async fn takes_store(env: &Env) -> Result<bool, Fail> {
    let store = Arc::new(KeysInMemory::default());
    match env.open_unrecorded(|options| options.dedup_store(store)).await {
        Err(Error::Unsupported { .. }) => Ok(false),
        answer => {
            answer?.close().await?;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(needs: &'static [Need]) -> Case {
        Case { needs, ..crate::case!("C", "", [], Safety, [], never) }
    }

    async fn never(_: crate::Env) -> crate::Outcome {
        Ok(())
    }

    const MEMORY: Facts = Facts {
        durable: false,
        shared: false,
        faults: Gate::Skip(String::new()),
        offered: Vec::new(),
        link: Gate::NotApplicable(String::new()),
        child: false,
        time: Time::Virtual,
        reschedules: true,
        takes_store: false,
        footprint: false,
    };

    #[test]
    fn what_cannot_be_is_no_skip_even_when_something_else_is_missing() {
        assert_eq!(MEMORY.gate(&case(&[])), Gate::Open);
        assert!(matches!(MEMORY.gate(&case(&[Need::Faults])), Gate::Skip(_)));
        assert!(matches!(MEMORY.gate(&case(&[Need::Faults, Need::Durable])), Gate::NotApplicable(_)));
        assert!(matches!(MEMORY.gate(&case(&[Need::Durable, Need::Faults])), Gate::NotApplicable(_)));
    }
    #[test]
    fn a_kind_of_fault_that_is_not_offered_is_named_and_no_skip() {
        let needs = [Need::Fault(FaultKind::Alarm)];
        let case = case(Box::leak(Box::new(needs)));
        let offering = |offered| Facts { faults: Gate::Open, offered, ..MEMORY };
        let gate = offering(vec![FaultKind::Kill9]).gate(&case);
        assert_eq!(gate, Gate::NotApplicable("the harness does not offer Alarm".into()));
        assert_eq!(offering(vec![FaultKind::Alarm]).gate(&case), Gate::Open);
        assert!(matches!(MEMORY.gate(&case), Gate::Skip(_)), "no faults at all");
    }
}
