//! Certificates and keys: read, parsed and matched at load, so that nothing of it can fail at the first
//! handshake.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Compiler;
use crate::config::ServerTls;
use crate::config::limits::PEM_BYTES_MAX;
use crate::config::section::Section;
use crate::config::validity;
use crate::config::wrong::Wrong;
use crate::model::{ClientTls, Secret, Timestamp};

type Pem = zeroize::Zeroizing<Vec<u8>>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Compiler<'_> {
    pub(super) fn server_tls(&mut self, section: &Section<'_>) -> Option<ServerTls> {
        if !section.exists() {
            return None;
        }
        let cert = self.pem(section, "cert");
        let key = self.pem(section, "key");
        let client_ca = self.pem(section, "client_ca");
        let chain = cert.and_then(|pem| self.chain(&pem, section, "cert"));
        let key = key.and_then(|pem| self.private_key(&pem, section, "key"));
        let roots = client_ca.and_then(|pem| self.roots(&pem, section, "client_ca"));
        let (chain, key) = (chain?, key?);
        let wants_client = section.get("client_ca").is_some();
        if wants_client && roots.is_none() {
            return None;
        }
        match server_config(chain, key, roots) {
            Ok(config) => Some(ServerTls {
                cert: self.located(section.text("cert")?),
                key: self.located(section.text("key")?),
                client_ca: section.text("client_ca").map(|text| self.located(text)),
                config: Arc::new(config),
            }),
            Err(wrong) => {
                self.report.error(wrong, section.span("key"), section.path("key"));
                None
            }
        }
    }

    pub(super) fn client_tls(&mut self, section: &Section<'_>) -> Option<Arc<ClientTls>> {
        if !section.exists() {
            return None;
        }
        let ca = self.pem(section, "ca");
        let cert = self.pem(section, "client_cert");
        let key = self.pem(section, "client_key");
        if let Some(pem) = &ca {
            self.roots(pem, section, "ca");
        }
        for (one, other) in [("client_cert", "client_key"), ("client_key", "client_cert")] {
            if section.get(one).is_some() && section.get(other).is_none() {
                let wrong = Wrong::new(format!("`{one}` needs `{other}`"));
                self.report.error(wrong, section.span(one), section.path(one));
            }
        }
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => self.identity(&cert, &key, section),
            (Some(_) | None, None) | (None, Some(_)) => None,
        };
        Some(Arc::new(ClientTls { ca: ca.map(|pem| pem.to_vec()), identity }))
    }

    fn identity(&mut self, cert: &Pem, key: &Pem, section: &Section<'_>) -> Option<Secret> {
        let chain = self.chain(cert, section, "client_cert");
        let parsed = self.private_key(key, section, "client_key");
        if let Err(error) = CertifiedKey::from_der(chain?, parsed?, &provider()) {
            self.report.error(unmatched(&error), section.span("client_key"), section.path("client_key"));
            return None;
        }
        let mut both = cert.to_vec();
        both.push(b'\n');
        both.extend_from_slice(key);
        Some(Secret::new(both))
    }

    fn pem(&mut self, section: &Section<'_>, key: &str) -> Option<Pem> {
        let text = section.text(key)?;
        match self.content(text, PEM_BYTES_MAX) {
            Ok(pem) => Some(pem),
            Err(wrong) if self.options.allow_missing_secrets => {
                self.report.warn(wrong.hint("left out (--allow-missing-secrets)"), section.span(key), section.path(key));
                None
            }
            Err(wrong) => {
                self.report.error(wrong, section.span(key), section.path(key));
                None
            }
        }
    }

    fn chain(&mut self, pem: &Pem, section: &Section<'_>, key: &str) -> Option<Vec<CertificateDer<'static>>> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match parsed {
            Ok(chain) if !chain.is_empty() => {
                if let Some(now) = self.options.now {
                    self.check_validity(&chain, now, section, key);
                }
                Some(chain)
            }
            Ok(_) | Err(_) => {
                let wrong = Wrong::new("the file holds no readable certificate").hint("it should have `-----BEGIN CERTIFICATE-----` in it");
                self.report.error(wrong, section.span(key), section.path(key));
                None
            }
        }
    }

    /// An expired certificate is no reason to refuse the rest of the configuration, and one to say so.
    fn check_validity(&mut self, chain: &[CertificateDer<'_>], now: Timestamp, section: &Section<'_>, key: &str) {
        if let Some((not_before, not_after)) = chain.first().and_then(|cert| validity::of(cert)) {
            let wrong = if now > not_after {
                Wrong::new(format!("the certificate expired on {not_after}"))
            } else if now < not_before {
                Wrong::new(format!("the certificate is valid from {not_before} only"))
            } else {
                return;
            };
            self.report.warn(wrong, section.span(key), section.path(key));
        }
    }

    fn private_key(&mut self, pem: &Pem, section: &Section<'_>, key: &str) -> Option<PrivateKeyDer<'static>> {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(parsed) => Some(parsed),
            Err(_) => {
                let wrong =
                    Wrong::new("the file holds no readable private key").hint("PKCS #8, PKCS #1 or SEC 1 in PEM, without a passphrase");
                self.report.error(wrong, section.span(key), section.path(key));
                None
            }
        }
    }

    fn roots(&mut self, pem: &Pem, section: &Section<'_>, key: &str) -> Option<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for cert in self.chain(pem, section, key)? {
            if let Err(error) = roots.add(cert) {
                self.report.error(
                    Wrong::new(format!("a certificate in the file can't be used: {error}")),
                    section.span(key),
                    section.path(key),
                );
                return None;
            }
        }
        Some(roots)
    }
}

fn unmatched(error: &rustls::Error) -> Wrong {
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        return Wrong::new("the key does not belong to the certificate");
    }
    Wrong::new(format!("certificate and key can't be used: {error}"))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Option<RootCertStore>,
) -> Result<rustls::ServerConfig, Wrong> {
    let provider = provider();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Wrong::new(format!("TLS can't be set up: {error}")))?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| Wrong::new(format!("client certificates can't be checked: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unmatched(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
