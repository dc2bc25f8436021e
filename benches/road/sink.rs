//! A destination that takes everything, by hand as the load generator is: both share the cores with what is measured.

use std::io::Write as _;

use anyhow::Context as _;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// Serves until the process is ended, and says on standard output where.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    LocalSet::new().run_until(take(listener, |_body: &[u8]| Ok(()))).await
}

/// Takes requests for ever, and answers each once its body was looked at.
pub(crate) async fn take(listener: TcpListener, look: impl Fn(&[u8]) -> anyhow::Result<()> + Clone + 'static) -> anyhow::Result<()> {
    loop {
        let (socket, _peer) = listener.accept().await?;
        socket.set_nodelay(true)?;
        spawn_local(connection(socket, look.clone()));
    }
}

async fn connection(mut socket: TcpStream, look: impl Fn(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let head = memmem::find(&buffer, b"\r\n\r\n").map(|at| at + 4);
        let request = head.map(|head| Ok::<_, anyhow::Error>((head, head + length(&buffer[..head])?))).transpose()?;
        let Some((head, end)) = request.filter(|(_, end)| buffer.len() >= *end) else {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        look(&buffer[head..end])?;
        buffer.drain(..end);
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}

/// How long the body behind this head is.
fn length(head: &[u8]) -> anyhow::Result<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let Some(at) = memmem::find(head, NAME) else { return Ok(0) };
    let digits = head[at + NAME.len()..].split(|byte| *byte == b'\r').next().context("a line")?;
    Ok(std::str::from_utf8(digits)?.parse()?)
}
