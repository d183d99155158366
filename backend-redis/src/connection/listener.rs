//! Who hears what happens on a node's connections.

use std::sync::Arc;

use bytes::Bytes;
use polyqueue::Error;

/// Hears what happens on the connections of a node `N`, and what the server says there unasked.
pub(crate) trait Listener<N>: Send + Sync + 'static {
    /// Something was published on one of our channels.
    fn heard(&self, node: &Arc<N>, channel: &str, text: Bytes);
    /// The server takes no writes, or not this one.
    fn write_refused(&self, node: &Arc<N>);
    /// The connections were lost, for this reason.
    fn lost(&self, node: &N, error: &Error);
    /// They were made anew; what was said meanwhile is lost.
    fn reconnected(&self, node: &N);
}
