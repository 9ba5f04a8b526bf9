use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::secret::standing_down_until;
use super::*;

#[test]
fn c2_2_the_secret_gives_the_key_back_and_damage_is_seen() {
    let key = new_key().unwrap();
    let secret = to_secret(&key);
    assert_eq!(from_secret(&secret), Some(key));
    for damage in [
        |data: &mut BTreeMap<String, ByteString>| drop(data.remove("id")),
        |data: &mut BTreeMap<String, ByteString>| drop(data.remove("key")),
        |data: &mut BTreeMap<String, ByteString>| data.get_mut("key").unwrap().0.truncate(31),
        |data: &mut BTreeMap<String, ByteString>| data.get_mut("id").unwrap().0 = b"a b".to_vec(),
    ] {
        let mut secret = secret.clone();
        damage(secret.data.as_mut().unwrap());
        assert_eq!(from_secret(&secret), None);
    }
}

#[test]
fn c2_5_standing_down_is_read_from_the_secret_and_ends() {
    let mut secret = to_secret(&new_key().unwrap());
    assert_eq!(standing_down_until(&secret), None);
    for (from_now, expected) in [(STAND_DOWN, true), (Duration::from_secs(5), true), (STAND_DOWN * 3, false)]
    {
        let until = Timestamp::now() + from_now;
        secret.annotations_mut().insert(STANDING_DOWN.into(), until.to_string());
        assert_eq!(standing_down_until(&secret).is_some(), expected, "{from_now:?}");
    }
    for past_or_broken in ["2020-01-01T00:00:00Z", "soon", ""] {
        secret.annotations_mut().insert(STANDING_DOWN.into(), past_or_broken.into());
        assert_eq!(standing_down_until(&secret), None, "{past_or_broken}");
    }
}

#[test]
fn c2_2_every_key_is_another_and_none_is_shown() {
    let (one, other) = (new_key().unwrap(), new_key().unwrap());
    assert_ne!(one, other);
    assert_ne!(one.id(), other.id());
    assert!(!format!("{one:?}").contains(&format!("{:?}", one.bytes())));
}

#[test]
fn c2_2_former_keys_are_kept_with_their_times_and_end() {
    let (key, old, older) = (new_key().unwrap(), new_key().unwrap(), new_key().unwrap());
    let now = Timestamp::now();
    let kept = |key: &DigestKey, until| FormerKey { key: key.clone(), until };
    let stored = [kept(&old, now + FORMER_KEPT), kept(&older, now + Duration::from_hours(1))];
    let secret = with_former(to_secret(&key), &stored);
    assert_eq!(former(&secret, now), (stored.to_vec(), false));
    let read = from_secret(&secret).unwrap();
    assert!(read.is_same(&key) && read.former()[0].is_same(&old) && read.former()[1].is_same(&older));
    assert_eq!(former(&secret, now + Duration::from_hours(2)), (stored[..1].to_vec(), true));
    assert_eq!(former(&secret, now + FORMER_KEPT), (vec![], true));
    // A time that lies too far ahead is none.
    let far = with_former(to_secret(&key), &[kept(&old, now + FORMER_KEPT * 3)]);
    assert_eq!(former(&far, now), (vec![], true));
    // A corrupt entry is not compared, and is removed; the key stays.
    let mut damaged = secret;
    damaged.data.as_mut().unwrap().get_mut("former").unwrap().0.truncate(20);
    assert_eq!(former(&damaged, now), (vec![], true));
    assert!(from_secret(&damaged).unwrap().former().is_empty());
}

#[test]
fn c2_5_a_key_that_is_repaired_stands_down_as_before() {
    let key = new_key().unwrap();
    let mut damaged = to_secret(&key);
    let until = Timestamp::now() + STAND_DOWN;
    damaged.annotations_mut().insert(STANDING_DOWN.into(), until.to_string());
    damaged.metadata.resource_version = Some("7".into());
    damaged.data = None;
    let repaired = repaired(&damaged, &key, &[]);
    assert_eq!(from_secret(&repaired), Some(key));
    assert!(standing_down_until(&repaired).is_some());
    assert_eq!(repaired.metadata.resource_version.as_deref(), Some("7"));
}
