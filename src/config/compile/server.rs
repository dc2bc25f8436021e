//! `server`, `admin` and `store`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{Compiler, shared};
use crate::config::limits::{
    BODY_BYTES_DEFAULT, CONNECTIONS_DEFAULT, GRACE_DEFAULT, HEAD_BYTES_DEFAULT, IN_FLIGHT_BYTES_DEFAULT, READ_TIMEOUT_DEFAULT,
    RETENTION_DEFAULT, STORE_BYTES_DEFAULT, STORE_KEY_BYTES_MIN,
};
use crate::config::resolve::{join, name};
use crate::config::scalar;
use crate::config::section::{Section, in_memory};
use crate::config::wrong::Wrong;
use crate::config::{Admin, AdminToken, Scope, Server, ServerLimits, StoreSettings};
use crate::document::Node;

const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
const ADMIN_LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
const STORE_PATH_DEFAULT: &str = "./data";

impl Compiler<'_> {
    pub(super) fn server(&mut self, section: &Section<'_>) -> Server {
        let limits = section.section("limits");
        let mut trusted_proxies = Vec::new();
        for (node, path) in section.items("trusted_proxies") {
            if let Ok(net) = scalar::net(node.as_str().unwrap_or_default()) {
                if net.prefix_len() == 0 {
                    let wrong = Wrong::new("believes X-Forwarded-* from anybody").hint("name the addresses of your own proxies");
                    self.report.warn(wrong, node.span, path);
                }
                trusted_proxies.push(net);
            }
        }
        Server {
            listen: section.text("listen").and_then(|text| scalar::socket(text).ok()).unwrap_or(LISTEN_DEFAULT),
            public_url: self.public_url(section),
            trusted_proxies,
            tls: self.server_tls(&section.section("tls")),
            limits: ServerLimits {
                body: in_memory(limits.size("body").unwrap_or(BODY_BYTES_DEFAULT)),
                headers: in_memory(limits.size("headers").unwrap_or(HEAD_BYTES_DEFAULT)),
                read_timeout: limits.duration("read_timeout").unwrap_or(READ_TIMEOUT_DEFAULT),
                connections: in_memory(limits.integer("connections").unwrap_or(CONNECTIONS_DEFAULT)),
                in_flight: in_memory(limits.size("in_flight").unwrap_or(IN_FLIGHT_BYTES_DEFAULT)),
                per_address: limits.rate("per_address"),
            },
            grace: section.duration("grace").unwrap_or(GRACE_DEFAULT),
        }
    }

    fn public_url(&mut self, section: &Section<'_>) -> Option<Arc<str>> {
        let text = section.text("public_url")?;
        if text.contains('?') {
            self.report.error(Wrong::new("the public URL has a query"), section.span("public_url"), section.path("public_url"));
        }
        Some(Arc::from(text.trim_end_matches('/')))
    }

    pub(super) fn admin(&mut self, section: &Section<'_>, server: &Server) -> Admin {
        let listen = section.text("listen").and_then(|text| scalar::socket(text).ok()).unwrap_or(ADMIN_LISTEN_DEFAULT);
        let mut tokens: Vec<AdminToken> = Vec::new();
        for (node, path) in section.items("tokens") {
            let Some(token) = self.token(&Section::new(node, path.clone())) else { continue };
            if tokens.iter().any(|other| other.name == token.name) {
                self.report.error(Wrong::new(format!("two tokens are named \"{}\"", token.name)), node.span, join(&path, "name"));
            }
            if tokens.iter().any(|other| other.secret.expose() == token.secret.expose()) {
                let wrong = Wrong::new("is the secret of another token too").hint("the audit could not tell them apart");
                self.report.error(wrong, node.span, join(&path, "secret"));
            }
            tokens.push(token);
        }
        if let Some(node) = section.get("token") {
            let path = section.path("token");
            if section.get("tokens").is_some() {
                self.report.error(Wrong::new("stands beside `tokens`").hint("one of the two"), node.span, &path);
            }
            if let Some(secret) = self.plain_secret(node, &path) {
                self.warn_if_short(&secret, node, &path);
                tokens.push(AdminToken { name: shared("token"), scopes: vec![Scope::Read, Scope::Operate, Scope::Orders], secret });
            }
        }
        let protected = section.get("tokens").is_some() || section.get("token").is_some();
        if !listen.ip().is_loopback() && !protected {
            let wrong = Wrong::new(format!("{listen} can be reached from other machines, and there is no token"))
                .hint("set `admin.token: { env: KURIER_ADMIN_TOKEN }`, or listen on 127.0.0.1");
            self.report.error(wrong, section.span("listen"), section.path("listen"));
        }
        let same_port = listen.port() != 0 && listen.port() == server.listen.port();
        let same_address = listen.ip() == server.listen.ip() || listen.ip().is_unspecified() || server.listen.ip().is_unspecified();
        if same_port && same_address {
            let wrong = Wrong::new(format!("{listen} is taken by `server.listen` ({})", server.listen)).hint("choose another port");
            self.report.error(wrong, section.span("listen"), section.path("listen"));
        }
        Admin { listen, tokens }
    }

    fn token(&mut self, section: &Section<'_>) -> Option<AdminToken> {
        let secret = section.get("secret").and_then(|node| {
            let secret = self.plain_secret(node, &section.path("secret"))?;
            self.warn_if_short(&secret, node, &section.path("secret"));
            Some(secret)
        });
        let label = section.text("name")?;
        if let Err(wrong) = name(label) {
            self.report.error(wrong, section.span("name"), section.path("name"));
        }
        let mut scopes = Vec::new();
        for (node, path) in section.items("scopes") {
            let scope = match node.as_str()? {
                "read" => Scope::Read,
                "operate" => Scope::Operate,
                _ => Scope::Orders,
            };
            if scopes.contains(&scope) {
                self.report.error(Wrong::new("the scope occurs twice"), node.span, path);
            }
            scopes.push(scope);
        }
        Some(AdminToken { name: shared(label), scopes, secret: secret? })
    }

    pub(super) fn store(&mut self, section: &Section<'_>) -> StoreSettings {
        let key = section.get("key").and_then(|node| {
            let (path, key) = (section.path("key"), self.plain_secret(node, &section.path("key"))?);
            if key.expose().len() < STORE_KEY_BYTES_MIN {
                let wrong = Wrong::new(format!("is shorter than {STORE_KEY_BYTES_MIN} bytes")).hint("make one with `kurier secret new`");
                self.report.error(wrong, node.span, path);
            }
            Some(key)
        });
        StoreSettings {
            key,
            path: self.located(section.get("path").and_then(Node::as_str).unwrap_or(STORE_PATH_DEFAULT)),
            retention: section.duration("retention").unwrap_or(RETENTION_DEFAULT),
            max_size: section.size("max_size").unwrap_or(STORE_BYTES_DEFAULT),
            allow_file_systems: section
                .items("allow_file_systems")
                .into_iter()
                .filter_map(|(node, _)| node.as_str())
                .map(Box::from)
                .collect(),
        }
    }
}
