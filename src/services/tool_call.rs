//! Runs one call of one of Kimi's own tools: checks, login, time limit, request, result (docs/protocol.md#plan-tools).

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::tool_request::Service;
use super::truncate::{Limit, Outcome, without_credentials};
use super::{datasource, fetch, search};
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::client::{Kimi, Login};
use crate::config::{Config, Environment, RequestAddresses, ascii};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::http::timeout::within;
use crate::http::user_agent::Host;

/// Limit for a whole tool call: connection, answer, and the repetition after a 401 (docs/protocol.md#plan-tools).
const TIMEOUT: Duration = Duration::from_secs(180);

/// A tool call as JavaScript requests it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRequest {
    /// Environment variables as JavaScript sees them now.
    #[serde(default)]
    pub environment: HashMap<String, String>,
    /// The program that we run in.
    #[serde(default)]
    pub host: Host,
    /// Where the service is, unless the user names another address.
    #[serde(flatten)]
    pub addresses: RequestAddresses,
    /// Access token that Pi resolved; without one, the login of this machine is used.
    #[serde(default)]
    pub credential: Option<String>,
    /// Id of the model's tool call; a fresh one is made where there is none.
    #[serde(default)]
    pub call_id: Option<String>,
    /// Limit for the whole call instead of 180 s; 0 for none.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Limits of the text; a longer one goes to a file.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// The tool and its arguments.
    #[serde(flatten)]
    pub task: Task,
}

/// The tools and their arguments.
#[derive(Debug, Deserialize)]
#[serde(tag = "service", rename_all = "camelCase")]
pub enum Task {
    /// Web search.
    Search(search::Search),
    /// Web page as Markdown.
    Fetch(fetch::Fetch),
    /// Data source: stocks, statistics, papers, law, filings.
    Datasource(datasource::Datasource),
}

impl Task {
    /// Returns the beginning of error messages.
    fn title(&self) -> &'static str {
        match self {
            Self::Search(_) => "Moonshot search failed",
            Self::Fetch(_) => "Moonshot fetch failed",
            Self::Datasource(_) => "kimi_datasource failed",
        }
    }
}

/// Runs one call. Dropping the future or cancelling closes the connection.
pub async fn run(request: ServiceRequest, cancel: CancellationToken) -> Result<Outcome> {
    let timeout = match request.timeout_ms {
        Some(0) => None,
        given => Some(given.map_or(TIMEOUT, Duration::from_millis)),
    };
    let title = request.task.title();
    let outcome = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::cancelled()),
        outcome = within(timeout, call(request)) => outcome,
    };
    let outcome = outcome.unwrap_or_else(|| {
        let message = format!("no complete answer within {} s", timeout.unwrap_or_default().as_secs_f64());
        Err(Error::new(ErrorKind::Timeout(Phase::Body), message))
    });
    outcome.map_err(|error| Error { message: format!("{title}: {}", error.message), ..error })
}

async fn call(request: ServiceRequest) -> Result<Outcome> {
    let ServiceRequest { environment, host, addresses, credential, call_id, limit, task, .. } = request;
    // Arguments are checked before a credential is looked for: they are wrong with any credential.
    match &task {
        Task::Search(search) => search.check()?,
        Task::Fetch(fetch) => fetch.check()?,
        Task::Datasource(datasource) => datasource.check()?,
    }
    let mut kimi = in_background(move || {
        let environment = Environment::new(environment);
        Kimi::new(Config::from_environment(&environment, &addresses)?, host)
    })
    .await?;
    let credential = login(&mut kimi, credential.as_deref()).await?;
    let call_id = call_id.map(|id| ascii(&id)).filter(|id| !id.is_empty()).unwrap_or_else(fresh_id);
    let service = Service { kimi, credential, call_id };
    let outcome = match task {
        Task::Search(search) => search.run(&service, limit).await,
        Task::Fetch(fetch) => fetch.run(&service, limit).await,
        Task::Datasource(datasource) => datasource.run(&service, limit).await,
    };
    let mut outcome = outcome?;
    outcome.set("callId", service.call_id);
    let notes = std::mem::take(&mut outcome.notes);
    outcome.set("notes", notes);
    outcome.details.values_mut().for_each(remove_credentials);
    Ok(outcome)
}

/// Removes our own credentials from the members of a result.
fn remove_credentials(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_credentials(std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(remove_credentials),
        Value::Object(members) => members.values_mut().for_each(remove_credentials),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the credential of a login. The service takes no static key for tools (docs/protocol.md#plan-tools), so beside a key the
/// stored login is used; without one, the key is refused with an explanation.
async fn login(kimi: &mut Kimi, passed: Option<&str>) -> Result<Credential> {
    let refused = |why: &str| {
        let message = format!("{why} Sign in with /login kimi-coding.");
        Err(Error::new(ErrorKind::LoginRequired, message))
    };
    match kimi.find_login(passed).await? {
        Login::Found(credential) => Ok(credential),
        Login::KeyOnly => refused("this tool needs a Kimi Code login; an API key is not enough."),
        Login::Missing => refused("this tool needs a Kimi Code login."),
    }
}

/// Returns a random UUID, which the official clients send where no tool call has an id.
fn fresh_id() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}
