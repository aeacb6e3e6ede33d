//! Errors of the connection, classified by the types in their chain of causes.
//!
//! Texts are not looked at: they quote host names, and a host may be called `proxy.example` or `tls-timeout.example`.

use std::error::Error as StdError;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use reqwest::Url;
use rustls::CertificateError;
use tower_service::Service;

use super::{Error, ErrorKind, Phase};

// hyper-util does not export the names of these types.
type TunnelError = <Tunnel<HttpConnector> as Service<http::Uri>>::Error;
type SocksV4Error = <SocksV4<HttpConnector> as Service<http::Uri>>::Error;
type SocksV5Error = <SocksV5<HttpConnector> as Service<http::Uri>>::Error;

impl Error {
    /// Converts the error of a request. The message holds the whole chain of causes and the host, but no path, query or
    /// user name: those may hold secrets.
    pub fn from_reqwest(error: reqwest::Error, phase: Phase) -> Self {
        let phase = if error.is_connect() { Phase::Connect } else { phase };
        let kind = if error.is_timeout() {
            ErrorKind::Timeout(phase)
        } else if error.is_builder() {
            ErrorKind::Config
        } else if phase != Phase::Connect {
            ErrorKind::Network(phase)
        } else if has_cause(&error, |cause| cause.is::<rustls::Error>()) {
            ErrorKind::Tls
        } else if has_cause(&error, is_proxy_error) {
            ErrorKind::Proxy
        } else {
            ErrorKind::Network(phase)
        };
        let head = match kind {
            ErrorKind::Timeout(_) => "timeout",
            ErrorKind::Proxy => "connection error (proxy)",
            ErrorKind::Tls => "connection error (TLS)",
            ErrorKind::Config => "unusable request",
            _ => "connection error",
        };
        let host = error.url().and_then(host).map(|host| format!("{host}: ")).unwrap_or_default();
        let error = error.without_url();
        let message = format!("{head} {}: {host}{}", phase.describe(), cause_chain(&error));
        Self::new(kind, message).caused_by(error)
    }
}

/// Why a server's certificate was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateProblem {
    /// It is not valid at the time of this machine's clock.
    Date,
    /// It is for another host name.
    Name,
    /// No authority that is trusted here has signed it.
    Untrusted,
}

impl Error {
    /// Returns why a certificate was refused, if that is what happened.
    pub fn certificate_problem(&self) -> Option<CertificateProblem> {
        let found = find_cause(self, |cause| match cause.downcast_ref() {
            Some(rustls::Error::InvalidCertificate(problem)) => Some(match problem {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => CertificateProblem::Date,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    CertificateProblem::Name
                }
                _ => CertificateProblem::Untrusted,
            }),
            _ => None,
        });
        found.or((self.kind == ErrorKind::Tls).then_some(CertificateProblem::Untrusted))
    }

    /// Whether a proxy asked for a user name and password.
    pub fn wants_proxy_password(&self) -> bool {
        let asked = |cause: &(dyn StdError + 'static)| match cause.downcast_ref() {
            Some(TunnelError::ProxyAuthRequired) => Some(()),
            _ => None,
        };
        self.status == Some(407) || find_cause(self, asked).is_some()
    }
}

fn is_proxy_error(cause: &(dyn StdError + 'static)) -> bool {
    cause.is::<TunnelError>() || cause.is::<SocksV4Error>() || cause.is::<SocksV5Error>()
}

/// Host and port, unless Pi would take the host's name for a word of the service (docs/pi-contract.md#error-words).
fn host(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.contains("billing"))?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Whether `error` or one of its causes satisfies `test`.
fn has_cause(error: &(dyn StdError + 'static), test: impl Fn(&(dyn StdError + 'static)) -> bool + Copy) -> bool {
    find_cause(error, |cause| test(cause).then_some(())).is_some()
}

/// Returns what `find` makes of `error` or the first of its causes that it knows.
fn find_cause<T>(
    error: &(dyn StdError + 'static),
    find: impl Fn(&(dyn StdError + 'static)) -> Option<T> + Copy,
) -> Option<T> {
    find(error).or_else(|| find_cause(cause(error)?, find))
}

/// Returns the direct cause. An I/O error hides the error that it wraps from `source`.
fn cause<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>() {
        Some(wrapper) => wrapper.get_ref().map(|cause| cause as &(dyn StdError + 'static)),
        None => error.source(),
    }
}

/// Formats `error` and its causes, without repeating a part that its parent already quotes.
pub fn cause_chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text
}
