use super::*;
use crate::pair::{make_leaf, normalize_host};
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
    former: Duration::from_hours(24),
    publication: Duration::from_secs(10),
    check_every: Duration::from_secs(30),
};

/// What the loop keeps in line: the CAs and the certificate.
#[derive(Clone, Debug, PartialEq)]
struct State {
    authority: Authority,
    leaf: Pair,
}

/// What is due: something for the CAs, or another certificate.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    Cas(Step),
    Renew,
}

impl State {
    fn create(
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let authority = Authority::create(now, lifetimes)?;
        let leaf = make_leaf(&authority.signer, hosts, now, lifetimes)?;
        Ok(Self { authority, leaf })
    }

    fn bundle(&self) -> String {
        self.authority.bundle()
    }

    fn next_step(
        &self,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
        published_since: Option<SystemTime>,
    ) -> Option<Due> {
        let leaf = Some(&self.leaf);
        if let Some(step) = self.authority.next_step(leaf, now, lifetimes, published_since) {
            return Some(Due::Cas(step));
        }
        self.authority.needs_leaf(leaf, hosts, now, lifetimes, published_since).then_some(Due::Renew)
    }

    fn after(
        mut self,
        due: Due,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        match due {
            Due::Cas(step) => {
                self.authority = self.authority.after(step, Some(&self.leaf), now, lifetimes)?;
            }
            Due::Renew => {
                let hosts = hosts.union(&self.leaf.facts.hosts).cloned().collect();
                self.leaf = make_leaf(&self.authority.signer, &hosts, now, lifetimes)?;
            }
        }
        Ok(self)
    }

    /// After that, and the certificate that follows.
    fn followed(self, step: Step, hosts: &BTreeSet<String>, now: SystemTime) -> Self {
        let state = self.after(Due::Cas(step), hosts, now, &LIFETIMES).unwrap();
        state.after(Due::Renew, hosts, now, &LIFETIMES).unwrap()
    }
}

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
    let provider = pod_reloader_serving::provider::provider();
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
    assert_eq!(state.next_step(&wanted, start(), &LIFETIMES, Some(start())), Some(Due::Renew));
    let state = state.after(Due::Renew, &wanted, start(), &LIFETIMES).unwrap();
    assert!(is_trusted(&state.bundle(), &state.leaf, "a.ns.svc", start()));
    assert!(is_trusted(&state.bundle(), &state.leaf, "b.ns.svc", start()));
}

#[test]
fn c4_7_the_next_ca_signs_only_after_it_was_published_long_enough() {
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    // The leaf is renewed first, as it always is due earlier.
    let due = start() + LIFETIMES.ca * 2 / 3;
    let state = state.after(Due::Renew, &wanted, due, &LIFETIMES).unwrap();
    assert_eq!(state.next_step(&wanted, due, &LIFETIMES, Some(start())), Some(Due::Cas(Step::Announce)));
    let state = state.after(Due::Cas(Step::Announce), &wanted, due, &LIFETIMES).unwrap();
    assert_eq!(split_bundle(&state.bundle()).len(), 2);

    let early = due + LIFETIMES.overlap - Duration::from_secs(1);
    assert_eq!(state.next_step(&wanted, early, &LIFETIMES, Some(due)), None);
    let later = due + LIFETIMES.overlap;
    assert_eq!(state.next_step(&wanted, later, &LIFETIMES, None), None, "not published");
    assert_eq!(state.next_step(&wanted, later, &LIFETIMES, Some(due)), Some(Due::Cas(Step::Promote)));
}

#[test]
fn c4_7_no_moment_of_twenty_years_is_left_untrusted() {
    let wanted = hosts(&["a.ns.svc"]);
    let mut now = start();
    let mut state = State::create(&wanted, now, &LIFETIMES).unwrap();
    let (mut renewals, mut promotions) = (0, 0);
    // What the API server trusted and what a replica served one pass before: either may lag by one pass.
    let (mut bundle_before, mut leaf_before) = (state.bundle(), state.leaf.clone());
    let mut published_since = now;
    while now < start() + Duration::from_hours(24 * 365 * 20) {
        now += Duration::from_hours(24 * 5);
        // Announcement, promotion and renewal follow each other as they do with a pass every half a minute.
        for _ in 0..5 {
            now += LIFETIMES.overlap;
            let (bundle, leaf) = (state.bundle(), state.leaf.clone());
            for (bundle, leaf) in [(&bundle, &leaf), (&bundle_before, &leaf), (&bundle, &leaf_before)] {
                assert!(is_trusted(bundle, leaf, "a.ns.svc", now), "after {:?}", now.duration_since(start()));
            }
            (bundle_before, leaf_before) = (bundle, leaf);
            let Some(due) = state.next_step(&wanted, now, &LIFETIMES, Some(published_since)) else { break };
            renewals += usize::from(due == Due::Renew);
            promotions += usize::from(due == Due::Cas(Step::Promote));
            assert_ne!(due, Due::Cas(Step::StartOver));
            state = state.after(due, &wanted, now, &LIFETIMES).unwrap();
            if state.bundle() != bundle_before {
                published_since = now;
            }
        }
        assert!(split_bundle(&state.bundle()).len() <= 3, "former ones go");
    }
    assert!(renewals > 50, "{renewals}");
    assert!((27..=32).contains(&promotions), "{promotions}");
}

#[test]
fn c4_7_an_installation_that_slept_too_long_starts_over() {
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let now = start() + LIFETIMES.ca + Duration::from_secs(1);
    assert_eq!(state.next_step(&wanted, now, &LIFETIMES, Some(start())), Some(Due::Cas(Step::StartOver)));
    let state = state.followed(Step::StartOver, &wanted, now);
    assert!(is_trusted(&state.bundle(), &state.leaf, "a", now));
    assert_eq!(split_bundle(&state.bundle()).len(), 1);
}

#[test]
fn c4_7_a_next_ca_that_was_published_is_not_thrown_away() {
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let due = start() + LIFETIMES.ca * 2 / 3;
    let state = state.after(Due::Cas(Step::Announce), &wanted, due, &LIFETIMES).unwrap();
    let bundle = state.bundle();
    let late = start() + LIFETIMES.ca + Duration::from_secs(1);
    assert_eq!(state.next_step(&wanted, late, &LIFETIMES, None), Some(Due::Cas(Step::Promote)));
    let state = state.followed(Step::Promote, &wanted, late);
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
    assert_eq!(step(20), Some(Due::Renew));
}

#[test]
fn c4_7_a_new_ca_stands_beside_those_that_were_trusted() {
    let wanted = hosts(&["a"]);
    let old = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let ended = State::create(&wanted, start() - LIFETIMES.ca * 2, &LIFETIMES).unwrap();
    let trusted = format!("junk\n{}{}{}{}", old.bundle(), old.bundle(), ended.bundle(), old.leaf.certificate);
    let new = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let trusting = new.authority.clone().also_trusting(&trusted, start(), &LIFETIMES);
    let new = State { authority: trusting.also_trusting(&trusted, start(), &LIFETIMES), ..new };
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
        assert_eq!(normalize_host(host).as_deref(), Some(normal));
        let state = State::create(&hosts(&[normal]), start(), &LIFETIMES).unwrap();
        assert_eq!(state.next_step(&hosts(&[normal]), start(), &LIFETIMES, None), None, "{host}");
    }
    assert_eq!(normalize_host("b\u{fc}cher.example"), None);
    assert_eq!(normalize_host("."), None);
}

#[test]
fn what_is_stored_is_read_back_and_damage_is_seen() {
    use crate::secret::{authority, ca_secret, is_tidy, leaf, leaf_secret};
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let state = state.followed(Step::Announce, &wanted, start());
    let mut state = state.followed(Step::Promote, &wanted, start());
    state.authority = state.authority.asked(Request::Renew, Some(&state.leaf), start(), &LIFETIMES).unwrap();
    assert_eq!(split_bundle(&state.bundle()).len(), 3);
    let (stored_leaf, cas) =
        (leaf_secret("s", &state.leaf, &state.authority), ca_secret("c", &state.authority));
    assert_eq!(leaf(&stored_leaf).unwrap(), state.leaf);
    // The time stays whenever it is read.
    for later in [start(), start() + Duration::from_hours(3)] {
        let read = authority(&cas, later, &LIFETIMES).unwrap();
        assert_eq!(read, state.authority);
        assert!(is_tidy(&cas, &ca_secret("c", &read)));
    }

    for key in ["ca-signing.crt", "ca-signing.key", "ca-next.key"] {
        let mut damaged = cas.clone();
        damaged.data.as_mut().unwrap().get_mut(key).unwrap().0.truncate(40);
        assert!(authority(&damaged, start(), &LIFETIMES).is_err(), "{key}");
    }
    for key in ["tls.crt", "tls.key"] {
        let mut damaged = stored_leaf.clone();
        damaged.data.as_mut().unwrap().get_mut(key).unwrap().0.truncate(40);
        assert!(leaf(&damaged).is_err(), "{key}");
    }
    let mut swapped = stored_leaf.clone();
    let other = cas.data.as_ref().unwrap()["ca-signing.key"].clone();
    swapped.data.as_mut().unwrap().insert("tls.key".into(), other);
    assert!(leaf(&swapped).is_err());
}

#[test]
fn c4_7_a_former_ca_goes_a_day_after_the_promotion_and_never_while_its_certificate_is_served() {
    let wanted = hosts(&["a"]);
    let state = State::create(&wanted, start(), &LIFETIMES).unwrap();
    let state = state.after(Due::Cas(Step::Announce), &wanted, start(), &LIFETIMES).unwrap();
    let promoted = start() + LIFETIMES.overlap;
    let state = state.after(Due::Cas(Step::Promote), &wanted, promoted, &LIFETIMES).unwrap();
    let later = promoted + LIFETIMES.former * 3;
    // The certificate could not be stored; it has to wait until the bundle is published, in any case.
    assert_eq!(state.next_step(&wanted, later, &LIFETIMES, None), None);
    assert_eq!(state.next_step(&wanted, later, &LIFETIMES, Some(later)), None);
    assert!(is_trusted(&state.bundle(), &state.leaf, "a", later));
    let since = promoted + LIFETIMES.publication;
    assert_eq!(state.next_step(&wanted, since, &LIFETIMES, Some(promoted)), Some(Due::Renew));
    let state = state.after(Due::Renew, &wanted, since, &LIFETIMES).unwrap();
    let day = promoted + LIFETIMES.former;
    let early = day - Duration::from_secs(1);
    assert_eq!(state.next_step(&wanted, early, &LIFETIMES, Some(since)), None);
    assert_eq!(state.next_step(&wanted, day, &LIFETIMES, Some(since)), Some(Due::Cas(Step::Prune)));
    let state = state.after(Due::Cas(Step::Prune), &wanted, day, &LIFETIMES).unwrap();
    assert_eq!(split_bundle(&state.bundle()).len(), 1);
}

#[test]
fn c4_7_a_ca_of_an_earlier_release_is_replaced_in_order() {
    let wanted = hosts(&["a"]);
    let earlier = Lifetimes { ca: LIFETIMES.ca * 5, ..LIFETIMES };
    let state = State::create(&wanted, start(), &earlier).unwrap();
    let due = state.next_step(&wanted, start(), &LIFETIMES, Some(start()));
    assert_eq!(due, Some(Due::Cas(Step::Announce)));
    let state = state.after(due.unwrap(), &wanted, start(), &LIFETIMES).unwrap();
    assert_eq!(state.next_step(&wanted, start(), &LIFETIMES, Some(start())), None);
    let due = state.next_step(&wanted, start() + LIFETIMES.overlap, &LIFETIMES, Some(start()));
    assert_eq!(due, Some(Due::Cas(Step::Promote)));
}

#[test]
fn c4_7_a_ca_lives_a_year_and_a_certificate_ninety_days() {
    let day = Duration::from_hours(24);
    let Lifetimes { ca, leaf, former, overlap, .. } = Lifetimes::default();
    assert_eq!((ca, leaf, former), (day * 365, day * 90, day));
    assert!(overlap * 2 < former);
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
    let ahead = state.after(Due::Renew, &wanted, start() + Duration::from_hours(24), &LIFETIMES).unwrap();
    assert!(!is_trusted(&ahead.bundle(), &ahead.leaf, "a", start()));
    assert_eq!(ahead.next_step(&wanted, start(), &LIFETIMES, Some(start())), Some(Due::Renew));
    let renewed = ahead.after(Due::Renew, &wanted, start(), &LIFETIMES).unwrap();
    assert!(is_trusted(&renewed.bundle(), &renewed.leaf, "a", start()));
    // Neither clock has anything to object now.
    for now in [start(), start() + Duration::from_hours(24)] {
        assert_eq!(renewed.next_step(&wanted, now, &LIFETIMES, Some(start())), None);
    }
    // Some minutes are no matter.
    let near = renewed.after(Due::Renew, &wanted, start() + Duration::from_mins(4), &LIFETIMES).unwrap();
    assert_eq!(near.next_step(&wanted, start(), &LIFETIMES, Some(start())), None);
}

#[test]
fn c4_7_a_ca_from_the_future_is_replaced_and_stays_trusted() {
    let wanted = hosts(&["a"]);
    let ahead = State::create(&wanted, start() + Duration::from_hours(1), &LIFETIMES).unwrap();
    assert_eq!(ahead.next_step(&wanted, start(), &LIFETIMES, Some(start())), Some(Due::Cas(Step::StartOver)));
    let state = ahead.clone().followed(Step::StartOver, &wanted, start());
    assert!(is_trusted(&state.bundle(), &state.leaf, "a", start()));
    assert_eq!(state.next_step(&wanted, start(), &LIFETIMES, Some(start())), None);
    // What a replica goes on serving for a moment.
    assert!(is_trusted(&state.bundle(), &ahead.leaf, "a", start() + Duration::from_hours(1)));
}
