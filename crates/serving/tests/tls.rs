//! The certificate over real TLS and real sockets.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use pod_reloader_serving::directory;
use pod_reloader_serving::server::Limits;
use support::{Server, TIMEOUT, request, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

fn served(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn c4_6_plain_http_is_told_to_speak_https() {
    let server = Server::start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    timeout(TIMEOUT, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(text.contains("HTTPS"), "{text}");
}

#[tokio::test]
async fn c4_6_a_plain_client_that_stays_is_closed_too() {
    let server = Server::start(Limits { handshake: Duration::from_millis(200), ..Limits::default() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(TIMEOUT, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    // It has not closed its side.
    until(|| server.metric(r#"connections{port="test"} 0"#)).await;
    assert!(server.metric(r#"tls_handshake_errors_total{reason="plain_http"} 1"#));
}

#[tokio::test]
async fn c4_7_a_symlink_swap_is_picked_up_without_dropping_a_connection() {
    let server = Server::start(Limits::default()).await;
    let directory = tempfile::tempdir().unwrap();
    // As the kubelet lays a Secret out.
    let write = |version: &str, (certificate, key): &(String, String)| {
        let data = directory.path().join(version);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("tls.crt"), certificate).unwrap();
        std::fs::write(data.join("tls.key"), key).unwrap();
        symlink(version, directory.path().join("..data_tmp")).unwrap();
        std::fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data")).unwrap();
    };
    write("..1", &server.authority.issue());
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), directory.path().join(name)).unwrap();
    }
    let follow =
        directory::follow(directory.path().into(), server.certificates.clone(), server.stop.now.clone());
    let before = served(&server.connect().await);
    let follow = tokio::spawn(follow);
    let first = becomes_other(&server, &before).await;
    let mut open = server.connect().await;
    request(&mut open, "/", "hello").await;

    write("..2", &server.authority.issue());
    let second = becomes_other(&server, &first).await;
    request(&mut open, "/", "hello").await;

    // A key of another certificate, garbage, nothing: the old pair stays, and each is counted once.
    let (certificate, _) = server.authority.issue();
    let (_, key) = server.authority.issue();
    write("..3", &(certificate.clone(), key));
    until(|| server.metric(r#"certificate_reloads_total{result="failure"} 1"#)).await;
    write("..4", &(certificate[..certificate.len() / 2].to_owned(), "garbage".into()));
    until(|| server.metric(r#"certificate_reloads_total{result="failure"} 2"#)).await;
    std::fs::remove_file(directory.path().join("tls.key")).unwrap();
    assert_eq!(served(&server.connect().await), second);
    request(&mut open, "/", "hello").await;

    // And on it goes.
    symlink("..data/tls.key", directory.path().join("tls.key")).unwrap();
    write("..5", &server.authority.issue());
    becomes_other(&server, &second).await;
    server.stop.now.cancel();
    timeout(TIMEOUT, follow).await.unwrap().unwrap();
}

async fn becomes_other(server: &Server, before: &[u8]) -> Vec<u8> {
    let other = async {
        loop {
            let now = served(&server.connect().await);
            if now != before {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, other).await.unwrap()
}
