//! X.509 certificates as carriers of a public key: PayPal's and Amazon SNS's.
//!
//! Whether one may be believed rests on where it came from (a pinned file, or a fetch over TLS from an allowed
//! host), and on its validity where it was fetched: a pinned one counts as long as the operator keeps it.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::model::Timestamp;

/// What is needed of a certificate.
pub(super) struct Certificate {
    /// The public key (SPKI, DER).
    pub(super) public_key: Vec<u8>,
    not_before: i64,
    not_after: i64,
}

impl Certificate {
    /// The first certificate of a PEM text: the one that signs stands before those that vouch for it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(text).map_err(|_error| "is not a PEM certificate (`BEGIN CERTIFICATE`)")?;
        let (rest, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_error| "is not an X.509 certificate")?;
        if !rest.is_empty() {
            return Err("is followed by bytes that belong to no certificate".to_owned());
        }
        let validity = parsed.validity();
        Ok(Self {
            public_key: parsed.public_key().raw.to_vec(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Whether it is valid at this time.
    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now.unix_seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_counts_within_its_validity_only() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 2, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        let certificate = Certificate::parse(pem.as_bytes()).unwrap();
        let at = |text: &str| certificate.is_valid(text.parse().unwrap());
        assert!(at("2026-01-01T00:00:00Z") && at("2026-02-01T00:00:00Z"));
        assert!(!at("2025-12-31T23:59:59Z") && !at("2026-02-01T00:00:01Z"));
        assert!(Certificate::parse(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----").is_err());
        assert!(Certificate::parse(b"").is_err());
    }
}
