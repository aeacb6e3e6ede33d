//! Size limits of MFJS, each in the strictest published reading (docs/protocol.md#tool-schema-subset).

/// Longest schema of one tool, in bytes of JSON.
///
/// Measured until June 2026. 120,000 bytes are reported since (docs/protocol.md#tool-schema-size), but not for every
/// deployment, and a shorter schema costs fewer tokens.
pub const MAX_BYTES: usize = 15_000;

/// Deepest nesting of objects.
pub const MAX_DEPTH: usize = 10;

/// Most properties of a schema, all objects together.
pub const MAX_PROPERTIES: usize = 1000;

/// Most values of an enumeration.
pub const MAX_VALUES: usize = 500;

/// Most values of an enumeration whose length is not limited.
pub const MAX_UNMEASURED_VALUES: usize = 250;

/// Longest enumeration with more than [`MAX_UNMEASURED_VALUES`] values: the bytes of all values together.
pub const MAX_VALUES_BYTES: usize = 7500;

/// Most branches of an `anyOf`.
pub const MAX_BRANCHES: usize = 100;
