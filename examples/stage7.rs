//! A system of services over topics, on whatever broker the environment names: each instance of each service has a queue,
//! bound to its own key, its type's and everybody's. The post office asks the Brain and waits, tells Mission Control and does
//! not, and calls on all.
//!
//! ```sh
//! cargo run -p polyqueue-examples --example stage7
//! MESSAGE_QUEUE_PROVIDER=rabbitmq RABBITMQ_URL=amqp://localhost cargo run -p polyqueue-examples --example stage7
//! ```

use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Failure, Job, MessageId, Pattern, Payload, Queue, QueueExt, QueueName, QueueSpec, Requester, RoutingKey,
    Worker, connect_from_env, with,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const SERVICES: [&str; 3] = ["brain", "missioncontrol", "librarian"];
const INSTANCES: [u32; 2] = [1, 2];
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct Question {
    question: String,
}

impl Payload for Question {
    const KIND: &'static str = "REQUEST";
}

#[derive(Serialize, Deserialize)]
struct Answer {
    response: String,
}

impl Payload for Answer {
    const KIND: &'static str = "RESPONSE";
}

#[derive(Serialize, Deserialize)]
struct StatusUpdate {
    status: String,
}

impl Payload for StatusUpdate {
    const KIND: &'static str = "STATUS_UPDATE";
}

/// One running instance of a service.
#[derive(Clone)]
struct Instance {
    id: String,
    log: mpsc::UnboundedSender<String>,
}

impl Instance {
    async fn answer(self, job: Job<Question>) -> Result<Answer, Failure> {
        let response = match job.payload.question.as_str() {
            "What is the capital of France?" => "Paris".into(),
            "Who is there?" => self.id,
            other => return Err(Failure::fatal(format!("{}: I do not know: {other}", self.id))),
        };
        Ok(Answer { response })
    }

    async fn note(self, job: Job<StatusUpdate>) -> Result<(), Failure> {
        self.log.send(format!("{} heard {:?}", self.id, job.payload.status))?;
        Ok(())
    }
}

/// The exchange of this system is a prefix of keys, so that several may share a broker.
struct Stage {
    queue: Arc<dyn Queue>,
    name: String,
}

impl Stage {
    fn key(&self, address: &str) -> polyqueue::Result<RoutingKey> {
        Ok(RoutingKey::new(format!("{}.message.{address}", self.name))?)
    }

    /// `{serviceType}-{serviceId}`, bound to the instance's key, its type's and everybody's.
    async fn open(&self, service: &str, id: &str) -> polyqueue::Result<QueueName> {
        let name = QueueName::new(format!("{}.{service}-{id}", self.name))?;
        let mut spec = QueueSpec::new(name.clone());
        for address in [id, service, "all"] {
            spec = spec.bind(Pattern::new(self.key(address)?.as_str())?);
        }
        self.queue.declare(&spec).await?;
        Ok(name)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let providers = [polyqueue_memory::PROVIDER, polyqueue_redis::PROVIDER, polyqueue_rabbitmq::PROVIDER];
    let queue = connect_from_env(&providers).await?;
    let stage = Stage { queue: queue.clone(), name: format!("stage7-{}", MessageId::random()) };
    let (log, mut heard) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let (mut names, mut instances) = (Vec::new(), JoinSet::new());
    for service in SERVICES {
        for number in INSTANCES {
            let instance = Instance { id: format!("{service}-instance-{number}"), log: log.clone() };
            let name = stage.open(service, &instance.id).await?;
            let worker = Worker::new(queue.clone())
                .on_request(with(instance.clone(), Instance::answer))
                .on(with(instance, Instance::note));
            let mut stopped = stopped.clone();
            let stop = async move { stopped.wait_for(|stop| *stop).await.map(drop) };
            instances.spawn(worker.run([name.clone()], stop));
            names.push(name);
        }
    }

    let office = Requester::open(queue.clone()).await?;
    let ask = |question: &str| Question { question: question.into() };
    let capital = ask("What is the capital of France?");
    let answer: Answer = office.request(stage.key("brain-instance-1")?, &capital, TIMEOUT).await?;
    println!("the Brain says: {}", answer.response);
    assert_eq!(answer.response, "Paris");
    let unknown = office.request::<_, Answer>(stage.key("brain-instance-2")?, &ask("Why?"), TIMEOUT).await;
    println!("and to a harder question: {}", unknown.err().ok_or("it cannot know")?);

    queue.send(stage.key("missioncontrol")?, &StatusUpdate { status: "Processing".into() }).await?;
    for _ in INSTANCES {
        println!("{}", heard.recv().await.ok_or("all instances are gone")?);
    }

    let replies = office.gather(stage.key("all")?, &ask("Who is there?"), 6, TIMEOUT).await?;
    let answers: Vec<Answer> = replies.into_iter().collect::<Result<_, _>>()?;
    let mut present: Vec<String> = answers.into_iter().map(|answer| answer.response).collect();
    present.sort();
    println!("present: {}", present.join(", "));
    assert_eq!(present.len(), SERVICES.len() * INSTANCES.len());

    stop.send_replace(true);
    while let Some(ended) = instances.join_next().await {
        ended??;
    }
    for name in &names {
        queue.delete(name).await?;
    }
    queue.close().await?;
    Ok(())
}
