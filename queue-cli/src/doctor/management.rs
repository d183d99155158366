//! What RabbitMQ's management plugin says, where the user names it.

use polyqueue::backend::BrokerUrl;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::http::get;

const FORM: &str = "http://[user:password@]host[:port]";

/// What was asked, each known, or why it is not.
pub(super) struct Managed {
    /// The alarms that are raised.
    pub(super) alarms: Answer<Vec<String>>,
    /// Every queue of the virtual host, with what policies make of it.
    pub(super) queues: Answer<Vec<Named>>,
    /// Every exchange of it.
    pub(super) exchanges: Answer<Vec<Named>>,
}

pub(super) type Answer<T> = Result<T, String>;

/// A queue or an exchange.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    #[serde(default)]
    pub(super) policy: Option<String>,
    #[serde(default)]
    pub(super) operator_policy: Option<String>,
    /// What both policies together say; the plugin writes an empty list where they say nothing.
    #[serde(default)]
    effective_policy_definition: Value,
}

impl Named {
    /// What policies say of it.
    pub(super) fn rules(&self) -> Map<String, Value> {
        self.effective_policy_definition.as_object().cloned().unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
struct Alarms {
    #[serde(default)]
    alarms: Vec<Alarm>,
}

#[derive(Deserialize)]
struct Alarm {
    resource: String,
    node: String,
}

/// # Errors
/// The URL makes no sense.
pub(super) async fn ask(url: &str, virtual_host: &str) -> polyqueue::Result<Managed> {
    let url = BrokerUrl::parse(url, FORM, &[])?;
    if url.scheme != "http" || url.path.is_some() {
        return Err(url.refused("it is not of this form"));
    }
    let columns = "columns=name,policy,operator_policy,effective_policy_definition";
    let host = encoded(virtual_host);
    Ok(Managed {
        alarms: alarms(&url).await,
        queues: list(&url, &format!("/api/queues/{host}?{columns}")).await,
        exchanges: list(&url, &format!("/api/exchanges/{host}?{columns}")).await,
    })
}

/// 503 is the plugin's way to say that there are some.
async fn alarms(url: &BrokerUrl) -> Answer<Vec<String>> {
    match get(url, "/api/health/checks/alarms").await? {
        (200, _) => Ok(Vec::new()),
        (503, body) => {
            let alarms: Alarms = serde_json::from_slice(&body).unwrap_or_default();
            let mut named: Vec<String> =
                alarms.alarms.iter().map(|alarm| format!("{} on {}", alarm.resource, alarm.node)).collect();
            if named.is_empty() {
                named.push(String::from_utf8_lossy(&body).into_owned());
            }
            Ok(named)
        }
        (status, _) => Err(refused(url, status)),
    }
}

async fn list<T: DeserializeOwned>(url: &BrokerUrl, path: &str) -> Answer<Vec<T>> {
    match get(url, path).await? {
        (200, body) => serde_json::from_slice(&body).map_err(|error| format!("{url}{path}: {error}")),
        (status, _) => Err(refused(url, status)),
    }
}

fn refused(url: &BrokerUrl, status: u16) -> String {
    match status {
        401 => {
            format!("{url}: the user or the password is wrong (401), or guest is not let in from elsewhere")
        }
        403 => format!("{url}: the user may not ask (403): it needs the tag monitoring"),
        404 => format!("{url}: nothing is there (404): is it RabbitMQ's management plugin, 3.10 or later?"),
        status => format!("{url}: answered {status}"),
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}
