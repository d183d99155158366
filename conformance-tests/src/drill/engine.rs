//! One drill from its first client to its report.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use polyqueue::{ConnectOptions, DeadFilter, MessageId, Page, Queue};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

use super::crew::Crew;
use super::deed::{Deed, Done};
use super::disk;
use super::entry::{Entry, What};
use super::found::Evidence;
use super::judge::judge;
use super::ledger::Ledger;
use super::order::{Order, Watch};
use super::plan::{Step, plan};
use super::report::Report;
use super::setting::{LEASE, Role, queue_name, queues_for};
use super::site::Site;
use super::summary::summary;
use crate::lateness::{Controls, LAG_SAMPLED};
use crate::mishap::OF_THE_BROKER;
use crate::{Fail, Fault, Faults, Outcome, Time};

const FLOWS_WITHIN: Duration = Duration::from_secs(30);
/// Until then everything that was stored has come to its end.
const DRAINS_WITHIN: Duration = Duration::from_secs(30);
/// What was acked and comes again does so when its lease ends.
const LINGERS: Duration = Duration::from_secs(3);
const LOOKS_EVERY: Duration = Duration::from_millis(50);
const CLEANS_WITHIN: Duration = Duration::from_secs(30);

/// Does a drill, on a runtime of its own, and judges it.
///
/// # Errors
/// When it cannot be done: there is no broker, or no fault can be made. Broken promises are in the report.
pub fn run(site: Arc<dyn Site>, order: &Order, watch: &Arc<Watch>) -> Result<Report, Fail> {
    let runtime = runtime(site.time()).map_err(|error| Fail::new(format!("starting a runtime: {error}")))?;
    let done = runtime.block_on(drilled(site, order, watch));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

fn runtime(time: Time) -> std::io::Result<Runtime> {
    match time {
        Time::Virtual => Builder::new_current_thread().enable_all().start_paused(true).build(),
        Time::Real => Builder::new_multi_thread().enable_all().build(),
    }
}

async fn drilled(site: Arc<dyn Site>, order: &Order, watch: &Arc<Watch>) -> Result<Report, Fail> {
    let unique = MessageId::random().to_string().replace('-', "");
    let namespace = format!("drill-{}", &unique[unique.len() - 12..]);
    let operator = site.open(ConnectOptions::new("").namespace(namespace.clone())).await?;
    let drill = Drill {
        faults: site.faults(),
        controls: controls(&*site)?,
        ledger: Arc::new(Ledger::new(watch.clone())),
        began: Instant::now(),
        order: order.clone(),
        watch: watch.clone(),
        operator,
        site,
    };
    let report = drill.done(&namespace).await;
    let cleaned = timeout(CLEANS_WITHIN, drill.clean()).await;
    let cleaned = cleaned.unwrap_or_else(|_| Err(format!("deleting the queues of {namespace} hangs").into()));
    report.and_then(|report| cleaned.map(|()| report))
}

struct Drill {
    site: Arc<dyn Site>,
    order: Order,
    watch: Arc<Watch>,
    ledger: Arc<Ledger>,
    controls: Controls,
    began: Instant,
    /// Goes beside all links.
    operator: Arc<dyn Queue>,
    faults: Option<Arc<dyn Faults>>,
}

impl Drill {
    async fn done(&self, namespace: &str) -> Result<Report, Fail> {
        for nth in 0..self.queues() {
            self.operator.declare(&queue_name(nth)?.into()).await?;
        }
        let lag = self.controls.lag.clone();
        let sampler = (self.site.time() == Time::Real).then(|| tokio::spawn(sample(lag)));
        let ledger = self.ledger.clone();
        let sink = Arc::new(move |entry| ledger.note(entry));
        let mut crew = Crew::start(self.site.clone(), &self.order, namespace, (sink, self.began)).await?;
        let mut deeds = Vec::new();
        let happened = self.happens(&mut crew, &mut deeds).await;
        if let Some(faults) = &self.faults {
            faults.heal().await?;
        }
        let flows = happened?;
        crew.end(Role::Producer).await?;
        self.drain().await?;
        sleep(LINGERS).await;
        crew.end(Role::Consumer).await?;
        self.look_at_the_dead().await?;
        if let Some(sampler) = sampler {
            sampler.abort();
        }
        Ok(Report { namespace: namespace.into(), ..self.judged(flows, &deeds) })
    }

    fn queues(&self) -> usize {
        queues_for(self.order.consumers)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Messages flow; then one thing after another happens; then time passes to the end.
    async fn happens(&self, crew: &mut Crew, deeds: &mut Vec<Done>) -> Result<Duration, Fail> {
        while self.ledger.pages().flowing() < self.queues() {
            if self.now() > FLOWS_WITHIN {
                return Err(format!("not on every queue a message came within {FLOWS_WITHIN:?}").into());
            }
            sleep(LOOKS_EVERY).await;
        }
        let flows = self.now();
        for step in plan(&self.order, &self.offered()) {
            if !self.until(flows + step.at).await {
                break;
            }
            deeds.push(self.happen(crew, step).await?);
        }
        self.until(flows + self.order.lasts).await;
        Ok(flows)
    }

    fn offered(&self) -> Vec<Fault> {
        let offers = |fault: &Fault| self.faults.as_ref().is_some_and(|faults| faults.offers(fault.kind()));
        OF_THE_BROKER.iter().copied().filter(offers).collect()
    }

    /// Whether the drill still goes on at that time.
    async fn until(&self, at: Duration) -> bool {
        while let left = at.saturating_sub(self.now())
            && !left.is_zero()
            && !self.watch.is_stopped()
        {
            sleep(left.min(LOOKS_EVERY)).await;
        }
        !self.watch.is_stopped()
    }

    async fn happen(&self, crew: &mut Crew, Step { deed, lasts, .. }: Step) -> Result<Done, Fail> {
        if deed.is_fault() {
            self.watch.faults.fetch_add(1, Relaxed);
        }
        let began = self.now();
        match deed {
            Deed::Broker(fault) => self.control()?.apply(fault).await?,
            Deed::Way(way) => crew.ways().iter().for_each(|linked| way.happen(&*linked.link)),
            Deed::Crash(role, nth) => crew.crash(role, nth).await?,
            Deed::Redrive(queue) => self.redrive(queue).await?,
        }
        let there = self.now();
        if deed.is_fault() {
            sleep(lasts).await;
        }
        match deed {
            Deed::Broker(_) => self.control()?.heal().await?,
            Deed::Way(_) => crew.ways().iter().for_each(|linked| linked.link.heal()),
            Deed::Crash(role, nth) => crew.replace(role, nth)?,
            Deed::Redrive(_) => {}
        }
        Ok(Done { deed, began, there, healed: self.now() })
    }

    fn control(&self) -> Result<&Arc<dyn Faults>, Fail> {
        self.faults.as_ref().ok_or_else(|| Fail::new("there is no control over this broker"))
    }

    /// An operator sends dead letters round again; it may be told that the broker cannot do it now.
    async fn redrive(&self, queue: usize) -> Outcome {
        let name = queue_name(queue)?;
        let Ok(page) = self.operator.dead_letters(&name, &DeadFilter::all(), Page::first(10)).await else {
            return Ok(());
        };
        for letter in &page.dead_letters {
            if let Some(message) = letter.message() {
                let what = What::Redriving { id: message.id().to_string() };
                self.ledger.note(Entry { at: self.now(), what });
            }
        }
        let ids: Vec<_> = page.dead_letters.into_iter().map(|letter| letter.id).collect();
        match self.operator.redrive(&name, &ids).await {
            Err(error) if !error.is_transient() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Waits until everything that was stored has come to its end, but not for ever.
    async fn drain(&self) -> Outcome {
        let end = self.now() + DRAINS_WITHIN;
        loop {
            self.look_at_the_dead().await?;
            if self.ledger.pages().outstanding().is_empty() || self.now() > end {
                return Ok(());
            }
            sleep(LEASE / 4).await;
        }
    }

    async fn look_at_the_dead(&self) -> Outcome {
        for nth in 0..self.queues() {
            let name = queue_name(nth)?;
            let mut page = Page::first(100);
            loop {
                let listed = self.operator.dead_letters(&name, &DeadFilter::all(), page).await?;
                for message in listed.dead_letters.iter().filter_map(|letter| letter.message()) {
                    self.ledger.pages().bury(&message.id().to_string());
                }
                match listed.next {
                    Some(next) => page = Page::after(next, 100),
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn judged(&self, flows: Duration, deeds: &[Done]) -> Report {
        let slowness = |from: Duration, to: Duration| {
            self.controls.slowness(self.began + from, self.began + to).allowance()
        };
        let pages = self.ledger.pages();
        let evidence = Evidence {
            pages: &pages,
            deeds,
            flows,
            ended: self.now(),
            consumers: self.order.consumers,
            producers: self.order.producers,
            holds_by_connection: self.site.holds_by_connection(),
            ack_window: self.operator.info().ack_window,
            atomic_moves: self.operator.info().atomic_moves,
            grain: Duration::from_millis(if self.site.time() == Time::Real { 2 } else { 0 }),
            slowness: &slowness,
        };
        let violations = judge(&evidence).0;
        Report {
            backend: self.site.name(),
            seed: self.order.seed,
            stopped: self.watch.is_stopped(),
            ..summary(&evidence, violations)
        }
    }

    async fn clean(&self) -> Outcome {
        for spec in self.operator.queues().await? {
            self.operator.delete(&spec.name).await?;
        }
        Ok(self.operator.close().await?)
    }
}

/// What the slowness of this machine is known by: its disk, where a private broker writes to it, and the lag of the runtime.
fn controls(site: &dyn Site) -> Result<Controls, Fail> {
    let writes = site.time() == Time::Real && site.faults().is_some();
    if writes { Ok(Controls::beside(&disk::watched()?)) } else { Ok(Controls::none()) }
}

/// Notes how late this runtime wakes what sleeps.
async fn sample(lag: Arc<crate::series::Series>) {
    loop {
        lag.begin();
        sleep(LAG_SAMPLED).await;
        lag.end();
    }
}
