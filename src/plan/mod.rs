//! The economy of a plan: how many requests run at once, and what a used-up quota window means for them.
//!
//! ```text
//! governor  admits requests of all processes up to the plan's parallel limit
//! slots     the files and kernel locks behind it · watch  wakes waiting requests
//! state     all of it for one account, as queries need it
//! park      waits for a used-up window to open again
//! token_costs  what a token costs of a window · learned_costs  keeps that · forecast  when a window is used up
//! history   rows, shares and forecast for users
//! compaction_advice  whether compacting a session saves quota
//! ledger    one line per request: tokens and quota
//! concurrency_limit  how many slots there are: told by the service, set by the user, or learned from refusals
//! ```

pub mod compaction_advice;
pub mod concurrency_limit;
mod forecast;
pub mod governor;
pub mod history;
pub mod learned_costs;
pub mod ledger;
pub mod park;
mod slots;
pub mod state;
pub mod token_costs;
mod watch;

pub use governor::{Governor, Load, Permit};
pub use slots::Priority;
