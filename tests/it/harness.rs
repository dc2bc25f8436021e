//! The built binary as a child process, a downstream that records, and a small HTTP client: all on real
//! sockets, and none of it Kurier's own code.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How long anything may take that takes milliseconds when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the condition holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder with a routes.yaml, and the binary to run in it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Home {
    pub(crate) fn new(routes_yaml: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() };
        home.write("routes.yaml", routes_yaml);
        home
    }

    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// The binary with these arguments, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kurier"));
        command.current_dir(self.path()).args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts `kurier serve` and waits until it is up.
    pub(crate) fn serve(&self) -> Serving {
        Self::serve_as(self.command(&["serve"]))
    }

    /// Starts this `kurier serve` and waits until it is up.
    pub(crate) fn serve_as(mut command: Command) -> Serving {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = writer.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut serving = Serving { child, log, public: "127.0.0.1:1".parse().unwrap(), admin: "127.0.0.1:1".parse().unwrap() };
        let mut found = None;
        wait_until("kurier serve is up", || {
            assert!(serving.child.try_wait().unwrap().is_none(), "kurier serve ended:\n{}", serving.log());
            found = addresses(&serving.log());
            found.is_some()
        });
        (serving.public, serving.admin) = found.unwrap();
        serving
    }
}

/// The two addresses of the line that says that Kurier is up.
fn addresses(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = log.lines().find(|line| line.contains("kurier is up: callbacks on "))?;
    let (_, rest) = line.split_once("callbacks on ")?;
    let (public, rest) = rest.split_once(", admin on ")?;
    let admin: String = rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
    Some((public.parse().ok()?, admin.parse().ok()?))
}

/// What a finished run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running `kurier serve`; killed when dropped.
pub(crate) struct Serving {
    child: Child,
    log: Arc<Mutex<String>>,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Serving {
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Sends a signal by its name, as `kill -NAME` does.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// `kill -9`, and waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        let mut status = None;
        wait_until("kurier serve has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An HTTP message: a request as the downstream saw it, or an answer.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// An answer's status.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads one HTTP/1.1 message whose length is given by Content-Length (or nothing follows the head).
fn read_message(reader: &mut impl BufRead) -> std::io::Result<Option<Message>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let start = line.trim_end().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(Message { start, headers, body }))
}

/// Sends one request on a connection of its own. An error, or `None`: no answer came.
pub(crate) fn try_request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Option<Message>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    read_message(&mut BufReader::new(stream))
}

pub(crate) fn request(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
    try_request(address, method, target, headers, body).unwrap().expect("an answer")
}

/// A downstream that records what it gets and answers from a script, then 200.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<SinkState>>,
}

#[derive(Default)]
struct SinkState {
    received: Vec<Message>,
    script: VecDeque<String>,
    otherwise: Option<String>,
    /// Most bytes of a body that are kept.
    keeps: Option<usize>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let sink = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = sink.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = state.clone();
                std::thread::spawn(move || serve_sink(stream, &state));
            }
        });
        sink
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next answers, such as `503 Service Unavailable` or `429 Slow\r\nretry-after: 1`.
    pub(crate) fn script(&self, answers: &[&str]) {
        self.state.lock().unwrap().script.extend(answers.iter().map(|answer| (*answer).to_owned()));
    }

    /// From now on only so many bytes of each body are kept.
    pub(crate) fn keep(&self, bytes: usize) {
        self.state.lock().unwrap().keeps = Some(bytes);
    }

    /// The answer when the script has ended.
    pub(crate) fn otherwise(&self, answer: &str) {
        self.state.lock().unwrap().otherwise = Some(answer.to_owned());
    }

    pub(crate) fn received(&self) -> Vec<Message> {
        self.state.lock().unwrap().received.clone()
    }

    /// Waits until so many requests have come, and returns them.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Message> {
        wait_until(&format!("{count} deliveries"), || self.state.lock().unwrap().received.len() >= count);
        self.received()
    }
}

fn serve_sink(stream: TcpStream, state: &Mutex<SinkState>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Ok(Some(mut message)) = read_message(&mut reader) {
        let answer = {
            let mut state = state.lock().unwrap();
            if let Some(keeps) = state.keeps {
                message.body.truncate(keeps);
                message.body.shrink_to_fit();
            }
            state.received.push(message);
            let scripted = state.script.pop_front();
            scripted.or_else(|| state.otherwise.clone()).unwrap_or_else(|| "200 OK".to_owned())
        };
        if writer.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn unix_now() -> String {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().to_string()
}

/// The value of `X-Smart-Invoice-Signature` for a body.
pub(crate) fn dvelop_signature(secret: &str, body: &[u8]) -> String {
    dvelop_signature_at(secret, &unix_now(), body)
}

/// The same at another time.
pub(crate) fn dvelop_signature_at(secret: &str, t: &str, body: &[u8]) -> String {
    format!("t={t},v1={}", hex::encode(hmac_sha256(secret.as_bytes(), &[t.as_bytes(), b".", body])))
}

/// The value of `X-Hub-Signature-256` for a body.
pub(crate) fn github_signature(secret: &str, body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac_sha256(secret.as_bytes(), &[body])))
}

/// The `v1` value of `webhook-signature` for a message, under a `whsec_` secret.
pub(crate) fn standard_signature(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let engine = base64::engine::general_purpose::STANDARD;
    let key = engine.decode(secret.trim_start_matches("whsec_")).unwrap();
    format!("v1,{}", engine.encode(hmac_sha256(&key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])))
}

/// A free loopback port, for a server that must come back on the same one.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
