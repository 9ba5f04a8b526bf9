//! The self-made CA and certificate, and when to renew which. Nothing here reads the clock.
//!
//! A CA is renewed in three steps, so that no replica and no moment is left untrusted: the next CA is published
//! beside the present one; once it has been for [`Lifetimes::overlap`], it signs a new certificate; the old CA stays
//! published until it ends.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// Certificates are valid from a little earlier than they are made, for clocks that are behind.
const BACKDATE: Duration = Duration::from_mins(5);

/// How long things are valid.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of a CA; it is renewed after two thirds of it.
    pub ca: Duration,
    /// Of a serving certificate; likewise.
    pub leaf: Duration,
    /// How long the next CA is published before it signs: long enough for everybody to have heard of it.
    pub overlap: Duration,
    /// How often all is looked at, if nothing happens.
    pub check_every: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            ca: day * 5 * 365,
            leaf: day * 90,
            overlap: Duration::from_hours(1),
            check_every: Duration::from_secs(30),
        }
    }
}

/// Why something could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// rcgen refused.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Stored state that is not what this module stores.
    #[error("the stored certificates cannot be used: {0}")]
    Unusable(&'static str),
}

/// A certificate with its key, in PEM, and what was read from it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    facts: Facts,
}

// Never the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("facts", &self.facts).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    not_before: SystemTime,
    not_after: SystemTime,
    hosts: BTreeSet<String>,
}

/// All that the replicas share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// What is served.
    pub(crate) leaf: Pair,
    /// Signs.
    pub(crate) signer: Pair,
    /// Published, and to sign later.
    pub(crate) next: Option<Pair>,
    /// CAs that signed before: certificates in PEM.
    pub(crate) former: Vec<String>,
}

/// What should happen to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the next CA and publish it.
    Announce,
    /// Have the next CA sign.
    Promote,
    /// Make a new certificate.
    Renew,
    /// The CA has ended: begin anew, the old one stays published as far as it helps.
    StartOver,
    /// No longer publish CAs that have ended.
    Prune,
}

impl State {
    /// A first CA and its certificate.
    pub(crate) fn create(
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let signer = make_ca(now, lifetimes)?;
        let leaf = make_leaf(&signer, hosts, now, lifetimes)?;
        Ok(Self { leaf, signer, next: None, former: vec![] })
    }

    /// The CAs to be trusted, in PEM: the one that signs first.
    pub(crate) fn bundle(&self) -> String {
        let next = self.next.iter().map(|next| next.certificate.as_str());
        let former = self.former.iter().map(String::as_str);
        std::iter::once(self.signer.certificate.as_str()).chain(next).chain(former).collect()
    }

    /// The most pressing step, if one is due. `is_published` says whether the present bundle is known to be in the
    /// webhook configuration.
    pub(crate) fn next_step(
        &self,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
        is_published: bool,
    ) -> Option<Step> {
        if now >= self.signer.facts.not_after {
            return Some(Step::StartOver);
        }
        if let Some(next) = &self.next {
            let announced = next.facts.not_before + BACKDATE;
            if is_published && now >= announced + lifetimes.overlap {
                return Some(Step::Promote);
            }
        }
        let is_foreign = self.leaf.facts.issuer != self.signer.facts.subject;
        if is_foreign || is_due(&self.leaf.facts, now) || !hosts.is_subset(&self.leaf.facts.hosts) {
            return Some(Step::Renew);
        }
        if self.next.is_none() && is_due(&self.signer.facts, now) {
            return Some(Step::Announce);
        }
        self.former.iter().any(|pem| has_ended(pem, now)).then_some(Step::Prune)
    }

    /// The state after a step.
    pub(crate) fn after(
        mut self,
        step: Step,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        // Never shrink: a name that is no longer asked for may still be called.
        let hosts: BTreeSet<_> = hosts.union(&self.leaf.facts.hosts).cloned().collect();
        match step {
            Step::Announce => self.next = Some(make_ca(now, lifetimes)?),
            Step::Promote => {
                if let Some(next) = self.next.take() {
                    let former = std::mem::replace(&mut self.signer, next);
                    self.former.push(former.certificate);
                    self.leaf = make_leaf(&self.signer, &hosts, now, lifetimes)?;
                }
            }
            Step::Renew => self.leaf = make_leaf(&self.signer, &hosts, now, lifetimes)?,
            Step::StartOver => {
                let former = std::mem::take(&mut self.former);
                self = Self::create(&hosts, now, lifetimes)?;
                self.former = former;
            }
            Step::Prune => {}
        }
        self.former.retain(|pem| !has_ended(pem, now));
        Ok(self)
    }
}

impl Pair {
    /// A pair from its stored parts.
    pub(crate) fn read(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let facts = Facts::read(certificate)?;
        let parsed = KeyPair::from_pem(key).map_err(|_| AuthorityError::Unusable("a key cannot be read"))?;
        let public = public_key(certificate)?;
        if rcgen::PublicKeyData::der_bytes(&parsed) != public {
            return Err(AuthorityError::Unusable("a key is another certificate's"));
        }
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), facts })
    }
}

impl Facts {
    fn read(certificate: &str) -> Result<Self, AuthorityError> {
        let unusable = AuthorityError::Unusable("a certificate cannot be read");
        let Some(Ok(pem)) = Pem::iter_from_buffer(certificate.as_bytes()).next() else {
            return Err(unusable);
        };
        let Ok(x509) = pem.parse_x509() else { return Err(unusable) };
        let time = |time: x509_parser::time::ASN1Time| {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
        };
        let names = x509.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let hosts = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            },
            _ => None,
        });
        Ok(Self {
            subject: x509.subject().as_raw().to_vec(),
            issuer: x509.issuer().as_raw().to_vec(),
            not_before: time(x509.validity().not_before),
            not_after: time(x509.validity().not_after),
            hosts: hosts.collect(),
        })
    }
}

/// The certificates of a bundle, each in PEM.
pub(crate) fn split_bundle(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    bundle
        .split_inclusive(END)
        .filter(|part| part.contains(END))
        .map(|part| format!("{}\n", part.trim()))
        .collect()
}

/// Whether that certificate of a bundle is in order and has not ended.
pub(crate) fn is_trustworthy(pem: &str, now: SystemTime) -> bool {
    !has_ended(pem, now)
}

fn has_ended(pem: &str, now: SystemTime) -> bool {
    Facts::read(pem).map_or(true, |facts| now >= facts.not_after)
}

/// After two thirds of its life.
fn is_due(facts: &Facts, now: SystemTime) -> bool {
    let life = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
    now >= facts.not_before + life * 2 / 3
}

fn public_key(certificate: &str) -> Result<Vec<u8>, AuthorityError> {
    let unusable = AuthorityError::Unusable("a certificate cannot be read");
    let Some(Ok(pem)) = Pem::iter_from_buffer(certificate.as_bytes()).next() else { return Err(unusable) };
    let Ok(x509) = pem.parse_x509() else { return Err(unusable) };
    Ok(x509.public_key().subject_public_key.data.to_vec())
}

fn make_ca(now: SystemTime, lifetimes: &Lifetimes) -> Result<Pair, AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + lifetimes.ca).into();
    // A name of its own for each CA, so that chains cannot be mixed up.
    let public = rcgen::PublicKeyData::der_bytes(&key);
    let id = public.iter().rev().take(6).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    params.distinguished_name = name(&format!("pod-reloader CA {id:012x}"));
    let certificate = params.self_signed(&key)?.pem();
    let facts = Facts::read(&certificate)?;
    Ok(Pair { certificate, key: key.serialize_pem(), facts })
}

fn make_leaf(
    signer: &Pair,
    hosts: &BTreeSet<String>,
    now: SystemTime,
    lifetimes: &Lifetimes,
) -> Result<Pair, AuthorityError> {
    let ca_key = KeyPair::from_pem(&signer.key)?;
    let issuer = Issuer::from_ca_cert_pem(&signer.certificate, ca_key)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![])?;
    params.subject_alt_names = hosts
        .iter()
        .map(|host| match host.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ia5String::try_from(host.as_str()).map(SanType::DnsName),
        })
        .collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + lifetimes.leaf).min(signer.facts.not_after).into();
    params.distinguished_name = name("pod-reloader webhook");
    let certificate = params.signed_by(&key, &issuer)?.pem();
    let facts = Facts::read(&certificate)?;
    Ok(Pair { certificate, key: key.serialize_pem(), facts })
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

#[cfg(test)]
mod tests;
