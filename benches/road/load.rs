//! The load generator: one thread, keep-alive connections, one write and one read per request. Every body is
//! unique and signed, as a d.velop smart invoice notification is.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

pub(crate) const SECRET: &[u8] = b"a secret that only the benchmark knows";
pub(crate) const SIGNATURE_HEADER: &str = "x-smart-invoice-signature";
pub(crate) const PATH: &str = "/callbacks/dvelop";

/// What to send.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) connections: usize,
    /// Bytes of each body.
    pub(crate) body: usize,
    pub(crate) window: Duration,
    /// Events a second in all; none: as many as the connections take.
    pub(crate) rate: Option<f64>,
    /// No more than so many events, whatever the window.
    pub(crate) events: u64,
}

/// What came of it.
pub(crate) struct Measured {
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Processor time of the server.
    pub(crate) cpu: Duration,
    /// Bytes, the most that the server held.
    pub(crate) rss_peak: u64,
    /// Deliveries that waited when the load ended.
    pub(crate) backlog: u64,
}

impl Measured {
    /// Events a second.
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }
}

impl Load {
    /// As fast as this many connections go for so long, each with one request under way.
    pub(crate) fn closed(address: SocketAddr, connections: usize, body: usize, window: Duration) -> Self {
        Self { address, path: PATH, connections, body, window, rate: None, events: u64::MAX }
    }

    pub(crate) async fn run(&self) -> anyhow::Result<Measured> {
        let first = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let end = first.saturating_add(self.events.into());
        let serial = Rc::new(Cell::new(first));
        let mut sockets = Vec::new();
        for _ in 0..self.connections {
            let socket = TcpStream::connect(self.address).await.context("connecting")?;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        let begin = Instant::now();
        let local = LocalSet::new();
        let tasks: Vec<_> = sockets
            .into_iter()
            .enumerate()
            .map(|(number, socket)| local.spawn_local(self.connection(socket, number, (serial.clone(), end), begin)))
            .collect();
        local.await;
        let mut latency = Histogram::new(3)?;
        for task in tasks {
            latency.add(task.await??)?;
        }
        let events = latency.len();
        Ok(Measured { events, elapsed: begin.elapsed(), latency, cpu: Duration::ZERO, rss_peak: 0, backlog: 0 })
    }

    fn connection(
        self,
        mut socket: TcpStream,
        number: usize,
        (serial, end): (Rc<Cell<u128>>, u128),
        begin: Instant,
    ) -> impl Future<Output = anyhow::Result<Histogram<u64>>> + 'static {
        let every = self.rate.map(|rate| Duration::from_secs_f64(self.connections as f64 / rate));
        // The connections take turns instead of all being due at once.
        let mut due = begin + every.unwrap_or_default().mul_f64(number as f64 / self.connections as f64);
        async move {
            let mut latency = Histogram::new(3)?;
            let (mut request, mut answer) = (Vec::new(), vec![0; 4096]);
            loop {
                let from = match every {
                    Some(every) => {
                        tokio::time::sleep_until(due.into()).await;
                        let scheduled = due;
                        due += every;
                        scheduled
                    }
                    None => Instant::now(),
                };
                if from.duration_since(begin) >= self.window || serial.get() >= end {
                    return Ok(latency);
                }
                serial.set(serial.get() + 1);
                compose(&mut request, self.path, serial.get(), self.body)?;
                socket.write_all(&request).await?;
                read_answer(&mut socket, &mut answer).await?;
                latency.record(u64::try_from(from.elapsed().as_micros())?.max(1))?;
            }
        }
    }
}

/// A whole request with a body that no other has.
pub(crate) fn compose(request: &mut Vec<u8>, path: &str, serial: u128, size: usize) -> anyhow::Result<()> {
    use std::io::Write as _;
    // The link to which its result is reported is what a d.velop notification is known by.
    let mut body = format!(
        "{{\"event_type\":\"integration.export\",\"workflow\":{{\"id\":\"{serial}\"}},\"_links\":{{\"report_results_async\":{{\"href\":\
         \"https://acme.d-velop.cloud/transfers/{serial}\"}}}},\"text\":\""
    );
    let filler = size.saturating_sub(body.len() + 2);
    body.extend(std::iter::repeat_n('x', filler));
    body.push_str("\"}");
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET)?;
    mac.update(time.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    request.clear();
    write!(
        request,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{SIGNATURE_HEADER}: t={time},v1={signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

/// The number in the body of [`compose`].
pub(crate) fn serial(body: &[u8]) -> anyhow::Result<u128> {
    let text = std::str::from_utf8(body)?;
    let (_, rest) = text.split_once("\"id\":\"").context("a number")?;
    let (number, _) = rest.split_once('"').context("its end")?;
    Ok(number.parse()?)
}

/// Reads one answer, which must be 2xx and shorter than the buffer.
pub(crate) async fn read_answer(socket: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut filled = 0;
    loop {
        let read = socket.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "the server closed the connection without an answer");
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
        if !text.starts_with("http/1.1 2") {
            bail!("answered {}", text.lines().next().unwrap_or_default());
        }
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(Ok(0), str::parse::<usize>)?;
        if filled >= head + 4 + length {
            return Ok(());
        }
    }
}

/// One GET on a connection of its own; the answer's body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    call(address, "GET", path).await
}

/// One request without a body on a connection of its own; the answer's body.
pub(crate) async fn call(address: SocketAddr, method: &str, path: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    socket
        .write_all(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
    ensure!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    Ok(body.to_owned())
}
