//! Parameters of a request that the service may refuse.
//!
//! Some models accept one temperature only, and not every parameter is known to be accepted everywhere
//! (docs/protocol.md#chat-body). A refused one is left out and the request sent again, because the answer matters more.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::chat::request::body::BodyOptions;
use crate::error::{Error, ErrorKind};

/// A parameter that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parameter {
    /// Sampling temperature.
    Temperature,
    /// Nucleus sampling.
    TopP,
    /// Stop sequences.
    Stop,
    /// Which tools the model may call.
    ToolChoice,
    /// The form of the answer.
    ResponseFormat,
}

impl Parameter {
    /// All parameters, with the words by which the service names them.
    const ALL: [(Self, &[&str]); 5] = [
        (Self::Temperature, &["temperature"]),
        (Self::TopP, &["top_p"]),
        (Self::Stop, &["stop", "stop_sequences"]),
        (Self::ToolChoice, &["tool_choice"]),
        (Self::ResponseFormat, &["response_format", "json_schema"]),
    ];

    /// Returns the parameter of this request that `error` refuses.
    pub fn refused_by(error: &Error, options: &BodyOptions) -> Option<Self> {
        if error.kind != ErrorKind::BadRequest || !matches!(error.status, Some(400 | 422)) {
            return None;
        }
        let text = error.message.to_ascii_lowercase();
        let words: BTreeSet<&str> = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
        Self::ALL
            .into_iter()
            .find(|(parameter, names)| parameter.is_in(options) && names.iter().any(|name| words.contains(name)))
            .map(|(parameter, _)| parameter)
    }

    /// Returns the note for the user.
    pub fn note(self) -> String {
        match self {
            Self::Temperature => "Kimi does not accept this temperature for the model; it was left out.",
            Self::TopP => "Kimi does not accept this top_p for the model; it was left out.",
            Self::Stop => "Kimi does not accept stop sequences here; they were left out.",
            Self::ToolChoice => "Kimi does not accept this tool choice for the model; it was left out.",
            Self::ResponseFormat => "Kimi does not accept a response format here; the model is asked in words instead.",
        }
        .to_owned()
    }

    fn is_in(self, options: &BodyOptions) -> bool {
        match self {
            Self::Temperature => options.temperature.is_some(),
            Self::TopP => options.top_p.is_some(),
            Self::Stop => !options.stop.is_empty(),
            Self::ToolChoice => options.tool_choice.is_some(),
            Self::ResponseFormat => options.response_format.is_some(),
        }
    }

    fn remove(self, options: &mut BodyOptions) {
        match self {
            Self::Temperature => options.temperature = None,
            Self::TopP => options.top_p = None,
            Self::Stop => options.stop.clear(),
            Self::ToolChoice => options.tool_choice = None,
            Self::ResponseFormat => options.response_format = None,
        }
    }

    /// The parameter with its value: another value of it may be accepted.
    fn key(self, service: &str, options: &BodyOptions) -> String {
        let value = match self {
            Self::Temperature => format!("{:?}", options.temperature),
            Self::TopP => format!("{:?}", options.top_p),
            Self::Stop | Self::ResponseFormat => String::new(),
            Self::ToolChoice => format!("{:?} {}", options.tool_choice, options.thinks()),
        };
        format!("{service} {} {self:?} {value}", options.model)
    }
}

/// The parameters that services have refused in this process.
#[derive(Debug, Default)]
pub struct RefusedParameters(Mutex<BTreeSet<String>>);

impl RefusedParameters {
    /// Number of refusals that are kept.
    const MAX: usize = 1000;

    /// Remembers a refusal. `service` is the API root.
    pub fn learn(&self, parameter: Parameter, service: &str, options: &BodyOptions) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < Self::MAX {
            refused.insert(parameter.key(service, options));
        }
    }

    /// Removes what was refused before and returns it.
    pub fn apply(&self, service: &str, options: &mut BodyOptions) -> Vec<Parameter> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Parameter::ALL.into_iter().map(|(parameter, _)| parameter);
        let removed: Vec<Parameter> = known
            .filter(|parameter| parameter.is_in(options) && refused.contains(&parameter.key(service, options)))
            .collect();
        for parameter in &removed {
            parameter.remove(options);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::from_response;

    fn refusal(text: &str) -> Error {
        from_response(400, &format!(r#"{{"error":{{"message":"{text}"}}}}"#), None, None)
    }

    #[test]
    fn refusal_that_names_a_sent_parameter_is_recognized() {
        let options = BodyOptions { temperature: Some(0.3), ..BodyOptions::default() };
        let named = |text: &str| Parameter::refused_by(&refusal(text), &options);
        assert_eq!(named("invalid temperature: only 1 is allowed for this model"), Some(Parameter::Temperature));
        assert_eq!(named("invalid top_p: only 0.95 is allowed for this model"), None, "not sent");
        assert_eq!(named("temperatures are fine"), None, "another word");
        let error = from_response(500, "temperature", None, None);
        assert_eq!(Parameter::refused_by(&error, &options), None);
    }

    #[test]
    fn refused_value_is_left_out_of_later_requests_and_another_one_is_not() {
        let refused = RefusedParameters::default();
        let with = |temperature| BodyOptions { temperature: Some(temperature), ..BodyOptions::default() };
        refused.learn(Parameter::Temperature, "https://a", &with(0.3));
        let mut again = with(0.3);
        assert_eq!(refused.apply("https://a", &mut again), [Parameter::Temperature]);
        assert_eq!(again.temperature, None);
        assert!(refused.apply("https://a", &mut with(1.0)).is_empty());
        assert!(refused.apply("https://b", &mut with(0.3)).is_empty());
    }
}
