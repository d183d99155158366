//! What is on the broker: the catalogue of queues, declaring and deleting, and finding what is there.

pub(crate) mod catalogue;
pub(crate) mod create_catalogue;
pub(crate) mod declare;
pub(crate) mod dedup_queues;
pub(crate) mod delete;
pub(crate) mod follow;
pub(crate) mod known;
pub(crate) mod listed;
pub(crate) mod lookup;
pub(crate) mod read_catalogue;
pub(crate) mod recent;
pub(crate) mod records;
pub(crate) mod revival;
pub(crate) mod revivals;
pub(crate) mod routes;
pub(crate) mod state;
pub(crate) mod turn;
