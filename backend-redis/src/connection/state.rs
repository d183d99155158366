//! Whether there are connections.

use std::sync::Arc;

use polyqueue::{Error, Result};

use crate::connection::handshake::Session;

/// Whether there are connections.
pub(super) enum State {
    Up(Arc<Session>),
    Down(Error),
    Closed,
}

impl State {
    /// Those that there are, or why there are none.
    pub(super) fn session(&self) -> Result<Arc<Session>> {
        match self {
            Self::Up(session) => Ok(session.clone()),
            Self::Down(error) => Err(error.clone()),
            Self::Closed => Err(Error::Closed),
        }
    }

    /// Whether it is those of this generation.
    pub(super) fn is_up(&self, generation: u64) -> bool {
        matches!(self, Self::Up(session) if session.generation == generation)
    }
}
