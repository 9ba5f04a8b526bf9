//! How a connection begins: the TLS handshake, or none.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Connection, Protocol, Transport};
use crate::clients::reason;

/// The first byte of every TLS connection: a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
const PLAIN_HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 37\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS, not HTTP.\r\n\r\n";

/// A byte stream whose client may send requests now.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What a client opened a connection with.
enum Opening {
    Ready(Box<dyn Stream>, Protocol),
    PlainHttp(TcpStream),
    /// Nothing: so do load balancers and probes.
    Closed,
}

impl Connection {
    /// Prepares the connection for requests; `None` if there will be none. What a client has to show for itself is a
    /// matter of the `ServerConfig`: a handshake that its verifier refuses goes no further than this.
    pub(super) async fn open(&self, stream: TcpStream) -> Option<(Box<dyn Stream>, Protocol)> {
        match timeout(self.limits.handshake, self.transport.open(stream)).await {
            Ok(Ok(Opening::Ready(stream, protocol))) => return Some((stream, protocol)),
            Ok(Ok(Opening::PlainHttp(stream))) => {
                self.metrics.count_handshake_error("plain_http");
                // Best effort: the client may not read the answer.
                let _ = timeout(self.limits.handshake, refuse(stream)).await;
            }
            Ok(Ok(Opening::Closed)) => self.metrics.count_handshake_error("closed"),
            Ok(Err(error)) => {
                self.metrics.count_handshake_error(reason(&error));
                tracing::debug!(%error, "a TLS handshake failed");
            }
            Err(_) => self.metrics.count_handshake_error("timeout"),
        }
        None
    }
}

impl Transport {
    async fn open(&self, stream: TcpStream) -> io::Result<Opening> {
        stream.set_nodelay(true)?;
        let Self::Tls(config) = self else {
            return Ok(Opening::Ready(Box::new(stream), Protocol::Http1));
        };
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(Opening::Closed);
        }
        if first[0] != TLS_HANDSHAKE {
            return Ok(Opening::PlainHttp(stream));
        }
        let stream = TlsAcceptor::from(config.clone()).accept(stream).await?;
        // By what was negotiated, and not by the first bytes: waiting for these would know no time limit.
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
        Ok(Opening::Ready(Box::new(stream), protocol))
    }
}

/// Answers a client that does not speak TLS that it has to.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN_HTTP_ANSWER).await?;
    stream.shutdown().await?;
    // Closing with unread input would reset the connection, and the answer could be lost.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
