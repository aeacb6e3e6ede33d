//! The two request formats of the service.

/// A dialect of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `POST {root}/v1/chat/completions`.
    #[default]
    OpenAi,
    /// `POST {root}/v1/messages`.
    Anthropic,
}

impl Dialect {
    /// Reads a configured name; `None` if there is no such dialect.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "openai" => Some(Self::OpenAi),
            "anthropic" => Some(Self::Anthropic),
            _ => None,
        }
    }

    /// The dialect of a model: what the catalog says about it wins over what is configured. The catalog knows `anthropic`
    /// only, everything else it may say means the chat dialect (docs/protocol.md#model-fields).
    pub fn of_model(protocol: Option<&str>, configured: Option<Self>) -> Self {
        match protocol.map(str::trim).filter(|protocol| !protocol.is_empty()) {
            Some(protocol) => Self::named(protocol).unwrap_or_default(),
            None => configured.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The protocol of a model outranks the setting (docs/protocol.md#model-fields).
    #[test]
    fn the_models_own_protocol_wins_over_the_configured_one() {
        let anthropic = Some(Dialect::Anthropic);
        assert_eq!(Dialect::of_model(Some("openai"), anthropic), Dialect::OpenAi);
        assert_eq!(Dialect::of_model(Some("response"), anthropic), Dialect::OpenAi);
        assert_eq!(Dialect::of_model(Some("anthropic"), None), Dialect::Anthropic);
        assert_eq!(Dialect::of_model(Some(" "), anthropic), Dialect::Anthropic);
        assert_eq!(Dialect::of_model(None, None), Dialect::OpenAi);
    }
}
