//! 4.6: whatever is sent, the answer is a proper one, and others are not harmed.

use std::time::Duration;

use pod_reloader_e2e::{World, objects};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use pod_reloader_e2e::world::webhook::{Webhook, request};

#[tokio::test]
async fn c4_6_malformed_input_gets_a_proper_error() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let webhook = Webhook::of(world, &world.replicas[0])?;
    let review = |request: &str| {
        format!(r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#)
    };
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let cases = [
        ("POST", "/mutate", String::new(), 400),
        ("POST", "/mutate", "not json".into(), 400),
        ("POST", "/mutate", "null".into(), 400),
        ("POST", "/mutate", "[]".into(), 400),
        ("POST", "/mutate", "{}".into(), 400),
        ("POST", "/mutate", "\u{0}\u{1}".into(), 400),
        ("POST", "/mutate", deep.clone(), 400),
        ("POST", "/mutate", r#"{"apiVersion":"v1","kind":"Pod"}"#.into(), 400),
        ("POST", "/mutate", review(r#"{"uid":"x"}"#).replace("/v1", "/v1beta1"), 400),
        ("POST", "/mutate", review("null"), 400),
        ("POST", "/mutate", review("[]"), 400),
        ("POST", "/mutate", review(r#"{"kind":{"kind":"Deployment"},"operation":"CREATE"}"#), 400),
        ("POST", "/mutate", review(r#"{"uid":"","kind":{"kind":"Deployment"},"operation":"CREATE"}"#), 400),
        ("POST", "/mutate", review(r#"{"uid":"x","kind":"Deployment","operation":"CREATE"}"#), 400),
        ("POST", "/mutate", review(r#"{"uid":"x"#), 400),
        ("POST", "/mutate", "x".repeat(9 * 1024 * 1024), 413),
        ("GET", "/mutate", String::new(), 405),
        ("PUT", "/mutate", String::new(), 405),
        ("POST", "/", String::new(), 404),
        ("GET", "/mutate/../../etc/passwd", String::new(), 404),
    ];
    for (method, path, body, expected) in cases {
        let shown: String = body.chars().take(60).collect();
        let (status, _) = webhook.send(method, path, body).await?;
        assert_eq!(status, expected, "{method} {path} {shown}");
    }
    answers_well(&webhook).await
}

#[tokio::test]
async fn c4_6_strange_reviews_are_allowed_with_a_warning_or_none() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let webhook = Webhook::of(world, &world.replicas[0])?;
    let good = json!(objects::listing("app", "settings"));
    let mut cases = vec![];
    for (pointer, value) in [
        ("/metadata/annotations", json!([])),
        ("/metadata/annotations", json!({objects::CONFIGMAPS: 7})),
        ("/metadata/labels", json!("x")),
        ("/metadata", json!(3)),
        ("/spec", json!("x")),
        ("/spec/template", json!([1])),
        ("/spec/template/spec/containers", json!({"a": 1})),
    ] {
        let mut object = good.clone();
        if object.pointer(pointer).is_none() {
            object["metadata"]["labels"] = json!({});
        }
        *object.pointer_mut(pointer).expect("the pointer fits") = value;
        cases.push(request("CREATE", "default", &object, None));
        cases.push(request("UPDATE", "default", &object, Some(&good)));
        cases.push(request("UPDATE", "default", &good, Some(&object)));
    }
    cases.push(request("UPDATE", "default", &good, None));
    cases.push(request("CREATE", "default", &json!(null), None));
    // A namespace that would lead elsewhere in a path.
    for namespace in ["", "pod-reloader/secrets/pod-reloader-key?", "../../secrets", "v%2f..", "a.b"] {
        cases.push(request("CREATE", namespace, &good, None));
    }
    for case in &cases {
        let (_, warnings) = webhook.mutate(case).await?;
        assert!(!warnings.is_empty(), "{case}");
    }
    // Not ours, and nothing to warn of.
    for operation in ["DELETE", "CONNECT"] {
        webhook.review(&request(operation, "default", &json!(null), Some(&good))).await?;
    }
    let mut scale = request("UPDATE", "default", &good, Some(&good));
    scale["subResource"] = json!("scale");
    assert_eq!(webhook.review(&scale).await?["patch"], json!(null));
    let mut pod = request("CREATE", "default", &good, None);
    pod["kind"] = json!({"group": "", "version": "v1", "kind": "Pod"});
    assert_eq!(webhook.mutate(&pod).await?.1.len(), 1);
    answers_well(&webhook).await
}

#[tokio::test]
async fn c4_6_stalled_clients_harm_nobody() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let replica = &world.replicas[0];
    let [_, _, port] = replica.ports();
    let mut stalled = vec![];
    for i in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        if i % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 2]).await?;
        }
        stalled.push(stream);
    }
    let webhook = Webhook::of(world, replica)?;
    answers_well(&webhook).await?;

    // Plain HTTP is told what the port speaks.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).await?;
    plain.write_all(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await?;
    plain.shutdown().await?;
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(10), plain.read_to_string(&mut text)).await??;
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");

    // And the stalled ones do not stay.
    let mut rest = vec![];
    for mut stream in stalled {
        let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await?;
    }
    let (status, body) = replica.readiness().await?;
    assert_eq!(status, 200, "{body}");
    Ok(())
}

async fn answers_well(webhook: &Webhook) -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    let good = json!(objects::listing("app", "settings"));
    let (object, _) = webhook.mutate(&request("CREATE", &space.name, &good, None)).await?;
    assert!(object["spec"]["template"]["metadata"]["annotations"][objects::CONFIG_HASH].is_string());
    Ok(())
}
