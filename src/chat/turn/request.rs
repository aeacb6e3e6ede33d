//! The request for a turn, as JavaScript passes it.

use std::collections::HashMap;

use serde::Deserialize;

use super::model::TurnModel;
use super::options::TurnOptions;
use crate::client::ExtraHeaders;
use crate::http::user_agent::Host;

/// One turn. Its context crosses separately, as JSON text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnRequest {
    /// Environment variables as JavaScript sees them now.
    #[serde(default)]
    pub environment: HashMap<String, String>,
    /// The program that loaded the addon.
    #[serde(default)]
    pub host: Host,
    /// Pi's model entry.
    pub model: TurnModel,
    /// Pi's stream options.
    #[serde(default)]
    pub options: TurnOptions,
    /// JavaScript wants to see the body before it is sent.
    #[serde(default)]
    pub payload_hook: bool,
    /// JavaScript wants every note, also those that this process has shown before.
    #[serde(default)]
    pub repeat_notes: bool,
    /// JavaScript wants the raw events of the service as well.
    #[serde(default)]
    pub raw_events: bool,
}

impl TurnRequest {
    /// Returns the headers that the caller adds to every request of the turn.
    pub fn extra_headers(&self) -> ExtraHeaders {
        self.options.headers.iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}
