//! Requests to the service: connections, time limits, retries, identity, and what must not leave this package.

pub mod body;
pub mod device_id;
pub mod error_answer;
mod pools;
pub mod proxy;
pub mod recording;
pub mod redact;
pub mod retry;
pub mod sent_signal;
pub mod timeout;
mod tls;
pub mod user_agent;

pub use pools::Pools;
