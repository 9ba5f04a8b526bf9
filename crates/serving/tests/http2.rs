//! HTTP/2 from clients that keep to the letter of it, and no more (4.9).

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

mod support;

use std::time::Duration;

use pod_reloader_serving::server::Limits;
use support::{Server, TIMEOUT, ends, request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /` of `localhost` in HPACK.
const GET: &[u8] = b"\x82\x87\x84\x41\x09localhost";

/// A frame; its length is of three bytes (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

async fn connect(server: &Server) -> TlsStream<TcpStream> {
    let mut stream = server.connect_with(b"h2").await;
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface.extend(frame(SETTINGS, 0, 0, b""));
    preface.extend(frame(SETTINGS, ACK, 0, b""));
    stream.write_all(&preface).await.unwrap();
    stream
}

/// The next frame of that kind: flags, stream and payload.
async fn next(stream: &mut TlsStream<TcpStream>, wanted: u8) -> (u8, u32, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        timeout(TIMEOUT, stream.read_exact(&mut head)).await.unwrap().unwrap();
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        timeout(TIMEOUT, stream.read_exact(&mut payload)).await.unwrap().unwrap();
        if kind == wanted {
            return (flags, u32::from_be_bytes(id), payload);
        }
    }
}

/// The code of the GOAWAY that ends the connection.
async fn refused_with(stream: &mut TlsStream<TcpStream>) -> u32 {
    let (_, _, payload) = next(stream, GOAWAY).await;
    ends(stream).await;
    u32::from_be_bytes(payload[4..8].try_into().unwrap())
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn c4_9_requests_that_are_reset_at_once_end_their_connection() {
    let server = Server::start(Limits::webhook()).await;
    let mut stream = connect(&server).await;
    let mut all = vec![];
    for id in (1..400).step_by(2) {
        all.extend(frame(HEADERS, END_STREAM | END_HEADERS, id, GET));
        all.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    stream.write_all(&all).await.unwrap();
    assert_eq!(refused_with(&mut stream).await, ENHANCE_YOUR_CALM);
    request(&mut server.connect().await, "/", "hello").await;
}

#[tokio::test]
async fn c4_9_a_head_that_never_ends_ends_its_connection() {
    let server = Server::start(Limits::webhook()).await;
    let mut stream = connect(&server).await;
    let mut all = frame(HEADERS, END_STREAM, 1, GET);
    for _ in 0..100 {
        all.extend(frame(CONTINUATION, 0, 1, b""));
    }
    stream.write_all(&all).await.unwrap();
    assert_eq!(refused_with(&mut stream).await, ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn c4_9_what_a_connection_may_do_is_said_at_its_start() {
    let server = Server::start(Limits::webhook()).await;
    let mut stream = connect(&server).await;
    let (_, _, settings) = next(&mut stream, SETTINGS).await;
    let setting = |id: u16| {
        let mut settings = settings.chunks(6).filter(|setting| setting[..2] == id.to_be_bytes());
        settings.next().map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    // SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_INITIAL_WINDOW_SIZE, SETTINGS_MAX_HEADER_LIST_SIZE
    assert_eq!([setting(3), setting(4), setting(6)], [Some(64), Some(32 << 10), Some(16 << 10)]);
    // A client with many connections gets less for each.
    let mut others = vec![];
    for _ in 0..8 {
        others.push(connect(&server).await);
        next(others.last_mut().unwrap(), SETTINGS).await;
    }
    let mut last = connect(&server).await;
    let (_, _, settings) = next(&mut last, SETTINGS).await;
    assert!(settings.chunks(6).any(|setting| *setting == [0, 3, 0, 0, 0, 4]), "{settings:?}");
}

#[tokio::test]
async fn c4_9_pings_without_end_get_no_more_than_the_client_takes() {
    let server = Server::start(Limits { request: Duration::from_secs(1), ..Limits::webhook() }).await;
    let mut stream = connect(&server).await;
    // Far more than fits between the two; the client takes none of the answers.
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1000);
    let mut sent = 0;
    while timeout(Duration::from_secs(1), stream.write_all(&pings)).await.is_ok_and(|sent| sent.is_ok()) {
        sent += pings.len();
        assert!(sent < 64 << 20, "the server reads on while its answers are not taken");
    }
    request(&mut server.connect().await, "/", "hello").await;
}
