//! Which cases mean something on this backend.

use polyqueue::Info;

use crate::{Case, Harness, Need, NoFaults, Time};

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
    proxy: Gate,
    child: bool,
    time: Time,
}

impl Facts {
    pub(crate) async fn gather(harness: &dyn Harness, info: &Info) -> Self {
        let faults = match harness.faults().await {
            Ok(_) => Gate::Open,
            Err(NoFaults::NotApplicable(reason)) => Gate::NotApplicable(reason),
            Err(NoFaults::Missing) => Gate::Skip("no faults()".into()),
        };
        let proxy = match harness.broker() {
            Some(_) => Gate::Open,
            None if info.shared => Gate::Skip("no broker() for the proxy to stand before".into()),
            None => Gate::NotApplicable("needs sockets".into()),
        };
        let (durable, shared) = (info.durable, info.shared);
        Self { durable, shared, faults, proxy, child: harness.child().is_some(), time: harness.time() }
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
            Need::RealTime if self.time != Time::Real => Gate::NotApplicable("needs real time".into()),
            Need::Faults => self.faults.clone(),
            Need::Proxy => self.proxy.clone(),
            Need::Durable | Need::Shared | Need::Nothing | Need::Minutes => Gate::Open,
            Need::VirtualTime | Need::RealTime => Gate::Open,
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
        proxy: Gate::NotApplicable(String::new()),
        child: false,
        time: Time::Virtual,
    };

    #[test]
    fn what_cannot_be_is_no_skip_even_when_something_else_is_missing() {
        assert_eq!(MEMORY.gate(&case(&[])), Gate::Open);
        assert!(matches!(MEMORY.gate(&case(&[Need::Faults])), Gate::Skip(_)));
        assert!(matches!(MEMORY.gate(&case(&[Need::Faults, Need::Durable])), Gate::NotApplicable(_)));
        assert!(matches!(MEMORY.gate(&case(&[Need::Durable, Need::Faults])), Gate::NotApplicable(_)));
    }
}
