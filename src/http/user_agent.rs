//! Headers that identify the sender.
//!
//! The User-Agent is honest and begins exactly as Pi's own, because the service is known to accept that one and clients that
//! imitated the official CLI were banned (docs/protocol.md#identity-gate).

use std::collections::HashMap;

use serde::Deserialize;

use crate::VERSION;
use crate::config::{Identity, ascii};

/// Release of the official client whose headers are sent where the user has asked for its identity
/// (docs/protocol.md#identity-headers).
const OFFICIAL_VERSION: &str = "2.1.0";

/// The calling program. All fields may be missing.
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
    /// Name of the machine.
    pub machine: String,
    /// `Linux`, `Darwin`, `Windows_NT` …
    pub system: String,
    /// Kernel release.
    pub release: String,
    /// Headers that the program adds to every request to the service; null suppresses one of ours. Those that authorize a request or
    /// describe its content are ignored here.
    pub extra_headers: HashMap<String, Option<String>>,
}

impl Host {
    /// Returns `pi/<version> (<platform>; <runtime>; <arch>) pi-provider-kimi-code/<version>`; outside Pi without the first part.
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

    /// Returns the identifying headers as (name, value): the agent alone, unless the official client is imitated.
    pub fn headers(&self, identity: Identity, device_id: impl FnOnce() -> String) -> Vec<(&'static str, String)> {
        if identity == Identity::Honest {
            return vec![("user-agent", self.user_agent())];
        }
        let known =
            |text: &str| Some(ascii(text)).filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        let system = match self.system.as_str() {
            "Darwin" => "macOS",
            "Windows_NT" => "Windows",
            other => other,
        };
        vec![
            ("user-agent", format!("kimi-code-cli/{OFFICIAL_VERSION}")),
            ("x-msh-platform", "kimi_code_cli".to_owned()),
            ("x-msh-version", OFFICIAL_VERSION.to_owned()),
            ("x-msh-device-name", known(&self.machine)),
            ("x-msh-device-model", known(&format!("{system} {} {}", self.release, self.arch))),
            ("x-msh-os-version", known(&self.release)),
            ("x-msh-device-id", known(&device_id())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agent_begins_like_pi_and_names_this_package() {
        let host = Host {
            pi_version: Some("0.87.1".into()),
            platform: "linux".into(),
            runtime: "node/v24.1.0".into(),
            arch: "x64".into(),
            ..Host::default()
        };
        assert_eq!(host.user_agent(), format!("pi/0.87.1 (linux; node/v24.1.0; x64) pi-provider-kimi-code/{VERSION}"));
        assert_eq!(Host::default().user_agent(), format!("pi-provider-kimi-code/{VERSION}"));
    }

    /// The headers of docs/protocol.md#identity-headers; sent only if the user has set it.
    #[test]
    fn official_identity_is_complete_and_only_sent_if_set() {
        let host = Host {
            machine: "büro".into(),
            system: "Darwin".into(),
            release: "24.1.0".into(),
            arch: "arm64".into(),
            ..Host::default()
        };
        let honest = host.headers(Identity::Honest, || unreachable!("an honest request carries no device id"));
        assert_eq!(honest, [("user-agent", host.user_agent())]);
        let official = host.headers(Identity::KimiCode, || "id".to_owned());
        let value = |name: &str| official.iter().find(|(known, _)| *known == name).unwrap().1.as_str();
        assert_eq!(value("user-agent"), "kimi-code-cli/2.1.0");
        assert_eq!(value("x-msh-platform"), "kimi_code_cli");
        assert_eq!(value("x-msh-device-name"), "bro");
        assert_eq!(value("x-msh-device-model"), "macOS 24.1.0 arm64");
        assert_eq!(official.len(), 7);
    }
}
