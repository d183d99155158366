//! What the server says became of messages: stored, or why not.

use polyqueue::backend::QueueMeter;
use polyqueue::backend::no_dedup_keys;
use polyqueue::{Certainty, Error, Message, MessageId, Published, QueueName, Result};

use crate::connection::fault;
use crate::wire::reply::Reply;

/// What became of a message.
#[derive(Clone, Debug)]
pub(crate) enum PublishOutcome<I> {
    Published(Published),
    /// This queue makes it wait for room; here it is again.
    Waits(I, QueueName),
}

/// What a call did to a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// Whether the queue makes publishers wait when it is full.
    pub(crate) patient: bool,
    duplicates: u64,
    overflowed: u64,
    dropped: u64,
}

impl Counts {
    /// Tells the handle's counters.
    pub(crate) fn note(&self, meter: &QueueMeter) {
        meter.duplicates(self.duplicates);
        meter.overflowed(self.overflowed);
        meter.dropped(self.dropped);
    }
}

/// The answer of a script that publishes.
#[derive(Debug)]
pub(crate) struct Outcomes {
    /// For each queue.
    pub(crate) counts: Vec<Counts>,
    refused: Vec<Refused>,
}

/// Why a message was not stored.
#[derive(Debug)]
struct Refused {
    position: usize,
    code: String,
    queue: usize,
    detail: String,
}

impl Outcomes {
    pub(crate) fn read(reply: Reply) -> Option<Self> {
        let [counts, refused] = <[Reply; 2]>::try_from(reply.into_list()?).ok()?;
        let refused = refused.into_list()?;
        let mut refused = refused.into_iter();
        let mut list = Vec::new();
        while let Some(position) = refused.next() {
            list.push(Refused {
                position: usize::try_from(position.number()? - 1).ok()?,
                code: refused.next()?.into_text()?,
                queue: usize::try_from(refused.next()?.number()? - 1).ok()?,
                detail: refused.next()?.into_text()?,
            });
        }
        Some(Self { counts: counts_of(counts)?, refused: list })
    }

    /// What became of each item. `queues` are those that the call went to.
    pub(crate) fn judge<I>(
        self,
        items: Vec<I>,
        message: impl Fn(&I) -> &Message,
        queues: &[&QueueName],
        meter: impl Fn(&QueueName) -> std::sync::Arc<QueueMeter>,
    ) -> Vec<Result<PublishOutcome<I>>> {
        let mut refused = self.refused.into_iter().peekable();
        let mut answers = Vec::with_capacity(items.len());
        for (position, item) in items.into_iter().enumerate() {
            let id = message(&item).id().clone();
            answers.push(match refused.next_if(|refused| refused.position == position) {
                None => Ok(PublishOutcome::Published(Published::stored(id))),
                Some(Refused { code, queue, detail, .. }) => {
                    let queue = queues.get(queue).copied();
                    refusal(item, id, &code, queue, &detail, &meter)
                }
            });
        }
        answers
    }
}

/// Four numbers for each queue.
pub(crate) fn counts_of(reply: Reply) -> Option<Vec<Counts>> {
    let numbers = reply.into_list()?;
    let counts = numbers.chunks(4).map(|four| match four {
        [patient, duplicates, overflowed, dropped] => Some(Counts {
            patient: patient.number()? == 1,
            duplicates: duplicates.count(),
            overflowed: overflowed.count(),
            dropped: dropped.count(),
        }),
        _ => None,
    });
    counts.collect()
}

fn refusal<I>(
    item: I,
    id: MessageId,
    code: &str,
    queue: Option<&QueueName>,
    detail: &str,
    meter: impl Fn(&QueueName) -> std::sync::Arc<QueueMeter>,
) -> Result<PublishOutcome<I>> {
    let failed = |certainty| fault::of_item(detail.to_owned(), certainty);
    let Some(queue) = queue else { return Err(failed(Certainty::Unknown)) };
    match code {
        "D" => {
            let first = MessageId::new(detail).map_err(|_| failed(Certainty::Definite))?;
            Ok(PublishOutcome::Published(Published::duplicate(id, first)))
        }
        "F" => {
            meter(queue).refused(1);
            Err(Error::full(format!("queue {queue}"), detail.parse().unwrap_or_default()))
        }
        "W" => Ok(PublishOutcome::Waits(item, queue.clone())),
        "K" => Err(no_dedup_keys(format!("queue {queue}"))),
        "E" => Err(failed(Certainty::Definite)),
        _ => Err(failed(Certainty::Unknown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_learns_its_own() {
        let text = |text: &'static str| Reply::Bytes(text.into());
        let number = Reply::Number;
        let refused = Reply::List(vec![
            number(2),
            text("F"),
            number(1),
            text("10"),
            number(3),
            text("D"),
            number(1),
            text("first"),
            number(4),
            text("W"),
            number(1),
            text(""),
            number(5),
            text("E"),
            number(1),
            text("WRONGTYPE"),
        ]);
        let counts = Reply::List(vec![number(1), number(1), number(0), number(7)]);
        let answer = Outcomes::read(Reply::List(vec![counts, refused])).unwrap();
        assert_eq!(answer.counts, [Counts { patient: true, duplicates: 1, overflowed: 0, dropped: 7 }]);
        let (name, meter) = (QueueName::from_static("q"), std::sync::Arc::<QueueMeter>::default());
        let items = (0..5).map(|_| Message::new("")).collect();
        let answers = answer.judge(items, |message| message, &[&name], |_| meter.clone());
        let [stored, full, duplicate, waits, failed] = &answers[..] else { panic!("{answers:?}") };
        assert!(matches!(stored, Ok(PublishOutcome::Published(Published { duplicate_of: None, .. }))));
        assert!(matches!(full, Err(Error::Full { limit: 10, .. })));
        assert!(
            matches!(duplicate, Ok(PublishOutcome::Published(Published { duplicate_of: Some(first), .. })) if first.as_str() == "first")
        );
        assert!(matches!(waits, Ok(PublishOutcome::Waits(_, queue)) if *queue == name));
        assert_eq!(failed.as_ref().unwrap_err().certainty(), Certainty::Definite);
        assert_eq!(meter.snapshot().refused, 1);
    }
}
