//! The two ports: inherited from whoever started us (LISTEN_FDS), or opened here.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps until they are accepted; beyond it a sender's first packet is lost and sent
/// again a second later. The kernel caps it by `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Why a port can't be had.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address}: {source}{hint}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
    hint: &'static str,
}

impl ListenError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        let hints = [
            (ErrorKind::AddrInUse, "; another process has the port: `ss -ltnp` names it"),
            (ErrorKind::AddrNotAvailable, "; this machine has no such address"),
            (ErrorKind::PermissionDenied, "; ports below 1024 need a privilege: use a higher one, or socket activation"),
        ];
        let hint = hints.iter().find(|(kind, _)| *kind == source.kind()).map_or("", |(_, hint)| *hint);
        Self { address, source, hint }
    }

    /// Whether another process has the port.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == ErrorKind::AddrInUse
    }
}

/// Both listeners and the addresses they really have.
pub(super) struct Listeners {
    pub(super) public: TcpListener,
    pub(super) admin: TcpListener,
    pub(super) public_address: SocketAddr,
    pub(super) admin_address: SocketAddr,
}

impl Listeners {
    /// Takes the inherited sockets, the public one first, and opens what was not handed down.
    pub(super) fn open(public: SocketAddr, admin: SocketAddr) -> Result<Self, ListenError> {
        let mut inherited = ListenFd::from_env();
        let (public, public_address) = take(&mut inherited, 0, public)?;
        let (admin, admin_address) = take(&mut inherited, 1, admin)?;
        Ok(Self { public, admin, public_address, admin_address })
    }
}

fn take(inherited: &mut ListenFd, index: usize, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let fail = |source| ListenError::new(address, source);
    // An index beyond those that were handed down is an error to the crate and the usual case to us.
    let handed_down = if index < inherited.len() { inherited.take_tcp_listener(index).map_err(fail)? } else { None };
    let listener = match handed_down {
        Some(listener) => listener,
        None => {
            return bind(address)
                .and_then(|listener| Ok((listener.local_addr()?, listener)))
                .map(|(local, own)| (own, local))
                .map_err(fail);
        }
    };
    listener.set_nonblocking(true).map_err(fail)?;
    let local = listener.local_addr().map_err(fail)?;
    Ok((TcpListener::from_std(listener).map_err(fail)?, local))
}

/// A port of our own. The address may be taken again at once after a restart.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_said_so() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = Listeners::open(taken.local_addr().unwrap(), "127.0.0.1:0".parse().unwrap()).err().unwrap();
        assert!(error.is_in_use());
        assert!(error.to_string().contains("another process has the port"), "{error}");
    }
}
