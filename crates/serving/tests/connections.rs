//! What a client may take of a port, and the orderly end of its connections.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

mod support;

use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pod_reloader_serving::server::Limits;
use support::{Server, TIMEOUT, answer, request, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn c4_6_idle_connections_are_closed_but_none_with_a_request() {
    let limits = Limits {
        idle: Duration::from_millis(200),
        // A connection that was wrongly taken for an idle one would be cut off while the idle ones are waited for.
        drain: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    timeout(TIMEOUT, server.arrived.notified()).await.unwrap();

    let mut idle = server.connect().await;
    request(&mut idle, "/", "hello").await;
    assert_eq!(timeout(TIMEOUT, idle.read(&mut [0])).await.unwrap().unwrap(), 0);

    let mut idle = server.connect_with(b"h2").await;
    // The preface, an empty SETTINGS frame, and the acknowledgement of the server's.
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0")
        .await
        .unwrap();
    let mut all = vec![];
    // It ends without an answer to the server's PING (RFC 9113, section 6.8), which is fine or not.
    let _ = timeout(TIMEOUT, idle.read_to_end(&mut all)).await.unwrap();
    // GOAWAY is of type 7 and 8 bytes long.
    assert!(all.windows(4).any(|frame| frame == [0, 0, 8, 7]), "no GOAWAY in {all:?}");

    server.go_on.notify_one();
    answer(&mut busy, "slow").await;
}

#[tokio::test]
async fn c4_6_bodies_that_wait_hold_up_no_other_on_their_connection() {
    let server = Server::start(Limits::default()).await;
    let io = TokioIo::new(server.connect_with(b"h2").await);
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let send = |path: &str, bytes: usize| {
        let request = http::Request::post(format!("https://localhost{path}"));
        let request = request.body(Full::new(Bytes::from(vec![b'x'; bytes]))).unwrap();
        tokio::spawn(client.clone().send_request(request))
    };
    for _ in 0..60 {
        send("/stalled", 1 << 20);
        server.arrived.notified().await;
    }
    let answer = timeout(TIMEOUT, send("/length", 1 << 20)).await.unwrap().unwrap().unwrap();
    let body = timeout(TIMEOUT, answer.into_body().collect()).await.unwrap().unwrap().to_bytes();
    assert_eq!(body, (1 << 20).to_string());
}

#[tokio::test]
async fn c4_6_a_panic_harms_no_other_request() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() }).await;
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut rest = vec![];
        let _ = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.unwrap();
    }
    until(|| server.metric(r#"connections{port="test"} 0"#)).await;
    request(&mut server.connect().await, "/", "hello").await;
}

#[tokio::test]
async fn c4_6_stalled_clients_are_closed_and_harm_nobody() {
    let limits = Limits {
        handshake: Duration::from_millis(300),
        header: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    // Nothing at all; the start of a handshake; a whole handshake and the start of a request.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut halting = TcpStream::connect(server.address).await.unwrap();
    halting.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HT").await.unwrap();

    request(&mut server.connect().await, "/", "hello").await;

    let mut rest = vec![];
    for stream in [&mut silent, &mut halting] {
        // Closed or reset: either way it ends.
        let _ = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.unwrap();
    }
    let _ = timeout(TIMEOUT, slow.read_to_end(&mut rest)).await.unwrap();
    assert!(server.metric(r#"tls_handshake_errors_total{reason="timeout"} 2"#));
}

#[tokio::test]
async fn c4_6_stalled_clients_cannot_keep_all_connections() {
    let limits = Limits { connections: 2, handshake: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(limits).await;
    let _first = TcpStream::connect(server.address).await.unwrap();
    let _second = TcpStream::connect(server.address).await.unwrap();
    let mut good = timeout(TIMEOUT, server.connect()).await.unwrap();
    request(&mut good, "/", "hello").await;
}

#[tokio::test]
async fn an_old_connection_ends_with_an_answer_and_not_between_two() {
    let limits = Limits { max_age: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits).await;
    let mut stream = server.connect().await;
    request(&mut stream, "/", "hello").await;
    let closed = timeout(Duration::from_millis(200), stream.read(&mut [0])).await;
    assert!(closed.is_err(), "it was closed between two requests");
    assert!(request(&mut stream, "/", "hello").await.contains("connection: close"));
}
