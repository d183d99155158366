//! `polyqueue demo`: the whole contract as a story of some seconds, on whatever broker there is.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use polyqueue::{
    Backoff, Bytes, Consumer, DeadFilter, Destination, Failure, Job, Message, Page, Priority, Queue,
    QueueName, QueueSpec, RetryPolicy, Subscription, Verdict, Worker,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::exit::{Exit, Result};
use crate::{stats, stdout};

/// How long the story waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

struct Story {
    queue: Arc<dyn Queue>,
    name: QueueName,
    began: Instant,
}

pub(crate) async fn run(queue: &Arc<dyn Queue>) -> Result<()> {
    let unique = polyqueue::MessageId::random();
    let name = QueueName::new(format!("demo-{}", &unique.as_str()[24..]))?;
    stdout::line(format_args!(
        "polyqueue on {}: one queue, {name}, and what becomes of its messages",
        queue.info().provider
    ))?;
    let story = Story { queue: queue.clone(), name: name.clone(), began: Instant::now() };
    queue.declare(&QueueSpec::new(name.clone())).await?;
    let told = story.tell().await;
    let deleted = queue.delete(&name).await;
    told.and(deleted.map_err(Into::into))
}

impl Story {
    async fn tell(&self) -> Result<()> {
        self.priority().await?;
        self.delay().await?;
        self.retry().await?;
        self.dead_letter().await?;
        self.redrive().await?;
        self.numbers().await
    }

    /// A line of the story, with the time since it began.
    fn say(&self, text: impl AsRef<str>) -> Result<()> {
        say(self.began, text.as_ref())
    }

    fn chapter(&self, title: &str) -> Result<()> {
        stdout::line(format_args!("\n{title}"))
    }

    async fn publish(&self, message: Message) -> Result<()> {
        for answer in self.queue.publish(&Destination::from(&self.name), vec![message]).await? {
            answer?;
        }
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn Consumer>> {
        Ok(self.queue.subscribe(&Subscription::new(self.name.clone()).consumer("demo")).await?)
    }

    async fn priority(&self) -> Result<()> {
        self.chapter("Priority: 10 goes first, equals keep their order")?;
        let mail = [("newsletter", 1), ("invoice", 5), ("password reset", 10), ("receipt", 5)];
        for (text, level) in mail {
            self.publish(Message::new(text).with_priority(Priority::new(level)?)).await?;
            self.say(format!("published   {text} (priority {level})"))?;
        }
        let consumer = self.subscribe().await?;
        for _ in mail {
            let message = take(&*consumer).await?;
            self.say(format!("handed out  {} (priority {})", text(&message), message.priority()))?;
        }
        Ok(())
    }

    async fn delay(&self) -> Result<()> {
        self.chapter("Delay: not before its time")?;
        let published = Instant::now();
        self.publish(Message::new("reminder").with_delay(Duration::from_secs(1))).await?;
        self.say("published   reminder, to be handed out in 1 s")?;
        let consumer = self.subscribe().await?;
        let message = take(&*consumer).await?;
        let waited = published.elapsed().as_secs_f64();
        self.say(format!("handed out  {} after {waited:.3} s", text(&message)))?;
        Ok(())
    }

    async fn retry(&self) -> Result<()> {
        self.chapter("Retry: a handler fails twice; the waits double")?;
        self.publish(Message::new("welcome mail")).await?;
        self.say("published   welcome mail")?;
        self.work(|job| match job.attempt {
            1 => Err("mail server: connection refused".into()),
            2 => Err("mail server: try again later".into()),
            _ => Ok(()),
        })
        .await
    }

    async fn dead_letter(&self) -> Result<()> {
        self.chapter("Dead letter: what fails for good is kept, with the reason")?;
        let message =
            Message::new("order 4711").with_max_attempts(NonZeroU32::MIN).with_header("customer", "Ada");
        self.publish(message).await?;
        self.say("published   order 4711, with one attempt")?;
        self.work(|_| Err("no such product".into())).await?;
        let page = self.queue.dead_letters(&self.name, &DeadFilter::all(), Page::first(10)).await?;
        for letter in page.dead_letters {
            let body = letter.message().map(text).unwrap_or_default();
            self.say(format!("dead        {body}: {}, {:?}", letter.reason, letter.error))?;
        }
        Ok(())
    }

    async fn redrive(&self) -> Result<()> {
        self.chapter("Redrive: the product exists now; send the letter round again")?;
        let page = self.queue.dead_letters(&self.name, &DeadFilter::all(), Page::first(10)).await?;
        let ids: Vec<_> = page.dead_letters.into_iter().map(|letter| letter.id).collect();
        let redriven = self.queue.redrive(&self.name, &ids).await?;
        self.say(format!("redriven    {} of {}", redriven.iter().filter(|done| **done).count(), ids.len()))?;
        self.work(|_| Ok(())).await
    }

    async fn numbers(&self) -> Result<()> {
        self.chapter("Stats: everything is accounted for")?;
        let stats = self.queue.stats(&self.name).await?;
        let counters = stats.counters;
        stdout::line(stats::table(&[(&self.name, stats)]))?;
        stdout::line(format_args!(
            "this process: {} published, {} acked, {} retried, {} died",
            counters.published, counters.acked, counters.retried, counters.died
        ))
    }

    /// Runs a worker until its one message is done or dead, telling each attempt.
    async fn work(&self, judge: fn(&Job<Bytes>) -> Result<(), Failure>) -> Result<()> {
        let (done, mut is_done) = mpsc::channel::<()>(1);
        let (died, began) = (done.clone(), self.began);
        // The next line of the story ends it when nobody reads any more.
        let tell = move |text: String| {
            let _ = say(began, &text);
        };
        let backoff = Backoff::new(Duration::from_millis(500), 2.0, Duration::from_secs(30))?;
        let worker = Worker::new(self.queue.clone())
            .concurrency(1)
            .retry(RetryPolicy::new(4, backoff)?)
            .on_others(move |job: Job<Bytes>| {
                let (outcome, done) = (judge(&job), done.clone());
                let subject = text(&job.message);
                match &outcome {
                    Ok(()) => tell(format!("attempt {}   {subject}: done", job.attempt)),
                    Err(Failure::Retry { error, .. }) => {
                        tell(format!("attempt {}   {subject}: failed, {error:?}", job.attempt));
                    }
                    Err(_) => {}
                }
                async move {
                    if outcome.is_ok() {
                        let _ = done.try_send(());
                    }
                    outcome
                }
            })
            .on_dead_letter(move |_| {
                let _ = died.try_send(());
                std::future::ready(())
            });
        let stop = async move {
            let _ = tokio::time::timeout(PATIENCE, is_done.recv()).await;
        };
        worker.run([self.name.clone()], stop).await?;
        Ok(())
    }
}

fn say(began: Instant, text: &str) -> Result<()> {
    stdout::line(format_args!("{:7.2} s  {text}", began.elapsed().as_secs_f64()))
}

async fn take(consumer: &dyn Consumer) -> Result<Arc<Message>> {
    let deliveries = consumer.receive(1, PATIENCE).await?;
    let Some(delivery) = deliveries.into_iter().next() else {
        return Err(Exit::Failed(format!("nothing came within {PATIENCE:?}")));
    };
    for answer in consumer.settle(&[(delivery.receipt, Verdict::Ack)]).await? {
        answer?;
    }
    Ok(delivery.message)
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.payload()).into_owned()
}
