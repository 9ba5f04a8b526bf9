use super::*;
use crate::self_made::pair::normal_host;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::time::UNIX_EPOCH;

const LIFETIMES: Lifetimes = Lifetimes {
    ca: Duration::from_hours(24 * 365),
    leaf: Duration::from_hours(24 * 90),
    overlap: Duration::from_hours(1),
    check_every: Duration::from_secs(30),
};

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(24 * 365 * 60)
}

fn hosts(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Whether a client that trusts the bundle accepts the certificate for the host at that time.
fn is_trusted(bundle: &str, leaf: &Pair, host: &str, now: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = crate::provider::provider();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(std::sync::Arc::new(roots), provider).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap());
    verifier.verify_server_cert(&leaf, &[], &host, &[], now).is_ok()
}

#[test]
fn c4_7_a_new_certificate_is_trusted_for_its_hosts_only() {
    let state = State::create(&hosts(&["svc.ns.svc", "127.0.0.1", "::1"]), start(), &LIFETIMES).unwrap();
    for host in ["svc.ns.svc", "127.0.0.1", "::1"] {
        assert!(is_trusted(&state.bundle(), &state.leaf, host, start()), "{host}");
    }
    assert!(!is_trusted(&state.bundle(), &state.leaf, "other.ns.svc", start()));
    assert_eq!(state.next_step(&hosts(&["127.0.0.1"]), start(), &LIFETIMES, Some(start())), None);
}

#[test]
fn c4_7_a_new_host_is_added_and_none_is_taken_away() {
    let state = State::create(&hosts(&["a.ns.svc"]), start(), &LIFETIMES).unwrap();
    let wanted = hosts(&["b.ns.svc"]);
    assert_eq!(state.next_step(&wanted, start(), &LIFETIMES, Some(start())), Some(Step::Renew));
    let state = state.after(Step::Renew, &wanted, start(), &LIFETIMES).unwrap();
    assert!(is_trusted(&state.bundle(), &state.leaf, "a.ns.svc", start()));
    assert!(is_trusted(&state.bundle(), &state.leaf, "b.ns.svc", start()));
}

#[test]
fn c4_7_the_next_ca_signs_only_after_it_was_published_long_enough() {
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    // The leaf is renewed first, as it always is due earlier.
    let due = start() + LIFETIMES.ca * 2 / 3;
    let state = state.after(Step::Renew, &wanted, due, &LIFETIMES).unwrap();
    assert_eq!(state.next_step(&wanted, due, &LIFETIMES, Some(start())), Some(Step::Announce));
    let state = state.after(Step::Announce, &wanted, due, &LIFETIMES).unwrap();
    assert_eq!(split_bundle(&state.bundle()).len(), 2);

    let early = due + LIFETIMES.overlap - Duration::from_secs(1);
    assert_eq!(state.next_step(&wanted, early, &LIFETIMES, Some(due)), None);
    let later = due + LIFETIMES.overlap;
    assert_eq!(state.next_step(&wanted, later, &LIFETIMES, None), None, "not published");
    assert_eq!(state.next_step(&wanted, later, &LIFETIMES, Some(due)), Some(Step::Promote));
}

#[test]
fn c4_7_no_moment_of_twenty_years_is_left_untrusted() {
    let wanted = hosts(&["a.ns.svc"]);
    let mut now = start();
    let mut state = State::create(&wanted, now, &LIFETIMES).unwrap();
    let (mut renewals, mut promotions) = (0, 0);
    // What the API server trusted and what a replica served at the look before: either may lag by one look.
    let (mut bundle_before, mut leaf_before) = (state.bundle(), state.leaf.clone());
    let mut published_since = now;
    while now < start() + Duration::from_hours(24 * 365 * 20) {
        now += Duration::from_hours(24 * 5);
        // A promotion needs a look soon after the announcement, as there is one every half a minute.
        for _ in 0..3 {
            let (bundle, leaf) = (state.bundle(), state.leaf.clone());
            for (bundle, leaf) in [(&bundle, &leaf), (&bundle_before, &leaf), (&bundle, &leaf_before)] {
                assert!(is_trusted(bundle, leaf, "a.ns.svc", now), "after {:?}", now.duration_since(start()));
            }
            (bundle_before, leaf_before) = (bundle, leaf);
            let Some(step) = state.next_step(&wanted, now, &LIFETIMES, Some(published_since)) else { break };
            renewals += usize::from(step == Step::Renew);
            promotions += usize::from(step == Step::Promote);
            assert_ne!(step, Step::StartOver);
            state = state.after(step, &wanted, now, &LIFETIMES).unwrap();
            if state.bundle() != bundle_before {
                published_since = now;
            }
        }
    }
    assert!(renewals > 50, "{renewals}");
    assert!((27..=32).contains(&promotions), "{promotions}");
}

#[test]
fn c4_7_an_installation_that_slept_too_long_starts_over() {
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let now = start() + LIFETIMES.ca + Duration::from_secs(1);
    assert_eq!(state.next_step(&wanted, now, &LIFETIMES, Some(start())), Some(Step::StartOver));
    let state = state.after(Step::StartOver, &wanted, now, &LIFETIMES).unwrap();
    assert!(is_trusted(&state.bundle(), &state.leaf, "a", now));
    assert_eq!(split_bundle(&state.bundle()).len(), 1);
}

#[test]
fn c4_7_a_next_ca_that_was_published_is_not_thrown_away() {
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let due = start() + LIFETIMES.ca * 2 / 3;
    let state = state.after(Step::Announce, &wanted, due, &LIFETIMES).unwrap();
    let bundle = state.bundle();
    let late = start() + LIFETIMES.ca + Duration::from_secs(1);
    assert_eq!(state.next_step(&wanted, late, &LIFETIMES, None), Some(Step::Promote));
    let state = state.after(Step::Promote, &wanted, late, &LIFETIMES).unwrap();
    assert!(is_trusted(&bundle, &state.leaf, "a", late), "the bundle of before trusts it");
}

#[test]
fn c4_7_short_lives_are_renewed_at_two_thirds_too() {
    let lifetimes = Lifetimes { ca: Duration::from_secs(90), leaf: Duration::from_secs(30), ..LIFETIMES };
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &lifetimes).unwrap();
    let step = |seconds| state.next_step(&wanted, start() + Duration::from_secs(seconds), &lifetimes, None);
    assert_eq!(step(0), None);
    assert_eq!(step(19), None);
    assert_eq!(step(20), Some(Step::Renew));
}

#[test]
fn c4_7_a_new_ca_stands_beside_those_that_were_trusted() {
    let wanted = hosts(&["a"]);
    let old = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let ended = State::create(&wanted, start() - LIFETIMES.ca * 2, &LIFETIMES).unwrap();
    let trusted = format!("junk\n{}{}{}{}", old.bundle(), old.bundle(), ended.bundle(), old.leaf.certificate);
    let new = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let new = new.also_trusting(&trusted, start()).also_trusting(&trusted, start());
    assert_eq!(split_bundle(&new.bundle()).len(), 2, "each CA once; none that ended; no leaf");
    assert!(is_trusted(&new.bundle(), &old.leaf, "a", start()));
    assert!(is_trusted(&new.bundle(), &new.leaf, "a", start()));
}

#[test]
fn hosts_have_one_way_to_be_written() {
    for (host, normal) in [
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::A", "2001:db8::a"),
        ("127.0.0.1", "127.0.0.1"),
        ("Host.Example.", "host.example"),
    ] {
        assert_eq!(normal_host(host).as_deref(), Some(normal));
        let state = State::create(&hosts(&[normal]), start(), &LIFETIMES).unwrap();
        assert_eq!(state.next_step(&hosts(&[normal]), start(), &LIFETIMES, None), None, "{host}");
    }
    assert_eq!(normal_host("b\u{fc}cher.example"), None);
    assert_eq!(normal_host("."), None);
}

#[test]
fn what_is_stored_is_read_back_and_damage_is_seen() {
    use crate::self_made::secret::{from_secret, to_secret};
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let state = state.after(Step::Announce, &wanted, start(), &LIFETIMES).unwrap();
    let state = state.after(Step::Promote, &wanted, start(), &LIFETIMES).unwrap();
    let state = state.after(Step::Announce, &wanted, start(), &LIFETIMES).unwrap();
    assert_eq!(split_bundle(&state.bundle()).len(), 3);
    let secret = to_secret("s", &state);
    assert_eq!(from_secret(&secret, start()).unwrap(), state);

    for key in ["tls.crt", "tls.key", "ca-signing.crt", "ca-signing.key", "ca-next.key"] {
        let mut damaged = secret.clone();
        damaged.data.as_mut().unwrap().get_mut(key).unwrap().0.truncate(40);
        assert!(from_secret(&damaged, start()).is_err(), "{key}");
    }
    let mut swapped = secret.clone();
    let data = swapped.data.as_mut().unwrap();
    let other = data["ca-signing.key"].clone();
    data.insert("tls.key".into(), other);
    assert!(from_secret(&swapped, start()).is_err());
}

#[test]
fn keys_are_not_shown() {
    let state = State::create(&hosts(&["a"]), start(), &LIFETIMES).unwrap();
    assert!(!format!("{state:?}").contains("PRIVATE KEY"));
}

#[test]
fn c4_7_a_certificate_from_the_future_is_renewed() {
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    // Another replica's clock is a day ahead; the CA is older.
    let ahead = state.after(Step::Renew, &wanted, start() + Duration::from_hours(24), &LIFETIMES).unwrap();
    assert!(!is_trusted(&ahead.bundle(), &ahead.leaf, "a", start()));
    assert_eq!(ahead.next_step(&wanted, start(), &LIFETIMES, Some(start())), Some(Step::Renew));
    let renewed = ahead.after(Step::Renew, &wanted, start(), &LIFETIMES).unwrap();
    assert!(is_trusted(&renewed.bundle(), &renewed.leaf, "a", start()));
    // Neither clock has anything to object now.
    for now in [start(), start() + Duration::from_hours(24)] {
        assert_eq!(renewed.next_step(&wanted, now, &LIFETIMES, Some(start())), None);
    }
    // Some minutes are no matter.
    let near = renewed.after(Step::Renew, &wanted, start() + Duration::from_mins(4), &LIFETIMES).unwrap();
    assert_eq!(near.next_step(&wanted, start(), &LIFETIMES, Some(start())), None);
}

#[test]
fn c4_7_a_ca_from_the_future_is_replaced_and_stays_trusted() {
    let wanted = hosts(&["a"]);
    let ahead = State::create(&wanted, start() + Duration::from_hours(1), &LIFETIMES).unwrap();
    assert_eq!(ahead.next_step(&wanted, start(), &LIFETIMES, Some(start())), Some(Step::StartOver));
    let state = ahead.clone().after(Step::StartOver, &wanted, start(), &LIFETIMES).unwrap();
    assert!(is_trusted(&state.bundle(), &state.leaf, "a", start()));
    assert_eq!(state.next_step(&wanted, start(), &LIFETIMES, Some(start())), None);
    // What a replica goes on serving for a moment.
    assert!(is_trusted(&state.bundle(), &ahead.leaf, "a", start() + Duration::from_hours(1)));
}
