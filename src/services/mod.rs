//! What the service offers beside answers: the plan's quota, the account, and Kimi's own tools.
//!
//! ```text
//! tool_call        runs one call of a tool: search · fetch · datasource · output_files  files that a data source returns
//! tool_request     the request behind a tool call · truncate  the result, cut to a limit · tool_definitions  names and schemas
//! quota_display    the footer and `/kimi-usage` · quota_error  errors that name the window · quota_cache  one request for all processes
//! usage            reads `/usages` · money
//! account          reads `/me` · members  reads members of answers · window_name  names quota windows
//! ```

pub mod account;
pub mod datasource;
pub mod fetch;
mod members;
pub mod money;
pub mod output_files;
pub mod quota_cache;
pub mod quota_display;
pub mod quota_error;
pub mod search;
pub mod tool_call;
pub mod tool_definitions;
mod tool_request;
pub mod truncate;
pub mod usage;
mod window_name;
