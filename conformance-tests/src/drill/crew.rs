//! The producers and consumers of a drill, as tasks or as processes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::consumer::consume;
use super::journal::{Journal, Sink};
use super::order::{Only, Order};
use super::process::Process;
use super::producer::produce;
use super::setting::{Place, Role, queues_for};
use super::site::Site;
use crate::{Fail, Linked, Outcome, Rng};

/// Links of a drill; each is shared by some clients.
const WAYS: usize = 4;
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// The clients of a drill.
pub(super) struct Crew {
    site: Arc<dyn Site>,
    sink: Sink,
    began: Instant,
    ways: Vec<Linked>,
    members: Vec<Member>,
    as_processes: bool,
    publishing: CancellationToken,
    consuming: CancellationToken,
}

struct Member {
    place: Place,
    body: Option<Body>,
}

enum Body {
    Task(JoinHandle<()>),
    Process(Box<Process>),
}

impl Crew {
    pub(super) async fn start(
        site: Arc<dyn Site>,
        order: &Order,
        namespace: &str,
        (sink, began): (Sink, Instant),
    ) -> Result<Self, Fail> {
        let kills = order.only == Some(Only::Kills);
        let mut ways = Vec::new();
        for _ in 0..if kills { 0 } else { WAYS } {
            ways.push(site.link().await?);
        }
        let mut rng = Rng::new(order.seed);
        let everywhere = order.only == Some(Only::Cuts) || site.faults().is_none();
        let mut crew = Self {
            as_processes: kills && site.process().is_some(),
            site,
            sink,
            began,
            ways,
            members: Vec::new(),
            publishing: CancellationToken::new(),
            consuming: CancellationToken::new(),
        };
        let roles = [(Role::Producer, order.producers), (Role::Consumer, order.consumers)];
        for (role, nth) in roles.iter().flat_map(|&(role, count)| (0..count).map(move |nth| (role, nth))) {
            // Half of the clients have a link that nothing happens to, where the broker itself has faults.
            let way = crew.ways.get(nth / 2 % WAYS).filter(|_| everywhere || nth % 2 == 0);
            let place = Place {
                role,
                nth,
                life: 0,
                namespace: namespace.into(),
                queues: queues_for(order.consumers),
                url: way.map(|way| way.url.clone()).unwrap_or_default(),
                seed: rng.u64(),
            };
            let body = Some(crew.begin(place.clone())?);
            crew.members.push(Member { place, body });
        }
        Ok(crew)
    }

    fn begin(&self, place: Place) -> Result<Body, Fail> {
        if self.as_processes {
            let command = self.site.process().ok_or("no process can be started")?;
            return Process::start(command, place, self.began, self.sink.clone())
                .map(|process| Body::Process(Box::new(process)));
        }
        let (site, journal) = (self.site.clone(), Journal::new(self.began, self.sink.clone()));
        Ok(Body::Task(match place.role {
            Role::Producer => {
                let ended = self.publishing.clone();
                tokio::spawn(async move { produce(place, &*site, journal, ended).await })
            }
            Role::Consumer => {
                let ended = self.consuming.clone();
                tokio::spawn(async move { consume(place, &*site, journal, ended).await })
            }
        }))
    }

    pub(super) fn ways(&self) -> &[Linked] {
        &self.ways
    }

    fn member(&mut self, role: Role, nth: usize) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.place.role == role && member.place.nth == nth)
    }

    /// Ends a client wherever it is, as in a crash.
    pub(super) async fn crash(&mut self, role: Role, nth: usize) -> Outcome {
        match self.member(role, nth).and_then(|member| member.body.take()) {
            Some(Body::Process(process)) => process.kill().await,
            Some(Body::Task(task)) => {
                task.abort();
                let _ = task.await;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Another one takes its place.
    pub(super) fn replace(&mut self, role: Role, nth: usize) -> Outcome {
        let Some(member) = self.member(role, nth) else { return Ok(()) };
        member.place.life += 1;
        member.place.seed = Rng::new(member.place.seed).u64();
        let place = member.place.clone();
        let body = self.begin(place)?;
        if let Some(member) = self.member(role, nth) {
            member.body = Some(body);
        }
        Ok(())
    }

    /// Tells all of a role to end, and waits until they have.
    pub(super) async fn end(&mut self, role: Role) -> Outcome {
        match role {
            Role::Producer => self.publishing.cancel(),
            Role::Consumer => self.consuming.cancel(),
        }
        let its = self.members.iter_mut().filter(|member| member.place.role == role);
        let bodies: Vec<Body> = its.filter_map(|member| member.body.take()).collect();
        join_all(bodies.into_iter().map(ended)).await.into_iter().collect()
    }
}

async fn ended(body: Body) -> Outcome {
    match body {
        Body::Process(process) => process.end().await,
        Body::Task(task) => match timeout(ENDS_WITHIN, task).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fail::new(format!("a client: {error}"))),
            Err(_) => Err(Fail::new(format!("a client did not end within {ENDS_WITHIN:?}"))),
        },
    }
}
