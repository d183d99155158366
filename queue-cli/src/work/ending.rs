//! When no further command is begun, and why.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Somebody asked for it.
    Signal,
    /// As many commands were begun as were wished for.
    Max,
    /// Nothing is left to do.
    Empty,
    /// Commands cannot be run here.
    CannotRun,
}

/// What everybody who begins commands asks first.
#[derive(Default)]
pub(crate) struct Ending(watch::Sender<Option<Reason>>);

impl Ending {
    /// The first reason stays, but the maximum, which may turn out not to have been reached.
    pub(crate) fn begin(&self, reason: Reason) {
        self.0.send_if_modified(|now| {
            let begins = now.is_none_or(|earlier| earlier == Reason::Max);
            if begins {
                *now = Some(reason);
            }
            begins
        });
    }

    pub(crate) async fn begun(&self) {
        // The sender is ours, so that this waits for a reason.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        *self.0.borrow()
    }

    /// Goes on when it was about to end because of the maximum; answers whether it does.
    pub(crate) fn resume(&self) -> bool {
        self.0.send_if_modified(|now| now.take_if(|reason| *reason == Reason::Max).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_maximum_is_taken_back() {
        let ending = Ending::default();
        ending.begin(Reason::Max);
        assert!(ending.resume());
        assert_eq!(ending.reason(), None);
        ending.begin(Reason::Max);
        ending.begin(Reason::Signal);
        ending.begin(Reason::Max);
        assert!(!ending.resume());
        assert_eq!(ending.reason(), Some(Reason::Signal));
    }
}
