//! What a replica of the release before does, which keeps everything in one Secret: as much of it as matters here.

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use pod_reloader_serving::certificate::Certificates;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::lifetimes::Lifetimes;
use crate::pair::{Pair, split_bundle};
use crate::registration;

/// What it holds: leaf, signer, next and former, of which the last have no times.
#[derive(Clone)]
pub(super) struct Held {
    leaf: Pair,
    authority: Authority,
}

pub(super) struct Legacy {
    server: Server,
    lifetimes: Lifetimes,
    held: Option<Held>,
    certificates: Arc<Certificates>,
    /// How often it found the Secret damaged.
    complaints: Arc<std::sync::Mutex<usize>>,
}

pub(super) fn earlier_lifetimes() -> Lifetimes {
    Lifetimes { ca: Duration::from_hours(24 * 365 * 5), ..Lifetimes::default() }
}

impl Legacy {
    /// A replica, and how often it found the Secret damaged.
    pub(super) fn start(server: &Server) -> (Replica, Arc<std::sync::Mutex<usize>>) {
        now();
        let (certificates, shutdown) =
            (Certificates::new(pod_reloader_serving::metrics::Metrics::default()), CancellationToken::new());
        let complaints = Arc::<std::sync::Mutex<usize>>::default();
        let mut legacy = Self {
            server: server.clone(),
            lifetimes: earlier_lifetimes(),
            held: None,
            certificates: certificates.clone(),
            complaints: complaints.clone(),
        };
        let stop = shutdown.clone();
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                // Refused writes are tried again.
                let _ = legacy.pass().await;
                sleep(Duration::from_secs(1)).await;
            }
        });
        (Replica { certificates, shutdown }, complaints)
    }

    async fn pass(&mut self) -> kube::Result<()> {
        let secrets = Api::<Secret>::namespaced(client(&self.server), "ns");
        let configurations = Api::<MutatingWebhookConfiguration>::all(client(&self.server));
        let named = |name: &str| ListParams::default().fields(&format!("metadata.name={name}"));
        let stored = secrets.list(&named(CERTIFICATE)).await?.items.into_iter().next();
        let known = stored.as_ref().and_then(read);
        let configuration = configurations.list(&named(CONFIGURATION)).await?.items.into_iter().next();
        let published = configuration.as_ref().map(registration::bundle).unwrap_or_default();
        let mut state = match (&stored, known) {
            (Some(_), Some(state)) => state,
            (stored, _) => {
                *self.complaints.lock().unwrap() += usize::from(stored.is_some());
                let mut state = self.held.clone().unwrap_or_else(|| {
                    let authority = Authority::create(now(), &self.lifetimes).unwrap();
                    Held { leaf: self.leaf(&authority), authority }
                });
                let bundle = stored.as_ref().map(secret::bundle).unwrap_or_default();
                state.authority = state
                    .authority
                    .also_trusting(bundle, now(), &self.lifetimes)
                    .also_trusting(&published, now(), &self.lifetimes);
                write(&secrets, stored.as_ref(), &state).await?;
                state
            }
        };
        let bundle = state.authority.bundle();
        if let Some(patch) = configuration.as_ref().and_then(|found| registration::patch(found, &bundle)) {
            let patch = Patch::Json::<()>(patch);
            configurations.patch(CONFIGURATION, &PatchParams::default(), &patch).await?;
        }
        if state.leaf.facts.issuer == state.authority.signer.facts.subject {
            let (certificate, key) = (state.leaf.certificate.as_bytes(), state.leaf.key.as_bytes());
            self.certificates.install(certificate, key).unwrap();
        }
        self.held = Some(state.clone());
        let is_foreign = state.leaf.facts.issuer != state.authority.signer.facts.subject;
        if is_foreign || state.leaf.facts.is_due(now()) {
            state.leaf = self.leaf(&state.authority);
            let stored = secrets.list(&named(CERTIFICATE)).await?.items.into_iter().next();
            write(&secrets, stored.as_ref(), &state).await?;
        }
        Ok(())
    }

    fn leaf(&self, authority: &Authority) -> Pair {
        let hosts = ["localhost", "::1", "::2"].map(str::to_owned).into();
        make_leaf(&authority.signer, &hosts, now(), &self.lifetimes).unwrap()
    }
}

fn read(secret: &Secret) -> Option<Held> {
    let leaf = secret::leaf(secret).ok()?;
    let mut authority = secret::earlier_authority(secret, secret::bundle(secret))?;
    authority = authority.also_trusting(secret::bundle(secret), now(), &earlier_lifetimes());
    assert!(split_bundle(&authority.bundle()).len() < 10, "it grows");
    Some(Held { leaf, authority })
}

async fn write(secrets: &Api<Secret>, before: Option<&Secret>, state: &Held) -> kube::Result<()> {
    let mut new = secret::leaf_secret(CERTIFICATE, &state.leaf, &state.authority);
    let mut cas = secret::ca_secret("", &state.authority).data.unwrap();
    cas.remove("ca-former.json");
    new.data.as_mut().unwrap().extend(cas);
    match before {
        Some(before) => {
            let new = secret::updated(&secret::without_request(before.clone()), new);
            secrets.replace(CERTIFICATE, &PostParams::default(), &new).await?
        }
        None => secrets.create(&PostParams::default(), &new).await?,
    };
    Ok(())
}
