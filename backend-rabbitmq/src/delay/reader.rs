//! Reads one slot: a little at first, more where what comes is small.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, oneshot};

use crate::connection::queries::fence;
use crate::connection::session::Session;
use crate::delay::held::Held;
use crate::delay::slots::Slot;

/// How many messages more may be in hand, step by step.
const STEPS: [u16; 3] = [64, 448, 3_584];
/// How many bytes those may be that one slot is expected to bring.
const BYTES: usize = 32 * 1024 * 1024;

/// What a reader tells.
pub(crate) enum Reading {
    /// What the broker had to send at first, it has sent.
    Begun(Slot),
    Came(Box<Held>),
    /// It reads no more; an error where it was not told to stop.
    Ended(Slot, Option<lapin::Error>),
}

/// Reads until it is told to stop; `narrow`: only a little. What it has brought stays in hand.
pub(crate) async fn read(
    session: Arc<Session>,
    slot: Slot,
    narrow: bool,
    out: mpsc::UnboundedSender<Reading>,
    stop: oneshot::Receiver<()>,
) {
    let ended = async {
        let steps = if narrow { &STEPS[..1] } else { &STEPS[..] };
        let reader = SlotReader::begin(session, slot, steps, out.clone()).await?;
        reader.run(stop).await
    };
    let error = ended.await.err();
    let _ = out.send(Reading::Ended(slot, error));
}

struct SlotReader {
    session: Arc<Session>,
    slot: Slot,
    steps: &'static [u16],
    channel: Channel,
    consumers: SelectAll<Consumer>,
    tags: Vec<lapin::types::ShortString>,
    out: mpsc::UnboundedSender<Reading>,
    came: usize,
    bytes: usize,
}

impl SlotReader {
    async fn begin(
        session: Arc<Session>,
        slot: Slot,
        steps: &'static [u16],
        out: mpsc::UnboundedSender<Reading>,
    ) -> lapin::Result<Self> {
        let channel = session.open_channel().await?;
        let (consumers, tags) = (SelectAll::new(), Vec::new());
        let mut reader = Self { session, slot, steps, channel, consumers, tags, out, came: 0, bytes: 0 };
        reader.consume(STEPS[0]).await?;
        let sent = fence(reader.channel.clone(), slot.queue());
        reader.session.answers.answered("read what is delayed", sent).await?;
        let _ = reader.out.send(Reading::Begun(slot));
        Ok(reader)
    }

    /// One consumer more: what may be in hand is counted for each.
    async fn consume(&mut self, most: u16) -> lapin::Result<()> {
        let answers = &self.session.answers;
        let limited = self.channel.basic_qos(most, BasicQosOptions::default());
        answers.answered("read what is delayed", limited).await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = self.channel.basic_consume(self.slot.queue().into(), "".into(), options, none);
        let consumer = answers.answered("read what is delayed", consumer).await?;
        self.tags.push(consumer.tag());
        self.consumers.push(consumer);
        Ok(())
    }

    async fn run(mut self, mut stop: oneshot::Receiver<()>) -> lapin::Result<()> {
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                next = self.consumers.next() => match next {
                    Some(delivery) => self.take(delivery?).await?,
                    // The broker has ended all consumers: the queue is gone.
                    None => return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
                },
            }
        }
        for tag in std::mem::take(&mut self.tags) {
            let cancelled = self.channel.basic_cancel(tag, BasicCancelOptions::default());
            self.session.answers.answered("read what is delayed", cancelled).await?;
        }
        while let Some(rest) = self.consumers.next().await {
            self.pass_on(rest?).await?;
        }
        Ok(())
    }

    async fn take(&mut self, delivery: Delivery) -> lapin::Result<()> {
        self.came += 1;
        self.bytes += delivery.data.len();
        self.pass_on(delivery).await?;
        let taken = self.tags.len();
        let given: usize = STEPS[..taken].iter().map(|step| usize::from(*step)).sum();
        if let Some(more) = self.steps.get(taken)
            && self.came >= given
            && self.bytes / self.came * (given + usize::from(*more)) <= BYTES
        {
            self.consume(*more).await?;
        }
        Ok(())
    }

    async fn pass_on(&self, delivery: Delivery) -> lapin::Result<()> {
        let tag = delivery.delivery_tag;
        match Held::of(self.slot, &self.channel, delivery) {
            Some(held) => {
                let _ = self.out.send(Reading::Came(Box::new(held)));
                Ok(())
            }
            None => self.channel.basic_ack(tag, BasicAckOptions::default()).await,
        }
    }
}
