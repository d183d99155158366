//! One command for one message.

use std::convert::Infallible;
use std::future::pending;
use std::process::Stdio;
use std::time::Duration;

use polyqueue::{Bytes, Job};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};
use tokio::time::timeout;

use super::environment::environment;
use super::fault::Fault;
use super::process_group::ProcessGroup;
use super::stderr::Stderr;
use super::stdout::Stdout;

/// How long what it printed is read after the command ended, for what it left running may hold that open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long the shell may take to read a command.
const CHECK: Duration = Duration::from_secs(5);

/// Lets the shell read the command without running it. A shell that is not there is found out with the first message.
///
/// # Errors
/// What the shell says is wrong with it.
pub(crate) async fn check(shell: &str) -> Result<(), String> {
    let read = Command::new("sh").args(["-n", "-c", shell]).stdin(Stdio::null()).kill_on_drop(true).output();
    match timeout(CHECK, read).await {
        Ok(Ok(read)) if !read.status.success() => {
            Err(String::from_utf8_lossy(&read.stderr).trim().to_owned())
        }
        _ => Ok(()),
    }
}

/// Runs `shell` with the payload on standard input and the envelope in the environment; its standard output is ours.
pub(crate) async fn run(shell: &str, job: &Job<Bytes>) -> Result<(), Fault> {
    attended(shell, job, Stdio::inherit()).await.map(drop)
}

/// The same, and answers what it printed.
pub(crate) async fn ask(shell: &str, job: &Job<Bytes>) -> Result<Bytes, Fault> {
    attended(shell, job, Stdio::piped()).await
}

async fn attended(shell: &str, job: &Job<Bytes>, stdout: Stdio) -> Result<Bytes, Fault> {
    let mut child = Command::new("sh")
        .args(["-c", shell])
        .stdout(stdout)
        .envs(environment(job))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Fault::of_spawn(&error))?;
    let group = ProcessGroup::led_by(child.id());
    let feed = feed(child.stdin.take(), &job.payload);
    let mut stdout = Stdout::of(child.stdout.take());
    let mut stderr = Stderr::of(child.stderr.take());
    let talk = async { tokio::join!(feed, stdout.read(), stderr.read()) };
    let status = beside(talk, child.wait()).await.map_err(|error| Fault::CannotRun(error.to_string()))?;
    group.let_go();
    let _ = timeout(LAST_WORDS, async { tokio::join!(stdout.read(), stderr.read()) }).await;
    match Fault::of_exit(status, stderr.last_line()) {
        Some(fault) => Err(fault),
        None => Ok(stdout.printed()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use polyqueue::{Failure, QueueName};

    fn job(payload: &'static str) -> Job<Bytes> {
        Job::of(QueueName::from_static("q"), Bytes::from(payload))
    }

    async fn outcome(shell: &str) -> Result<(), Fault> {
        run(shell, &job("the payload")).await
    }

    fn failed(error: &str) -> Result<(), Fault> {
        Err(Fault::Failed(error.into()))
    }

    #[tokio::test]
    async fn the_exit_code_is_the_verdict() {
        assert_eq!(outcome(r#"[ "$(cat)" = "the payload" ] && [ "$POLYQUEUE_QUEUE" = q ]"#).await, Ok(()));
        assert_eq!(
            outcome("echo one >&2; echo two >&2; exit 65").await,
            Err(Fault::Failed(Failure::fatal("two")))
        );
        assert_eq!(outcome("echo why >&2; exit 1").await, failed("why"));
        assert_eq!(outcome("exit 7").await, failed("exit status: 7"));
        assert_eq!(outcome("kill -9 $$").await, failed("signal: 9 (SIGKILL)"));
    }

    #[tokio::test]
    async fn a_command_that_cannot_run_is_told_from_one_that_fails() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        let script = script.to_str().unwrap();
        for shell in ["/no/such/binary", script, &format!("chmod +x {script}; {script}"), "exit 126"] {
            let outcome = outcome(shell).await;
            assert!(matches!(outcome, Err(Fault::CannotRun(_))), "{shell}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn the_shell_reads_the_command_before_any_message() {
        assert_eq!(check("exit 7").await, Ok(()));
        assert!(check("if true").await.is_err_and(|why| why.contains("yntax")));
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
        assert_eq!(outcome("sleep 25 & printf why >&2; exit 1").await, failed("why"));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
