//! One call of one of Kimi's own tools (docs/protocol.md#plan-tools).
//!
//! A call is one `POST` with the login's bearer token and the id of the model's tool call. Everything about it that does not
//! depend on the tool is here: who may call, the clock over the whole of it, the one replay after a 401, the size of an
//! answer, and how much of it is handed over.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::truncate::Limit;
use super::{datasource, fetch, search};
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::client::{Kimi, failed};
use crate::config::ascii;
use crate::config::{Config, Environment};
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Phase, Result, clip, html_title};
use crate::http::body::read_whole;
use crate::http::user_agent::Host;

/// One tool call in all: connection, waiting, reading, the replay after a 401 (docs/protocol.md#plan-tools).
const TIMEOUT: Duration = Duration::from_secs(180);

/// An answer beyond this is not read to its end, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Headers that name a request for Moonshot's support, the first non-blank one counts (docs/protocol.md#request-ids).
const REQUEST_ID: [&str; 5] = ["x-request-id", "x-trace-id", "x-msh-request-id", "x-msh-trace-id", "request-id"];

/// A call as JavaScript asks for it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRequest {
    /// Environment variables as JavaScript sees them now.
    #[serde(default)]
    pub environment: HashMap<String, String>,
    /// The program around us.
    #[serde(default)]
    pub host: Host,
    /// Base URL of Pi's model entry.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Access token that Pi resolved; without one, the login of this machine counts.
    #[serde(default)]
    pub credential: Option<String>,
    /// Id of the model's tool call; a fresh one is made where there is none.
    #[serde(default)]
    pub call_id: Option<String>,
    /// Instead of 180 s.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// How much text the caller can take; the rest goes to a file.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// What to do.
    #[serde(flatten)]
    pub task: Task,
}

/// The three services.
#[derive(Debug, Deserialize)]
#[serde(tag = "service", rename_all = "camelCase")]
pub enum Task {
    /// Web search.
    Search(search::Search),
    /// A page as Markdown.
    Fetch(fetch::Fetch),
    /// Stocks, statistics, papers, law, filings.
    Datasource(datasource::Datasource),
}

impl Task {
    /// How a failure begins.
    fn title(&self) -> &'static str {
        match self {
            Self::Search(_) => "Moonshot search failed",
            Self::Fetch(_) => "Moonshot fetch failed",
            Self::Datasource(_) => "kimi_datasource failed",
        }
    }
}

/// What a call brought.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The answer; the beginning of it where the caller set a limit.
    pub text: String,
    /// Members for the caller: `results`, `files`, `sources` …, and `notes`, what the model has to know besides.
    pub details: Map<String, Value>,
    /// Sentences for `notes`, in order.
    pub notes: Vec<String>,
}

impl Outcome {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.details.insert(name.to_owned(), value.into());
    }
}

/// Runs one call to its end. Dropping the future or cancelling closes the connection.
pub async fn run(request: ServiceRequest, cancel: CancellationToken) -> Result<Outcome> {
    let timeout = request.timeout_ms.map_or(TIMEOUT, Duration::from_millis);
    let title = request.task.title();
    let outcome = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::cancelled()),
        outcome = tokio::time::timeout(timeout, call(request)) => outcome,
    };
    let outcome = outcome.unwrap_or_else(|_| {
        let message = format!("no complete answer within {} s", timeout.as_secs_f64());
        Err(Error::new(ErrorKind::Timeout(Phase::Body), message))
    });
    outcome.map_err(|error| Error { message: format!("{title}: {}", error.message), ..error })
}

async fn call(request: ServiceRequest) -> Result<Outcome> {
    let ServiceRequest { environment, host, base_url, credential, call_id, limit, task, .. } = request;
    // Refused here, before a credential is looked for: what is wrong with the call is wrong for everybody.
    match &task {
        Task::Search(search) => search.check()?,
        Task::Fetch(fetch) => fetch.check()?,
        Task::Datasource(datasource) => datasource.check()?,
    }
    let mut kimi = in_background(move || {
        let environment = Environment::new(environment);
        Kimi::new(Config::from_environment(&environment, base_url.as_deref())?, host)
    })
    .await?;
    let credential = login(&mut kimi, credential.as_deref()).await?;
    let call_id = call_id
        .map(|id| ascii(&id))
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string());
    let service = Service { kimi, credential, call_id };
    let outcome = match task {
        Task::Search(search) => search.run(&service, limit).await,
        Task::Fetch(fetch) => fetch.run(&service, limit).await,
        Task::Datasource(datasource) => datasource.run(&service, limit).await,
    };
    let redact_error = |error| service.kimi.redact_error(error, &service.credential.token(), &Vec::new());
    let mut outcome = outcome.map_err(redact_error)?;
    outcome.set("callId", service.call_id);
    let notes = std::mem::take(&mut outcome.notes);
    outcome.set("notes", notes);
    Ok(outcome)
}

/// The services take a login's token only (docs/protocol.md#plan-tools). A static key stays a static key, so it is refused here,
/// in words.
async fn login(kimi: &mut Kimi, passed: Option<&str>) -> Result<Credential> {
    let refused = |why: &str| {
        let message = format!("{why} Sign in with /login kimi-coding.");
        Err(Error::new(ErrorKind::LoginRequired, message))
    };
    match kimi.authorize(passed).await {
        Ok(credential) if credential.is_login() => Ok(credential),
        Ok(_) => refused("this tool needs a Kimi Code login, an API key is not enough."),
        Err(error) if error == Error::login_required() => refused("this tool needs a Kimi Code login."),
        Err(error) => Err(error),
    }
}

/// What a call is made with.
pub(super) struct Service {
    kimi: Kimi,
    credential: Credential,
    pub call_id: String,
}

/// An answer, complete.
pub(super) struct Reply {
    pub bytes: Bytes,
    /// In lower case, possibly empty.
    pub content_type: String,
    pub request_id: Option<String>,
}

impl Service {
    /// Where the login belongs.
    pub fn endpoint(&self) -> &Endpoint {
        &self.kimi.config.endpoint
    }

    /// Where the data sources are (docs/protocol.md#environment-variables).
    pub fn datasources(&self) -> Result<String> {
        let Some(chosen) = &self.kimi.config.datasource_url else { return Ok(self.endpoint().tools()) };
        let usable =
            Url::parse(chosen).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
        let message = "KIMI_DATASOURCE_API_URL is no http(s) address";
        if usable { Ok(chosen.clone()) } else { Err(Error::new(ErrorKind::Config, message)) }
    }

    /// Posts `body`; a 401 is answered with a fresh token, once.
    pub async fn post(&self, url: &str, body: &Value, accept: &str) -> Result<Reply> {
        let body = Bytes::from(body.to_string());
        self.credential
            .send_with_reauth(|token| {
                let body = body.clone();
                async move { self.post_once(url, &token, body, accept).await }
            })
            .await
    }

    async fn post_once(&self, url: &str, token: &str, body: Bytes, accept: &str) -> Result<Reply> {
        let extra = vec![
            (ACCEPT.to_string(), Some(accept.to_owned())),
            ("X-Msh-Tool-Call-Id".to_owned(), Some(self.call_id.clone())),
        ];
        let response = self.kimi.send_json(url, token, body, &extra).await?;
        let request_id = request_id(&response);
        // Nothing but 200 carries an answer (docs/protocol.md#plan-tools).
        if response.status() != StatusCode::OK {
            return Err(Error { trace_id: request_id, ..failed(response).await });
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        Ok(Reply { bytes: read_whole(response, MAX_ANSWER).await?.into(), content_type, request_id })
    }
}

fn request_id(response: &Response) -> Option<String> {
    REQUEST_ID
        .iter()
        .filter_map(|name| response.headers().get(*name)?.to_str().ok())
        .map(ascii)
        .find(|id| !id.is_empty())
}

impl Reply {
    /// The body as text, and whether parts of it were not UTF-8.
    pub fn text(&self) -> (String, bool) {
        let bytes = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), false),
            Err(_) => (String::from_utf8_lossy(bytes).into_owned(), true),
        }
    }

    /// The error for a success that is not what the service promises.
    pub fn unexpected(&self, what: &str) -> Error {
        let (text, _) = self.text();
        let excerpt = html_title(&text).unwrap_or_else(|| clip(&text, 200));
        Error { trace_id: self.request_id.clone(), ..Error::protocol(what, &excerpt) }
    }
}
