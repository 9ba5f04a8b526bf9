//! The end of the server.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

mod support;

use std::time::Duration;

use pod_reloader_serving::server::Limits;
use support::{Server, TIMEOUT, answer, request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn c6_a_request_that_takes_too_long_is_cut_off() {
    let server = Server::start(Limits { drain: Duration::from_millis(200), ..Limits::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    timeout(TIMEOUT, server.arrived.notified()).await.unwrap();
    server.stop.now.cancel();
    timeout(TIMEOUT, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn c6_before_shutdown_clients_are_told_not_to_come_again_and_none_is_cut_off() {
    let server = Server::start(Limits::default()).await;
    let mut reused = server.connect().await;
    assert!(!request(&mut reused, "/", "hello").await.contains("connection: close"));
    let mut waiting = server.connect().await;
    request(&mut waiting, "/", "hello").await;

    server.stop.soon.cancel();
    // It has its place in a client's pool: the next request on it is answered, as the last.
    assert!(request(&mut reused, "/", "hello").await.contains("connection: close"));
    assert_eq!(timeout(TIMEOUT, reused.read(&mut [0])).await.unwrap().unwrap(), 0);
    // New ones are served too, for as long as clients come.
    let mut new = server.connect().await;
    assert!(request(&mut new, "/", "hello").await.contains("connection: close"));
    assert!(request(&mut waiting, "/", "hello").await.contains("connection: close"));
}

#[tokio::test]
async fn c6_shutdown_answers_what_is_under_way_and_takes_nothing_new() {
    let mut server = Server::start(Limits::default()).await;
    let mut idle = server.connect().await;
    request(&mut idle, "/", "hello").await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    timeout(TIMEOUT, server.arrived.notified()).await.unwrap();

    server.stop.now.cancel();
    let mut rest = vec![];
    timeout(TIMEOUT, idle.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
    let early = timeout(Duration::from_millis(100), &mut server.task).await;
    assert!(early.is_err(), "it did not wait for the request under way");
    server.go_on.notify_one();
    answer(&mut stream, "slow").await;
    timeout(TIMEOUT, server.task).await.unwrap().unwrap();
}
