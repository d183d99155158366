//! The worker asks for its queue's health by itself, and tells of changes only.

use std::time::Duration;

use polyqueue::{Job, Worker};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::logged::Log;
use crate::scripted::{Ping, Q, Scripted};
use crate::scripted_health::Feels;

const SECOND: Duration = Duration::from_secs(1);
const ILL: &str = "the queue is not well";
const WELL: &str = "the queue is well again";

#[tokio::test(start_paused = true)]
async fn each_change_is_one_line_that_says_who_is_stuck() {
    let (broker, log) = (Scripted::default(), Log::default());
    let _listening = log.listen();
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::new(broker.queue()).on(async |_: Job<Ping>| Ok(()));
    let running = tokio::spawn(worker.run([Q], stopped));
    sleep(60 * SECOND).await;
    assert_eq!((log.lines_with(ILL), log.lines_with(WELL)), (0, 0), "it was well all the time");
    assert!((10..=13).contains(&broker.0.health.looks()), "{} looks in a minute", broker.0.health.looks());

    broker.0.health.feels(Feels::Stuck("a receive on q has waited 9 s"));
    sleep(60 * SECOND).await;
    assert_eq!((log.lines_with(ILL), log.lines_with(WELL)), (1, 0));
    assert_eq!(log.lines_with("a receive on q has waited 9 s"), 1, "it says who is stuck");
    broker.0.health.feels(Feels::Well);
    sleep(60 * SECOND).await;
    assert_eq!((log.lines_with(ILL), log.lines_with(WELL)), (1, 1));

    broker.0.health.feels(Feels::Mute);
    sleep(60 * SECOND).await;
    assert_eq!((log.lines_with(ILL), log.lines_with("its health was not told within 5s")), (2, 1));
    broker.0.health.feels(Feels::Well);
    sleep(60 * SECOND).await;
    assert_eq!((log.lines_with(ILL), log.lines_with(WELL)), (2, 2));

    drop(stop);
    running.await.unwrap().unwrap();
    let looks = broker.0.health.looks();
    sleep(60 * SECOND).await;
    assert_eq!(broker.0.health.looks(), looks, "nobody looks after the end");
}
