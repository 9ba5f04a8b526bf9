mod attacks;
mod legacy;
mod support;
mod upgrade;

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::authority::Authority;
use crate::pair::make_leaf;
use crate::secret;
use support::*;

#[tokio::test(start_paused = true)]
async fn c4_7_replicas_that_start_at_once_agree() {
    let server = Server::default();
    register(&server);
    let replicas: Vec<_> = (0..3).map(|_| start_replica(&server)).collect();
    until("one CA", || {
        state(&server).is_some_and(|state| {
            published(&server) == state.bundle()
                && replicas.iter().all(|replica| serves(replica, &state.leaf))
        })
    })
    .await;
    // Nothing is left to do, also not for hosts that can be written in several ways.
    let writes = server.lock().unwrap().writes;
    sleep(Duration::from_hours(2)).await;
    assert_eq!(server.lock().unwrap().writes, writes);
}

#[tokio::test(start_paused = true)]
async fn c4_7_the_keys_of_cas_are_kept_apart_from_the_certificates() {
    let server = Server::default();
    register(&server);
    let _replica = start_replica(&server);
    until("a certificate", || is_published(&server)).await;
    let keys = |name| stored(&server, name).unwrap().data.unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(keys(CERTIFICATE), ["ca.crt", "tls.crt", "tls.key"]);
    assert_eq!(keys(CAS), ["ca-signing.crt", "ca-signing.key"]);
    let state = state(&server).unwrap();
    let text = server.lock().unwrap().objects[CERTIFICATE].to_string();
    assert!(!text.contains(&json!(k8s_openapi::ByteString(state.authority.signer.key.into())).to_string()));
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_certificate_is_served_before_anything_is_registered() {
    let server = Server::default();
    let replica = start_replica(&server);
    until("a certificate", || replica.certificates.is_loaded()).await;
    register(&server);
    until("the CA's publication", || is_published(&server)).await;
}

#[tokio::test(start_paused = true)]
async fn c4_7_what_cannot_be_published_is_served_nevertheless() {
    let server = Server::default();
    register(&server);
    server.lock().unwrap().refuses_patches = true;
    let first = start_replica(&server);
    until("a certificate", || first.certificates.is_loaded()).await;
    // Another replica comes while not even reading is allowed.
    server.lock().unwrap().refuses_configurations = true;
    let second = start_replica(&server);
    until("the stored certificate", || second.certificates.is_loaded()).await;

    {
        let mut fake = server.lock().unwrap();
        (fake.refuses_patches, fake.refuses_configurations) = (false, false);
    }
    until("the CA's publication", || is_published(&server)).await;
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_deleted_secret_comes_back_as_it_was() {
    for lost in [&[CERTIFICATE][..], &[CAS], &[CERTIFICATE, CAS]] {
        let server = Server::default();
        register(&server);
        let replica = start_replica(&server);
        until("a certificate", || replica.certificates.is_loaded()).await;
        let before = state(&server).unwrap();
        for name in lost {
            server.lock().unwrap().objects.remove(*name);
        }
        until("the Secret", || state(&server).is_some()).await;
        assert_eq!(state(&server).unwrap(), before);
        watch_over(&server, &[&replica], Duration::from_mins(2), Duration::from_millis(100)).await;
        assert_eq!(state(&server).unwrap(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn c4_7_who_cannot_restore_a_secret_keeps_the_old_ca_trusted() {
    let server = Server::default();
    register(&server);
    let replica = start_replica(&server);
    until("the CA's publication", || is_published(&server)).await;
    let old = published(&server);
    replica.shutdown.cancel();
    server.lock().unwrap().objects.retain(|name, _| name == CONFIGURATION);

    let new = start_replica(&server);
    until("a certificate", || state(&server).is_some_and(|state| serves(&new, &state.leaf))).await;
    until("the new CA", || is_published(&server)).await;
    assert!(published(&server) != old && published(&server).contains(old.trim()));
    // What the first still serves is trusted for a while.
    watch_over(&server, &[&replica, &new], FORMER * 9 / 10, Duration::from_secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_secret_that_is_partly_damaged_keeps_its_ca() {
    for (name, key) in [(CERTIFICATE, "tls.key"), (CAS, "ca-former.json")] {
        let server = Server::default();
        let replica = start_replica(&server);
        until("a certificate", || replica.certificates.is_loaded()).await;
        replica.shutdown.cancel();
        let before = state(&server).unwrap();
        {
            let mut fake = server.lock().unwrap();
            let secret = fake.objects.get_mut(name).unwrap();
            secret["data"][key] = json!("");
            secret["metadata"]["annotations"] = json!({"owner": "another-tool"});
        }
        let replica = start_replica(&server);
        let is_mended = || {
            state(&server).is_some_and(|state| serves(&replica, &state.leaf))
                && server.lock().unwrap().objects[name]["data"][key] != json!("")
        };
        until("a mended Secret", is_mended).await;
        assert_eq!(state(&server).unwrap().bundle(), before.bundle());
        let fake = server.lock().unwrap();
        assert_eq!(fake.objects[name]["metadata"]["annotations"], json!({"owner": "another-tool"}));
    }
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_pair_of_somebody_elses_in_the_secret_is_not_served() {
    let server = Server::default();
    let replica = start_replica(&server);
    until("a certificate", || replica.certificates.is_loaded()).await;
    let before = state(&server).unwrap();
    let other = Authority::create(now(), &lifetimes()).unwrap();
    let leaf = make_leaf(&other.signer, &["x".to_owned()].into(), now(), &lifetimes()).unwrap();
    let mixed = secret::updated(
        &stored(&server, CERTIFICATE).unwrap(),
        secret::leaf_secret(CERTIFICATE, &leaf, &before.authority),
    );
    {
        let mut fake = server.lock().unwrap();
        fake.put(CERTIFICATE, json!(mixed));
        fake.refuses_replacements = true;
    }
    sleep(lifetimes().check_every * 3).await;
    assert!(serves(&replica, &before.leaf));

    server.lock().unwrap().refuses_replacements = false;
    until("a certificate of our CA", || {
        state(&server).is_some_and(|state| {
            state.authority.trusts(&state.leaf) && state.leaf != leaf && serves(&replica, &state.leaf)
        })
    })
    .await;
    assert_eq!(state(&server).unwrap().bundle(), before.bundle());
}

/// Whatever is not answered, carried out or not, at whatever point of an announcement, a promotion and a removal.
#[tokio::test(start_paused = true)]
async fn c4_7_no_lost_answer_and_no_race_leaves_a_moment_untrusted() {
    // Not so many that a pass, which takes some requests in a row, can never end.
    for fails_every in [7, 9] {
        let server = Server::default();
        register(&server);
        let replicas: Vec<_> = (0..2).map(|_| start_replica(&server)).collect();
        let replicas: Vec<_> = replicas.iter().collect();
        until("one CA", || {
            state(&server).is_some_and(|state| {
                is_published(&server) && replicas.iter().all(|replica| serves(replica, &state.leaf))
            })
        })
        .await;
        server.lock().unwrap().fails_every = Some(fails_every);
        for (name, value) in
            [(CERTIFICATE, "now"), (CAS, "now"), (CERTIFICATE, "compromised"), (CAS, "compromised")]
        {
            let before = state(&server).unwrap();
            annotate(&server, name, value);
            watch_over(&server, &replicas, Duration::from_mins(3), Duration::from_millis(50)).await;
            let after = state(&server).unwrap();
            assert!(!has_request(&server, name), "{value} on {name}, {fails_every}");
            assert_ne!(before.leaf, after.leaf);
            assert!(replicas.iter().all(|replica| serves(replica, &after.leaf)), "{value} on {name}");
            watch_over(&server, &replicas, FORMER / 4, Duration::from_secs(1)).await;
            let promoted = state(&server).unwrap();
            assert_ne!(promoted.authority.signer, before.authority.signer, "{value} on {name}");
        }
        watch_over(&server, &replicas, FORMER * 3 / 2, Duration::from_secs(10)).await;
        let end = state(&server).unwrap();
        assert_eq!((end.authority.former.len(), end.authority.next.is_some()), (0, false));
        assert_eq!(published(&server), end.bundle());
    }
}
