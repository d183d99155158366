//! What a consumer and its task share.

use std::sync::Arc;

use polyqueue::{QueueMeter, QueueName, Subscription};

use crate::connection::handle::Core;
use crate::connection::link::Link;
use crate::consume::buffer::HandOut;

/// What a consumer and its task share.
pub(crate) struct ConsumerState {
    pub(crate) core: Arc<Core>,
    pub(crate) hand_out: HandOut,
    pub(crate) link: Arc<Link>,
    pub(crate) subscription: Subscription,
    pub(crate) meter: Arc<QueueMeter>,
}

impl ConsumerState {
    pub(crate) fn queue(&self) -> &QueueName {
        &self.subscription.queue
    }

    pub(crate) fn object(&self) -> String {
        self.core.names.ready(self.queue())
    }
}
