//! The transport against real sockets on loopback that misbehave.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use kurier::egress::{Fault, HttpTransport, Outbound, REPLY_BODY_BYTES_MAX, Reach, Reply, Transport, admin_call};
use kurier::model::{ClientTls, FaultKind, Secret};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request read from a socket: its head and its body.
struct Request {
    head: Vec<u8>,
    body: Vec<u8>,
}

async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = bytes[..end].to_vec();
            let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = text.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().trim().parse().unwrap());
            let mut body = bytes[end + 4..].to_vec();
            while body.len() < length {
                stream.read_buf(&mut body).await.ok().filter(|read| *read > 0)?;
            }
            return Some(Request { head, body });
        }
        stream.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
    }
}

/// Serves every connection with `serve`, and counts them.
async fn server<F: Future<Output = ()> + Send>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            serve(stream).await;
        }
    });
    (address, connections)
}

/// A server that answers every request with these bytes and closes.
async fn saying(answer: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    server(move |mut stream| async move {
        if read_request(&mut stream).await.is_some() {
            drop(stream.write_all(answer).await);
        }
    })
    .await
}

fn outbound(url: &str) -> Outbound {
    Outbound {
        method: Method::POST,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"hello"),
        timeout: Duration::from_secs(10),
        tls: None,
        reach: Reach::Anywhere,
    }
}

async fn send(request: Outbound) -> Result<Reply, Fault> {
    HttpTransport::new().unwrap().send(request).await
}

async fn fault(request: Outbound) -> FaultKind {
    let fault = send(request).await.unwrap_err();
    for secret in ["127.0.0.1", "localhost", "t0ken"] {
        assert!(!fault.detail.contains(secret), "{fault}");
    }
    fault.kind
}

#[tokio::test]
async fn a_plain_request_is_answered() {
    let (seen, mut requests) = tokio::sync::mpsc::channel(1);
    let (address, _) = server(move |mut stream| {
        let seen = seen.clone();
        async move {
            let request = read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 202 Accepted\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            drop(seen.send(request).await);
        }
    })
    .await;
    let mut request = outbound(&format!("http://us:t0ken@localhost:{}/a%2Fb?x=%C3%A9", address.port()));
    request.headers.append("x-a", HeaderValue::from_bytes(b"\xe9\xff").unwrap());
    request.headers.append("x-a", HeaderValue::from_static("2"));
    let reply = send(request).await.unwrap();
    assert_eq!((reply.status, &*reply.body, reply.truncated), (StatusCode::ACCEPTED, &b"ok"[..], false));
    let Request { head, body } = requests.recv().await.unwrap();
    assert_eq!(body, b"hello");
    let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    assert_eq!(lines[0], b"POST /a%2Fb?x=%C3%A9 HTTP/1.1");
    for expected in [&b"x-a: \xe9\xff"[..], b"x-a: 2", b"content-length: 5", b"authorization: Basic dXM6dDBrZW4="] {
        assert!(lines.contains(&expected), "{}", String::from_utf8_lossy(&head));
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(!text.contains("accept-encoding") && !text.contains("cookie"), "{text}");
}

#[test]
fn a_proxy_in_the_environment_is_not_used() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"] {
        child.env(name, "http://127.0.0.1:9");
    }
    let output = child.args(["--exact", "relay::transport::a_plain_request_is_answered"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, called) = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let (address, _) = server(move |mut stream| async move {
        read_request(&mut stream).await;
        let answer = format!("HTTP/1.1 307 Temporary\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
        drop(stream.write_all(answer.as_bytes()).await);
    })
    .await;
    let reply = send(outbound(&format!("http://{address}/"))).await.unwrap();
    assert_eq!((reply.status.as_u16(), called.load(Ordering::SeqCst)), (307, 0));
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_cap_and_dropped() {
    let (closed, mut was_closed) = tokio::sync::mpsc::channel(1);
    let (address, _) = server(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
            let mut written: usize = 0;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                written += 4096;
            }
            closed.send(written).await.unwrap_or_default();
        }
    })
    .await;
    let transport = HttpTransport::new().unwrap();
    let reply = transport.send(outbound(&format!("http://{address}/"))).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len(), reply.truncated), (200, REPLY_BODY_BYTES_MAX, true));
    // What fits into the sockets' buffers is written, then the other side notices.
    assert!(was_closed.recv().await.unwrap() < 64 << 20);
}

#[tokio::test]
async fn silence_and_a_trickle_end_at_the_timeout() {
    let (silent, _) = server(|mut stream| async move {
        read_request(&mut stream).await;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(stream);
        });
    })
    .await;
    let (trickling, _) = server(|mut stream| async move {
        read_request(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\n").await);
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for address in [silent, trickling] {
        let request = Outbound { timeout: Duration::from_millis(200), ..outbound(&format!("http://{address}/?t0ken")) };
        assert_eq!(fault(request).await, FaultKind::Timeout);
    }
}

#[tokio::test]
async fn a_yes_is_a_yes_even_when_the_rest_of_it_is_lost() {
    for answer in
        [&b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx"[..], b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\nzz"]
    {
        let (address, _) = saying(answer).await;
        let reply = send(outbound(&format!("http://{address}/"))).await.unwrap();
        assert_eq!((reply.status.as_u16(), &reply.body[..], reply.truncated), (200, &b"x"[..], true));
    }
    let (hanging, _) = server(|mut stream| async move {
        read_request(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx").await);
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let request = Outbound { timeout: Duration::from_millis(200), ..outbound(&format!("http://{hanging}/")) };
    assert!(send(request).await.unwrap().truncated);
}

#[tokio::test]
async fn a_post_without_a_body_says_so() {
    let (address, _) = server(|mut stream| async move {
        let request = read_request(&mut stream).await.unwrap();
        let said = String::from_utf8_lossy(&request.head).to_ascii_lowercase().contains("content-length: 0");
        let status = if said { "200 OK" } else { "411 Length Required" };
        drop(stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await);
    })
    .await;
    let reply = send(Outbound { body: Bytes::new(), ..outbound(&format!("http://{address}/")) }).await.unwrap();
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_reset() {
    for answer in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nx",
        b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let (address, _) = saying(answer).await;
        assert_eq!(fault(outbound(&format!("http://{address}/"))).await, FaultKind::Reset, "{answer:?}");
    }
    let (address, _) = server(|mut stream| async move {
        read_request(&mut stream).await;
        socket_reset(stream);
    })
    .await;
    assert_eq!(fault(outbound(&format!("http://{address}/"))).await, FaultKind::Reset);
}

/// Closes with what was sent left unread, which resets the connection.
fn socket_reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_fault() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n",
        b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ] {
        let (address, _) = saying(answer).await;
        assert_eq!(fault(outbound(&format!("http://{address}/"))).await, FaultKind::Protocol, "{}", String::from_utf8_lossy(answer));
    }
    let (address, _) = server(|mut stream| async move {
        read_request(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: 1\r\n".repeat(100_000));
        drop(stream.write_all(head.as_bytes()).await);
    })
    .await;
    assert_eq!(fault(outbound(&format!("http://{address}/"))).await, FaultKind::Protocol);
}

#[tokio::test]
async fn odd_but_legal_answers_are_answers() {
    let (address, _) = saying(b"HTTP/1.1 503 \xc3\x9cberlastet \xe9\r\nx-a: \xe9\xff\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await;
    let reply = send(outbound(&format!("http://{address}/"))).await.unwrap();
    assert_eq!(
        (reply.status.as_u16(), reply.headers["x-a"].as_bytes(), &reply.headers["retry-after"]),
        (503, &b"\xe9\xff"[..], &HeaderValue::from_static("7"))
    );
    let (address, _) = server(|mut stream| async move {
        read_request(&mut stream).await;
        drop(stream.write_all("HTTP/1.1 100 Continue\r\n\r\n".repeat(500).as_bytes()).await);
        drop(stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await);
    })
    .await;
    assert_eq!(send(outbound(&format!("http://{address}/"))).await.unwrap().status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn refused_connections_unknown_names_and_metadata_addresses_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(fault(outbound(&format!("http://{free}/"))).await, FaultKind::Connect);
    assert_eq!(fault(outbound("http://no-such-host.invalid/")).await, FaultKind::Dns);
    for url in
        ["http://169.254.169.254/latest/meta-data", "http://[::ffff:169.254.169.254]/", "http://2852039166/", "https://[fd00:ec2::254]/"]
    {
        let fault = send(outbound(url)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::ForbiddenAddress, "{url}: {fault}");
    }
}

pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(crate) pem: String,
}

pub(crate) fn authority() -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: rcgen::Issuer::new(params, key), pem }
}

/// A certificate for this name, and its key.
fn certificate(authority: &Authority, name: &str, expired: bool) -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    }
    (params.signed_by(&key, &authority.issuer).unwrap(), key)
}

/// A TLS server with a certificate for this name that answers 200; with `clients`, only to their clients.
pub(crate) async fn tls_server(authority: &Authority, name: &str, expired: bool, clients: Option<&Authority>) -> SocketAddr {
    tls_saying(authority, name, expired, clients, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await
}

/// The same, that answers every request with these bytes and closes.
async fn tls_saying(authority: &Authority, name: &str, expired: bool, clients: Option<&Authority>, answer: &'static [u8]) -> SocketAddr {
    let (certificate, key) = certificate(authority, name, expired);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            let der =
                <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(clients.pem.as_bytes()).unwrap();
            roots.add(der).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (address, _) = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if read_request(&mut stream).await.is_some() {
                drop(stream.write_all(answer).await);
                drop(stream.shutdown().await);
            }
        }
    })
    .await;
    address
}

fn tls_request(address: SocketAddr, ca: Option<&Authority>, identity: Option<Secret>) -> Outbound {
    let tls = Some(Arc::new(ClientTls { ca: ca.map(|ca| ca.pem.clone().into_bytes()), identity }));
    Outbound { tls, ..outbound(&format!("https://localhost:{}/", address.port())) }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_of_the_right_name_and_in_its_time() {
    let (ours, theirs) = (authority(), authority());
    let good = tls_server(&ours, "localhost", false, None).await;
    assert_eq!(send(tls_request(good, Some(&ours), None)).await.unwrap().status, StatusCode::OK);
    assert_eq!(fault(tls_request(good, Some(&theirs), None)).await, FaultKind::Tls);
    assert_eq!(fault(outbound(&format!("https://localhost:{}/", good.port()))).await, FaultKind::Tls);
    let expired = tls_server(&ours, "localhost", true, None).await;
    assert_eq!(fault(tls_request(expired, Some(&ours), None)).await, FaultKind::Tls);
    let misnamed = tls_server(&ours, "other.test", false, None).await;
    assert_eq!(send(tls_request(misnamed, Some(&ours), None)).await.unwrap_err().kind, FaultKind::Tls);
    let (plain, _) = server(|mut stream| async move {
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        drop(read_request(&mut stream).await);
    })
    .await;
    assert_eq!(fault(tls_request(plain, Some(&ours), None)).await, FaultKind::Tls);
}

/// A client of its own makes these calls: what comes back means the same.
#[tokio::test]
async fn answers_over_tls_are_told_apart_as_those_without() {
    let authority = authority();
    let request = async |answer| tls_request(tls_saying(&authority, "localhost", false, None, answer).await, Some(&authority), None);
    for (answer, kind) in [
        (&b""[..], FaultKind::Reset),
        (b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nx", FaultKind::Reset),
        (b"HTTP/1.1 banana\r\n\r\n", FaultKind::Protocol),
        (b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab", FaultKind::Protocol),
    ] {
        assert_eq!(fault(request(answer).await).await, kind, "{}", String::from_utf8_lossy(answer));
    }
    let cut_off = send(request(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx").await).await.unwrap();
    assert_eq!((&cut_off.body[..], cut_off.truncated), (&b"x"[..], true));
    let moved = send(request(b"HTTP/1.1 307 No\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n").await).await.unwrap();
    assert_eq!(moved.status, StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn our_own_certificate_is_shown_where_it_is_asked_for() {
    let (ours, clients) = (authority(), authority());
    let address = tls_server(&ours, "localhost", false, Some(&clients)).await;
    let (certificate, key) = certificate(&clients, "kurier", false);
    let identity = Secret::new(format!("{}{}", certificate.pem(), key.serialize_pem()).into_bytes());
    assert_eq!(send(tls_request(address, Some(&ours), Some(identity))).await.unwrap().status, StatusCode::OK);
    let refused = fault(tls_request(address, Some(&ours), None)).await;
    assert!(matches!(refused, FaultKind::Tls | FaultKind::Reset), "{refused:?}");
}

#[tokio::test]
async fn connections_are_reused() {
    let (address, connections) = server(|mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await);
        }
    })
    .await;
    let transport = HttpTransport::new().unwrap();
    for _ in 0..5 {
        transport.send(outbound(&format!("http://{address}/"))).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// As many as a destination of the largest `concurrency` may have: their attempts end together, and go again together.
#[tokio::test]
async fn connections_that_fall_idle_together_are_all_reused() {
    const AT_ONCE: usize = 100;
    let (address, connections) = server(|mut stream| async move {
        tokio::spawn(async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        });
    })
    .await;
    let transport = HttpTransport::new().unwrap();
    for _ in 0..20 {
        let sent = (0..AT_ONCE).map(|_| transport.send(outbound(&format!("http://{address}/x"))));
        assert!(futures_util::future::join_all(sent).await.iter().all(Result::is_ok));
    }
    // One that is just being given back when it is wanted again may have a second one beside it.
    let made = connections.load(Ordering::SeqCst);
    assert!(made <= 3 * AT_ONCE, "{made} connections for {AT_ONCE} requests at a time");
}

#[tokio::test]
async fn the_admin_api_is_called_with_its_token_and_answers_whole() {
    let (address, _) = server(|mut stream| async move {
        let request = read_request(&mut stream).await.unwrap();
        let head = String::from_utf8(request.head).unwrap().to_ascii_lowercase();
        let known = head.starts_with("post /api/v1/x http/1.1") && head.contains("authorization: bearer t0ken") && request.body == b"{}";
        let body = "x".repeat(1 << 20);
        let answer = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n\r\n{body}", if known { "202 Ok" } else { "401 No" }, body.len());
        drop(stream.write_all(answer.as_bytes()).await);
    })
    .await;
    let url = format!("http://{address}/api/v1/x").parse().unwrap();
    let token = Secret::new(b"t0ken".to_vec());
    let (status, body) =
        admin_call(Method::POST, url, Some(&token), Some(Bytes::from_static(b"{}")), Duration::from_secs(10)).await.unwrap();
    assert_eq!((status.as_u16(), body.len()), (202, 1 << 20));
}
