//! The network environment with real proxies and a real private certificate authority: which host is asked, and what a failure
//! reports.

#[path = "../support/network.rs"]
mod network;

use std::fs;
use std::time::Duration;

use kimi_code::config::{Config, Environment, RetryPolicy};
use kimi_code::error::{Error, ErrorKind, Phase, RetryOutcome};
use kimi_code::http;
use kimi_code::http::retry::send_until_read;
use kimi_code::http::retry::{RetryDecision, RetryState};
use kimi_code::http::sent_signal::SentSignal;
use network::{
    h2_origin, http_proxy, origin, private_ca, refusing_proxy, self_signed_authority, socks_proxy, tls_origin,
};

const HOST: &str = "kimi.test"; // resolves nowhere, so only a proxy can reach it

/// Requests `url` in an environment, through the pool of a turn.
async fn get(url: &str, variables: &[(&str, &str)]) -> Result<String, Error> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = Config::from_environment(&Environment::new(variables), &Default::default())?;
    let client =
        tokio::task::spawn_blocking(move || http::Pools::default().client(&config.network)).await.expect("no panic")?;
    let failed = |error: reqwest::Error| Error::from_reqwest(error, Phase::Headers);
    client.get(url).send().await.map_err(failed)?.text().await.map_err(failed)
}

#[tokio::test]
async fn plain_requests_go_through_the_http_proxy_in_either_case() {
    let origin = origin("", b"hello").await;
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        let proxy = http_proxy(origin.address).await;
        let url = format!("http://{}", proxy.address);
        assert_eq!(get(&format!("http://{HOST}/a"), &[(name, &url)]).await.unwrap(), "hello", "{name}");
        assert_eq!(proxy.seen(), [format!("GET http://{HOST}/a HTTP/1.1")], "{name}");
    }
}

/// A private authority is trusted through each of the three variables, and only through them.
#[tokio::test]
async fn tls_goes_through_a_tunnel_and_trusts_a_private_authority() {
    let (ca, config) = private_ca(HOST);
    let origin = tls_origin(config, b"secret").await;
    let proxy = http_proxy(origin.address).await;
    let url = format!("http://{}", proxy.address);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    fs::write(&file, &ca).unwrap();
    fs::write(directory.path().join("README"), "no certificate").unwrap();
    let trusted = [
        ("NODE_EXTRA_CA_CERTS", file.to_str().unwrap()),
        ("SSL_CERT_FILE", file.to_str().unwrap()),
        ("SSL_CERT_DIR", directory.path().to_str().unwrap()),
    ];
    for (name, value) in trusted {
        for proxy in ["https_proxy", "HTTPS_PROXY"] {
            let body = get(&format!("https://{HOST}/"), &[(proxy, &url), (name, value)]).await;
            assert_eq!(body.unwrap(), "secret", "{name}");
        }
    }
    assert!(proxy.seen().iter().all(|line| line == &format!("CONNECT {HOST}:443 HTTP/1.1")), "{:?}", proxy.seen());

    let error = get(&format!("https://{HOST}/"), &[("https_proxy", &url)]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls, "{}", error.message);
    assert!(error.message.starts_with("connection error (TLS) while connecting: "), "{}", error.message);
    assert!(error.message.contains("UnknownIssuer") || error.message.contains("unknown issuer"), "{}", error.message);
}

/// Asks an HTTP/2 server on the loopback; the limit for the response head starts when the request is sent.
async fn post_h2(client: &reqwest::Client, url: &str, limit: Duration) -> Option<reqwest::Result<String>> {
    let signal = SentSignal::default();
    let request = || client.post(url).body(signal.body("body".into()));
    let response = signal.within(Some(limit), send_until_read(&signal, request)).await?;
    Some(match response {
        Ok(response) => response.text().await,
        Err(error) => Err(error),
    })
}

fn h2_client(directory: &tempfile::TempDir, pem: &str) -> reqwest::Client {
    let file = directory.path().join("ca.pem");
    fs::write(&file, pem).expect("a client");
    let variables = [("NODE_EXTRA_CA_CERTS".to_owned(), file.display().to_string())].into_iter().collect();
    let config = Config::from_environment(&Environment::new(variables), &Default::default()).expect("a client");
    http::Pools::default().client(&config.network).expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_wait_for_a_free_stream_does_not_count_as_silence() {
    let (pem, config) = self_signed_authority("localhost", false);
    let server = h2_origin(config, Duration::from_millis(500), 0).await;
    let directory = tempfile::tempdir().unwrap();
    let client = h2_client(&directory, &pem);
    let url = format!("https://localhost:{}/", server.address.port());
    // Eight requests of 0.5 s, one after the other, each within 3 s of being sent.
    let limit = Duration::from_secs(3);
    let start = std::time::Instant::now();
    let answers = futures_util::future::join_all((0..8).map(|_| post_h2(&client, &url, limit))).await;
    for answer in answers {
        assert_eq!(answer.expect("no timeout").expect("an answer"), "done");
    }
    assert!(start.elapsed() > limit, "the last request waited longer than its limit");
    assert_eq!(server.seen().len(), 8);
    // A service that is silent after the request was sent still runs into the limit.
    assert!(post_h2(&client, &url, Duration::from_millis(50)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn response_head_of_240_kib_is_read() {
    const HEAD: usize = 240 << 10;
    let (pem, config) = self_signed_authority("localhost", false);
    let server = h2_origin(config, Duration::ZERO, HEAD).await;
    let directory = tempfile::tempdir().unwrap();
    let client = h2_client(&directory, &pem);
    let url = format!("https://localhost:{}/", server.address.port());
    let answer = post_h2(&client, &url, Duration::from_secs(20)).await.expect("no timeout");
    assert_eq!(answer.expect("HTTP/2"), "done");
    let headers: &'static str = format!("x-long: {}\r\n", "x".repeat(HEAD)).leak();
    let plain = origin(headers, b"done").await;
    assert_eq!(get(&format!("http://{}/", plain.address), &[]).await.expect("HTTP/1"), "done");
}

/// What `openssl req -x509` makes: an authority that the server shows as its own certificate. Node accepts it.
#[tokio::test]
async fn self_signed_authority_as_server_certificate_is_accepted_where_the_user_trusts_it() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: &str| {
        fs::write(directory.path().join(name), pem).unwrap();
        directory.path().join(name).to_str().unwrap().to_owned()
    };
    let (pem, config) = self_signed_authority(HOST, false);
    let trusted = write("trusted.pem", &pem);
    let origin = tls_origin(config, b"secret").await;
    let proxy = http_proxy(origin.address).await;
    let proxy_url = format!("http://{}", proxy.address);
    let ask = async |host: &str, variable: &str, file: &str| {
        get(&format!("https://{host}/"), &[("https_proxy", &proxy_url), (variable, file)]).await
    };
    for variable in ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"] {
        assert_eq!(ask(HOST, variable, &trusted).await.unwrap(), "secret", "{variable}");
    }
    // Trusted by its bytes, not by its names: the same key and names in another certificate are not enough.
    let other = write("other.pem", &self_signed_authority(HOST, false).0);
    for (host, file) in [(HOST, other.as_str()), ("another.test", &trusted)] {
        let error = ask(host, "NODE_EXTRA_CA_CERTS", file).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Tls, "{host} {file}: {}", error.message);
    }
    let (pem, config) = self_signed_authority(HOST, true);
    let expired = write("expired.pem", &pem);
    let origin = tls_origin(config, b"secret").await;
    let proxy = http_proxy(origin.address).await;
    let proxy_url = format!("http://{}", proxy.address);
    let error =
        get(&format!("https://{HOST}/"), &[("https_proxy", &proxy_url), ("NODE_EXTRA_CA_CERTS", &expired)]).await;
    let error = error.unwrap_err();
    assert!(error.kind == ErrorKind::Tls && error.message.contains("xpired"), "{}", error.message);
}

/// Hosts and paths with words that name parts of a connection are errors like any other.
#[tokio::test]
async fn base_url_with_odd_words_is_a_connection_error_with_retries_like_any_other() {
    const WORDS: [&str; 10] = [
        "proxy",
        "tls",
        "socks",
        "certificate",
        "timeout",
        "handshake",
        "tunnel",
        "overloaded",
        "dns-error",
        "billing-quota",
    ];
    // Closed as soon as its number is known.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let forms = |word: &str| {
        [
            format!("http://127.0.0.1:{port}/{word}/v1"),
            format!("https://127.0.0.1:{port}/{word}"),
            format!("http://127.0.0.1:{port}/coding/{word}.{word}"),
            format!("http://127.0.0.1:{port}/coding?{word}={word}"),
            format!("http://{word}.invalid/coding"),
            format!("https://api.{word}.invalid:8443/coding"),
        ]
    };
    let mut seen = Vec::new();
    for (plain, form) in forms("plain").iter().zip(0..) {
        let expected = outcome(plain).await;
        assert_eq!(expected.0, ErrorKind::Network(Phase::Connect), "{plain}");
        for word in WORDS {
            let url = &forms(word)[form];
            assert_eq!(outcome(url).await, expected, "{url}");
            seen.push(url.clone());
        }
    }
    assert_eq!(seen.len(), 60);
}

/// Kind, what the retry policy makes of it, and whether Pi would try again.
async fn outcome(url: &str) -> (ErrorKind, bool, bool) {
    let error = get(url, &[]).await.expect_err("nothing listens there");
    let mut retries = RetryState::default();
    retries.attempts = 1;
    let again = matches!(retries.decide(&error, &RetryPolicy::default()), RetryDecision::Again(_));
    let text = error.message_for_pi(RetryOutcome::Open).to_lowercase();
    let pi_retries = text.contains("connection error") && !text.contains("billing") && !text.contains("out of budget");
    (error.kind, again, pi_retries)
}

#[tokio::test]
async fn socks_proxies_get_the_name_or_the_address() {
    let origin = origin("", b"hello").await;
    let proxy = socks_proxy(origin.address).await;
    let by_name = format!("socks5h://{}", proxy.address);
    assert_eq!(get(&format!("http://{HOST}/"), &[("ALL_PROXY", &by_name)]).await.unwrap(), "hello");
    let by_address = format!("socks5://{}", proxy.address);
    assert_eq!(get("http://192.0.2.1:81/", &[("all_proxy", &by_address)]).await.unwrap(), "hello");
    assert_eq!(proxy.seen(), [format!("name {HOST} 80"), "ip 192.0.2.1 81".to_owned()]);
}

#[tokio::test]
async fn no_proxy_means_direct() {
    let origin = origin("", b"hello").await;
    let proxy = http_proxy(origin.address).await;
    let url = format!("http://{}", proxy.address);
    for name in ["no_proxy", "NO_PROXY"] {
        let error = get(
            "http://192.0.2.1/",
            &[("http_proxy", &url), (name, "192.0.2.0/24"), ("KIMI_CODE_CONNECT_TIMEOUT_MS", "200")],
        )
        .await
        .unwrap_err();
        let connecting = [ErrorKind::Timeout(Phase::Connect), ErrorKind::Network(Phase::Connect)];
        assert!(connecting.contains(&error.kind), "{error:?}");
        assert!(error.message.contains("while connecting"), "{}", error.message);
    }
    assert_eq!(proxy.seen(), [""; 0]);
}

/// The loopback is reached directly (docs/protocol.md#proxies-and-loopback).
#[tokio::test]
async fn the_loopback_is_always_direct() {
    let origin = origin("", b"hello").await;
    let proxy = http_proxy(origin.address).await;
    let url = format!("http://{}", proxy.address);
    for host in ["127.0.0.1", "localhost"] {
        let direct = format!("http://{host}:{}/", origin.address.port());
        let body = get(&direct, &[("HTTP_PROXY", &url), ("ALL_PROXY", &url)]).await;
        assert_eq!(body.unwrap(), "hello");
    }
    assert_eq!(proxy.seen(), [""; 0]);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_its_password_is_not() {
    let proxy = refusing_proxy().await;
    let url = format!("http://user:hunter2@{}", proxy.address);
    let error = get(&format!("https://{HOST}/"), &[("https_proxy", &url)]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Proxy, "{}", error.message);
    assert!(error.message.starts_with("connection error (proxy) while connecting: "), "{}", error.message);
    assert!(!error.message.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{}", error.message);
}

#[tokio::test]
async fn a_refused_connection_names_its_phase_and_cause() {
    // Bound without listening, so that no other process gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let error = get(&format!("http://{address}/"), &[]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Network(Phase::Connect));
    assert!(error.message.starts_with("connection error while connecting: "), "{}", error.message);
    assert!(error.message.to_lowercase().contains("refused"), "{}", error.message);
}

/// A proxy that never answers is bounded by the connect timeout, including the tunnel.
#[tokio::test]
async fn connecting_has_a_limit() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let environment = [("https_proxy", url.as_str()), ("KIMI_CODE_CONNECT_TIMEOUT_MS", "200")];
    let target = format!("https://{HOST}/");
    let asked = get(&target, &environment);
    let error = tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout(Phase::Connect), "{}", error.message);
}

#[tokio::test]
async fn compressed_answers_are_read() {
    /// `gzip` of "compressed\n", without a name and a time.
    const GZIP: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x4b, 0xce, 0xcf, 0x2d, 0x28, 0x4a, 0x2d, 0x2e,
        0x4e, 0x4d, 0xe1, 0x02, 0x00, 0xbb, 0x6d, 0x4f, 0xc8, 0x0b, 0x00, 0x00, 0x00,
    ];
    let origin = origin("content-encoding: gzip\r\n", GZIP).await;
    let body = get(&format!("http://{}/", origin.address), &[]).await.unwrap();
    assert_eq!(body, "compressed\n");
}
