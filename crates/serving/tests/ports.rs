//! A port against many clients, or one with many connections (4.9). Clients of other addresses are other peers.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

mod support;

use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pod_reloader_serving::server::Limits;
use support::{Server, TIMEOUT, answer, ends, request, send, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Few connections, and time limits that do not come into play.
const FEW: Limits = Limits {
    connections: 8,
    leaving: 4,
    handshake: Duration::from_mins(5),
    header: Duration::from_mins(5),
    ..Limits::webhook()
};

async fn half_request(server: &Server) -> TcpStream {
    let mut stream = server.tcp_from(2).await;
    stream.write_all(b"GET /healthz HT").await.unwrap();
    stream
}

/// How many of these connections are open still.
async fn count_open(streams: &mut [TcpStream]) -> usize {
    let mut open = 0;
    for stream in streams {
        if timeout(Duration::from_millis(1), stream.read(&mut [0])).await.is_err() {
            open += 1;
        }
    }
    open
}

#[tokio::test]
async fn c4_9_half_requests_on_a_plain_port_leave_room_for_whole_ones_and_do_not_stay() {
    let limits = Limits { header: Duration::from_secs(1), ..Limits::admin() };
    let server = Server::start_plain(limits).await;
    let mut half = vec![];
    for i in 0..400 {
        half.push(half_request(&server).await);
        if i % 50 == 49 {
            // Of the same peer, even.
            request(&mut server.tcp_from(2).await, "/", "hello").await;
            request(&mut server.tcp_from(3).await, "/", "hello").await;
        }
    }
    assert!(count_open(&mut half).await <= limits.descriptors());
    for stream in &mut half {
        ends(stream).await;
    }
    until(|| server.metric(r#"connections{port="test"} 0"#)).await;
    assert!(server.metrics().contains(r#"connections_evicted_total{port="test",reason="unused"}"#));
    assert!(server.metrics().contains(r#"connections_evicted_total{port="test",reason="no_request"}"#));
}

#[tokio::test]
async fn c4_9_probes_that_keep_a_connection_do_not_hold_up_the_end() {
    let server = Server::start_plain(Limits::admin()).await;
    let mut kept = server.tcp_from(1).await;
    request(&mut kept, "/", "hello").await;
    let mut half = half_request(&server).await;
    until(|| server.metric(r#"connections{port="test"} 2"#)).await;
    server.stop.now.cancel();
    timeout(Duration::from_secs(5), server.task).await.unwrap().unwrap();
    ends(&mut kept).await;
    ends(&mut half).await;
}

#[tokio::test]
async fn c4_9_idle_connections_of_one_client_keep_no_other_out() {
    let server = Server::start(FEW).await;
    // Kept alive by a request each; then by nothing but the handshake; then not even that.
    let mut kept = vec![];
    for _ in 0..FEW.connections {
        let mut stream = server.connect_from(2).await;
        request(&mut stream, "/", "hello").await;
        kept.push(stream);
    }
    let mut other = server.connect_from(3).await;
    request(&mut other, "/", "hello").await;
    for _ in 0..2 * FEW.connections {
        kept.push(server.connect_from(2).await);
    }
    let mut silent = vec![];
    for _ in 0..4 * FEW.connections {
        silent.push(server.tcp_from(2).await);
    }
    // It is still there, as are those who come.
    request(&mut other, "/", "hello").await;
    request(&mut server.connect_from(4).await, "/", "hello").await;
    for stream in &mut kept {
        ends(stream).await;
    }
    request(&mut other, "/", "hello").await;
    let open = count_open(&mut silent).await;
    assert!(open <= FEW.connections, "{open}");
    assert!(server.metrics().contains(r#"connections_evicted_total{port="test",reason="idle"}"#));
}

#[tokio::test]
async fn c4_9_no_request_is_cut_off_to_make_room() {
    let server = Server::start(FEW).await;
    let mut busy = server.connect_from(2).await;
    send(&mut busy, "/slow").await;
    timeout(TIMEOUT, server.arrived.notified()).await.unwrap();
    let mut idle = vec![];
    for i in 0..5 * FEW.connections {
        // Of the same peer, as behind a NAT.
        idle.push(server.connect_from(2).await);
        if i % FEW.connections == 0 {
            request(&mut server.connect_from(2).await, "/", "hello").await;
        }
    }
    server.go_on.notify_one();
    answer(&mut busy, "slow").await;
}

#[tokio::test]
async fn c4_9_an_http2_connection_that_makes_room_is_told_so() {
    let server = Server::start(Limits { connections: 1, ..FEW }).await;
    let mut first = server.connect_with(b"h2").await;
    // The preface, an empty SETTINGS frame, and the acknowledgement of the server's.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
    first.write_all(preface).await.unwrap();
    // Of the server's own, which so has begun.
    first.read_exact(&mut [0; 9]).await.unwrap();
    // It has a second for its first request.
    let others = async {
        loop {
            request(&mut server.connect_from(2).await, "/", "hello").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut all = vec![];
    tokio::select! {
        // It ends without an answer to the server's PING, or with a reset.
        ended = timeout(TIMEOUT, first.read_to_end(&mut all)) => drop(ended.unwrap()),
        () = others => {}
    }
    // GOAWAY is of type 7 and 8 bytes long.
    assert!(all.windows(4).any(|frame| frame == [0, 0, 8, 7]), "no GOAWAY in {all:?}");
}

#[tokio::test]
async fn c4_9_requests_that_never_end_do_not_fill_a_port_for_ever() {
    let server = Server::start(FEW).await;
    let mut busy = vec![];
    for _ in 0..FEW.connections + FEW.leaving {
        let mut stream = server.connect_from(2).await;
        send(&mut stream, "/slow").await;
        timeout(TIMEOUT, server.arrived.notified()).await.unwrap();
        busy.push(stream);
    }
    // All descriptors are taken. Who comes now waits for 2 s, until the oldest of these is no longer young.
    request(&mut server.connect_from(3).await, "/", "hello").await;
    assert!(server.metrics().contains(r#"connections_evicted_total{port="test",reason="busy"}"#));
}

#[tokio::test]
async fn c4_9_a_client_that_does_not_take_its_answer_is_cut_off() {
    let server = Server::start(Limits { request: Duration::from_millis(300), ..FEW }).await;
    let io = TokioIo::new(server.connect_with(b"h2").await);
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(1000);
    let (mut client, connection) = client.handshake::<_, Full<Bytes>>(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/large").body(Full::new(Bytes::new())).unwrap();
    let answer = client.send_request(request).await.unwrap();
    until(|| server.metric(r#"connections{port="test"} 0"#)).await;
    assert!(server.metric(r#"connections_evicted_total{port="test",reason="slow"} 1"#));
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn c4_9_each_request_knows_its_peer() {
    let server = Server::start(FEW).await;
    let mut stream = server.connect_from(7).await;
    let port = stream.get_ref().0.local_addr().unwrap().port();
    request(&mut stream, "/peer", &format!("127.0.0.7:{port}")).await;
    let server = Server::start_plain(FEW).await;
    let mut stream = server.tcp_from(8).await;
    let port = stream.local_addr().unwrap().port();
    request(&mut stream, "/peer", &format!("127.0.0.8:{port}")).await;
}

#[tokio::test]
async fn c4_9_a_request_with_an_endless_head_is_refused() {
    let server = Server::start_plain(Limits::admin()).await;
    let mut stream = server.tcp_from(2).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ").await.unwrap();
    // Refused before all is sent.
    let _ = stream.write_all(&b"x".repeat(20 << 10)).await;
    let mut text = vec![];
    let _ = timeout(TIMEOUT, stream.read_to_end(&mut text)).await.unwrap();
    assert!(text.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&text));
}
