//! The two request formats of the service.

use serde::{Deserialize, Serialize};

/// A dialect of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `POST {root}/v1/chat/completions`.
    #[default]
    OpenAi,
    /// `POST {root}/v1/messages`.
    Anthropic,
}

impl Dialect {
    /// Returns the dialect of a model: what the live list says about it, else what is configured. The list knows `anthropic`;
    /// every other name means the chat dialect (docs/protocol.md#model-fields).
    pub fn of_model(protocol: Option<&str>, configured: Self) -> Self {
        match protocol.map(str::trim).filter(|protocol| !protocol.is_empty()) {
            Some("anthropic") => Self::Anthropic,
            Some(_) => Self::OpenAi,
            None => configured,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The protocol of a model outranks the setting (docs/protocol.md#model-fields).
    #[test]
    fn dialect_of_the_model_wins_over_the_setting() {
        let anthropic = Dialect::Anthropic;
        assert_eq!(Dialect::of_model(Some("openai"), anthropic), Dialect::OpenAi);
        assert_eq!(Dialect::of_model(Some("response"), anthropic), Dialect::OpenAi);
        assert_eq!(Dialect::of_model(Some("anthropic"), Dialect::OpenAi), Dialect::Anthropic);
        assert_eq!(Dialect::of_model(Some(" "), anthropic), Dialect::Anthropic);
        assert_eq!(Dialect::of_model(None, Dialect::OpenAi), Dialect::OpenAi);
    }
}
