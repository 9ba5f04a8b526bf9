//! What the users of the API server are known by.

use std::path::Path;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::KeyPair;
use serde_json::json;

use crate::{authority::Authority, random::random_hex, user::User};

/// Names of the files written by [`write()`].
pub(super) mod file {
    pub(crate) const CA: &str = "ca.crt";
    pub(crate) const SERVING_CERTIFICATE: &str = "apiserver.crt";
    pub(crate) const SERVING_KEY: &str = "apiserver.key";
    pub(crate) const SERVICE_ACCOUNT_KEY: &str = "service-account.key";
    pub(crate) const SERVICE_ACCOUNT_PUBLIC_KEY: &str = "service-account.pub";
    pub(crate) const TOKENS: &str = "tokens.csv";
}

/// The CA and the tokens of one control plane.
pub(super) struct Credentials {
    ca_pem: String,
    tokens: Vec<(User, String)>,
}

/// Makes everything secret about a control plane and writes what its processes need into `directory`.
///
/// The API server's certificate is for `addresses` too.
pub(super) fn write(directory: &Path, addresses: &[&str]) -> anyhow::Result<Credentials> {
    let put = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };

    let authority = Authority::new("pod-reloader-e2e")?;
    let names = [&["127.0.0.1", "localhost", "kubernetes.default.svc"], addresses].concat();
    let serving = authority.issue(&names)?;
    put(file::CA, &authority.pem())?;
    put(file::SERVING_CERTIFICATE, &serving.certificate)?;
    put(file::SERVING_KEY, &serving.key)?;

    let key = KeyPair::generate().context("cannot make a key")?;
    put(file::SERVICE_ACCOUNT_KEY, &key.serialize_pem())?;
    put(file::SERVICE_ACCOUNT_PUBLIC_KEY, &key.public_key_pem())?;

    let mut tokens = Vec::new();
    let mut lines = Vec::new();
    for user in User::ALL {
        let token = random_hex()?;
        let (name, groups) = (user.name(), user.groups());
        // CSV with the columns token, user name, uid, groups.
        lines.push(format!("{token},{name},{name},\"{groups}\"\n"));
        tokens.push((user, token));
    }
    put(file::TOKENS, &lines.concat())?;
    Ok(Credentials { ca_pem: authority.pem(), tokens })
}

impl Credentials {
    /// Writes a kubeconfig for each user: with the address `inside` for parts of Kubernetes, `outside` for the others.
    /// JSON is YAML, so no YAML library is needed.
    pub(super) fn write_kubeconfigs(
        &self,
        directory: &Path,
        outside: &str,
        inside: &str,
    ) -> anyhow::Result<()> {
        for (user, token) in &self.tokens {
            let server = if user.is_component() { inside } else { outside };
            let kubeconfig = json!({
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{ "name": "e2e", "cluster": {
                    "server": server,
                    "certificate-authority-data": BASE64_STANDARD.encode(&self.ca_pem),
                }}],
                "users": [{ "name": user.name(), "user": { "token": token } }],
                "contexts": [{ "name": "e2e", "context": {
                    "cluster": "e2e", "user": user.name(), "namespace": user.namespace(),
                }}],
                "current-context": "e2e",
            });
            let path = directory.join(user.file_name());
            std::fs::write(&path, format!("{kubeconfig:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
