//! What the service says: credential, models, quota, and one tiny request on demand.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use crate::auth::Credential;
use crate::client::Kimi;
use crate::display_text::duration;
use crate::error::{Error, ErrorKind, from_response};
use crate::http::body::read_whole;
use crate::models::list;
use crate::services::quota_cache::quota;
use crate::services::quota_display::report;

use super::connection::{ask, not_the_service};
use super::machine::AddressOrigin;
use super::{Check, SIGN_IN, cure_of};

/// How old a known quota may be.
const QUOTA_AGE: Duration = Duration::from_secs(30);

/// Limit for the tiny request.
const LIVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest answer to the tiny request that is read, in bytes.
const MAX_LIVE: usize = 1 << 20;

/// Asks with the credential for models and quota. Returns the first model's id as well.
pub async fn checks(
    kimi: &Kimi,
    credential: &Credential,
    origin: &AddressOrigin,
    deadline: Instant,
) -> (Vec<Check>, Option<String>) {
    let answer = match ask(kimi, Some(&credential.token()), deadline).await {
        Ok((answer, _)) => answer,
        Err(error) => {
            let check = Check::warning("catalogue", error.message.clone(), "Run the doctor again");
            return (vec![check], None);
        }
    };
    if matches!(answer.status, 401..=403) {
        let error = from_response(answer.status, &String::from_utf8_lossy(&answer.body), None, None);
        return (vec![refused(&error, credential, kimi)], None);
    }
    if let Some(stranger) = not_the_service(kimi, &answer, origin) {
        return (vec![stranger], None);
    }
    let mut checks = Vec::new();
    let mut first = None;
    checks.push(match list::parse(&answer.body) {
        Ok(models) => {
            let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
            first = ids.first().map(|id| (*id).to_owned());
            let models = if ids.len() == 1 { "model" } else { "models" };
            Check::ok("catalogue", format!("{} {models}: {}", ids.len(), ids.join(", ")))
        }
        Err(error) => Check::fault("catalogue", error.message.clone(), origin.cure(&cure_of(&error))),
    });
    checks.push(match timeout_at(deadline, quota(kimi, credential, QUOTA_AGE)).await {
        Ok(snapshot) => windows(kimi, snapshot),
        Err(_) => Check::warning("quota", "the quota did not come in time", "Ask for it alone: `/kimi-usage`"),
    });
    (checks, first)
}

/// Reports a credential that the service does not take.
fn refused(error: &Error, credential: &Credential, kimi: &Kimi) -> Check {
    let cure = match error.kind {
        ErrorKind::Unauthorized if credential.is_login() => SIGN_IN.to_owned(),
        ErrorKind::Unauthorized if kimi.config.api_key.as_deref() == Some(&credential.token()) => {
            "Correct KIMI_API_KEY, or run `unset KIMI_API_KEY` to use the login".to_owned()
        }
        ErrorKind::Unauthorized => "Correct the API key where you set it, or sign in: `/login kimi-coding`".to_owned(),
        _ => cure_of(error),
    };
    Check::fault("credential", format!("the service refuses the credential: {}", error.message), cure)
}

fn windows(kimi: &Kimi, snapshot: crate::error::Result<crate::services::quota_cache::Snapshot>) -> Check {
    let snapshot = match snapshot {
        Ok(snapshot) => snapshot,
        // Some keys have no quota to ask for; the credential itself was accepted above.
        Err(error) if matches!(error.status, Some(401 | 403 | 404)) => {
            return Check::ok("quota", "the service tells no quota for this credential");
        }
        Err(error) => return Check::warning("quota", error.message.clone(), cure_of(&error)),
    };
    let used_up = snapshot.usage.as_ref().is_some_and(|usage| usage.windows.iter().any(|window| window.is_used_up()));
    let display = report(&kimi.config, snapshot).display;
    let rows: Vec<String> = display
        .windows
        .iter()
        .filter_map(|window| {
            let resets = window.resets.as_ref().map(|time| format!(", resets {time}")).unwrap_or_default();
            Some(format!("{} {}{resets}", window.label, window.share.as_ref()?))
        })
        .collect();
    match (used_up, rows.is_empty()) {
        (true, _) => Check::warning("quota", format!("used up: {}", rows.join("; ")), "Wait until the window resets"),
        (false, true) => Check::ok("quota", "no limited window"),
        (false, false) => Check::ok("quota", rows.join("; ")),
    }
}

/// Sends one tiny request to the first model of the list.
pub async fn live(kimi: &Kimi, credential: &Credential, model: Option<String>) -> Check {
    let model = model.unwrap_or_else(|| "kimi-for-coding".to_owned());
    let body = json!({
        "model": model, "stream": true, "max_tokens": 16,
        "messages": [{ "role": "user", "content": "Reply with OK." }],
    });
    let started = Instant::now();
    let asking = async {
        let url = kimi.config.endpoint.chat_completions();
        let body = Bytes::from(body.to_string());
        let response = kimi.post_json(&url, credential, body, &Vec::new(), &Default::default()).await?;
        read_whole(response, MAX_LIVE).await
    };
    match timeout(LIVE_TIMEOUT, asking).await {
        Ok(Ok(body)) if is_answer(&body) => {
            Check::ok("live", format!("{model} answered in {} ms", started.elapsed().as_millis()))
        }
        Ok(Ok(_)) => {
            Check::fault("live", format!("{model} answered with something else than a stream"), "Try again in a minute")
        }
        Ok(Err(error)) if error.kind == ErrorKind::ClientRefused => Check::warning(
            "live",
            error.message.clone(),
            "Run `/kimi-doctor --live` in Pi, which the service is known to accept; whether it accepts your program is not known",
        ),
        Ok(Err(error)) => Check::fault("live", error.message.clone(), cure_of(&error)),
        Err(_) => Check::fault(
            "live",
            format!("{model} did not answer within {}", duration(LIVE_TIMEOUT)),
            "Try again in a minute",
        ),
    }
}

/// Whether the stream holds at least one event of an answer.
fn is_answer(body: &[u8]) -> bool {
    String::from_utf8_lossy(body)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data:")?.trim()).ok())
        .any(|event| event.get("choices").is_some())
}
