//! Who is signed in: `GET /me` (docs/protocol.md#account).

use serde::Serialize;
use serde_json::Value;

use super::text;
use crate::json::lenient::integer;

/// An account as far as a screen shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The service's own id.
    pub user_id: String,
    /// Nickname, else user name, else id.
    pub name: String,
    /// Plan, e.g. `Vivace`.
    pub plan: Option<String>,
    /// Level within the plans; 0 if unknown.
    pub level: i64,
    /// As given.
    pub email: Option<String>,
    /// `REGION_CN`, `REGION_OVERSEA`.
    pub region: Option<String>,
}

/// Reads an answer; without a user id it is none.
pub fn parse(answer: &Value) -> Option<Profile> {
    let user_id = text(answer, "user_id").or_else(|| integer(answer.get("user_id")).map(|id| id.to_string()))?;
    Some(Profile {
        name: text(answer, "nickname").or_else(|| text(answer, "username")).unwrap_or_else(|| user_id.clone()),
        plan: text(answer, "user_level_name"),
        level: integer(answer.get("user_level")).and_then(|level| i64::try_from(level).ok()).unwrap_or(0).max(0),
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
    fn numbers_may_be_text_and_names_may_be_missing() {
        let profile =
            parse(&json!({"user_id": 42, "nickname": "", "user_level": "30", "user_level_name": "Vivace"})).unwrap();
        assert_eq!((profile.name.as_str(), profile.level, profile.plan.as_deref()), ("42", 30, Some("Vivace")));
        assert_eq!(parse(&json!({"nickname": "moonwalker"})), None);
        assert_eq!(parse(&json!(null)), None);
        assert_eq!(parse(&json!({"user_id": "u", "nickname": "a\u{7}b"})).unwrap().name, "a b");
    }
}
