//! Making and reading certificates. Nothing here reads the clock.

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

use crate::lifetimes::Lifetimes;

/// Certificates are valid from a little earlier than they are made, for clocks that are behind.
const BACKDATE: Duration = Duration::from_mins(5);

/// Why something could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
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
    pub(crate) facts: Facts,
}

// Never the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) serial: String,
    pub(crate) is_ca: bool,
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
    pub(crate) fn read(certificate: &str) -> Result<Self, AuthorityError> {
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
            serial: x509.raw_serial().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
            is_ca: x509.is_ca(),
        })
    }

    /// Whether it is valid now. It may not be yet: made by a replica whose clock is ahead, or read by one whose clock is
    /// behind.
    pub(crate) fn is_valid(&self, now: SystemTime) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }

    /// How long it is valid, counted from when it was made.
    pub(crate) fn life(&self) -> Duration {
        self.not_after.duration_since(self.not_before + BACKDATE).unwrap_or_default()
    }

    /// After two thirds of its life, counted from when it was made: a short life must not be due from the start.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        now >= self.not_before + BACKDATE + self.life() * 2 / 3
    }
}

/// The certificates of a bundle, each in PEM, without what may be between them.
pub(crate) fn split_bundle(bundle: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    bundle
        .split_inclusive(END)
        .filter(|part| part.ends_with(END))
        .filter_map(|part| part.rfind(BEGIN).map(|start| format!("{}\n", &part[start..])))
        .collect()
}

/// Whether that certificate of a bundle is a CA's, is valid and has not expired.
pub(crate) fn is_trustworthy(pem: &str, now: SystemTime) -> bool {
    Facts::read(pem).is_ok_and(|facts| facts.is_ca && now < facts.not_after)
}

/// The one way to write that host: what is asked for must compare equal to what a certificate says. `None` if no
/// certificate can be made for it.
pub(crate) fn normalize_host(host: &str) -> Option<String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (host.is_ascii() && !host.is_empty()).then_some(host)
}

fn public_key(certificate: &str) -> Result<Vec<u8>, AuthorityError> {
    let unusable = AuthorityError::Unusable("a certificate cannot be read");
    let Some(Ok(pem)) = Pem::iter_from_buffer(certificate.as_bytes()).next() else { return Err(unusable) };
    let Ok(x509) = pem.parse_x509() else { return Err(unusable) };
    Ok(x509.public_key().subject_public_key.data.to_vec())
}

/// A new CA.
pub(crate) fn make_ca(now: SystemTime, lifetimes: &Lifetimes) -> Result<Pair, AuthorityError> {
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

/// A new certificate of that CA; it never outlives it.
pub(crate) fn make_leaf(
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
