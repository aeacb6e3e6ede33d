//! Runs Kimi's own tools for JavaScript: one call, one promise of data. A failure is data too (docs/architecture.md#failures-as-data).

use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use napi_derive::napi;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::JsText;
use super::error::{answer, defect};
use crate::error::{Error, ErrorKind};
use crate::services::datasource;
use crate::services::tool_call::{ServiceRequest, run};
use crate::services::tool_definitions::tool_definitions as definitions;
use crate::services::truncate::Outcome;

/// `[details, text]`, see `extension/native/addon.ts`.
pub type JsOutcome = (JsText, JsText);

/// One call of a service.
#[napi]
pub struct ServiceCall {
    request: Mutex<Option<String>>,
    cancel: CancellationToken,
}

#[napi]
impl ServiceCall {
    /// Runs the call, once.
    #[napi]
    pub async fn result(&self) -> JsOutcome {
        let request = self.request.lock().unwrap_or_else(PoisonError::into_inner).take();
        let running = AssertUnwindSafe(answered(request, self.cancel.clone())).catch_unwind();
        let outcome = running.await.unwrap_or_else(|_| Err(defect("call")));
        match outcome {
            Ok(Outcome { text, details, .. }) => (Value::Object(details).to_string().into(), text.into()),
            Err(error) => (answer(Err(error)).into(), String::new().into()),
        }
    }

    /// Aborts; the promise is fulfilled with the error `cancelled`.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

/// Prepares a call; `request` is JSON.
#[napi(catch_unwind)]
pub fn service_call(request: String) -> ServiceCall {
    ServiceCall { request: Mutex::new(Some(request)), cancel: CancellationToken::new() }
}

/// Returns the definitions of Kimi's own tools as JSON.
#[napi(catch_unwind)]
pub fn tool_definitions() -> String {
    json!(definitions()).to_string()
}

/// Returns names and contents of the data sources as JSON.
#[napi(catch_unwind)]
pub fn data_sources() -> String {
    json!(datasource::SOURCES).to_string()
}

async fn answered(request: Option<String>, cancel: CancellationToken) -> crate::error::Result<Outcome> {
    let text = request.ok_or_else(|| Error::new(ErrorKind::Internal, "a call can be made only once"))?;
    let request: ServiceRequest = serde_json::from_str(&text)
        .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the call cannot be read: {error}")))?;
    run(request, cancel).await
}
