//! One command for one message.

use std::convert::Infallible;
use std::future::pending;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use polyqueue::{Bytes, Failure, Job};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};
use tokio::time::timeout;

use super::environment::environment;
use super::process_group::ProcessGroup;
use super::stderr::Stderr;
use super::stdout::Stdout;

/// The exit code that means "never again": EX_DATAERR of sysexits.
const REJECT: i32 = 65;
/// How long what it printed is read after the command ended, for what it left running may hold that open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs `shell` with the payload on standard input and the envelope in the environment; its standard output is ours.
pub(crate) async fn run(shell: &str, job: &Job<Bytes>) -> Result<(), Failure> {
    attended(shell, job, Stdio::inherit()).await.map(drop)
}

/// The same, and answers what it printed.
pub(crate) async fn ask(shell: &str, job: &Job<Bytes>) -> Result<Bytes, Failure> {
    attended(shell, job, Stdio::piped()).await
}

async fn attended(shell: &str, job: &Job<Bytes>, stdout: Stdio) -> Result<Bytes, Failure> {
    let mut child = Command::new("sh")
        .args(["-c", shell])
        .stdout(stdout)
        .envs(environment(job))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = ProcessGroup::led_by(child.id());
    let feed = feed(child.stdin.take(), &job.payload);
    let mut stdout = Stdout::of(child.stdout.take());
    let mut stderr = Stderr::of(child.stderr.take());
    let talk = async { tokio::join!(feed, stdout.read(), stderr.read()) };
    let status = beside(talk, child.wait()).await?;
    group.let_go();
    let _ = timeout(LAST_WORDS, async { tokio::join!(stdout.read(), stderr.read()) }).await;
    judge(status, stderr.last_line()).map(|()| stdout.printed())
}

async fn feed(stdin: Option<ChildStdin>, payload: &Bytes) {
    if let Some(mut stdin) = stdin {
        // A command that does not read its input is no failure.
        let _ = stdin.write_all(payload).await;
    }
}

/// Waits for `ended`, and for `talk` no longer than that.
async fn beside<T, U>(talk: impl Future<Output = U>, ended: impl Future<Output = T>) -> T {
    let never = async {
        talk.await;
        pending::<Infallible>().await
    };
    tokio::select! {
        ended = ended => ended,
        never = never => match never {},
    }
}

fn judge(status: ExitStatus, last_line: String) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    let error = if last_line.is_empty() { status.to_string() } else { last_line };
    match status.code() {
        Some(REJECT) => Err(Failure::fatal(error)),
        _ => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::QueueName;

    fn job(payload: &'static str) -> Job<Bytes> {
        Job::of(QueueName::from_static("q"), Bytes::from(payload))
    }

    async fn outcome(shell: &str) -> Result<(), Failure> {
        run(shell, &job("the payload")).await
    }

    #[tokio::test]
    async fn the_exit_code_is_the_verdict() {
        assert_eq!(outcome(r#"[ "$(cat)" = "the payload" ] && [ "$POLYQUEUE_QUEUE" = q ]"#).await, Ok(()));
        assert_eq!(outcome("echo one >&2; echo two >&2; exit 65").await, Err(Failure::fatal("two")));
        assert_eq!(outcome("echo why >&2; exit 1").await, Err("why".into()));
        assert_eq!(outcome("exit 7").await, Err("exit status: 7".into()));
        assert_eq!(outcome("kill -9 $$").await, Err("signal: 9 (SIGKILL)".into()));
    }

    #[tokio::test]
    async fn a_command_that_does_not_read_succeeds() {
        let big = Job::of(QueueName::from_static("q"), Bytes::from(vec![b'x'; 1 << 20]));
        assert_eq!(run("true", &big).await, Ok(()));
    }

    #[tokio::test]
    async fn a_dropped_command_is_ended_with_its_whole_pipeline() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let shell = format!("(sleep 1; touch {0}) | (sleep 1; touch {0})", mark.display());
        let dropped = tokio::time::timeout(Duration::from_millis(200), outcome(&shell)).await;
        assert!(dropped.is_err());
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(!mark.exists(), "a part of the pipeline lived on");
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_is_not_waited_for() {
        let began = std::time::Instant::now();
        let printed = ask("sleep 25 & echo x; printf y", &job("p")).await;
        assert_eq!(printed, Ok(Bytes::from("x\ny")));
        let big = Job::of(QueueName::from_static("q"), Bytes::from(vec![b'x'; 1 << 20]));
        assert_eq!(ask("sleep 25 <&0 & echo x", &big).await, Ok(Bytes::from("x\n")));
        assert_eq!(outcome("sleep 25 & printf why >&2; exit 1").await, Err("why".into()));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
