//! One command for one message.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use polyqueue::{Bytes, Failure, Job};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::watch;

use crate::show;

/// The exit code that means "never again": EX_DATAERR of sysexits.
const REJECT: i32 = 65;
/// How long standard error is read after the command ended, for a grandchild may hold it open.
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
    let mut group = Group(child.id());
    let printed = read_all(child.stdout.take());
    let (ended, printed) = tokio::join!(attend(&mut child, &job.payload), printed);
    let (status, last_line) = ended?;
    group.0 = None;
    judge(status, last_line).map(|()| printed)
}

/// What the command prints, when it is asked for.
async fn read_all(stdout: Option<ChildStdout>) -> Bytes {
    let mut printed = Vec::new();
    if let Some(mut stdout) = stdout {
        // What could be read before a fault is what it said.
        let _ = stdout.read_to_end(&mut printed).await;
    }
    printed.into()
}

async fn attend(child: &mut Child, payload: &Bytes) -> std::io::Result<(ExitStatus, String)> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input is no failure.
            let _ = stdin.write_all(payload).await;
        }
    };
    let (last_line, heard) = watch::channel(String::new());
    let listen = pass_on(stderr, last_line);
    let end = async {
        let (status, ()) = tokio::join!(child.wait(), feed);
        status
    };
    tokio::pin!(listen, end);
    let status = tokio::select! {
        status = &mut end => {
            let _ = tokio::time::timeout(LAST_WORDS, listen).await;
            status?
        }
        () = &mut listen => end.await?,
    };
    let last_line = heard.borrow().clone();
    Ok((status, last_line))
}

/// Copies the command's standard error to ours and remembers its last line that is not blank.
async fn pass_on(stderr: Option<ChildStderr>, last_line: watch::Sender<String>) {
    let Some(stderr) = stderr else { return };
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let text = String::from_utf8_lossy(&line);
        eprintln!("{text}");
        if !text.trim().is_empty() {
            last_line.send_replace(text.trim().to_owned());
        }
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

fn environment(job: &Job<Bytes>) -> Vec<(String, String)> {
    let message = &job.message;
    let mut variables = vec![
        ("POLYQUEUE_ID".into(), message.id().to_string()),
        ("POLYQUEUE_QUEUE".into(), job.queue.to_string()),
        ("POLYQUEUE_KIND".into(), message.kind().to_owned()),
        ("POLYQUEUE_PRIORITY".into(), message.priority().to_string()),
        ("POLYQUEUE_ATTEMPT".into(), job.attempt.to_string()),
        ("POLYQUEUE_MAX_ATTEMPTS".into(), job.max_attempts.to_string()),
        ("POLYQUEUE_PUBLISHED_AT".into(), message.published_at().map(show::instant).unwrap_or_default()),
    ];
    if let Some(id) = message.correlation_id() {
        variables.push(("POLYQUEUE_CORRELATION_ID".into(), id.into()));
    }
    for (key, value) in message.headers() {
        // An environment cannot hold a NUL.
        variables.push((variable(key), value.replace('\0', "")));
    }
    variables
}

/// `trace-id` becomes `POLYQUEUE_HEADER_TRACE_ID`.
fn variable(key: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    std::iter::once("POLYQUEUE_HEADER_")
        .map(String::from)
        .chain([key.chars().map(letter).collect()])
        .collect()
}

/// Ends the command's whole process group when it is dropped while running: a pipeline has several processes.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let group = format!("-{leader}");
            let _ = std::process::Command::new("kill")
                .args(["-KILL", "--", &group])
                .stderr(Stdio::null())
                .status();
        }
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

    #[test]
    fn header_names_become_variables() {
        assert_eq!(variable("trace-id.é"), "POLYQUEUE_HEADER_TRACE_ID__");
    }
}
