//! The command as a user runs it: real processes, real brokers.
//!
//! `REDIS_URL` and `RABBITMQ_URL` name running brokers; where they are not set, private ones are started.

mod bad_input;
mod closed_pipe;
mod dead;
mod doctor;
#[cfg(feature = "drill")]
mod drill;
mod events;
mod on;
mod progress;
mod publish_consume;
mod request;
mod topics;
mod transfer;
mod work;

/// Each scenario on each broker that two processes can share.
macro_rules! on_each_broker {
    ($($scenario:ident),+ $(,)?) => {
        mod on_redis {
            $(#[test] fn $scenario() { super::$scenario(&$crate::on::On::redis(stringify!($scenario))); })+
        }
        mod on_rabbitmq {
            $(#[test] fn $scenario() { super::$scenario(&$crate::on::On::rabbitmq(stringify!($scenario))); })+
        }
    };
}
pub(crate) use on_each_broker;
