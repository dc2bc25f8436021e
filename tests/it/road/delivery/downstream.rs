//! A downstream that behaves as the path says that it is called at.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// `/status/503?retry-after=0`, `/raw/<hex>`, `/hang`, `/trickle`, `/reset`, `/continue`.
pub(super) struct Downstream {
    pub(super) address: SocketAddr,
    called: Arc<Mutex<Vec<String>>>,
}

impl Downstream {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, called) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let log = called.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = log.clone();
                // Whatever goes wrong here is the other side's affair.
                std::thread::spawn(move || drop(serve(&stream, &log)));
            }
        });
        Self { address, called }
    }

    /// A destination of this name that is called at this path.
    pub(super) fn destination(&self, name: &str, path: &str, settings: &str) -> String {
        format!(
            "  {name}: {{ url: 'http://{}{path}', timeout: 1s, retry: {{ first: 50ms, min: 50ms, max: 200ms }}{settings} }}\n",
            self.address
        )
    }

    /// How often this path was called.
    pub(super) fn count(&self, path: &str) -> usize {
        self.called.lock().unwrap().iter().filter(|called| *called == path).count()
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut start = String::new();
    reader.read_line(&mut start)?;
    let path = start.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    log.lock().unwrap().push(path.clone());
    let (kind, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    match kind {
        "status" => {
            let (status, retry_after) = rest.split_once("?retry-after=").unwrap_or((rest, ""));
            let date = retry_after.replace("%20", " ");
            let header = if date.is_empty() { String::new() } else { format!("retry-after: {date}\r\n") };
            let location = if status.starts_with('3') { "location: /status/200\r\n" } else { "" };
            write!(writer, "HTTP/1.1 {status} Said\r\n{header}{location}content-length: 0\r\nconnection: close\r\n\r\n")?;
        }
        "raw" => writer.write_all(&hex::decode(rest).unwrap())?,
        "hang" => std::thread::sleep(Duration::from_secs(30)),
        "trickle" => {
            writer.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 1000\r\n\r\n")?;
            for _ in 0..300 {
                writer.write_all(b"x")?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        "continue" => {
            for _ in 0..1000 {
                writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
        }
        // Closed in the middle of a line.
        _ => writer.write_all(b"HTTP/1.1 200")?,
    }
    Ok(())
}
