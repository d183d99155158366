//! Whether a handle is open, and what is still under way when it is not any more.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Error, Result};

/// The life of a handle, shared by everything that works for it: open, then closing, then idle.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle(Arc<State>);

#[derive(Debug, Default)]
struct State {
    closed: AtomicBool,
    closing: Notify,
    under_way: AtomicUsize,
    idle: Notify,
    parent: Option<Lifecycle>,
    children: Mutex<Vec<Weak<State>>>,
}

/// Why nothing is received any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The consumer was closed or dropped: receives are empty.
    Consumer,
    /// The handle was closed: receives are [`Error::Closed`].
    Handle,
}

/// Something that is under way; over when it is dropped.
#[derive(Debug)]
pub struct Entered(Lifecycle);

impl Lifecycle {
    /// # Errors
    /// [`Error::Closed`] once it was closed.
    pub fn check_open(&self) -> Result<()> {
        if self.0.closed.load(SeqCst) { Err(Error::Closed) } else { Ok(()) }
    }

    /// The life of a child handle: it ends with this one or before it, and this one is idle only when the child is.
    ///
    /// # Errors
    /// [`Error::Closed`] once it was closed.
    pub fn child(&self) -> Result<Self> {
        let child = Self(Arc::new(State { parent: Some(self.clone()), ..State::default() }));
        let mut children = self.0.children.lock();
        // A close marks first and looks for children then: either it finds this one, or this one finds the mark.
        self.check_open()?;
        children.retain(|other| other.strong_count() > 0);
        children.push(Arc::downgrade(&child.0));
        drop(children);
        Ok(child)
    }

    /// Closes it and its children. Answers whether this call did.
    pub fn close(&self) -> bool {
        let closes = !self.0.closed.swap(true, SeqCst);
        self.0.closing.notify_waiters();
        let children = std::mem::take(&mut *self.0.children.lock());
        for child in children.iter().filter_map(Weak::upgrade) {
            Self(child).close();
        }
        closes
    }

    /// Ends when it is closed.
    pub async fn closing(&self) {
        until(&self.0.closing, || self.0.closed.load(SeqCst)).await;
    }

    /// A call that begins only while the handle is open, and ends at once when it is closed.
    ///
    /// # Errors
    /// The call's own, or [`Error::Closed`].
    pub async fn while_open<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.check_open()?;
        tokio::select! {
            biased;
            result = call => result,
            () = self.closing() => Err(Error::Closed),
        }
    }

    /// Something begins that a close waits for, be it after the close.
    pub fn enter(&self) -> Entered {
        for life in self.line() {
            life.0.under_way.fetch_add(1, SeqCst);
        }
        Entered(self.clone())
    }

    /// The same, only while it is open: who waits for [`idle`](Self::idle) after [`close`](Self::close) misses none.
    ///
    /// # Errors
    /// [`Error::Closed`] once it was closed.
    pub fn enter_open(&self) -> Result<Entered> {
        let entered = self.enter();
        self.check_open().map(|()| entered)
    }

    /// Itself, its parent, and so on.
    fn line(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |life| life.0.parent.as_ref())
    }

    /// Ends when nothing is under way.
    pub async fn idle(&self) {
        until(&self.0.idle, || self.0.under_way.load(SeqCst) == 0).await;
    }
}

impl CloseReason {
    /// What a receive says.
    ///
    /// # Errors
    /// [`Error::Closed`] where the handle was closed.
    pub fn outcome<T>(self) -> Result<Vec<T>> {
        match self {
            Self::Consumer => Ok(Vec::new()),
            Self::Handle => Err(Error::Closed),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        for Lifecycle(state) in self.0.line() {
            if state.under_way.fetch_sub(1, SeqCst) == 1 {
                state.idle.notify_waiters();
            }
        }
    }
}

/// Looks at each notification, and before the first.
async fn until(notify: &Notify, is_so: impl Fn() -> bool) {
    loop {
        let mut notified = pin!(notify.notified());
        notified.as_mut().enable();
        if is_so() {
            return;
        }
        notified.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::{pending, ready};

    #[tokio::test(start_paused = true)]
    async fn a_close_ends_what_waits_and_refuses_what_comes() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.while_open(ready(Ok(()))).await.is_ok());
        let (closer, waits) = (lifecycle.clone(), lifecycle.while_open(pending::<Result<()>>()));
        let (result, first) = tokio::join!(waits, async move { closer.close() });
        assert!(matches!(result, Err(Error::Closed)) && first);
        assert!(!lifecycle.close());
        lifecycle.closing().await;
        assert!(matches!(lifecycle.check_open(), Err(Error::Closed)));
        assert!(matches!(lifecycle.while_open(ready(Ok(()))).await, Err(Error::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_when_the_last_has_gone() {
        let lifecycle = Lifecycle::default();
        let (first, second) = (lifecycle.enter(), lifecycle.enter_open().unwrap());
        lifecycle.close();
        assert!(lifecycle.enter_open().is_err());
        let mut idle = pin!(lifecycle.idle());
        assert!(idle.as_mut().now_or_never().is_none());
        drop(first);
        assert!(idle.as_mut().now_or_never().is_none());
        drop(second);
        idle.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_ends_with_its_parent_or_before_it() {
        let parent = Lifecycle::default();
        let (first, second) = (parent.child().unwrap(), parent.child().unwrap());
        let grandchild = first.child().unwrap();
        assert!(first.close());
        assert!(grandchild.check_open().is_err() && first.child().is_err());
        assert!(second.check_open().is_ok() && parent.check_open().is_ok());
        let (closing, under_way) = (second.closing(), second.enter_open().unwrap());
        parent.close();
        closing.await;
        assert!(second.check_open().is_err() && !second.close());
        assert!(first.idle().now_or_never().is_some() && parent.idle().now_or_never().is_none());
        drop(under_way);
        parent.idle().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_begins_after_the_close_is_waited_for_too() {
        let lifecycle = Lifecycle::default();
        lifecycle.close();
        let entered = lifecycle.enter();
        assert!(lifecycle.idle().now_or_never().is_none());
        drop(entered);
        lifecycle.idle().await;
    }
}
