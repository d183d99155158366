//! What is sent on a consumer's channel when messages leave, where it has transactions and where it has none.
//!
//! The broker keeps what a transaction publishes and acks until it is told to commit, and does then one after the other: who loses the
//! connection before has done neither, and who loses it afterwards has done both.

use futures_util::future::{join, join_all};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicPublishOptions};

use crate::connection::request::PublishRequest;
use crate::settle::unacked::AckFrame;

/// Publishes these and acks those, both or neither; `begins`: the channel has had no transaction.
pub(crate) async fn commit(
    channel: Channel,
    begins: bool,
    copies: Vec<PublishRequest>,
    frames: Vec<AckFrame>,
) -> lapin::Result<()> {
    if begins {
        channel.tx_select().await?;
    }
    let publish = |copy: PublishRequest| {
        let channel = channel.clone();
        async move {
            let PublishRequest { exchange, key, properties, body } = copy;
            let options = BasicPublishOptions::default();
            channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await.map(drop)
        }
    };
    let published = join_all(copies.into_iter().map(publish));
    // The client library writes publishes after whatever else it has to write: a commit that did not wait for them would overtake them.
    let (published, acked) = join(published, ack_all(&channel, &frames)).await;
    published.into_iter().collect::<lapin::Result<()>>().and(acked)?;
    channel.tx_commit().await
}

/// Acks.
pub(crate) async fn ack_all(channel: &Channel, frames: &[AckFrame]) -> lapin::Result<()> {
    let ack = |frame: &AckFrame| channel.basic_ack(frame.tag, BasicAckOptions { multiple: frame.multiple });
    join_all(frames.iter().map(ack)).await.into_iter().collect()
}

/// What makes acks, or rejects, count on a channel that has transactions. With nothing published the broker has done it at once.
pub(crate) async fn committed(channel: &Channel, has_transactions: bool) -> lapin::Result<()> {
    if has_transactions { channel.tx_commit().await } else { Ok(()) }
}
