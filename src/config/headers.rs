//! How requests identify their sender, and which extra headers they carry.

use serde::{Deserialize, Serialize};

/// How requests identify their sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// As this package.
    #[default]
    Honest,
    /// As the official client, for plans that refuse every other one. Only if the user sets it.
    KimiCode,
}

/// Names of headers that describe the connection or the length of the content, where a value of the caller would break the request.
const OF_CONNECTION: [&str; 8] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Further names that a custom header can never set: identity, credentials and content (docs/protocol.md#custom-headers).
const RESERVED: [&str; 7] =
    ["accept", "anthropic-version", "authorization", "content-type", "host", "user-agent", "x-api-key"];

/// Whether a header describes the connection.
pub fn is_of_connection(name: &str) -> bool {
    OF_CONNECTION.iter().any(|own| name.eq_ignore_ascii_case(own))
}

fn is_reserved(name: &str) -> bool {
    is_of_connection(name) || RESERVED.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// Whether a program's header goes with every request: it may name the sender, but what authorizes a request belongs to single requests,
/// because what is stored about an account is named by our credential.
pub fn is_of_every_request(name: &str) -> bool {
    name.eq_ignore_ascii_case("user-agent") || !is_reserved(name)
}

/// Parses `KIMI_CODE_CUSTOM_HEADERS`: lines of `Name: value`. Later lines win; reserved, malformed and empty ones are skipped.
pub fn custom_headers(text: &str) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let name = name.trim().to_ascii_lowercase();
        let value = ascii(value);
        if !is_header_name(&name) || is_reserved(&name) || name.starts_with("x-msh-") || value.is_empty() {
            continue;
        }
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
    }
    headers
}

/// Removes everything but printable ASCII from a header value (docs/protocol.md#header-values, the official client's rule).
pub fn ascii(value: &str) -> String {
    value.chars().filter(|c| matches!(c, ' '..='~')).collect::<String>().trim().to_owned()
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Identity and credentials cannot be overridden (docs/protocol.md#custom-headers).
    #[test]
    fn custom_headers_reserved_and_malformed_ones_are_skipped() {
        let text = "X-Team: kernel\nAuthorization: Bearer stolen\nx-msh-platform: kimi_code_cli\nUser-Agent: me\n\
                    Content-Length: 1\nHost: elsewhere\n\
                    bad name: x\nno colon\nX-Team: net\nX-Uni: grün\r";
        assert_eq!(
            custom_headers(text),
            [("x-team".to_owned(), "net".to_owned()), ("x-uni".to_owned(), "grn".to_owned())]
        );
    }
}
