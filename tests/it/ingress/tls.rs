//! TLS at our own port.

use std::sync::Arc;
use std::time::Duration;

use kurier::config::Route;
use kurier::server::ServeOptions;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::{Client, post};
use super::world::{World, route};

/// A server's configuration and that of a client which trusts it alone.
fn pair() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

async fn handshake(world: &World, config: Arc<rustls::ClientConfig>) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

#[tokio::test]
async fn a_request_over_tls_is_accepted_and_its_base_says_https() {
    let (server, client) = pair();
    let world = World::with(|setup| setup.options.tls = Some(server)).await;
    let mut client = Client::over(handshake(&world, client).await.unwrap());
    assert_eq!(client.ask(post("/in", "hello")).await.status, 202);
    assert_eq!(&*world.events().await[0].base, "https://localhost");
}

/// Real time: the connection's rest of 100 ms has begun by the second request, and the third comes in two records around one.
#[tokio::test]
async fn a_connection_over_tls_goes_on_after_a_rest_and_loses_no_byte_in_it() {
    let (server, client) = pair();
    let world = World::with(|setup| {
        setup.options.tls = Some(server);
        setup.routes = vec![Route { body_limit: 100_000, ..route() }];
    })
    .await;
    let mut client = Client::over(handshake(&world, client).await.unwrap());
    assert_eq!(client.ask(post("/in", "one")).await.status, 202);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let large = "x".repeat(40_000);
    let third = post("/in", "three");
    let (begin, end) = third.split_at(25);
    client.send(format!("{}{begin}", post("/in", &large))).await;
    assert_eq!(client.answer().await.unwrap().status, 202);
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(client.ask(end).await.status, 202);
    let bodies: Vec<_> = world.events().await.iter().map(|event| event.body.clone()).collect();
    assert_eq!(bodies, ["one", &*large, "three"]);
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_old_ones_go_on() {
    let (server, old) = pair();
    let world = World::with(|setup| setup.options.tls = Some(server)).await;
    let mut open = Client::over(handshake(&world, old.clone()).await.unwrap());
    assert_eq!(open.ask(post("/in", "one")).await.status, 202);
    let (server, new) = pair();
    world.options.store(Arc::new(ServeOptions { tls: Some(server), ..ServeOptions::default() }));
    assert!(handshake(&world, old).await.is_err(), "the old certificate is no longer shown");
    let mut fresh = Client::over(handshake(&world, new).await.unwrap());
    assert_eq!(fresh.ask(post("/in", "two")).await.status, 202);
    assert_eq!(open.ask(post("/in", "three")).await.status, 202);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_and_plain_text_are_closed() {
    let (server, _) = pair();
    let world = World::with(|setup| {
        setup.options.tls = Some(server);
        setup.options.head_timeout = Duration::from_millis(300);
    })
    .await;
    let mut slow = world.client().await;
    slow.send(b"\x16\x03\x01\x02").await;
    slow.ends_here().await;
    let mut plain = world.client().await;
    plain.send(post("/in", "hello")).await;
    let rest = plain.rest().await;
    assert!(!rest.starts_with(b"HTTP"), "answered in the clear");
    assert!(world.store.is_empty());
}
