//! A client that sends exactly the bytes it is given and shows exactly what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any time-out that a test configures; nothing waits this long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
pub(super) struct Client<I = TcpStream> {
    pub(super) stream: I,
    received: Vec<u8>,
}

/// One answer as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim())
    }
}

impl Client {
    /// Connects.
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Client<I> {
    /// Speaks over this stream.
    pub(super) fn over(stream: I) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Sends these bytes; a server that has hung up meanwhile is no fault of the client.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        drop(timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("the server doesn't read"));
    }

    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
        read.expect("neither an answer nor a close").is_ok_and(|count| count > 0)
    }

    /// The next answer; `None` when the connection is closed without one.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        self.answer_to(false).await
    }

    /// The next answer to a HEAD request, which has no body whatever its length says.
    pub(super) async fn answer_to(&mut self, head_request: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                assert!(self.received.is_empty(), "half an answer: {}", String::from_utf8_lossy(&self.received));
                return None;
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if !head_request {
            while self.received.len() < length {
                assert!(self.more().await, "the answer's body is cut off");
            }
            answer.body = self.received.drain(..length).collect();
        }
        Some(answer)
    }

    /// Sends bytes and waits for an answer.
    pub(super) async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes).await;
        self.answer().await.expect("closed without an answer")
    }

    /// Waits for the connection to be closed and returns what came before that.
    pub(super) async fn rest(mut self) -> Vec<u8> {
        while self.more().await {}
        self.received
    }

    /// Asserts that the connection is closed without a further byte.
    pub(super) async fn ends_here(self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "instead of a close: {}", String::from_utf8_lossy(&rest));
    }
}

/// A POST with this body.
pub(super) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A GET.
pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}
