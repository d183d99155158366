//! Wrapping a queue in another: one hook, and a macro that forwards the operating half.

use std::sync::Arc;

use crate::Queue;

/// Turns a queue into another that does something more. Every `Fn(Arc<dyn Queue>) -> Arc<dyn Queue>` is one.
///
/// A wrapper writes the verbs of [`Queue`] by hand and leaves [`Admin`](crate::Admin) to
/// [`forward_admin!`](crate::forward_admin). It carries `#[deny(clippy::missing_trait_methods)]`, so that no verb which
/// the contract may gain is forgotten. It wraps what [`Queue::namespace`] answers as it was wrapped itself. It never forwards what a handler decided by message: verdicts go by receipt, and the
/// backend keeps its own copy.
pub trait Layer {
    /// The queue that stands before `inner`.
    fn layer(&self, inner: Arc<dyn Queue>) -> Arc<dyn Queue>;
}

impl<F: Fn(Arc<dyn Queue>) -> Arc<dyn Queue>> Layer for F {
    fn layer(&self, inner: Arc<dyn Queue>) -> Arc<dyn Queue> {
        self(inner)
    }
}

/// Writes `impl Admin` for a wrapper: every method forwards to a field, except those written by hand.
///
/// ```
/// use std::sync::Arc;
/// use polyqueue::{Admin, Queue, QueueName, Result, forward_admin};
///
/// struct Plain { inner: Arc<dyn Queue> }
/// forward_admin! { impl Admin for Plain => inner }
///
/// struct Locked<Q> { inner: Q }
/// forward_admin! {
///     impl[Q: Queue] Admin for Locked<Q> => inner {
///         async fn delete(&self, queue: &QueueName) -> Result<()> {
///             Err(polyqueue::Error::unsupported("locked", "deleting a queue"))
///         }
///     }
/// }
/// ```
///
/// A layer that changes messages must open those in [`dead_letters`](crate::Admin::dead_letters) as well. A method
/// that `Admin` does not have is refused:
///
/// ```compile_fail
/// # use std::sync::Arc;
/// # use polyqueue::{Queue, forward_admin};
/// struct Plain { inner: Arc<dyn Queue> }
/// forward_admin! { impl Admin for Plain => inner { async fn purgee(&self) -> u64 { 0 } } }
/// ```
#[macro_export]
macro_rules! forward_admin {
    (impl $([$($generics:tt)*])? Admin for $wrapper:ty => $inner:ident $({ $($by_hand:tt)* })?) => {
        $crate::forward_admin! {
            @with [$($($generics)*)?] $wrapper;
            [async fn queues(&self) -> $crate::Result<::std::vec::Vec<$crate::QueueSpec>> {
                self.$inner.queues().await
            }]
            [async fn unbind(
                &self,
                queue: &$crate::QueueName,
                pattern: &$crate::Pattern,
            ) -> $crate::Result<()> {
                self.$inner.unbind(queue, pattern).await
            }]
            [async fn delete(&self, queue: &$crate::QueueName) -> $crate::Result<()> {
                self.$inner.delete(queue).await
            }]
            [async fn stats(&self, queue: &$crate::QueueName) -> $crate::Result<$crate::QueueStats> {
                self.$inner.stats(queue).await
            }]
            [async fn purge(&self, queue: &$crate::QueueName, what: $crate::Purge) -> $crate::Result<u64> {
                self.$inner.purge(queue, what).await
            }]
            [async fn dead_letters(
                &self,
                queue: &$crate::QueueName,
                filter: &$crate::DeadFilter,
                page: $crate::Page,
            ) -> $crate::Result<$crate::DeadPage> {
                self.$inner.dead_letters(queue, filter, page).await
            }]
            [async fn redrive(
                &self,
                queue: &$crate::QueueName,
                ids: &[$crate::DeadId],
            ) -> $crate::Result<::std::vec::Vec<bool>> {
                self.$inner.redrive(queue, ids).await
            }]
            [async fn discard(
                &self,
                queue: &$crate::QueueName,
                ids: &[$crate::DeadId],
            ) -> $crate::Result<::std::vec::Vec<bool>> {
                self.$inner.discard(queue, ids).await
            }]
            $($($by_hand)*)?
        }
    };

    // One rule a method: what was written by hand takes the place of what forwards.
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt
        $(#[$a:meta])* async fn queues $args:tt -> $ret:ty { $($body:tt)* } $($rest:tt)*) => {
        $crate::forward_admin! { @with $g $w;
            [$(#[$a])* async fn queues $args -> $ret { $($body)* }] $u $d $s $p $l $r $x $($rest)* }
    };
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt
        $(#[$a:meta])* async fn unbind $args:tt -> $ret:ty { $($body:tt)* } $($rest:tt)*) => {
        $crate::forward_admin! { @with $g $w;
            $q [$(#[$a])* async fn unbind $args -> $ret { $($body)* }] $d $s $p $l $r $x $($rest)* }
    };
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt
        $(#[$a:meta])* async fn delete $args:tt -> $ret:ty { $($body:tt)* } $($rest:tt)*) => {
        $crate::forward_admin! { @with $g $w;
            $q $u [$(#[$a])* async fn delete $args -> $ret { $($body)* }] $s $p $l $r $x $($rest)* }
    };
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt
        $(#[$a:meta])* async fn stats $args:tt -> $ret:ty { $($body:tt)* } $($rest:tt)*) => {
        $crate::forward_admin! { @with $g $w;
            $q $u $d [$(#[$a])* async fn stats $args -> $ret { $($body)* }] $p $l $r $x $($rest)* }
    };
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt
        $(#[$a:meta])* async fn purge $args:tt -> $ret:ty { $($body:tt)* } $($rest:tt)*) => {
        $crate::forward_admin! { @with $g $w;
            $q $u $d $s [$(#[$a])* async fn purge $args -> $ret { $($body)* }] $l $r $x $($rest)* }
    };
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt
        $(#[$a:meta])* async fn dead_letters $args:tt -> $ret:ty { $($body:tt)* } $($rest:tt)*) => {
        $crate::forward_admin! { @with $g $w;
            $q $u $d $s $p [$(#[$a])* async fn dead_letters $args -> $ret { $($body)* }] $r $x $($rest)* }
    };
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt
        $(#[$a:meta])* async fn redrive $args:tt -> $ret:ty { $($body:tt)* } $($rest:tt)*) => {
        $crate::forward_admin! { @with $g $w;
            $q $u $d $s $p $l [$(#[$a])* async fn redrive $args -> $ret { $($body)* }] $x $($rest)* }
    };
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt
        $(#[$a:meta])* async fn discard $args:tt -> $ret:ty { $($body:tt)* } $($rest:tt)*) => {
        $crate::forward_admin! { @with $g $w;
            $q $u $d $s $p $l $r [$(#[$a])* async fn discard $args -> $ret { $($body)* }] $($rest)* }
    };

    (@with [$($generics:tt)*] $wrapper:ty; $([$($method:tt)*])*) => {
        #[$crate::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<$($generics)*> $crate::Admin for $wrapper {
            $($($method)*)*
        }
    };
    (@with $g:tt $w:ty; $q:tt $u:tt $d:tt $s:tt $p:tt $l:tt $r:tt $x:tt $($unknown:tt)+) => {
        ::core::compile_error!(concat!("not a method of Admin: ", stringify!($($unknown)+)));
    };
}
