//! Where a backend says what happened without anybody asking.

use std::sync::Arc;

use tokio::sync::broadcast::Sender;

use crate::backend::Lifecycle;
use crate::event::{Event, Events, Scoped};
use crate::{Certainty, DeadReason, Extended, MessageId, QueueName, Receipt, Result, Settled, Verdict};

/// Where a handle says what happened to it; a child handle says it to the same readers.
#[derive(Clone, Debug)]
pub struct EventSender {
    sender: Sender<Scoped>,
    namespace: Arc<str>,
}

impl EventSender {
    /// For a handle in a namespace.
    pub fn new(namespace: &str) -> Self {
        Self { sender: Sender::new(Events::CAPACITY), namespace: namespace.into() }
    }

    /// For a handle in another namespace over the same connections.
    #[must_use]
    pub fn child(&self, namespace: &str) -> Self {
        Self { sender: self.sender.clone(), namespace: namespace.into() }
    }

    /// What happens from now on to the handle with this life.
    pub fn events(&self, lifecycle: &Lifecycle) -> Events {
        Events {
            receiver: self.sender.subscribe(),
            namespace: self.namespace.clone(),
            lifecycle: lifecycle.clone(),
        }
    }

    /// Something happened in this handle's namespace: its readers, and those of other handles in it, hear it.
    pub fn send(&self, event: Event) {
        self.say(Some(self.namespace.clone()), event);
    }

    /// A message died where no verdict asked for it. Very many may at once: where nobody hears it, it costs nothing.
    pub fn send_dead_letter(&self, queue: &QueueName, id: &MessageId, reason: DeadReason) {
        let logged = tracing::enabled!(target: "polyqueue::event", tracing::Level::DEBUG);
        if logged || self.sender.receiver_count() > 0 {
            self.send(Event::DeadLetter { queue: queue.clone(), id: id.clone(), reason });
        }
    }

    /// Something happened to the connections: the readers of all namespaces hear it.
    pub fn send_to_all(&self, event: Event) {
        self.say(None, event);
    }

    /// Passes on what another handle has told, and logged, already.
    pub(crate) fn pass_on(&self, event: Event) {
        let namespace = Some(self.namespace.clone());
        let _ = self.sender.send(Scoped { namespace, event });
    }

    fn say(&self, namespace: Option<Arc<str>>, event: Event) {
        log(&event, namespace.as_deref());
        // That nobody listens is no error.
        let _ = self.sender.send(Scoped { namespace, event });
    }

    /// What of the answers to verdicts an operator wants to know.
    pub fn note_settled(
        &self,
        queue: &QueueName,
        verdicts: &[(Receipt, Verdict)],
        answers: &[Result<Settled>],
    ) {
        for ((receipt, _), answer) in verdicts.iter().zip(answers) {
            let (queue, receipt) = (queue.clone(), receipt.clone());
            match answer {
                Ok(Settled::LeaseLost) => self.send(Event::LeaseLost { queue, receipt }),
                Err(error) if error.certainty() == Certainty::Unknown => {
                    self.send(Event::VerdictUnknown { queue, receipt });
                }
                _ => {}
            }
        }
    }

    /// What of the answers to extensions an operator wants to know.
    pub fn note_extended(&self, queue: &QueueName, receipts: &[Receipt], answers: &[Result<Extended>]) {
        for (receipt, answer) in receipts.iter().zip(answers) {
            if let Ok(Extended::LeaseLost) = answer {
                self.send(Event::LeaseLost { queue: queue.clone(), receipt: receipt.clone() });
            }
        }
    }
}

fn log(event: &Event, namespace: Option<&str>) {
    let (name, words) = (event.name(), event.in_words());
    match event {
        Event::ConnectionRestored { .. } | Event::Unblocked | Event::Redeclared { .. } => {
            tracing::info!(target: "polyqueue::event", name, namespace, ?event, "{words}");
        }
        Event::DeadLetter { .. } => {
            tracing::debug!(target: "polyqueue::event", name, namespace, ?event, "{words}")
        }
        _ => tracing::warn!(target: "polyqueue::event", name, namespace, ?event, "{words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn restored(which: u64) -> Event {
        Event::ConnectionRestored { detail: which.to_string() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_hears_its_own_and_what_concerns_all() {
        let red = EventSender::new("red");
        let mut events = red.events(&Lifecycle::default());
        red.child("blue").send(restored(1));
        red.send(restored(2));
        red.child("blue").send_to_all(restored(3));
        red.child("blue").child("red").send(restored(4));
        for heard in [2, 3, 4] {
            assert_eq!(events.next().await, Some(restored(heard)));
        }
        let (queue, id, reason) = (QueueName::from_static("q"), MessageId::random(), DeadReason::Expired);
        red.send_dead_letter(&queue, &id, reason);
        assert_eq!(events.next().await, Some(Event::DeadLetter { queue, id, reason }));
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_too_slowly_is_told_how_many_he_missed() {
        let sender = EventSender::new("red");
        let mut events = sender.events(&Lifecycle::default());
        let sent = Events::CAPACITY as u64 + 10;
        (0..sent).for_each(|which| sender.send(restored(which)));
        assert_eq!(events.next().await, Some(Event::Missed { count: 10 }));
        assert_eq!(events.next().await, Some(restored(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn they_end_with_the_handle_after_the_last() {
        let (sender, lifecycle) = (EventSender::new("red"), Lifecycle::default());
        let mut events = sender.events(&lifecycle);
        sender.send(Event::Unblocked);
        lifecycle.close();
        assert_eq!(events.next().await, Some(Event::Unblocked));
        assert_eq!(events.next().await, None);
        assert_eq!(events.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_answers_only_what_went_wrong_is_said() {
        let sender = EventSender::new("red");
        let mut events = sender.events(&Lifecycle::default());
        let queue = QueueName::from_static("q");
        let receipts: Vec<Receipt> = (0..4).map(|n| Receipt::from_words([n, 0, 0])).collect();
        let verdicts: Vec<_> = receipts.iter().map(|it| (it.clone(), Verdict::Ack)).collect();
        let unknown = Error::unavailable("test", Certainty::Unknown, "cut");
        let definite = Error::unavailable("test", Certainty::Definite, "cut");
        let answers = [Ok(Settled::Applied), Ok(Settled::LeaseLost), Err(unknown), Err(definite)];
        sender.note_settled(&queue, &verdicts, &answers);
        sender.note_extended(&queue, &receipts[3..], &[Ok(Extended::LeaseLost)]);
        let lost = |n: usize| Event::LeaseLost { queue: queue.clone(), receipt: receipts[n].clone() };
        assert_eq!(events.next().await, Some(lost(1)));
        let unknown = Event::VerdictUnknown { queue: queue.clone(), receipt: receipts[2].clone() };
        assert_eq!(events.next().await, Some(unknown));
        assert_eq!(events.next().await, Some(lost(3)));
    }

    #[test]
    fn its_name_is_that_in_its_json() {
        let event = Event::Missed { count: 3 };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(json, format!(r#"{{"event":"{}","count":3}}"#, event.name()));
    }
}
