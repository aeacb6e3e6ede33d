//! Reads the account that is signed in: `GET /me` (docs/protocol.md#account).

use serde::Serialize;
use serde_json::Value;

use super::members::text;
use super::quota_cache::REQUEST_TIMEOUT;
use crate::auth::Credential;
use crate::client::Kimi;
use crate::error::Result;
use crate::http::error_answer::not_a_document;
use crate::json::lenient::integer;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 << 10;

/// An account as screens show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Id of the service.
    pub user_id: String,
    /// Nickname, else user name, else id.
    pub name: String,
    /// Plan, for example `Vivace`.
    pub plan: Option<String>,
    /// Level within the plans.
    pub level: Option<i64>,
    /// Email address.
    pub email: Option<String>,
    /// `REGION_CN`, `REGION_OVERSEA`.
    pub region: Option<String>,
}

/// Asks the service for the account behind a credential.
pub async fn profile(kimi: &Kimi, credential: &Credential) -> Result<Profile> {
    let url = format!("{}/me", kimi.config.endpoint.v1());
    let body = kimi.get(&url, credential, REQUEST_TIMEOUT, MAX_ANSWER).await?;
    let profile = parse(&serde_json::from_slice(&body).unwrap_or_default());
    profile.ok_or_else(|| not_a_document("the account answer is not one", &body))
}

/// Reads an answer; `None` without a user id.
pub fn parse(answer: &Value) -> Option<Profile> {
    let user_id = text(answer, "user_id").or_else(|| integer(answer.get("user_id")).map(|id| id.to_string()))?;
    Some(Profile {
        name: text(answer, "nickname").or_else(|| text(answer, "username")).unwrap_or_else(|| user_id.clone()),
        plan: text(answer, "user_level_name"),
        level: integer(answer.get("user_level")).and_then(|level| i64::try_from(level).ok()).filter(|level| *level > 0),
        email: text(answer, "email"),
        region: text(answer, "region"),
        user_id,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn profile_numbers_may_be_text_and_names_may_be_missing() {
        let profile =
            parse(&json!({"user_id": 42, "nickname": "", "user_level": "30", "user_level_name": "Vivace"})).unwrap();
        assert_eq!((profile.name.as_str(), profile.level, profile.plan.as_deref()), ("42", Some(30), Some("Vivace")));
        assert_eq!(parse(&json!({"nickname": "moonwalker"})), None);
        assert_eq!(parse(&json!(null)), None);
        assert_eq!(parse(&json!({"user_id": "u", "nickname": "a\u{7}b"})).unwrap().name, "a␇b");
    }
}
