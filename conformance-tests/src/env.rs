//! What a case is given: a namespace of its own, recorded handles, the unit of time and the seed.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use polyqueue::{Backoff, ConnectOptions, Info, Queue, QueueName, RetryPolicy, Subscription};
use tokio::time::{Instant, sleep, sleep_until};

use crate::child::Part;
use crate::fail::asserted;
use crate::history::{Call, Recorder};
use crate::lateness::Controls;
use crate::namespace::Namespaces;
use crate::recorded::Recorded;
use crate::series::Series;
use crate::{Child, Fail, Faults, Garbage, Harness, LinkedQueue, Namespace, NoFaults, Outcome, Rng, Time};

/// What has not come so long after it was late is not there.
const NEVER: Duration = Duration::from_secs(10);

/// What a case is given. A clone is the same environment.
#[derive(Clone)]
pub struct Env(Arc<Inner>);

struct Inner {
    harness: Arc<dyn Harness>,
    namespaces: Arc<Namespaces>,
    seed: u64,
    forks: AtomicU64,
    lateness: Duration,
    controls: Controls,
    info: Info,
    too_slow: Mutex<Option<String>>,
    opened: Mutex<Vec<Weak<dyn Queue>>>,
}

/// What an [`Env`] is made of.
pub(crate) struct Setting {
    pub(crate) namespace: String,
    pub(crate) seed: u64,
    pub(crate) lateness: Duration,
    pub(crate) controls: Controls,
    pub(crate) info: Info,
}

impl Env {
    pub(crate) fn new(harness: Arc<dyn Harness>, setting: Setting) -> Self {
        let namespace = Namespace::new(setting.namespace, Arc::default());
        Self(Arc::new(Inner {
            harness,
            namespaces: Arc::new(Namespaces::new(namespace)),
            seed: setting.seed,
            forks: AtomicU64::new(0),
            lateness: setting.lateness,
            controls: setting.controls,
            info: setting.info,
            too_slow: Mutex::default(),
            opened: Mutex::default(),
        }))
    }

    /// T, the unit of all waits.
    pub fn tick(&self) -> Duration {
        self.0.harness.tick()
    }

    /// `ticks` × T.
    pub fn t(&self, ticks: f64) -> Duration {
        self.tick().mul_f64(ticks)
    }

    /// L: how late "in time" may be, as calibrated when the run began.
    pub fn lateness(&self) -> Duration {
        self.0.lateness
    }

    /// So many L, but some seconds at most: how much longer than a hiccup of the machine a wait must be for its order with others
    /// not to depend on one.
    pub fn hiccups(&self, n: u32) -> Duration {
        (n * self.lateness()).min(Duration::from_secs(5))
    }

    /// Something that was due at `due` was seen to have happened at `seen`: fails when that is late, by more than L.
    ///
    /// # Errors
    /// When it is late, unless the machine was as slow at that time: then the case goes on, is too slow to be judged in the end,
    /// and can still fail.
    #[track_caller]
    pub fn in_time(&self, what: &str, due: Instant, seen: Instant) -> Outcome {
        self.judge(Location::caller(), what, due, seen, self.lateness())
    }

    /// The same with another bound than L.
    ///
    /// # Errors
    /// As [`Env::in_time`].
    #[track_caller]
    pub fn in_time_by(&self, what: &str, due: Instant, seen: Instant, bound: Duration) -> Outcome {
        self.judge(Location::caller(), what, due, seen, bound)
    }

    fn judge(
        &self,
        here: &'static Location<'static>,
        what: &str,
        due: Instant,
        seen: Instant,
        bound: Duration,
    ) -> Outcome {
        asserted();
        let late = seen.saturating_duration_since(due);
        if late <= bound || self.excuses(what, due, seen, late) {
            return Ok(());
        }
        let slowness = self.0.controls.slowness(due, seen);
        Err(Fail::at(here, format!("{what}: {late:?} late, allowed are {bound:?}; {slowness}")))
    }

    /// Whether something between these two may be `late` by the slowness of the machine; remembers it, for the case is too slow to
    /// be judged then.
    pub(crate) fn excuses(&self, what: &str, due: Instant, seen: Instant, late: Duration) -> bool {
        let slowness = self.0.controls.slowness(due, seen);
        let excused = slowness.explains(late);
        if excused {
            self.note_too_slow(format!("{what}: {late:?} late; {slowness}"));
        }
        excused
    }

    pub(crate) fn note_too_slow(&self, why: String) {
        self.0.too_slow.lock().get_or_insert(why);
    }

    /// Why this case cannot be judged, if so.
    pub(crate) fn too_slow(&self) -> Option<String> {
        self.0.too_slow.lock().clone()
    }

    /// How late the runtime of this case wakes what sleeps.
    pub(crate) fn lag(&self) -> &Arc<Series> {
        &self.0.controls.lag
    }

    /// What must be so by `due` + L, told by a look at it that fails until then. Nobody looks before; where it is not so then, it
    /// is late when it comes later, and not there when it does not come at all.
    ///
    /// # Errors
    /// When it is late, as [`Env::in_time`], or as the last look when it never comes.
    #[track_caller]
    pub fn by<F: Future<Output = Outcome>>(
        &self,
        due: Instant,
        what: &str,
        mut look: impl FnMut() -> F,
    ) -> impl Future<Output = Outcome> {
        let here = Location::caller();
        async move {
            sleep_until(due + self.lateness()).await;
            if look().await.is_ok() {
                return Ok(());
            }
            let end = Instant::now() + NEVER;
            loop {
                match look().await {
                    Ok(()) => return self.judge(here, what, due, Instant::now(), self.lateness()),
                    Err(fail) if Instant::now() > end => return Err(fail),
                    Err(_) => sleep(self.t(0.05)).await,
                }
            }
        }
    }

    /// This case's seed, made from that of the run.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// A generator; each call gives another, in an order that the seed decides.
    pub fn rng(&self) -> Rng {
        let nth = self.0.forks.fetch_add(1, Relaxed);
        Rng::new(self.0.seed.wrapping_add(nth.wrapping_mul(0xA24B_AED4_963E_E407))).fork()
    }

    /// This case's own namespace: nothing else on the broker has it.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespaces.own
    }

    /// That, and those that child handles were opened in.
    pub(crate) fn namespaces(&self) -> Vec<Namespace> {
        self.0.namespaces.all()
    }

    /// A queue's name. Namespaces keep cases apart, names need not.
    ///
    /// # Panics
    /// When it is not a valid name.
    #[track_caller]
    pub fn queue_name(&self, name: &str) -> QueueName {
        match QueueName::new(name) {
            Ok(name) => name,
            Err(error) => panic!("{error}"),
        }
    }

    /// A fresh client whose calls are recorded.
    ///
    /// # Errors
    /// As the backend's own connect.
    pub async fn open(&self) -> Result<Arc<dyn Queue>, Fail> {
        self.open_with(|options| options).await
    }

    /// A fresh client with other options.
    ///
    /// # Errors
    /// As the backend's own connect.
    pub async fn open_with(
        &self,
        change: impl FnOnce(ConnectOptions) -> ConnectOptions,
    ) -> Result<Arc<dyn Queue>, Fail> {
        Ok(self.try_open_with(change).await?)
    }

    /// The same, with the backend's own error, for cases about failing to open.
    ///
    /// # Errors
    /// As the backend's own connect.
    pub async fn try_open_with(
        &self,
        change: impl FnOnce(ConnectOptions) -> ConnectOptions,
    ) -> polyqueue::Result<Arc<dyn Queue>> {
        let queue = self.open_unrecorded(change).await?;
        let queue: Arc<dyn Queue> = Recorded::new(queue, self.namespace(), self.0.namespaces.clone());
        self.0.opened.lock().push(Arc::downgrade(&queue));
        Ok(queue)
    }

    /// A client outside the history: for the runner's own looks at the broker.
    pub(crate) async fn open_unrecorded(
        &self,
        change: impl FnOnce(ConnectOptions) -> ConnectOptions,
    ) -> polyqueue::Result<Arc<dyn Queue>> {
        let options = ConnectOptions::new("").namespace(self.namespace().name());
        self.0.harness.open(self.namespace(), change(options)).await
    }

    /// A fresh client and a queue that is declared.
    ///
    /// # Errors
    /// As [`Queue::declare`].
    pub async fn declared(&self, name: &str) -> Result<(Arc<dyn Queue>, QueueName), Fail> {
        let queue = self.open().await?;
        let name = self.queue_name(name);
        queue.declare(&name.clone().into()).await?;
        Ok((queue, name))
    }

    /// The suite's usual subscription: lease 5T, 3 attempts, nothing prefetched between calls.
    pub fn subscription(&self, queue: &QueueName) -> Subscription {
        Subscription::new(queue.clone())
            .lease(self.t(5.0))
            .max_attempts(self.policy().max_attempts())
            .consumer("conformance")
    }

    /// The suite's usual policy: waits of 1T, 2T, 4T, 4T …, 3 attempts.
    pub fn policy(&self) -> RetryPolicy {
        let backoff = Backoff::new(self.t(1.0), 2.0, self.t(4.0));
        let policy = backoff.and_then(|backoff| RetryPolicy::new(3, backoff));
        policy.unwrap_or_else(|error| unreachable!("constants are valid: {error}"))
    }

    /// Control over the broker. From here on the history may hold duplicates.
    ///
    /// # Errors
    /// When the harness has none; [`Need::Faults`](crate::Need) keeps a case from being run then.
    pub async fn faults(&self) -> Result<Arc<dyn Faults>, Fail> {
        self.note_fault();
        self.0.harness.faults(self.namespace()).await.map_err(|none| why_not(none, "faults"))
    }

    /// A fresh recorded client that reaches the broker over a link of its own. From here on the history may hold
    /// duplicates.
    ///
    /// # Errors
    /// When there is none; [`Need::Link`](crate::Need) keeps a case from being run then.
    pub async fn link(&self) -> Result<LinkedQueue, Fail> {
        self.note_fault();
        let linked = self.0.harness.link(self.namespace()).await.map_err(|none| why_not(none, "link"))?;
        let queue = self.open_at(&linked.url).await?;
        Ok(LinkedQueue { queue, link: linked.link, url: linked.url })
    }

    /// One more fresh recorded client, for this URL.
    ///
    /// # Errors
    /// As the backend's own connect.
    pub async fn open_at(&self, url: &str) -> Result<Arc<dyn Queue>, Fail> {
        let url = url.to_owned();
        self.open_with(|mut options| {
            options.url = url;
            options
        })
        .await
    }

    /// Puts something unreadable into a queue.
    ///
    /// # Errors
    /// As the harness.
    pub async fn garbage(&self, queue: &QueueName, raw: Garbage) -> Outcome {
        self.recorder().note_outsider();
        Ok(self.0.harness.garbage(self.namespace(), queue, raw).await?)
    }

    /// Publishes as a client that knows nothing of this library.
    ///
    /// # Errors
    /// As the harness.
    pub async fn foreign(&self, queue: &QueueName, payload: impl Into<Bytes>) -> Outcome {
        self.recorder().note_outsider();
        Ok(self.0.harness.foreign(self.namespace(), queue, payload.into()).await?)
    }

    /// What the backend says of itself.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// Whether time is virtual in this run: waits cost nothing then.
    pub fn virtual_time(&self) -> bool {
        self.0.harness.time() == Time::Virtual
    }

    /// Starts another process of this test binary that runs the [role](crate::roles) with these arguments in this
    /// namespace, on the same broker.
    ///
    /// # Errors
    /// When no other process can join, or it does not start.
    pub async fn child(&self, role: &str, args: &[(&str, &str)]) -> Result<Child, Fail> {
        let spec = self.0.harness.child().ok_or_else(|| Fail::new("no other process can join"))?;
        self.recorder().note_outsider();
        self.recorder().note_fault();
        let part = Part {
            role: role.into(),
            args: args.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
            namespace: self.namespace().name().into(),
            seed: self.seed(),
            lateness_ms: self.lateness().as_millis() as u64,
        };
        Child::start(spec, &part)
    }

    /// Tells the checkers of the history that from here on calls may have had hidden effects.
    pub fn note_fault(&self) {
        self.recorder().note_fault();
    }

    /// Tells the checkers of the history that every message of this queue whose publish was Ok has come to its end.
    pub fn drained(&self, queue: &QueueName) {
        self.recorder().note(self.recorder().fresh_id(), Call::Drained { queue: queue.clone() });
    }

    pub(crate) fn harness(&self) -> &Arc<dyn Harness> {
        &self.0.harness
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        self.0.namespaces.own.recorder()
    }

    /// Every client that was opened here and is still there: a case may drop its own.
    pub(crate) fn take_opened(&self) -> Vec<Arc<dyn Queue>> {
        std::mem::take(&mut *self.0.opened.lock()).iter().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("harness", &self.0.harness.name())
            .field("namespace", self.namespace())
            .field("seed", &self.0.seed)
            .finish_non_exhaustive()
    }
}

fn why_not(none: NoFaults, what: &str) -> Fail {
    match none {
        NoFaults::NotApplicable(reason) => Fail::new(reason),
        NoFaults::Missing => Fail::new(format!("the harness offers no {what}()")),
    }
}
