//! The files of a private node: where RabbitMQ is installed, and the directory that a node of ours runs in.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::console::{self, NAME};
use crate::broker::certificates::Encryption;
use crate::broker::error::{BrokerError, Result};

/// What the node runs first, to boot faster; see there.
const PRELOAD: &str = include_str!("preload.erl");

/// Where packages put the scripts, besides `PATH`; Debian's script in `PATH` is a wrapper that changes the user.
const SCRIPTS: [&str; 4] = ["/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/usr/sbin", "/opt/homebrew/sbin"];

/// What a node runs besides itself for its HTTP API.
const MANAGEMENT: &str = "rabbitmq_management";

/// How it encrypts, and at which port.
type Encrypted<'a> = Option<(&'a Encryption, u16)>;

/// Prepares `dir` for a node on `port`, whose HTTP API, where it is to have one, is on `management`.
pub(super) fn prepare(
    dir: &Path,
    port: u16,
    encrypted: Encrypted<'_>,
    management: Option<u16>,
) -> Result<()> {
    let scripts = find_scripts()?;
    let configuration = configuration(port, &encrypted.map(encryption).unwrap_or_default(), management);
    let plugins: &[&str] = if management.is_some() { &[MANAGEMENT] } else { &[] };
    lay_out(dir, &scripts, &configuration, plugins).map_err(BrokerError::io("preparing the node's directory"))
}

fn lay_out(dir: &Path, scripts: &Path, configuration: &str, plugins: &[&str]) -> std::io::Result<()> {
    for name in ["home", "mnesia", "log", "rabbitmq/sbin", "rabbitmq/plugins"] {
        fs::create_dir_all(dir.join(name))?;
    }
    for script in fs::read_dir(scripts)? {
        let script = script?;
        symlink(script.path(), dir.join("rabbitmq/sbin").join(script.file_name()))?;
    }
    for application in needed_applications(&scripts.join("../plugins"), plugins)? {
        let name = application.file_name().unwrap_or_default();
        symlink(&application, dir.join("rabbitmq/plugins").join(name))?;
    }
    fs::write(dir.join("enabled_plugins"), format!("[{}].\n", plugins.join(",")))?;
    fs::write(dir.join("preload"), PRELOAD)?;
    fs::write(dir.join("console"), console::SCRIPT)?;
    fs::write(dir.join("node.config"), configuration)
}

/// Erlang terms, which need no schema to be translated and hence boot faster than `rabbitmq.conf`.
fn configuration(port: u16, encryption: &str, management: Option<u16>) -> String {
    let management = management.map_or(String::new(), |port| {
        format!(", {{rabbitmq_management, [{{tcp_config, [{{ip, \"127.0.0.1\"}}, {{port, {port}}}]}}]}}")
    });
    format!(
        r#"[{{rabbit, [
    {{tcp_listeners, [{{"127.0.0.1", {port}}}]}},
    {{num_tcp_acceptors, 2}},
{encryption}    {{disk_free_limit, 50000000}},
    {{vm_memory_high_watermark, {{absolute, 4294967296}}}}
]}}{management}].
"#
    )
}

fn encryption((encryption, port): (&Encryption, u16)) -> String {
    let Encryption { certificate, clients } = encryption;
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    let (ca, asks) = (clients.as_ref().unwrap_or(&certificate.cert).display(), clients.is_some());
    let verify = if asks { "verify_peer" } else { "verify_none" };
    format!(
        r#"    {{ssl_listeners, [{{"127.0.0.1", {port}}}]}},
    {{num_ssl_acceptors, 2}},
    {{ssl_options, [{{certfile, "{cert}"}}, {{keyfile, "{key}"}}, {{cacertfile, "{ca}"}},
        {{verify, {verify}}}, {{fail_if_no_peer_cert, {asks}}}]}},
"#
    )
}

/// The command that starts the node prepared in `dir`, by RabbitMQ's own script, which replaces itself by the node.
pub(super) fn command(dir: &Path, node: &str, distribution: u16) -> Command {
    let mut command = Command::new(dir.join("rabbitmq/sbin/rabbitmq-server"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_foreign(name)) {
        command.env_remove(name);
    }
    // Connected at start, so that neither a port mapper daemon is needed nor a second node that would start one.
    let arguments = format!(
        "-noshell -sname {node} -setcookie polyqueue -start_epmd false -erl_epmd_port {distribution} \
         -kernel inet_dist_use_interface {{127,0,0,1}} +S 2:2"
    );
    command
        .current_dir(dir)
        .env("HOME", dir.join("home"))
        .env("ERL_AFLAGS", "-eval file:eval(preload),file:eval(console)")
        .env("RABBITMQ_SCRIPTS_DIR", dir.join("rabbitmq/sbin"))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", dir.join("node.config"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_NODENAME", node)
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("RABBITMQ_ALLOW_INPUT", "true")
        .env("RABBITMQ_SCHEDULER_BIND_TYPE", "u")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// Whether an environment variable would change how the node runs.
fn is_foreign(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("RABBITMQ_") || name.starts_with("ERL_") || name == "NOTIFY_SOCKET"
}

fn find_scripts() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = SCRIPTS.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    directories
        .filter_map(|dir| fs::canonicalize(dir.join("rabbitmq-server")).ok()?.parent().map(Path::to_owned))
        .find(|dir| dir.join("rabbitmq-env").exists() && dir.join("../plugins").exists())
        .ok_or(BrokerError::Missing { program: NAME })
}

/// What the server itself consists of, out of everything that comes with it: a third. Erlang looks for each module in
/// each directory, so that the rest makes the boot take three times as long.
fn needed_applications(plugins: &Path, wanted: &[&str]) -> std::io::Result<BTreeSet<PathBuf>> {
    let all =
        fs::read_dir(plugins)?.map(|entry| entry.map(|it| it.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut found = BTreeSet::new();
    let mut wanted: Vec<String> = ["rabbit"].iter().chain(wanted).map(|&name| name.to_owned()).collect();
    while let Some(name) = wanted.pop() {
        let Some(path) = all.iter().find(|path| is_application(path, &name)) else { continue };
        if found.insert(path.clone()) {
            let description =
                fs::read_to_string(path.join("ebin").join(format!("{name}.app"))).unwrap_or_default();
            wanted.extend(required_by(&description));
        }
    }
    // One application packed as a file: an installation of a kind we do not know; take it as it is.
    if found.is_empty() || all.iter().any(|path| path.extension().is_some_and(|it| it == "ez")) {
        found = all.into_iter().collect();
    }
    Ok(found)
}

/// Whether `path` is `…/NAME-VERSION` or `…/NAME`.
fn is_application(path: &Path, name: &str) -> bool {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The names in the `{applications, […]}` of an Erlang application description.
fn required_by(description: &str) -> Vec<String> {
    let list =
        description.split_once("{applications").and_then(|(_, rest)| rest.split_once('[')?.1.split_once(']'));
    let names = list.map(|(names, _)| names.split(',')).into_iter().flatten();
    names.map(|name| name.trim().trim_matches('\'').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_applications_are_read_from_a_description() {
        let description = "{application, 'rabbit', [\n\t{vsn, \"3\"},\n\t{applications, [kernel,'ranch', \n ra]},{env, []}]}.";
        assert_eq!(required_by(description), ["kernel", "ranch", "ra"]);
        assert!(required_by("nonsense").is_empty());
    }

    #[test]
    fn an_application_is_a_directory_named_with_its_version() {
        assert!(is_application(Path::new("/p/rabbit-3.10.8"), "rabbit"));
        assert!(!is_application(Path::new("/p/rabbit_common-3.10.8"), "rabbit"));
    }
}
