//! What JavaScript shows beside answers: settings, models, quota, account. One call per question; failures are data.

use std::time::Duration;

use napi_derive::napi;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::answer;
use super::read;
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::client::{CallerContext, Kimi};
use crate::config::{Config, Environment, Files, KEYS, Scope, SettingScope, ValueKind, load, set};
use crate::error::{Error, ErrorKind, Result, clip};
use crate::models;
use crate::process_state::ProcessState;
use crate::services::quota_cache::{REQUEST_TIMEOUT, quota};
use crate::services::quota_message;

/// Largest profile, in bytes.
const MAX_PROFILE: usize = 256 << 10;

/// Who asks, and of which deployment.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryRequest {
    #[serde(flatten)]
    asker: CallerContext,
    /// API base that the credential belongs to.
    #[serde(default)]
    base_url: Option<String>,
}

impl QueryRequest {
    fn environment(&self) -> Environment {
        Environment::new(self.asker.environment.clone())
    }

    fn config(&self) -> Result<Config> {
        Config::from_environment(&self.environment(), self.base_url.as_deref())
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
}

/// Builds the client off the async worker, because certificates and settings are read, and finds the credential.
async fn client(request: String) -> Result<(Kimi, Credential)> {
    let (mut kimi, key) = in_background(move || {
        let question: QueryRequest = read(&request)?;
        Ok((Kimi::new(question.config()?, question.asker.host)?, question.asker.api_key))
    })
    .await?;
    let credential = kimi.authorize(key.as_deref()).await?;
    Ok((kimi, credential))
}

#[napi(catch_unwind)]
pub fn settings(request: String) -> String {
    answer(read(&request).and_then(|question: QueryRequest| {
        let environment = question.environment();
        let layers = load(&environment);
        let files = Files::of(&environment);
        let problems: Vec<String> = layers.problems.iter().map(ToString::to_string).collect();
        let project = files.project.map(|(file, trusted)| json!({ "file": file, "trusted": trusted }));
        Ok(json!({
            "settings": to_json(&layers.settings)?, "problems": problems, "origins": layers.origins,
            "homeFile": files.home, "project": project, "apiRoot": question.config().ok().map(|c| c.endpoint.root().to_owned()),
        }))
    }))
}

#[napi(catch_unwind)]
pub fn setting_keys() -> String {
    let keys: Vec<Value> = KEYS
        .iter()
        .filter(|key| !key.path.contains('*'))
        .map(|key| {
            let (form, choices) = match key.kind {
                ValueKind::Switch => ("switch", None),
                ValueKind::Choice(words) => ("choice", Some(words)),
                ValueKind::Size => ("size", None),
                ValueKind::Count(_) | ValueKind::Millis | ValueKind::Number(..) => ("number", None),
                ValueKind::Text | ValueKind::Url => ("text", None),
            };
            json!({ "path": key.path, "form": form, "choices": choices, "homeOnly": key.reach == SettingScope::Home,
                    "expected": key.kind.expected(), "help": key.help })
        })
        .collect();
    Value::from(keys).to_string()
}

#[napi(catch_unwind)]
pub fn change_setting(request: String, scope: String, path: String, value: String) -> String {
    answer(read(&request).and_then(|question: QueryRequest| {
        let scope = if scope == "project" { Scope::Project } else { Scope::Home };
        // What a person types need not be JSON: a bare word is text.
        let value = serde_json::from_str(&value).unwrap_or_else(|_| Value::from(clip(value.trim(), 2000)));
        Ok(json!({ "file": set(&question.environment(), scope, &path, &value)? }))
    }))
}

#[napi(catch_unwind)]
pub fn models(request: String) -> String {
    answer(read(&request).and_then(|question: QueryRequest| {
        let config = question.config()?;
        let mut listing = to_json(&models::known(
            &ProcessState::shared(),
            &question.environment(),
            &config,
            question.asker.api_key.as_deref(),
        ))?;
        listing["baseUrl"] = config.endpoint.root().into();
        Ok(listing)
    }))
}

#[napi(catch_unwind)]
pub async fn refresh_models(request: String) -> String {
    let result = async {
        let (kimi, credential) = client(request).await?;
        models::refresh(&kimi, &credential).await
    };
    answer(result.await.map(|()| json!({})))
}

#[napi(catch_unwind)]
pub async fn usage(request: String, max_age_ms: u32) -> String {
    let result = async {
        let (kimi, credential) = client(request).await?;
        let snapshot = quota(&kimi, &credential, Duration::from_millis(u64::from(max_age_ms))).await?;
        to_json(&quota_message::report(&kimi.config, snapshot))
    };
    answer(result.await)
}

#[napi(catch_unwind)]
pub async fn profile(request: String) -> String {
    let result = async {
        let (kimi, credential) = client(request).await?;
        let url = format!("{}/me", kimi.config.endpoint.v1());
        let body = kimi.get(&url, &credential, REQUEST_TIMEOUT, MAX_PROFILE).await?;
        let profile = crate::services::account::parse(&serde_json::from_slice(&body).unwrap_or_default());
        to_json(&profile.ok_or_else(|| kimi.no_document("the account answer is not one", &body, &credential))?)
    };
    answer(result.await)
}
