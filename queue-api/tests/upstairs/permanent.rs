//! An error that stays, in every dress that it may come in: dead at the first attempt, its text said once.

use polyqueue::{DeadFilter, DeadReason, Failure, Job, Page, Permanent, QueueExt, Worker};

use crate::ext::memory;
use crate::scripted::{Ping, Q};
use crate::worker_memory::run_until_empty;

#[derive(Debug, thiserror::Error)]
#[error("no such user")]
struct NoSuchUser;

fn permanent() -> Result<(), Permanent> {
    Err(Permanent::new(NoSuchUser))
}

/// Says its source itself, as many do.
#[derive(Debug, thiserror::Error)]
#[error("cannot greet: {0}")]
struct Verbose(#[from] Permanent);

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Transparent(#[from] Permanent);

fn in_anyhow() -> anyhow::Result<()> {
    Ok(permanent()?)
}

fn in_eyre() -> eyre::Result<()> {
    Ok(permanent()?)
}

fn in_context() -> anyhow::Result<()> {
    use anyhow::Context;
    permanent().context("cannot greet").context("mail")
}

fn in_wrap_err() -> eyre::Result<()> {
    use eyre::WrapErr;
    in_eyre().wrap_err("cannot greet").wrap_err("mail")
}

fn handle(way: u32) -> Result<(), Failure> {
    match way {
        0 => Ok(permanent()?),
        1 => Ok(in_anyhow()?),
        2 => Ok(in_context()?),
        3 => Ok(in_eyre()?),
        4 => Ok(in_wrap_err()?),
        5 => Ok(permanent().map_err(Verbose)?),
        6 => Ok(permanent().map_err(Transparent)?),
        7 => Ok(permanent().map_err(Permanent::new)?),
        8 => Err(Permanent::new(anyhow::Error::from(NoSuchUser).context("cannot greet")))?,
        9 => Ok(in_context().map_err(Permanent::new)?),
        _ => Err(Permanent::new("no such user"))?,
    }
}

#[tokio::test(start_paused = true)]
async fn it_dies_at_once_in_every_dress() {
    let direct = "no such user";
    let told = "cannot greet: no such user";
    let twice = "mail: cannot greet: no such user";
    let texts = [direct, direct, twice, direct, twice, told, direct, direct, told, twice, direct];
    for (way, text) in (0..).zip(texts) {
        let queue = memory(&format!("permanent{way}")).await;
        queue.send(Q, &Ping(way)).await.unwrap();
        let worker = Worker::new(queue.clone()).on(async |job: Job<Ping>| handle(job.payload.0));
        let report = run_until_empty(&queue, worker).await;
        assert_eq!((report.died, report.retried), (1, 0), "way {way}");
        let page = queue.dead_letters(&Q, &DeadFilter::all(), Page::first(9)).await.unwrap();
        let letter = &page.dead_letters[0];
        let found = (letter.reason, letter.attempts, letter.error.as_str());
        assert_eq!(found, (DeadReason::Rejected, 1, text), "way {way}");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct Outer(#[source] NoSuchUser);

#[test]
fn each_text_is_said_once_by_the_chains_of_others_too() {
    let mark = "no further attempt can change it";
    let plain = || Permanent::new("gone");
    let caused = || Permanent::new(Outer(NoSuchUser));
    for (error, text) in [
        (plain(), format!("gone: {mark}")),
        (Permanent::new(plain()), format!("gone: {mark}")),
        (caused(), "outer: no such user".into()),
        (Permanent::new(anyhow::anyhow!("root").context("top")), "top: root".into()),
        (
            Permanent::new(anyhow::anyhow!("root").context("middle").context("top")),
            "top: middle: root".into(),
        ),
    ] {
        let chain = format!("{:#}", anyhow::Error::from(error).context("mail"));
        assert_eq!(chain, format!("mail: {text}"));
    }
    assert_eq!(format!("{:#}", eyre::Report::from(caused())), "outer: no such user");
    assert_eq!(format!("{:#}", eyre::Report::from(plain())), format!("gone: {mark}"));
    assert_eq!(plain().to_string(), "gone");
    assert!(caused().get_ref().is::<Outer>());
    let fatal = |error: Permanent| Failure::from(anyhow::Error::from(error).context("mail"));
    assert_eq!(fatal(plain()), Failure::Fatal { error: "mail: gone".into() });
    assert_eq!(fatal(Permanent::new(plain())), Failure::Fatal { error: "mail: gone".into() });
    assert_eq!(fatal(caused()), Failure::Fatal { error: "mail: outer: no such user".into() });
}

#[test]
fn as_a_context_itself_it_is_not_found() {
    let context = anyhow::anyhow!("x").context(Permanent::new("gone"));
    assert!(matches!(Failure::from(context), Failure::Retry { .. }));
    assert!(matches!(
        Failure::from(eyre::eyre!("x").wrap_err(Permanent::new("gone"))),
        Failure::Retry { .. }
    ));
}
