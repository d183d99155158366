//! What is gone: let go of little by little, and dropped where nobody waits for it.

use std::fmt;

use super::stored::Stored;

/// What is gone, to be dropped when the lock is free.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    pub(super) messages: Vec<Box<Stored>>,
    /// By what messages were found that went all at once.
    pub(super) indexes: Vec<Box<dyn Index>>,
}

/// By what messages are found.
pub(crate) trait Index: fmt::Debug + Send {}

impl<I: fmt::Debug + Send> Index for I {}

/// Messages that went all at once: nobody finds them any more, and each is yet to be let go of.
#[derive(Default)]
pub(super) struct Purged(Vec<Box<dyn Iterator<Item = Box<Stored>> + Send>>);

impl Purged {
    pub(super) fn add(&mut self, items: impl Iterator<Item = Box<Stored>> + Send + 'static) {
        self.0.push(Box::new(items));
    }

    pub(super) fn pop(&mut self) -> Option<Box<Stored>> {
        while let Some(items) = self.0.last_mut() {
            let item = items.next();
            if item.is_some() {
                return item;
            }
            self.0.pop();
        }
        None
    }
}

impl fmt::Debug for Purged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Purged").field(&self.0.len()).finish()
    }
}
