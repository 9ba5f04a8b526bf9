//! Attackers who have had a CA's key, or may write what is published.

use super::*;
use crate::pair::split_bundle;

async fn trusted(replicas: usize) -> (Server, Vec<Replica>) {
    let server = Server::default();
    register(&server);
    let replicas: Vec<_> = (0..replicas).map(|_| start_replica(&server)).collect();
    until("a certificate", || {
        is_published(&server) && replicas.iter().all(|replica| is_trusted(&server, replica))
    })
    .await;
    (server, replicas)
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_compromised_ca_is_replaced_at_once_and_trusted_for_a_day_at_most() {
    for name in [CERTIFICATE, CAS] {
        let (server, replicas) = trusted(2).await;
        let all: Vec<_> = replicas.iter().collect();
        // One that was announced lay beside it.
        annotate(&server, CERTIFICATE, "now");
        watch_over(&server, &all, Duration::from_mins(1), Duration::from_millis(50)).await;
        let before = state(&server).unwrap();
        let announced = before.authority.next.clone().unwrap();

        annotate(&server, name, "compromised");
        watch_over(&server, &all, Duration::from_mins(2), Duration::from_millis(50)).await;
        let after = state(&server).unwrap();
        assert!(!has_request(&server, name));
        assert_ne!(after.authority.signer, before.authority.signer);
        assert_ne!(after.authority.signer, announced);
        assert_eq!(after.leaf.facts.issuer, after.authority.signer.facts.subject);
        assert!(replicas.iter().all(|replica| serves(replica, &after.leaf)));
        assert!(!published(&server).contains(&announced.certificate), "it has signed nothing");

        watch_over(&server, &all, FORMER * 9 / 10, Duration::from_secs(10)).await;
        assert!(published(&server).contains(&before.authority.signer.certificate), "others may lag");
        watch_over(&server, &all, FORMER / 5, Duration::from_secs(1)).await;
        assert_eq!(published(&server), after.authority.signer.certificate);
        let ca_crt = stored(&server, CERTIFICATE).unwrap();
        assert_eq!(secret::bundle(&ca_crt), after.authority.signer.certificate);
    }
}

#[tokio::test(start_paused = true)]
async fn c4_7_trust_in_a_compromised_ca_is_removed_at_once_where_that_is_asked_for() {
    // So is the trust in any other CA that is published.
    let server = Server::default();
    register_with(&server, &Authority::create(now(), &lifetimes()).unwrap().bundle());
    let replicas = [start_replica(&server)];
    until("the CA's publication", || is_published(&server) && is_trusted(&server, &replicas[0])).await;
    let before = state(&server).unwrap();
    assert_eq!(before.authority.former.len(), 1);
    annotate(&server, CAS, "compromised-now");
    watch_over(&server, &[&replicas[0]], Duration::from_secs(90), Duration::from_millis(50)).await;
    let after = state(&server).unwrap();
    assert_eq!(published(&server), after.authority.signer.certificate);
    assert_ne!(after.authority.signer, before.authority.signer);
    assert!(serves(&replicas[0], &after.leaf));
}

/// A second drill while the first is under way is met, too: what was made in between may be known as well.
#[tokio::test(start_paused = true)]
async fn c4_7_each_request_is_met_once() {
    let (server, replicas) = trusted(3).await;
    let all: Vec<_> = replicas.iter().collect();
    let mut signers = vec![state(&server).unwrap().authority.signer];
    for pause in [Duration::from_secs(3), Duration::from_mins(2), Duration::from_mins(2)] {
        annotate(&server, CERTIFICATE, "compromised");
        watch_over(&server, &all, pause.max(Duration::from_mins(1)), Duration::from_millis(100)).await;
        signers.push(state(&server).unwrap().authority.signer);
    }
    signers.dedup();
    assert_eq!(signers.len(), 4);
    assert_eq!(state(&server).unwrap().authority.former.len(), 3, "one CA for each request");
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_foreign_ca_goes_after_a_day_whether_or_not_replicas_restart() {
    let server = Server::default();
    let foreign = Authority::create(now(), &lifetimes()).unwrap().bundle();
    register_with(&server, &foreign);
    let mut replica = start_replica(&server);
    until("the CA's publication", || is_published(&server)).await;
    assert!(published(&server).contains(&foreign), "who serves its certificates still may");
    for _ in 0..9 {
        sleep(FORMER / 10).await;
        assert!(published(&server).contains(&foreign));
        replica.shutdown.cancel();
        replica = start_replica(&server);
    }
    sleep(FORMER / 5).await;
    assert!(is_published(&server) && is_trusted(&server, &replica));
    assert_eq!(split_bundle(&published(&server)).len(), 1);

    // Nor does it come back.
    register_with(&server, &foreign);
    until("the CA's publication", || is_published(&server)).await;
    assert!(!published(&server).contains(&foreign));
}

/// The time is kept where the keys are, and no user prolongs it by deleting or damaging that.
#[tokio::test(start_paused = true)]
async fn c4_7_nobody_prolongs_the_trust_in_a_foreign_ca() {
    let server = Server::default();
    let foreign = Authority::create(now(), &lifetimes()).unwrap().bundle();
    register_with(&server, &foreign);
    let replica = start_replica(&server);
    until("the CA's publication", || is_published(&server)).await;
    for turn in 0..24 {
        sleep(FORMER / 24).await;
        {
            let mut fake = server.lock().unwrap();
            match turn % 4 {
                0 => drop(fake.objects.remove(CAS)),
                1 => fake.objects.get_mut(CAS).unwrap()["data"]["ca-signing.key"] = json!(""),
                2 => {
                    fake.objects.get_mut(CERTIFICATE).unwrap()["data"]["ca.crt"] =
                        json!(foreign_bytes(&foreign));
                }
                _ => drop(fake.objects.remove(CERTIFICATE)),
            }
        }
        register_with(&server, &foreign);
    }
    sleep(Duration::from_mins(5)).await;
    assert!(is_published(&server) && is_trusted(&server, &replica));
    assert!(!published(&server).contains(&foreign));
}

fn foreign_bytes(bundle: &str) -> k8s_openapi::ByteString {
    k8s_openapi::ByteString(bundle.into())
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_time_that_lies_too_far_ahead_is_cut() {
    let (server, _replicas) = trusted(1).await;
    let foreign = Authority::create(now(), &lifetimes()).unwrap().bundle();
    let former = json!([{"certificate": foreign, "until": "2999-01-01T00:00:00Z"}]).to_string();
    server.lock().unwrap().objects.get_mut(CAS).unwrap()["data"]["ca-former.json"] =
        json!(foreign_bytes(&former));
    until("it to be trusted", || published(&server).contains(&foreign)).await;
    sleep(FORMER + Duration::from_mins(5)).await;
    assert!(!published(&server).contains(&foreign));
}

/// A user who may write the Secret with the certificate, but not the one with the CAs, gains no trust by it.
#[tokio::test(start_paused = true)]
async fn c4_7_a_ca_that_is_planted_beside_the_certificate_is_never_trusted() {
    let (server, replicas) = trusted(2).await;
    let all: Vec<_> = replicas.iter().collect();
    let planted = Authority::create(now(), &lifetimes()).unwrap();
    let leaf = make_leaf(&planted.signer, &["localhost".to_owned()].into(), now(), &lifetimes());
    for _ in 0..3 {
        let mut data = secret::leaf_secret("", &leaf.as_ref().unwrap().clone(), &planted).data.unwrap();
        data.extend(secret::ca_secret("", &planted).data.unwrap());
        {
            let mut fake = server.lock().unwrap();
            let mut secret = fake.objects[CERTIFICATE].clone();
            secret["data"] = json!(data);
            fake.put(CERTIFICATE, secret);
        }
        for _ in 0..10 {
            watch_over(&server, &all, Duration::from_mins(1), Duration::from_millis(100)).await;
            assert!(!published(&server).contains(&planted.bundle()));
        }
        assert!(!stored(&server, CERTIFICATE).as_ref().is_some_and(secret::has_ca_keys));
    }
}

fn plant(server: &Server, planted: &Authority) {
    let leaf = make_leaf(&planted.signer, &["localhost".to_owned()].into(), now(), &lifetimes()).unwrap();
    let mut data = secret::leaf_secret("", &leaf, planted).data.unwrap();
    data.extend(secret::ca_secret("", planted).data.unwrap());
    let mut fake = server.lock().unwrap();
    let mut secret = fake.objects[CERTIFICATE].clone();
    secret["data"] = json!(data);
    fake.put(CERTIFICATE, secret);
}

/// Nor if the Secret with the CAs is gone or damaged meanwhile, whether or not a replica knows what it held.
#[tokio::test(start_paused = true)]
async fn c4_7_a_ca_that_is_planted_is_not_trusted_for_want_of_another() {
    for (is_running, is_damaged) in [(true, false), (true, true), (false, false), (false, true)] {
        let (server, mut replicas) = trusted(2).await;
        if !is_running {
            replicas.drain(..).for_each(|replica| replica.shutdown.cancel());
            sleep(Duration::from_secs(1)).await;
        }
        let planted = Authority::create(now(), &lifetimes()).unwrap();
        plant(&server, &planted);
        {
            let mut fake = server.lock().unwrap();
            if is_damaged {
                fake.objects.get_mut(CAS).unwrap()["data"]["ca-signing.key"] = json!("");
            } else {
                fake.objects.remove(CAS);
            }
        }
        let _restarted = (!is_running).then(|| start_replica(&server));
        for _ in 0..600 {
            sleep(Duration::from_millis(200)).await;
            assert!(!published(&server).contains(&planted.bundle()), "{is_running} {is_damaged}");
        }
        assert!(is_published(&server));
    }
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_configuration_full_of_cas_does_not_keep_ours_from_being_stored() {
    let server = Server::default();
    let many: String = (0..100).map(|_| Authority::create(now(), &lifetimes()).unwrap().bundle()).collect();
    register_with(&server, &many);
    let replica = start_replica(&server);
    until("the CA's publication", || is_published(&server)).await;
    assert!(is_trusted(&server, &replica));
    assert!(split_bundle(&published(&server)).len() <= 21);
}
