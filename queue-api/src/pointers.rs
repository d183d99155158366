//! A pointer to a handle is one: what takes `impl Queue` takes `Arc<dyn Queue>`. The call within answers, without a future
//! around its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{
    Admin, Consumer, DeadFilter, DeadId, DeadPage, Delivery, Destination, Events, Extended, Health, Inbox,
    Info, Message, MessageId, Page, Pattern, Published, Purge, Queue, QueueName, QueueSpec, QueueStats,
    Receipt, ReplyAddress, Reschedule, Result, Settled, Subscription, Verdict,
};

/// Methods as `async_trait` writes them: a lifetime for each borrowed argument, then the values.
macro_rules! within {
    ($(fn $method:ident($([$life:lifetime] $lent:ident: $target:ty,)* $($given:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $method<'own, $($life,)* 'call>(
            &'own self,
            $($lent: &$life $target,)*
            $($given: $type,)*
        ) -> BoxFuture<'call, $answer>
        where
            'own: 'call,
            $($life: 'call,)*
            Self: 'call,
        {
            (**self).$method($($lent,)* $($given),*)
        }
    )*};
}

/// The contract for a pointer to `T`; `$queue` is the same where it owns or outlives what it points to.
macro_rules! forward_to_target {
    ($pointer:ty, $queue:ty) => {
        impl<T: Queue + ?Sized> Queue for $queue {
            fn info(&self) -> Info {
                (**self).info()
            }
            fn events(&self) -> Events {
                (**self).events()
            }
            fn namespace(&self, namespace: &str) -> Result<Arc<dyn Queue>> {
                (**self).namespace(namespace)
            }
            within! {
                fn declare(['a] spec: QueueSpec,) -> Result<()>;
                fn publish(['a] to: Destination, batch: Vec<Message>) -> Result<Vec<Result<Published>>>;
                fn reschedule(['a] queue: QueueName, ['b] id: MessageId, to: Reschedule) -> Result<bool>;
                fn subscribe(['a] subscription: Subscription,) -> Result<Box<dyn Consumer>>;
                fn inbox() -> Result<Box<dyn Inbox>>;
                fn health() -> Health;
                fn close() -> Result<()>;
            }
        }

        impl<T: Admin + ?Sized> Admin for $pointer {
            within! {
                fn queues() -> Result<Vec<QueueSpec>>;
                fn unbind(['a] queue: QueueName, ['b] pattern: Pattern,) -> Result<()>;
                fn delete(['a] queue: QueueName,) -> Result<()>;
                fn stats(['a] queue: QueueName,) -> Result<QueueStats>;
                fn purge(['a] queue: QueueName, what: Purge) -> Result<u64>;
                fn dead_letters(['a] queue: QueueName, ['b] filter: DeadFilter, page: Page) -> Result<DeadPage>;
                fn redrive(['a] queue: QueueName, ['b] ids: [DeadId],) -> Result<Vec<bool>>;
                fn discard(['a] queue: QueueName, ['b] ids: [DeadId],) -> Result<Vec<bool>>;
            }
        }

        impl<T: Consumer + ?Sized> Consumer for $pointer {
            within! {
                fn receive(max: usize, wait: Duration) -> Result<Vec<Delivery>>;
                fn settle(['a] verdicts: [(Receipt, Verdict)],) -> Result<Vec<Result<Settled>>>;
                fn extend(['a] receipts: [Receipt],) -> Result<Vec<Result<Extended>>>;
                fn close() -> Result<()>;
            }
        }

        impl<T: Inbox + ?Sized> Inbox for $pointer {
            fn address(&self) -> &ReplyAddress {
                (**self).address()
            }
            within! {
                fn receive(wait: Duration) -> Result<Vec<Message>>;
            }
        }
    };
}

forward_to_target!(Arc<T>, Arc<T>);
forward_to_target!(Box<T>, Box<T>);
// A queue outlives every borrow but that of a static.
forward_to_target!(&T, &'static T);
