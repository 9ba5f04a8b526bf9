//! Serving certificates for the operator's replicas, made anew for each run.

use std::path::Path;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};

/// A CA that signs serving certificates for loopback.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new CA.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "pod-reloader tests");
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// The CA's certificate in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key for loopback, in PEM.
    pub fn issue(&self) -> anyhow::Result<(String, String)> {
        let params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Writes a new pair into the directory, as `tls.crt` and `tls.key`.
    pub fn issue_into(&self, directory: &Path) -> anyhow::Result<()> {
        let (certificate, key) = self.issue()?;
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("tls.crt"), certificate).context("cannot write tls.crt")?;
        std::fs::write(directory.join("tls.key"), key).context("cannot write tls.key")
    }
}
