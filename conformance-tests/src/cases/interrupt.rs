//! A client whose call is cut off or held up in its middle: on the wire where there is one, at a poll where there is none.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use polyqueue::Queue;

use crate::link::{Direction, Link, Traffic};
use crate::verbs::poll_then_drop;
use crate::{Env, Fail};

/// A client of its own, to which things happen.
pub(super) struct Victim {
    pub(super) queue: Arc<dyn Queue>,
    wire: Option<(Arc<dyn Link>, String)>,
}

/// Where a call is cut off.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// After so many polls its future is dropped.
    Poll(usize),
    /// After so many bytes in one direction all connections are cut.
    Wire(Direction, u64),
}

/// Where a call is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// What it asks does not arrive yet; without sockets: it is not polled at all yet.
    Request,
    /// It has been asked for, the answer does not arrive yet; without sockets: it was polled once.
    Answer,
}

/// Polls at which calls are cut where there are no sockets.
const POLLS: usize = 5;
/// Places on the wire in each direction.
const PLACES: u64 = 5;

impl Victim {
    /// A fresh client, behind a proxy where the broker has a socket.
    pub(super) async fn open(env: &Env) -> Result<Self, Fail> {
        env.note_fault();
        if env.virtual_time() {
            return Ok(Self { queue: env.open().await?, wire: None });
        }
        let linked = env.link().await?;
        Ok(Self { queue: linked.queue, wire: Some((linked.link, linked.url)) })
    }

    /// One more client by the same way.
    pub(super) async fn another(&self, env: &Env) -> Result<Arc<dyn Queue>, Fail> {
        match &self.wire {
            Some((_, url)) => env.open_at(url).await,
            None => env.open().await,
        }
    }

    /// Lets a call run to its end and tells where the same call of another victim may be cut.
    pub(super) async fn rehearse<F: Future>(&self, call: F) -> (F::Output, Vec<Cut>) {
        let before = self.traffic();
        let answer = call.await;
        let after = self.traffic();
        if self.wire.is_none() {
            return (answer, (0..POLLS).map(Cut::Poll).collect());
        }
        let places =
            |direction, bytes: u64| (0..=PLACES).map(move |i| Cut::Wire(direction, bytes * i / PLACES));
        let requests = places(Direction::ToBroker, after.to_broker - before.to_broker);
        let answers = places(Direction::ToClient, after.to_client - before.to_client);
        (answer, requests.chain(answers).collect())
    }

    /// Runs a call that is cut off; its answer, when there still was one.
    pub(super) async fn cut<F: Future>(&self, cut: Cut, call: F) -> Option<F::Output> {
        match (cut, &self.wire) {
            (Cut::Poll(polls), _) => poll_then_drop(call, polls).await,
            (Cut::Wire(..), None) => Some(call.await),
            (Cut::Wire(direction, bytes), Some((link, _))) => {
                link.cut_after(direction, bytes);
                let answer = call.await;
                link.heal();
                Some(answer)
            }
        }
    }

    /// Runs a call that is held up while `meanwhile` runs to its end, then let go.
    pub(super) async fn held_up<F: Future, M: Future>(
        &self,
        hold: Hold,
        call: F,
        meanwhile: M,
    ) -> (F::Output, M::Output) {
        let mut call = pin!(call);
        let Some((link, _)) = &self.wire else {
            let mut early = None;
            if hold == Hold::Answer {
                early = poll_once(call.as_mut()).await;
            }
            let between = meanwhile.await;
            return match early {
                Some(answer) => (answer, between),
                None => (call.await, between),
            };
        };
        link.swallow(match hold {
            Hold::Request => Direction::ToBroker,
            Hold::Answer => Direction::ToClient,
        });
        tokio::join!(call, async {
            let between = meanwhile.await;
            link.heal();
            between
        })
    }

    fn traffic(&self) -> Traffic {
        self.wire.as_ref().map(|(link, _)| link.traffic()).unwrap_or_default()
    }

    /// Bytes that it has sent so far; 0 where there are no sockets.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.traffic().to_broker
    }

    /// Connections that are open through the proxy; `None` where there are no sockets.
    pub(super) fn connections(&self) -> Option<u64> {
        self.wire.as_ref().map(|(link, _)| link.traffic().open)
    }
}

async fn poll_once<F: Future>(mut call: std::pin::Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
