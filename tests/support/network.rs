//! Small real servers for tests of the network environment: an HTTP origin, with and without TLS, and the two kinds of proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The requests that a server received, in order.
pub type Seen = Arc<Mutex<Vec<String>>>;

/// A server on the loopback that lives as long as the test's runtime.
pub struct Server {
    pub address: SocketAddr,
    pub seen: Seen,
}

impl Server {
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no server panicked").clone()
    }
}

async fn serve<F, Fut>(handle: F) -> Server
where
    F: Fn(TcpStream, Seen) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let handle = Arc::new(handle);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (handle, log) = (Arc::clone(&handle), Arc::clone(&log));
            tokio::spawn(async move { handle(socket, log).await });
        }
    });
    Server { address, seen }
}

/// Reads up to the blank line and returns the first line.
async fn head(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(socket.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned())
}

async fn answer(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    headers: &str,
    body: &[u8],
    seen: Seen,
) -> io::Result<()> {
    let line = head(&mut socket).await?;
    seen.lock().expect("no server panicked").push(line);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body).await?;
    socket.shutdown().await
}

/// Answers every request with `body`.
pub async fn origin(headers: &'static str, body: &'static [u8]) -> Server {
    serve(move |socket, seen| answer(socket, headers, body, seen)).await
}

/// The same behind TLS.
pub async fn tls_origin(config: ServerConfig, body: &'static [u8]) -> Server {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve(move |socket, seen| {
        let acceptor = acceptor.clone();
        async move { answer(acceptor.accept(socket).await?, "", body, seen).await }
    })
    .await
}

/// An HTTP proxy: tunnels CONNECT, forwards plain requests; every target is mapped to `origin`.
pub async fn http_proxy(origin: SocketAddr) -> Server {
    serve(move |mut socket, seen| async move {
        let line = head(&mut socket).await?;
        seen.lock().expect("no server panicked").push(line.clone());
        let mut upstream = TcpStream::connect(origin).await?;
        if line.starts_with("CONNECT ") {
            socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        } else {
            upstream.write_all(format!("{line}\r\nhost: x\r\n\r\n").as_bytes()).await?;
        }
        copy_bidirectional(&mut socket, &mut upstream).await.map(drop)
    })
    .await
}

/// A proxy that requires a password.
pub async fn refusing_proxy() -> Server {
    serve(|mut socket, seen| async move {
        let line = head(&mut socket).await?;
        seen.lock().expect("no server panicked").push(line);
        socket.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await
    })
    .await
}

/// A SOCKS5 proxy without authentication (RFC 1928); every target is mapped to `origin`.
pub async fn socks_proxy(origin: SocketAddr) -> Server {
    serve(move |mut socket, seen| async move {
        let _version = socket.read_u8().await?;
        let methods = socket.read_u8().await?;
        let mut skipped = vec![0; usize::from(methods)];
        socket.read_exact(&mut skipped).await?;
        socket.write_all(&[5, 0]).await?;
        let mut request = [0; 4]; // version, command, reserved, address type
        socket.read_exact(&mut request).await?;
        let target = match request[3] {
            1 => {
                let mut address = [0; 4];
                socket.read_exact(&mut address).await?;
                format!("ip {}", std::net::Ipv4Addr::from(address))
            }
            3 => {
                let mut name = vec![0; usize::from(socket.read_u8().await?)];
                socket.read_exact(&mut name).await?;
                format!("name {}", String::from_utf8_lossy(&name))
            }
            other => format!("kind {other}"),
        };
        let port = socket.read_u16().await?;
        seen.lock().expect("no server panicked").push(format!("{target} {port}"));
        let mut upstream = TcpStream::connect(origin).await?;
        socket.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        copy_bidirectional(&mut socket, &mut upstream).await.map(drop)
    })
    .await
}

/// Creates a private certificate authority and a server certificate; returns the authority as PEM.
pub fn private_ca(host: &str) -> (String, ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).expect("an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec![host.to_owned()])
        .and_then(|params| params.signed_by(&key, &authority))
        .expect("a signed certificate");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a server configuration");
    (authority.pem(), config)
}

/// Creates a server certificate that is its own authority and may have expired; returns it as PEM.
pub fn self_signed_authority(host: &str, expired: bool) -> (String, ServerConfig) {
    let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a certificate");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a signed certificate");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a server configuration");
    (certificate.pem(), config)
}
