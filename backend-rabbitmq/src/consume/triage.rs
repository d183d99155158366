//! How a channel's messages come to the hand_out: asked for when somebody waits, sorted when they come.

use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery;
use polyqueue::DeadReason;
use tokio::time::Instant;

use crate::consume::channel_loop::ChannelLoop;
use crate::consume::source::SourceEvent;
use crate::settle::fetched::Fetched;
use crate::settle::receipt::Key;
use crate::settle::republish::AfterAck;
use crate::wire::dead::EXPIRED;
use crate::wire::decode::{Decoded, decode};
use crate::wire::properties::Raw;

/// The widest sweep over messages that came back.
const SWEEP: usize = 256;

/// How many messages that looked expired are remembered at most.
const MOST_SUSPECTS: usize = 10_000;
/// By then the broker has sent again what has not expired.
const SENT_AGAIN: Duration = Duration::from_secs(10);

impl ChannelLoop {
    /// Does what the pending receives call for.
    pub(crate) fn advance(&mut self) {
        self.reader.hand_out.take_back();
        for (key, item) in self.reader.hand_out.clear_stale() {
            self.dead_letter_stale(key, item);
        }
        if self.closed {
            self.source.detach(0);
            return self.give_back();
        }
        if self.reader.subscription.prefetch > 0 { self.advance_push() } else { self.advance_pull() }
    }

    fn advance_push(&mut self) {
        if self.source.is_idle() && self.paused_until.is_none() {
            self.source.attach();
        }
        if self.source.is_attached()
            && !self.source.is_asking()
            && let Some(demand) = self.reader.hand_out.pending.demand()
            && demand.immediate
        {
            self.source.ask(demand.round);
        }
    }

    fn advance_pull(&mut self) {
        let Some(demand) = self.reader.hand_out.pending.demand() else {
            self.source.detach(0);
            return self.give_back();
        };
        if self.source.is_attached() {
            if demand.immediate {
                self.source.detach(demand.round);
            } else {
                self.asked = demand.round;
            }
        } else if self.source.is_idle() && self.refiling == 0 && self.paused_until.is_none() {
            if self.empty && !demand.immediate && demand.round <= self.asked {
                self.source.attach();
            } else {
                self.source.get(demand.messages.max(self.sweep), demand.round);
            }
        }
    }

    /// What nobody waits for goes back at once, its attempt unburned.
    fn give_back(&mut self) {
        for (key, item) in self.reader.hand_out.clear_stock() {
            let reader = self.reader.clone();
            self.moving(key, AfterAck::Nothing, async move {
                reader.republisher.republish(&item, item.attempt, Duration::ZERO, None).await
            });
        }
    }

    /// What was not handed out in time.
    fn dead_letter_stale(&mut self, key: Key, item: Arc<Fetched>) {
        let reader = self.reader.clone();
        let mut death =
            reader.republisher.death(DeadReason::Expired, EXPIRED, item.attempt.saturating_sub(1));
        death.consumer = None;
        self.moving(key, AfterAck::Nothing, async move {
            reader.republisher.dead_letter_fetched(&item, death).await
        });
    }

    pub(crate) fn came(&mut self, came: SourceEvent) {
        match came {
            SourceEvent::Got(got, more, asked) => {
                self.empty = got.is_empty();
                if self.empty {
                    self.found_nothing(asked);
                }
                let (came, before) = (got.len(), self.refiling);
                self.take(got);
                self.widen(came, self.refiling - before, more);
            }
            SourceEvent::Attached => {}
            SourceEvent::Sent(deliveries) => {
                self.empty = false;
                // First the end of the consumer, then the hand-out: an ack that overtook it would bring a message that nobody
                // waits for.
                if self.reader.subscription.prefetch == 0 {
                    self.source.detach(0);
                }
                self.take(deliveries);
            }
            SourceEvent::Detached(rest, asked) => {
                if rest.is_empty() {
                    self.found_nothing(asked);
                }
                self.take(rest);
            }
            SourceEvent::AllSent(asked) => self.found_nothing(asked),
        }
    }

    fn found_nothing(&mut self, asked: u64) {
        self.asked = self.asked.max(asked);
        self.reader.hand_out.pending.exhausted(asked, None);
    }

    /// Sorts what came: to be handed out, to be filed again, or to be buried.
    fn take(&mut self, deliveries: Vec<Delivery>) {
        let items: Vec<_> = deliveries.into_iter().filter_map(|delivery| self.sort(delivery)).collect();
        if !items.is_empty() {
            self.reader.hand_out.lay_down(items);
        }
    }

    /// After a crash of the broker all messages of a classic queue come back. While nothing else comes, more and more are
    /// taken up at a time, but never more than there were at first: those behind are the ones that were filed again.
    fn widen(&mut self, came: usize, came_back: usize, more: usize) {
        if came == 0 || came_back < came {
            self.sweep = 1;
            return;
        }
        self.sweep_left = if self.sweep == 1 { more } else { self.sweep_left.saturating_sub(came) };
        self.sweep = (self.sweep * 2).min(SWEEP).min(self.sweep_left).max(1);
    }

    /// Whether a message that the broker counts has expired by our clock, although it was handed out. Some kinds of queue look
    /// again when a message is given back: either the broker files this one, or sends it again, for our clock is wrong.
    fn is_suspect(&mut self, decoded: &Decoded) -> bool {
        let now = self.reader.handle().now();
        let over = decoded.expiry.is_some_and(|expiry| expiry.watched && expiry.is_over(now));
        if over && self.suspects.len() >= MOST_SUSPECTS {
            self.suspects.retain(|_, since| since.elapsed() < SENT_AGAIN);
        }
        over && self.suspects.len() < MOST_SUSPECTS
    }

    fn sort(&mut self, delivery: Delivery) -> Option<(Key, Arc<Fetched>)> {
        let key = Key { epoch: self.epoch, tag: delivery.delivery_tag };
        self.unacked.delivered(key.tag);
        let (mut redelivered, raw) =
            (delivery.redelivered, Raw { properties: delivery.properties, body: delivery.data.into() });
        let reader = self.reader.clone();
        let kind = reader.topology().queue_type(reader.queue());
        let decoded = match decode(&raw) {
            Ok(decoded) => decoded,
            Err(why) => {
                let mut death = reader.republisher.death(DeadReason::Undecodable, &why, 0);
                death.consumer = None;
                self.moving(key, AfterAck::Nothing, async move {
                    reader.republisher.dead_letter(&raw, death).await
                });
                return None;
            }
        };
        if redelivered && self.suspects.remove(decoded.message.id()).is_some() {
            redelivered = false;
        } else if !redelivered && kind.overlooks_expired() && self.is_suspect(&decoded) {
            self.suspects.insert(decoded.message.id().clone(), Instant::now());
            self.reject(key.tag);
            return None;
        }
        let headers = raw.properties.headers().as_ref();
        let attempt = kind.attempt(decoded.lives.attempt, redelivered, headers);
        let own = decoded.message.max_attempts();
        let max_attempts = own.unwrap_or(reader.subscription.max_attempts).get();
        let (address, now) = (reader.topology().catalogue.address(reader.queue()), reader.handle().now());
        let expiry = decoded.expiry;
        let stale_at = expiry.map(|expiry| expiry.stale_at(now));
        let item =
            Fetched { raw, message: decoded.message, attempt, max_attempts, expiry, stale_at, address };
        if item.is_stale() || (redelivered && item.is_over(now)) {
            self.dead_letter_stale(key, item.into());
            return None;
        }
        if attempt > max_attempts {
            let error = item.message.last_error().unwrap_or("the last holder went away").to_owned();
            let mut death = reader.republisher.death(DeadReason::MaxAttempts, &error, attempt - 1);
            death.consumer = None;
            self.moving(key, AfterAck::Nothing, async move {
                reader.republisher.dead_letter_fetched(&item, death).await
            });
            return None;
        }
        if redelivered && kind.republishes_returned() {
            self.refiling += 1;
            self.moving(key, AfterAck::Recovered, async move {
                reader.republisher.republish(&item, item.attempt, Duration::ZERO, None).await
            });
            return None;
        }
        Some((key, Arc::new(item)))
    }
}
