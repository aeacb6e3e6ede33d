//! Trust in certificates that the user names, in addition to the system's or instead of them.
//!
//! A server often shows the very certificate that the user trusts, made with `openssl req -x509`. Such a certificate is marked
//! as an authority, and Rust's TLS library accepts no authority as a server's own certificate. OpenSSL and so Node do, and a
//! certificate that was trusted by its bytes needs no chain, so it is accepted here as well if its name and dates are right.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use rustls_platform_verifier::Verifier;

use crate::config::NetworkSettings;
use crate::error::{Error, ErrorKind, Result, cause_chain};

/// Builds the TLS configuration for certificates that the user names; `None` if there are none. Reads files.
pub fn config(settings: &NetworkSettings) -> Result<Option<ClientConfig>> {
    let mut instead = roots(settings)?;
    if instead.is_none() && cfg!(target_os = "android") {
        let node = std::env::current_exe().unwrap_or_default();
        instead = Some(android_roots(&node, &ANDROID_CERTIFICATES)?);
    }
    let extra = settings.extra_ca.as_deref().map(|file| certificates("NODE_EXTRA_CA_CERTS", file)).transpose()?;
    if instead.is_none() && extra.is_none() {
        return Ok(None);
    }
    let extra = extra.unwrap_or_default();
    let verifier = TrustedCertificates::new(instead, extra).map_err(|error| {
        let message = format!("the certificates that the environment names are unusable: {}", cause_chain(&*error));
        Error::new(ErrorKind::Tls, message)
    })?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()).caused_by(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(config))
}

/// Reads the roots that the environment names in place of the system's, as OpenSSL does.
fn roots(settings: &NetworkSettings) -> Result<Option<Vec<CertificateDer<'static>>>> {
    let mut roots = Vec::new();
    if let Some(file) = &settings.ca_file {
        roots.extend(certificates("SSL_CERT_FILE", file)?);
    }
    for directory in settings.ca_directories.iter().flat_map(std::env::split_paths) {
        let found =
            certificates_in(&directory).map_err(|error| unusable("SSL_CERT_DIR", &directory, &error.to_string()))?;
        roots.extend(found);
    }
    Ok(Some(roots).filter(|roots| !roots.is_empty()))
}

/// Directories of Android's own certificates: since version 14, and before.
const ANDROID_CERTIFICATES: [&str; 2] = ["/apex/com.android.conscrypt/cacerts", "/system/etc/security/cacerts"];

/// Reads the certificates that Node uses on Android, or else the system's. Android's own verifier can only be called from a Java
/// virtual machine, which Node does not have.
fn android_roots(node: &Path, system: &[&str]) -> Result<Vec<CertificateDer<'static>>> {
    // Termux installs both below its prefix: bin/node and etc/tls/cert.pem.
    let prefix = node.ancestors().nth(2).unwrap_or(node);
    if let Ok(roots) = certificates("Termux", &prefix.join("etc/tls/cert.pem")) {
        return Ok(roots);
    }
    let mut found = system.iter().filter_map(|directory| certificates_in(Path::new(directory)).ok());
    found.find(|roots| !roots.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::Tls, "the system's certificates were not found; name a file in SSL_CERT_FILE".to_owned())
    })
}

/// Reads the certificates of a directory. Such directories also hold links, lists and keys, which are skipped.
fn certificates_in(directory: &Path) -> std::io::Result<Vec<CertificateDer<'static>>> {
    let files = std::fs::read_dir(directory)?.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    Ok(files.filter_map(|file| certificates("SSL_CERT_DIR", &file).ok()).flatten().collect())
}

fn unusable(variable: &str, path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Tls, format!("{variable} names {}, which is unusable: {why}", path.display()))
}

fn certificates(variable: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(file).map_err(|error| unusable(variable, file, &error.to_string()))?;
    let certificates: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| unusable(variable, file, &cause_chain(&error)))?;
    if certificates.is_empty() {
        return Err(unusable(variable, file, "it holds no certificate"));
    }
    store(&certificates).map_err(|error| unusable(variable, file, &cause_chain(&error)))?;
    Ok(certificates)
}

fn store(certificates: &[CertificateDer<'static>]) -> std::result::Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    certificates.iter().try_for_each(|certificate| store.add(certificate.clone()))?;
    Ok(store)
}

/// Accepts what the usual verifier accepts, and servers that show one of the user's certificates themselves.
#[derive(Debug)]
struct TrustedCertificates {
    /// All certificates that the user names.
    certificates: Vec<CertificateDer<'static>>,
    /// Trusts only these.
    own: Arc<WebPkiServerVerifier>,
    /// Trusts the system's as well, unless they are replaced.
    usual: Arc<dyn ServerCertVerifier>,
}

impl TrustedCertificates {
    fn new(
        instead: Option<Vec<CertificateDer<'static>>>,
        extra: Vec<CertificateDer<'static>>,
    ) -> std::result::Result<Self, Box<dyn std::error::Error>> {
        let provider = Arc::new(default_provider());
        let replaces = instead.is_some();
        let certificates: Vec<_> = instead.into_iter().flatten().chain(extra.iter().cloned()).collect();
        let roots = Arc::new(store(&certificates)?);
        let own = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let usual: Arc<dyn ServerCertVerifier> =
            if replaces { Arc::clone(&own) as _ } else { Arc::new(platform_verifier(extra, provider)?) };
        Ok(Self { certificates, own, usual })
    }

    /// Verifies a server that shows a certificate which the user trusts by its bytes. `None`: there is no reason to accept it.
    fn verify_itself(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Option<std::result::Result<ServerCertVerified, rustls::Error>> {
        if !self.certificates.iter().any(|known| known.as_ref() == shown.as_ref()) {
            return None;
        }
        match self.own.verify_server_cert(shown, intermediates, name, &[], now) {
            // Its dates were checked before; all that is left is the name.
            Err(error) if is_authority_as_server(&error) => {
                let verified = ParsedCertificate::try_from(shown)
                    .and_then(|certificate| rustls::client::verify_server_name(&certificate, name));
                Some(verified.map(|()| ServerCertVerified::assertion()))
            }
            verified => Some(verified),
        }
    }
}

/// Returns a verifier that trusts the system's certificates and `extra`.
fn platform_verifier(
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> std::result::Result<Verifier, rustls::Error> {
    #[cfg(not(target_os = "android"))]
    return Verifier::new_with_extra_roots(extra, provider);
    #[cfg(target_os = "android")]
    return Err(rustls::Error::General(format!(
        "Android takes no further certificates ({}, {provider:?})",
        extra.len()
    )));
}

fn is_authority_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for TrustedCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let verified = self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.or_else(|error| self.verify_itself(end_entity, intermediates, server_name, now).unwrap_or(Err(error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.own.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(name: &str) -> String {
        rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn android_certificates_next_to_node_come_first_and_the_systems_are_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().join("usr/bin/node");
        let system = folder.path().join("cacerts");
        let directories = ["/does/not/exist", system.to_str().unwrap()];
        assert_eq!(android_roots(&node, &directories).unwrap_err().kind, ErrorKind::Tls);

        std::fs::create_dir(&system).unwrap();
        std::fs::write(system.join("0123abcd.0"), pem("one.test") + "Certificate: text of Android's files\n").unwrap();
        std::fs::write(system.join("4567cdef.0"), pem("two.test")).unwrap();
        std::fs::write(system.join("index"), "no certificate").unwrap();
        assert_eq!(android_roots(&node, &directories).unwrap().len(), 2);

        let own = folder.path().join("usr/etc/tls/cert.pem");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, pem("three.test")).unwrap();
        assert_eq!(android_roots(&node, &directories).unwrap().len(), 1);
    }
}
