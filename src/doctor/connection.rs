//! The way to the service, one phase after the other: DNS, TCP, proxy, TLS, HTTP.
//!
//! Name resolution and TCP are tried on their own, because only then can an error name its phase. Everything after that is one
//! request of the client that all requests use, so proxies and certificates are tested as they are used.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::Uri;
use reqwest::header::{AGE, DATE};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use crate::client::Kimi;
use crate::display_text::clip;
use crate::error::{CertificateProblem, Error, ErrorKind, Phase, html_title};
use crate::http::body::read_whole;
use crate::http::proxy::proxy_for;
use crate::storage::clock::now;

use super::Check;
use super::clock::SET_CLOCK;
use super::machine::AddressOrigin;

/// Longest list of models that is read, in bytes.
const MAX_LIST: usize = 4 << 20;

/// What is cured outside of this machine's settings.
const NETWORK: &str = "Check the network connection, and set HTTPS_PROXY if this network has a proxy";

/// An answer to the request for the models.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub took: Duration,
}

/// What was found on the way.
pub struct Connected {
    pub checks: Vec<Check>,
    /// Whether the service is there.
    pub is_service: bool,
    /// How far this machine's clock is ahead, in seconds, where the answer has a date of its own.
    pub clock_ahead: Option<i64>,
}

/// Goes the way to the list of models, without a credential.
pub async fn checks(kimi: &Kimi, origin: &AddressOrigin, deadline: Instant) -> Connected {
    let url = models_url(kimi);
    let proxy = proxy_for(&kimi.config.network, &url);
    let mut found = Connected { checks: Vec::new(), is_service: false, clock_ahead: None };
    let checks = &mut found.checks;
    let reached = match (&proxy, url.parse::<Uri>()) {
        (Some(proxy), _) => reach_proxy(kimi, proxy, checks, deadline).await,
        (None, Ok(service)) => reach(&service, origin, checks, deadline).await,
        (None, Err(error)) => {
            checks.push(Check::fault("service", error.to_string(), origin.cure(NETWORK)));
            false
        }
    };
    if !reached {
        return found;
    }
    match ask(kimi, None, deadline).await {
        Err(error) => checks.push(broken(&error, kimi, proxy.as_ref(), origin)),
        Ok((Answer { status: 407, .. }, _)) if proxy.is_some() => {
            let asked = Error { status: Some(407), ..Error::new(ErrorKind::Proxy, "407 from the proxy") };
            checks.push(broken(&asked, kimi, proxy.as_ref(), origin));
        }
        Ok((answer, clock_ahead)) => {
            if let Some(proxy) = &proxy {
                checks.push(Check::ok("connection.proxy", format!("{} passes requests on", address(proxy))));
            }
            if url.starts_with("https:") {
                checks.push(Check::ok("connection.tls", certificates(kimi)));
            }
            let place = host(&url);
            // Without a credential a gateway may refuse in any form.
            let refused = matches!(answer.status, 401 | 403);
            let stranger = if refused { None } else { not_the_service(kimi, &answer, origin) };
            found.is_service = stranger.is_none();
            found.clock_ahead = clock_ahead.filter(|_| found.is_service);
            checks.push(stranger.unwrap_or_else(|| {
                Check::ok("connection.http", format!("{place} answers ({} ms)", answer.took.as_millis()))
            }));
        }
    }
    found
}

fn models_url(kimi: &Kimi) -> String {
    format!("{}/models", kimi.config.endpoint.v1())
}

/// Asks for the models, and returns with the answer how far our clock is ahead of its date.
pub async fn ask(kimi: &Kimi, token: Option<&str>, deadline: Instant) -> Result<(Answer, Option<i64>), Error> {
    let url = models_url(kimi);
    let started = Instant::now();
    let asking = async {
        let response = kimi.probe(&url, token).await?;
        let (status, ahead) = (response.status().as_u16(), clock_ahead(&response));
        let body = read_whole(response, MAX_LIST).await?;
        Ok((Answer { status, body, took: started.elapsed() }, ahead))
    };
    timeout_at(deadline, asking).await.unwrap_or_else(|_| {
        let message = format!("{} did not answer in {} ms", host(&url), started.elapsed().as_millis());
        Err(Error::new(ErrorKind::Timeout(Phase::Headers), message))
    })
}

/// Resolves and connects to the service itself.
async fn reach(service: &Uri, origin: &AddressOrigin, checks: &mut Vec<Check>, deadline: Instant) -> bool {
    let name = address(service);
    let addresses = match resolve(service, deadline).await {
        Ok(addresses) => addresses,
        Err(why) => {
            let message = format!("the name {} cannot be resolved: {why}", service.host().unwrap_or_default());
            checks.push(Check::fault("connection.dns", message, origin.cure(NETWORK)));
            return false;
        }
    };
    let first = addresses.first().map(|address| address.ip().to_string()).unwrap_or_default();
    checks.push(Check::ok("connection.dns", format!("{} is {first}", service.host().unwrap_or_default())));
    match connect(&addresses, deadline).await {
        Ok(took) => {
            checks.push(Check::ok("connection.tcp", format!("{name} accepts connections ({} ms)", took.as_millis())));
            true
        }
        Err(why) => {
            let message = format!("{name} accepts no connection: {why}");
            checks.push(Check::fault("connection.tcp", message, origin.cure(NETWORK)));
            false
        }
    }
}

/// Resolves and connects to the proxy, which resolves the service's name itself.
async fn reach_proxy(kimi: &Kimi, proxy: &Uri, checks: &mut Vec<Check>, deadline: Instant) -> bool {
    let failed = match resolve(proxy, deadline).await {
        Ok(addresses) => connect(&addresses, deadline).await.err(),
        Err(why) => Some(why),
    };
    let Some(why) = failed else { return true };
    let message = format!("the proxy {} cannot be reached: {why}", address(proxy));
    checks.push(Check::fault("connection.proxy", message, proxy_cure(kimi)));
    false
}

fn proxy_cure(kimi: &Kimi) -> String {
    let variable = proxy_variable(kimi);
    format!("Correct {variable}, or run `unset {variable} {}`", variable.to_ascii_lowercase())
}

/// Returns the variable that names the proxy of the service.
fn proxy_variable(kimi: &Kimi) -> &'static str {
    let network = &kimi.config.network;
    match kimi.config.endpoint.root().starts_with("https:") {
        true if network.https_proxy.is_some() => "HTTPS_PROXY",
        false if network.http_proxy.is_some() => "HTTP_PROXY",
        _ => "ALL_PROXY",
    }
}

async fn resolve(uri: &Uri, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
    let name = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let looking = lookup_host((name, port(uri)));
    match timeout_at(deadline, looking).await {
        Ok(Ok(addresses)) => {
            Some(addresses.collect::<Vec<_>>()).filter(|found| !found.is_empty()).ok_or("it has no address".to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the DNS server did not answer in time".to_owned()),
    }
}

/// Connects to the first address that accepts.
async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<Duration, String> {
    let started = Instant::now();
    let mut why = String::new();
    for address in addresses {
        match timeout_at(deadline, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(started.elapsed()),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => return Err("it did not answer in time".to_owned()),
        }
    }
    Err(why)
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("https") => 443,
        Some(scheme) if scheme.starts_with("socks") => 1080,
        _ => 80,
    })
}

/// Returns host and port, never the user name of a proxy.
fn address(uri: &Uri) -> String {
    format!("{}:{}", uri.host().unwrap_or_default(), port(uri))
}

fn host(url: &str) -> String {
    url.parse().map(|uri: Uri| address(&uri)).unwrap_or_default()
}

fn certificates(kimi: &Kimi) -> String {
    let network = &kimi.config.network;
    let named = [
        network.extra_ca.as_ref().map(|_| "NODE_EXTRA_CA_CERTS"),
        network.ca_file.as_ref().map(|_| "SSL_CERT_FILE"),
        network.ca_directories.as_ref().map(|_| "SSL_CERT_DIR"),
    ];
    let named: Vec<&str> = named.into_iter().flatten().collect();
    if named.is_empty() {
        return "the certificate is trusted by this system".to_owned();
    }
    format!("the certificate is trusted, with {}", named.join(", "))
}

/// Reports a request that failed after the connection to the first hop stood.
fn broken(error: &Error, kimi: &Kimi, proxy: Option<&Uri>, origin: &AddressOrigin) -> Check {
    let message = error.message.clone();
    if let Some(proxy) = proxy
        && (error.kind == ErrorKind::Proxy || error.wants_proxy_password())
    {
        if error.wants_proxy_password() {
            let (variable, place) = (proxy_variable(kimi), address(proxy));
            return Check::fault(
                "connection.proxy",
                format!("the proxy {place} wants a user name and password"),
                format!("Write them into {variable}, as user:password@ between http:// and {place}"),
            );
        }
        return Check::fault("connection.proxy", message, proxy_cure(kimi));
    }
    match error.certificate_problem() {
        Some(CertificateProblem::Date) => {
            Check::fault("connection.tls", message, format!("Correct this machine's clock: {SET_CLOCK}"))
        }
        Some(CertificateProblem::Name) => Check::fault("connection.tls", message, origin.cure(NETWORK)),
        Some(CertificateProblem::Untrusted) => Check::fault(
            "connection.tls",
            message,
            "Save the certificate of your company's or gateway's authority as PEM, and run \
             `export NODE_EXTRA_CA_CERTS=/path/to/authority.pem`",
        ),
        None => Check::fault("connection.http", message, origin.cure(NETWORK)),
    }
}

/// Returns a fault if an answer does not come from Kimi's API, and a warning if that is out of order.
pub fn not_the_service(kimi: &Kimi, answer: &Answer, origin: &AddressOrigin) -> Option<Check> {
    let Answer { status, body, .. } = answer;
    let text = String::from_utf8_lossy(body);
    let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|value| value.is_object());
    let place = host(&models_url(kimi));
    if !is_json || *status == 404 {
        let what = match html_title(&text) {
            Some(title) => format!("a web page, \"{}\"", clip(&title, 80)),
            None if is_json => "that there is no list of models".to_owned(),
            None => "something else than JSON".to_owned(),
        };
        let message = format!("{place} answers {status} with {what}; this is not Kimi's API");
        return Some(Check::fault("connection.http", message, origin.cure(NETWORK)));
    }
    let message = format!("{place} answers {status}");
    (*status >= 500).then(|| Check::warning("connection.http", message, "Try again in a minute"))
}

/// Returns how far our clock is ahead of the answer's date, in seconds. A cached answer has an old date.
fn clock_ahead(response: &reqwest::Response) -> Option<i64> {
    let headers = response.headers();
    if headers.contains_key(AGE) {
        return None;
    }
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    Some(seconds(now()) - seconds(date))
}
