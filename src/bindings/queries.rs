//! What the addon knows besides answers: settings, models, quota and account. One call per query; failures are data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use napi_derive::napi;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{advised, answer, redact_json, safe_text};
use super::read;
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::chat::prompt_cache::records::{Expired, PromptCaches, SessionKey};
use crate::chat::prompt_cache::session::{CacheScope, MAX_REQUESTS};
use crate::client::{CallerContext, Kimi};
use crate::config::{
    self, Config, Environment, Files, KEYS, RequestAddresses, Scope, SettingScope, ValueKind, load, set_text,
    setting_values,
};
use crate::display_text::visible;
use crate::doctor::Examination;
use crate::error::{Error, ErrorKind, Result};
use crate::models;
use crate::plan::history::By;
use crate::plan::ledger::TokenCounts;
use crate::plan::state::{PlanState, span_ms};
use crate::process_state::ProcessState;
use crate::services::quota_cache::quota;
use crate::services::{account, quota_display};

/// A query and its caller.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryRequest {
    #[serde(flatten)]
    caller: CallerContext,
    /// Where the service is, unless the user names another address.
    #[serde(flatten)]
    addresses: RequestAddresses,
}

impl QueryRequest {
    fn environment(&self) -> Environment {
        Environment::new(self.caller.environment.clone())
    }

    fn config(&self) -> Result<Config> {
        Config::from_environment(&self.environment(), &self.addresses)
    }
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()).caused_by(error))
}

/// Builds the client off the async worker, because certificates and settings are read, and finds the credential.
async fn client(request: String) -> Result<(Kimi, Credential)> {
    let (mut kimi, key) = in_background(move || {
        let query: QueryRequest = read(&request)?;
        Ok((Kimi::new(query.config()?, query.caller.host)?, query.caller.api_key))
    })
    .await?;
    let credential = kimi.authorize(key.as_deref()).await?;
    Ok((kimi, credential))
}

#[napi(catch_unwind)]
pub fn settings(request: String) -> String {
    answer(read(&request).and_then(|query: QueryRequest| {
        let environment = query.environment();
        let layers = load(&environment);
        let files = Files::of(&environment);
        let settings = to_json(&layers.settings)?;
        let texts = setting_values(&settings).into_iter().map(|(path, key, value)| (path, key.kind.format(value)));
        let texts: BTreeMap<String, String> = texts.collect();
        let problems: Vec<String> = layers.problems.iter().map(|problem| safe_text(&problem.to_string())).collect();
        LoggedProblems::log(&problems);
        let project = files.project.map(|(file, trusted)| json!({ "file": file, "trusted": trusted }));
        Ok(json!({
            "settings": settings, "texts": texts, "problems": problems, "origins": layers.origins,
            "homeFile": files.home, "project": project,
            "apiRoot": query.config().ok().map(|config| config.endpoint.root().to_owned()),
        }))
    }))
}

/// Invalid settings that the debug log names already: settings are read often.
#[derive(Default)]
struct LoggedProblems(Mutex<BTreeSet<String>>);

impl LoggedProblems {
    /// Number of problems that are logged; further ones are not.
    const MAX: usize = 1000;

    fn log(problems: &[String]) {
        let logged = ProcessState::shared().get::<Self>();
        let mut logged = logged.0.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems {
            if logged.len() < Self::MAX && logged.insert(problem.clone()) {
                tracing::info!(problem, "invalid setting");
            }
        }
    }
}

#[napi(catch_unwind)]
pub fn setting_keys() -> String {
    let keys: Vec<Value> = KEYS
        .iter()
        .map(|key| {
            let (form, choices) = match key.kind {
                ValueKind::Switch => ("switch", None),
                ValueKind::Choice(words) => ("choice", Some(words)),
                ValueKind::Size => ("size", None),
                ValueKind::Count(_) | ValueKind::Millis | ValueKind::Number(..) => ("number", None),
                ValueKind::Text | ValueKind::Url => ("text", None),
            };
            json!({ "path": key.path, "form": form, "choices": choices, "homeOnly": key.scope == SettingScope::Home,
                    "expected": key.kind.expected(), "help": key.help })
        })
        .collect();
    Value::from(keys).to_string()
}

/// Returns the path under which a setting counts: `quota.reserve.wk` is `quota.reserve.7d`.
#[napi(catch_unwind)]
pub fn setting_path(path: String) -> String {
    answer(config::setting_path(&path).map(|path| json!({ "path": path })))
}

#[napi(catch_unwind)]
pub fn change_setting(request: String, scope: String, path: String, text: String) -> String {
    answer(read(&request).and_then(|query: QueryRequest| {
        let scope = if scope == "project" { Scope::Project } else { Scope::Home };
        let environment = query.environment();
        let file = set_text(&environment, scope, &path, &text)?;
        // A project's value may count for less than what was typed.
        let (path, source) = (config::setting_path(&path)?, file.display().to_string());
        let about = load(&environment).problems.into_iter().find(|one| one.source == source && one.path == path);
        Ok(json!({ "file": file, "remark": about.map(|problem| safe_text(&format!("{path} {}", problem.message))) }))
    }))
}

#[napi(catch_unwind)]
pub fn models(request: String) -> String {
    answer(read(&request).and_then(|query: QueryRequest| {
        // A bad address fails the requests that need it; Pi's list of models is not one of them.
        let config =
            query.config().or_else(|_| Config::from_environment(&Environment::default(), &Default::default()))?;
        let key = query.caller.api_key.as_deref();
        let listing = models::known(&ProcessState::shared(), &query.environment(), &config, key);
        let mut listing = to_json(&listing)?;
        listing["baseUrl"] = config.endpoint.root().into();
        Ok(listing)
    }))
}

/// Runs the doctor: `{checks}`. With `live`, one tiny request is sent to a model as well.
#[napi(catch_unwind)]
pub async fn doctor(request: String, live: bool) -> String {
    let examine = async {
        let query: QueryRequest = read(&request)?;
        let environment = query.environment();
        let QueryRequest { caller, addresses } = query;
        let examination = Examination { environment, host: caller.host, addresses, api_key: caller.api_key, live };
        let mut checks = to_json(&examination.run().await)?;
        redact_json(&mut checks);
        Ok(json!({ "checks": visible_json(checks) }))
    };
    answer(examine.await)
}

/// Makes all texts safe to print: they quote the service, proxies and files.
fn visible_json(value: Value) -> Value {
    match value {
        Value::String(text) => visible(&text).into_owned().into(),
        Value::Array(items) => items.into_iter().map(visible_json).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, visible_json(value))).collect(),
        other => other,
    }
}

#[napi(catch_unwind)]
pub async fn refresh_models(request: String) -> String {
    let result = async {
        let (kimi, credential) = client(request).await?;
        models::refresh(&kimi, &credential).await
    };
    answer(result.await.map(|()| json!({})))
}

/// Makes sure that a model list is stored for the account. Waits at most `max_wait_ms` where there is none.
#[napi(catch_unwind)]
pub async fn ensure_models(request: String, max_wait_ms: u32) -> String {
    let result = async {
        let query: QueryRequest = read(&request)?;
        let (kimi, credential) = client(request).await?;
        let max_wait = Duration::from_millis(u64::from(max_wait_ms));
        models::current(&kimi, &query.environment(), &credential, Some(max_wait)).await
    };
    answer(result.await.map(|_| json!({})))
}

#[napi(catch_unwind)]
pub async fn usage(request: String, max_age_ms: u32) -> String {
    let result = async {
        let (kimi, credential) = client(request).await?;
        let mut snapshot = quota(&kimi, &credential, Duration::from_millis(u64::from(max_age_ms))).await?;
        // Stored for all processes, and worded for the one that reads it.
        snapshot.problem = snapshot.problem.map(|problem| advised(&problem).into_owned());
        let mut report = quota_display::report(&kimi.config, snapshot);
        let plan = PlanState::of(&kimi, &credential).await;
        if let Some((_, full_at)) = plan.costs().await.full_at() {
            report.tell_forecast(&kimi.config, full_at);
        }
        let mut report = to_json(&report)?;
        let governor = plan.governor();
        report["parallel"] = to_json(&governor.load().await)?;
        report["underWayHere"] = governor.under_way_here().into();
        Ok(report)
    };
    answer(result.await)
}

/// Which part of the ledger is asked for.
#[derive(Debug, Deserialize)]
struct HistoryRequest {
    /// `7d`, `24h`: how far back.
    history: String,
    #[serde(default)]
    by: By,
    #[serde(default)]
    session: String,
}

#[napi(catch_unwind)]
pub async fn usage_history(request: String, history: String) -> String {
    let result = async {
        let HistoryRequest { history, by, session } = read(&history)?;
        let span = span_ms(&history).ok_or_else(|| {
            Error::new(ErrorKind::BadRequest, format!("history: {history:?} is no span of time; write 7d or 24h"))
        })?;
        let (kimi, credential) = client(request).await?;
        to_json(&PlanState::of(&kimi, &credential).await.history(span, by, session).await?)
    };
    answer(result.await)
}

#[napi(catch_unwind)]
pub async fn quota_state(request: String) -> String {
    let result = async {
        let (kimi, credential) = client(request).await?;
        to_json(&PlanState::of(&kimi, &credential).await.parked().await)
    };
    answer(result.await)
}

#[napi(catch_unwind)]
pub async fn choose_quota(request: String, choice: String) -> String {
    let result = async {
        let (kimi, credential) = client(request).await?;
        let plan = PlanState::of(&kimi, &credential).await;
        plan.choose(&choice).await?;
        to_json(&plan.parked().await)
    };
    answer(result.await)
}

/// Opens a connection for the next request. Needs no credential, so that no login is refreshed for it.
#[napi(catch_unwind)]
pub async fn preconnect(request: String) -> String {
    let result = async {
        let kimi = in_background(move || {
            let query: QueryRequest = read(&request)?;
            Kimi::new(query.config()?, query.caller.host)
        })
        .await?;
        if kimi.config.settings.network.preconnect { kimi.preconnect().await } else { Ok(()) }
    };
    answer(result.await.map(|()| json!({})))
}

/// A question about the prompt cache.
#[derive(Debug, Deserialize)]
struct CacheRequest {
    /// Id of the session.
    session: String,
    /// Number of the last requests.
    #[serde(default)]
    last: Option<usize>,
    /// Id of the model that is asked next.
    #[serde(default)]
    model: String,
}

/// Returns the last requests of a session and its newest prompt. Uses no network.
#[napi(catch_unwind)]
pub async fn prompt_cache(request: String, question: String) -> String {
    let report = in_background(move || {
        let query: QueryRequest = read(&request)?;
        let CacheRequest { session, last, .. } = read(&question)?;
        let config = query.config()?;
        let process = ProcessState::shared();
        let listing = models::known(&process, &query.environment(), &config, query.caller.api_key.as_deref());
        let models: Vec<(String, u64)> =
            listing.models.iter().map(|model| (model.id.clone(), CacheScope::hash(&model.id))).collect();
        let key = SessionKey { state: config.state_directory, session };
        to_json(&process.get::<PromptCaches>().report(&key, last.unwrap_or(MAX_REQUESTS), &models))
    });
    answer(report.await)
}

/// Returns what the next request of a session reads again because its cache has expired, and what part of a window that takes:
/// `{expired: {at, sinceMs, tokens, window?, percent?} | null}`.
#[napi(catch_unwind)]
pub async fn expired_cache(request: String, question: String) -> String {
    let result = async {
        let CacheRequest { session, model, .. } = read(&question)?;
        let text = request.clone();
        let id = model.clone();
        let expired = in_background(move || {
            let query: QueryRequest = read(&text)?;
            let config = query.config()?;
            let process = ProcessState::shared();
            let listing = models::known(&process, &query.environment(), &config, query.caller.api_key.as_deref());
            let listed = listing.models.iter().find(|model| model.id == id);
            let lifetime = listed.and_then(|model| i64::try_from(model.cache_duration?).ok());
            let notice_tokens = config.settings.cache.notice_tokens;
            let Some(lifetime) = lifetime.filter(|_| notice_tokens > 0) else { return Ok(None) };
            let least = listed.and_then(|model| model.min_tokens_to_hint).unwrap_or(notice_tokens);
            let key = SessionKey { state: config.state_directory, session };
            let expired =
                process.get::<PromptCaches>().expired(&key, CacheScope::hash(&id), lifetime.saturating_mul(1000));
            Ok(expired.filter(|expired| expired.tokens >= least))
        })
        .await?;
        let Some(Expired { at, since_ms, tokens }) = expired else { return Ok(json!({ "expired": null })) };
        let mut expired = json!({ "at": at, "sinceMs": since_ms, "tokens": tokens });
        // The share is welcome and not worth an error.
        if let Ok((kimi, credential)) = client(request).await {
            let costs = PlanState::of(&kimi, &credential).await.costs().await;
            let tokens = TokenCounts { uncached: tokens, ..TokenCounts::default() };
            if let Some((window, percent)) = costs.largest(&model, &tokens) {
                expired["window"] = window.into();
                expired["percent"] = ((percent * 10.0).round() / 10.0).into();
            }
        }
        Ok(json!({ "expired": expired }))
    };
    answer(result.await)
}

#[napi(catch_unwind)]
pub async fn profile(request: String) -> String {
    let result = async {
        let (kimi, credential) = client(request).await?;
        to_json(&account::profile(&kimi, &credential).await?)
    };
    answer(result.await)
}
