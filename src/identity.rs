//! Who we say we are, and which extra headers may travel along.
//!
//! An honest User-Agent that begins exactly as Pi's own does, because the service is known to accept that one and clients
//! that imitated the official CLI were banned (users.md §1.11). Header rules: protocol reference §2.4, §2.5.

use serde::Deserialize;

use crate::VERSION;

/// The program around us, as far as it tells. All fields may be missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Host {
    /// Version of Pi; absent outside Pi.
    pub pi_version: Option<String>,
    /// `linux`, `darwin`, `win32` …
    pub platform: String,
    /// `node/v24.1.0` or `bun/1.4.5`.
    pub runtime: String,
    /// `x64`, `arm64` …
    pub arch: String,
}

impl Host {
    /// `pi/<version> (<platform>; <runtime>; <arch>) pi-provider-kimi-code/<version>`; outside Pi without the first part.
    pub fn user_agent(&self) -> String {
        let ours = format!("pi-provider-kimi-code/{VERSION}");
        let details: Vec<String> = [&self.platform, &self.runtime, &self.arch]
            .into_iter()
            .map(|s| ascii(s))
            .filter(|s| !s.is_empty())
            .collect();
        let comment = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
        match &self.pi_version {
            Some(version) => format!("pi/{}{comment} {ours}", ascii(version)),
            None => format!("{ours}{comment}"),
        }
    }
}

/// Names that a custom header can never set (protocol reference §2.5).
const RESERVED: [&str; 6] = ["accept", "anthropic-version", "authorization", "content-type", "user-agent", "x-api-key"];

/// Parses `KIMI_CODE_CUSTOM_HEADERS`: lines of `Name: value`. Later lines win; reserved, malformed and empty ones are skipped.
pub fn custom_headers(text: &str) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let name = name.trim().to_ascii_lowercase();
        let value = ascii(value);
        if !is_header_name(&name) || RESERVED.contains(&name.as_str()) || name.starts_with("x-msh-") || value.is_empty()
        {
            continue;
        }
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
    }
    headers
}

/// Only printable ASCII survives in a header value (protocol reference §2.4, the official client's rule).
pub fn ascii(value: &str) -> String {
    value.chars().filter(|c| matches!(c, ' '..='~')).collect::<String>().trim().to_owned()
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_begins_like_pi_and_names_us() {
        let host = Host {
            pi_version: Some("0.87.1".into()),
            platform: "linux".into(),
            runtime: "node/v24.1.0".into(),
            arch: "x64".into(),
        };
        assert_eq!(host.user_agent(), format!("pi/0.87.1 (linux; node/v24.1.0; x64) pi-provider-kimi-code/{VERSION}"));
        assert_eq!(Host::default().user_agent(), format!("pi-provider-kimi-code/{VERSION}"));
    }

    /// Protocol reference §13, case 69.
    #[test]
    fn custom_headers_cannot_touch_identity_or_credentials() {
        let text = "X-Team: kernel\nAuthorization: Bearer stolen\nx-msh-platform: kimi_code_cli\nUser-Agent: me\n\
                    bad name: x\nno colon\nX-Team: net\nX-Uni: grün\r";
        assert_eq!(
            custom_headers(text),
            [("x-team".to_owned(), "net".to_owned()), ("x-uni".to_owned(), "grn".to_owned())]
        );
    }
}
