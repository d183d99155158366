//! The RabbitMQ backend under test: on a private node, or on the one that `RABBITMQ_URL` names.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use polyqueue::{Certainty, ConnectOptions, Error, Queue, QueueName, Result};
use polyqueue_conformance::broker::{Broker, RabbitBroker};
use polyqueue_conformance::{Bytes, Garbage, Harness, Namespace, Stage, async_trait};

/// The private node, when there is one: it can say what lies on it.
static NODE: OnceLock<Arc<RabbitBroker>> = OnceLock::new();

pub(crate) struct Rabbit(Stage);

impl Rabbit {
    pub(crate) fn new() -> Self {
        Self(Stage::new("rabbitmq", "RABBITMQ_URL", || {
            Box::pin(async {
                let node = Arc::new(RabbitBroker::start().await?);
                let node = NODE.get_or_init(|| node);
                Ok(node.clone() as Arc<dyn Broker>)
            })
        }))
    }

    /// A channel of a client that has never heard of this library. The connection ends with its last channel.
    async fn channel(&self) -> Result<Channel> {
        let url = self.0.url().await?;
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.map_err(failed)?;
        connection.create_channel().await.map_err(failed)
    }

    async fn publish(
        &self,
        namespace: &Namespace,
        queue: &QueueName,
        headers: FieldTable,
        body: &[u8],
    ) -> Result<()> {
        let channel = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed)?;
        let mut properties = BasicProperties::default();
        if !headers.inner().is_empty() {
            // The broker takes no priority for the lowest.
            properties = properties.with_headers(headers).with_priority(5);
        }
        let name = format!("{}.q.{queue}", namespace.name());
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), name.into(), options, body, properties).await;
        sent.map_err(failed)?.await.map_err(failed).map(drop)
    }

    /// The broker's queues of this namespace, from the node itself.
    async fn queues(node: &RabbitBroker, namespace: &str) -> Result<Vec<String>> {
        let list = format!(
            "lists:flatten(lists:join(\"\\n\", [binary_to_list(N) || Q <- rabbit_amqqueue:list(), \
             {{resource, _, queue, N}} <- [amqqueue:get_name(Q)], \
             lists:prefix(\"{namespace}.\", binary_to_list(N))]))"
        );
        let printed =
            node.eval(&list).await.map_err(|e| Error::backend("rabbitmq", Certainty::Definite, e))?;
        let names = printed.trim().trim_matches('"').replace("\\n", "\n");
        Ok(names.lines().filter(|name| name.starts_with(namespace)).map(str::to_owned).collect())
    }

    /// The same where only AMQP can be asked: by the names that were declared.
    async fn still_there(&self, namespace: &Namespace) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for queue in namespace.declared_queues() {
            for name in ["q", "dead"].map(|side| format!("{}.{side}.{queue}", namespace.name())) {
                let options = QueueDeclareOptions { passive: true, ..Default::default() };
                let channel = self.channel().await?;
                if channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await.is_ok() {
                    left.push(name);
                }
            }
        }
        Ok(left)
    }
}

fn failed(error: lapin::Error) -> Error {
    Error::backend("rabbitmq", Certainty::Unknown, error)
}

/// Headers of ours that cannot hold just any text.
const FIELDS: [&str; 8] = [
    "x-pq-v",
    "x-pq-attempt",
    "x-pq-at",
    "x-pq-max",
    "x-pq-retries",
    "x-pq-headers",
    "x-pq-redriven",
    "x-pq-former",
];

#[async_trait]
impl Harness for Rabbit {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    async fn open(&self, _: &Namespace, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
        self.0.connect(&polyqueue_rabbitmq::PROVIDER, options).await
    }

    fn stage(&self) -> Option<&Stage> {
        Some(&self.0)
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(200)
    }

    /// The undelayed trips that L is calibrated by pass no slot and nobody who moves them on, perhaps in another client of another
    /// case, which may end just then.
    fn lateness(&self) -> Duration {
        Duration::from_millis(250)
    }

    async fn garbage(&self, namespace: &Namespace, queue: &QueueName, raw: Garbage) -> Result<()> {
        let mut headers = FieldTable::default();
        match raw {
            Garbage::BrokenField { body, field, value } => {
                let broken = AMQPValue::LongString(value.into());
                headers.insert(FIELDS[field % FIELDS.len()].into(), broken);
                self.publish(namespace, queue, headers, &body).await
            }
            Garbage::FutureVersion { body } => {
                headers.insert("x-pq-v".into(), AMQPValue::LongLongInt(2));
                self.publish(namespace, queue, headers, &body).await
            }
            // A message of AMQP always has a body, be it empty.
            _ => {
                headers.insert("x-pq-v".into(), AMQPValue::LongString("none".into()));
                self.publish(namespace, queue, headers, b"").await
            }
        }
    }

    async fn foreign(&self, namespace: &Namespace, queue: &QueueName, payload: Bytes) -> Result<()> {
        self.publish(namespace, queue, FieldTable::default(), &payload).await
    }

    async fn leftovers(&self, namespace: &Namespace) -> Result<Vec<String>> {
        let catalogue = format!("{}.catalogue", namespace.name());
        let options = QueueDeleteOptions::default();
        self.channel().await?.queue_delete(catalogue.into(), options).await.map_err(failed)?;
        match NODE.get() {
            Some(node) => Self::queues(node, namespace.name()).await,
            None => self.still_there(namespace).await,
        }
    }
}
