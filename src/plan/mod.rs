//! The economy of a plan: how many requests run at once, and what a used-up quota window means for them.
//!
//! ```text
//! governor  admits requests of all processes up to the plan's parallel limit
//! slots     the files and kernel locks behind it · watch  wakes waiting requests
//! limits    how many slots there are: told by the service, set by the user, or learned from refusals
//! ```

pub mod governor;
mod limits;
mod slots;
mod watch;

pub use governor::{Admission, Governor, Load, Permit};
pub use limits::{Concurrency, Refusal};
pub use slots::Priority;
