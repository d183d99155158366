//! One connection for some questions, without a look whether the server is fit for us.

use std::time::Duration;

use polyqueue::{Certainty, Error, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::address::Address;
use crate::connection::fault::Fault;
use crate::connection::stream::Stream;

/// Closed when it is dropped.
pub(crate) struct Single {
    connection: MultiplexedConnection,
    within: Duration,
    _driver: JoinSet<()>,
}

impl Single {
    /// Dials and logs in.
    pub(crate) async fn open(address: &Address, within: Duration) -> Result<Self> {
        let stream = Stream::connect(&address.endpoint, within).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let opening = MultiplexedConnection::new_with_config(&address.login, stream, config);
        let late = |_| Error::timeout(format!("connecting to {address}"), within, Certainty::Definite);
        let opened = timeout(within, opening).await.map_err(late)?;
        let (connection, driver) = opened.map_err(|error| Fault::from(error).into_error(address))?;
        let mut drivers = JoinSet::new();
        drivers.spawn(driver);
        Ok(Self { connection, within, _driver: drivers })
    }

    /// The answer, or why there is none.
    pub(crate) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, String> {
        match timeout(self.within, command.query_async(&mut self.connection)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.within)),
        }
    }
}
