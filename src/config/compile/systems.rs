//! The settings of the five systems: read here, checked by the connectors themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::Compiler;
use super::destination::is_open;
use crate::config::limits::{CONCURRENCY_DEFAULT, TIMEOUT_DEFAULT};
use crate::config::section::{Section, in_memory};
use crate::config::systems::{acknowledgement_name, confirmation_name, pull_name};
use crate::config::wrong::Wrong;
use crate::config::{Auth, BankReport, Breaker, Destination, Format, Pull, Retry, Route, RouteIndex, Source, Target, path, scalar};
use crate::connectors::oauth::{ClientAuth, TokenFormat};
use crate::connectors::{Invalid, bankintegration, dvelop, inpasy, oauth, payjoe, smartbusiness, sns};
use crate::model::{Name, Secret};

/// The longest time for one page of what is fetched.
const FETCH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// What can stand at a destination.
const TARGETS: [&str; 4] = ["url", "payjoe", "bankintegration", "smartbusiness"];

/// What only an HTTP endpoint is sent.
const HTTP_ONLY: [&str; 4] = ["as", "sign", "auth", "headers"];

/// How a route's events are acknowledged, and the destination that stands for it.
pub(super) struct Acknowledging {
    pub(super) settings: Arc<dvelop::Acknowledge>,
    pub(super) destination: Destination,
}

/// What a route fetches, and the destination that stands for it.
pub(super) struct Pulling {
    pub(super) settings: Arc<Pull>,
    pub(super) destination: Destination,
}

/// A destination that nobody has written: it stands for something of a route.
fn stand_in(name: Name, target: Target, auth: Option<Auth>, timeout: Duration, retry: Retry) -> Destination {
    Destination {
        name,
        target,
        format: Format::Original,
        signer: None,
        auth,
        headers: http::HeaderMap::new(),
        timeout,
        retry,
        concurrency: in_memory(CONCURRENCY_DEFAULT),
        rate: None,
        breaker: Breaker::default(),
        tls: None,
    }
}

impl Compiler<'_> {
    /// `acknowledge.dvelop` of a route.
    pub(super) fn acknowledge(&mut self, route: &str, section: &Section<'_>) -> Option<Acknowledging> {
        if !section.exists() {
            return None;
        }
        let error = section.section("error");
        let networks = section.items("allow_private");
        let draft = dvelop::AcknowledgeDraft {
            origin: section.flag("origin"),
            allowed_hosts: section.get("allowed_hosts").map(|_| section.texts("allowed_hosts")),
            allow_private: networks.iter().filter_map(|(node, _)| scalar::net(node.as_str()?).ok()).collect(),
            deadline: section.duration("deadline"),
            continue_after_deadline: section.text("after_deadline") == Some("continue"),
            error_de: error.text("de").map(str::to_owned),
            error_en: error.text("en").map(str::to_owned),
        };
        let auth = self.auth(&section.section("auth"));
        let retry = self.retry(&section.section("retry"));
        if auth.is_none() {
            let wrong = Wrong::new("nothing authenticates the report").hint("d.velop wants its API key: `auth: { bearer: { env: NAME } }`");
            self.report.warn(wrong, section.span("auth"), section.path("auth"));
        }
        let settings = Arc::new(self.checked(section, dvelop::Acknowledge::new(draft))?);
        let timeout = section.duration("timeout").unwrap_or(TIMEOUT_DEFAULT);
        let destination = stand_in(acknowledgement_name(route), Target::DvelopReport(settings.clone()), auth, timeout, retry);
        Some(Acknowledging { settings, destination })
    }

    /// `acknowledge.sns` of a route; without `confirm: true` it is as if it were not there.
    pub(super) fn confirm(&mut self, route: &str, section: &Section<'_>) -> Option<Destination> {
        if !section.exists() {
            return None;
        }
        let endpoint = section.text("endpoint").and_then(|text| scalar::url(text).ok());
        let retry = self.retry(&section.section("retry"));
        let settings = Arc::new(self.checked(section, sns::Confirm::new(endpoint))?);
        let timeout = section.duration("timeout").unwrap_or(TIMEOUT_DEFAULT);
        let destination = stand_in(confirmation_name(route), Target::SnsConfirm(settings), None, timeout, retry);
        section.flag("confirm").unwrap_or(false).then_some(destination)
    }

    /// `inpasy` of a route.
    pub(super) fn inpasy(&mut self, section: &Section<'_>) -> Option<Arc<inpasy::Settings>> {
        if !section.exists() {
            return None;
        }
        let (id, result) = (section.section("id"), section.section("result"));
        let url = |key: &str| section.text(key).and_then(|text| scalar::url(text).ok());
        let text = |section: &Section<'_>, key: &str| section.text(key).map(str::to_owned);
        let draft = inpasy::SettingsDraft {
            start_url: url("start_url"),
            id_url: url("id_url"),
            id_pointer: text(section, "id_pointer"),
            vkz: text(section, "vkz"),
            total_for: section.texts("total_for"),
            id_names: id.get("names").map(|_| id.texts("names")),
            id_pattern: text(&id, "pattern"),
            param: text(&result, "param"),
            success: result.texts("success"),
            failure: result.texts("failure"),
            success_path: text(&result, "success_path"),
            failure_path: text(&result, "failure_path"),
            present: text(&result, "present"),
            charset: text(section, "charset"),
            expire: section.duration("expire"),
        };
        self.checked(section, inpasy::Settings::new(draft)).map(Arc::new)
    }

    /// `pull` of a route.
    pub(super) fn pull(&mut self, route: &str, section: &Section<'_>) -> Option<Pulling> {
        let (key, own) = ["dvelop", "bankintegration", "smartbusiness"].into_iter().find_map(|key| Some((key, section.get(key)?)))?;
        let own = Section::new(own, section.path(key));
        let auth = self.auth(&own.section("auth"));
        let retry = self.retry(&own.section("retry"));
        let source = match key {
            "dvelop" => self.pull_dvelop(&own),
            "bankintegration" => {
                let from = own.text("from").and_then(|text| scalar::date(text).ok());
                let settings = self.bankintegration(&own).map(Arc::new);
                let report = match own.text("report") {
                    Some("balance") => BankReport::Balance,
                    Some("status") => BankReport::Status,
                    Some(_) | None => BankReport::Account { from },
                };
                if from.is_some() && report != (BankReport::Account { from }) {
                    let wrong = Wrong::new("`from` has a meaning for `report: account` only");
                    self.report.error(wrong, own.span("from"), own.path("from"));
                }
                settings.map(|settings| Source::BankIntegration { settings, report })
            }
            _ => self.smartbusiness(&own).map(|settings| Source::SmartBusiness(Arc::new(settings))),
        };
        let default = match key {
            "dvelop" => Duration::from_secs(60),
            "bankintegration" => Duration::from_secs(3600),
            _ => Duration::from_secs(15 * 60),
        };
        let settings = Arc::new(Pull { source: source?, every: own.duration("every").unwrap_or(default) });
        let timeout = own.duration("timeout").unwrap_or(FETCH_TIMEOUT_DEFAULT);
        let destination = stand_in(pull_name(route), Target::Pull(settings.clone()), auth, timeout, retry);
        Some(Pulling { settings, destination })
    }

    fn pull_dvelop(&mut self, section: &Section<'_>) -> Option<Source> {
        if section.get("auth").is_none() {
            let wrong = Wrong::new("nothing authenticates the poll").hint("d.velop wants its API key: `auth: { bearer: { env: NAME } }`");
            let (span, path) = section.here();
            self.report.warn(wrong, span, path);
        }
        let draft = dvelop::PullDraft {
            base_url: section.text("base_url").and_then(|text| scalar::url(text).ok()),
            integration_key: self.text_of(section, "integration_key"),
            max_pages: section.integer("max_pages").and_then(|pages| u32::try_from(pages).ok()),
        };
        self.checked(section, dvelop::Pull::new(draft)).map(Source::Dvelop)
    }

    /// What stands at a destination: a url, or one of the systems.
    pub(super) fn target(&mut self, section: &Section<'_>, url: Option<Url>, uploads: usize) -> Option<Target> {
        let named: Vec<&str> = TARGETS.into_iter().filter(|key| section.get(key).is_some()).collect();
        let name = match named[..] {
            [one] => one,
            [] => {
                // What was written wrong has been reported, and was left out.
                let is_reported = |key: &str| self.report.errors.iter().any(|problem| problem.path.starts_with(&section.path(key)));
                if !TARGETS.into_iter().any(is_reported) {
                    let wrong = Wrong::new("`url` is missing").hint("where it is; or one of payjoe, bankintegration, smartbusiness");
                    let (span, path) = section.here();
                    self.report.error(wrong, span, path);
                }
                return None;
            }
            [..] => {
                let wrong = Wrong::new(format!("has {}: it can be one of them only", named.join(" and ")));
                let (span, path) = section.here();
                self.report.error(wrong, span, path);
                return None;
            }
        };
        if name != "url" {
            for key in HTTP_ONLY.into_iter().filter(|key| section.get(key).is_some()) {
                let wrong = Wrong::new(format!("`{key}` has no meaning beside `{name}`"));
                self.report.error(wrong, section.span(key), section.path(key));
            }
        }
        let system = section.section(name);
        match name {
            "payjoe" => Some(Target::PayJoe { settings: Arc::new(self.payjoe(&system)?), uploads }),
            "bankintegration" => Some(Target::BankIntegration(Arc::new(self.bankintegration(&system)?))),
            "smartbusiness" => Some(Target::SmartBusiness(Arc::new(self.smartbusiness(&system)?))),
            _ => Some(Target::Http(url?)),
        }
    }

    fn payjoe(&mut self, section: &Section<'_>) -> Option<payjoe::Settings> {
        let batch = section.section("batch");
        let draft = payjoe::SettingsDraft {
            url: section.text("url").and_then(|text| scalar::url(text).ok()),
            user: self.words(section, "user"),
            api_key: self.secret_at(section, "api_key"),
            access_id: section.integer("access_id"),
            batch_max: batch.integer("max"),
            batch_wait: batch.duration("wait"),
            strict: section.flag("strict").unwrap_or_default(),
        };
        self.checked(section, payjoe::Settings::new(draft))
    }

    fn bankintegration(&mut self, section: &Section<'_>) -> Option<bankintegration::Settings> {
        let draft = bankintegration::SettingsDraft {
            base_url: section.text("base_url").and_then(|text| scalar::url(text).ok()),
            erp: self.text_of(section, "erp"),
            api_key: self.secret_at(section, "api_key").map(|key| self.guid(key)),
            account: self.text_of(section, "account"),
            integration_code: self.secret_at(section, "integration_code"),
            user: section.text("user").map(str::to_owned),
            scheme: section.text("scheme").map(str::to_owned),
        };
        self.checked(section, bankintegration::Settings::new(draft))
    }

    fn smartbusiness(&mut self, section: &Section<'_>) -> Option<smartbusiness::Settings> {
        let by_person = section.text("grant") == Some("authorization_code");
        for key in ["refresh_token", "redirect_path"].into_iter().filter(|key| !by_person && section.get(key).is_some()) {
            let wrong = Wrong::new(format!("`{key}` has a meaning for `grant: authorization_code` only"));
            self.report.error(wrong, section.span(key), section.path(key));
        }
        if by_person && !self.has_store_key {
            let wrong = Wrong::new("what a person authorizes is kept sealed, and there is no key")
                .hint("add `store.key: { env: NAME }`; `kurier secret new` makes one");
            self.report.error(wrong, section.span("grant"), section.path("grant"));
        }
        let redirect_url = section.text("redirect_path").and_then(|path| self.redirect_url(section, path));
        let draft = smartbusiness::SettingsDraft {
            base_url: section.text("base_url").and_then(|text| scalar::url(text).ok()),
            client_id: self.text_of(section, "client_id"),
            client_secret: self.secret_at(section, "client_secret"),
            scopes: section.texts("scopes"),
            request: section.text("request").map(str::to_owned),
            list: section.text("list").map(str::to_owned),
            token_form: section.text("token_format") == Some("form"),
            by_person,
            refresh_token: self.secret_at(section, "refresh_token"),
            redirect_url,
        };
        self.checked(section, smartbusiness::Settings::new(draft))
    }

    /// Where the browser of a person who authorizes comes back to.
    fn redirect_url(&mut self, section: &Section<'_>, path: &str) -> Option<Url> {
        let (span, at) = (section.span("redirect_path"), section.path("redirect_path"));
        let Some(base) = self.public_url.clone() else {
            let wrong = Wrong::new("nobody knows where the browser comes back to").hint("set `server.public_url`");
            self.report.error(wrong, span, at);
            return None;
        };
        let is_plain = path::parse(path).is_ok_and(|pattern| !pattern.has_any() && !pattern.wants_secret());
        let url = is_plain.then(|| Url::parse(&format!("{base}{path}")).ok()).flatten();
        match &url {
            None => self.report.error(Wrong::new("is not a path such as `/oauth/smartbusiness`"), span, at),
            Some(_) if ["/livez", "/readyz"].contains(&path) => {
                let wrong = Wrong::new(format!("`{path}` is where the server says how it is")).hint("take another `redirect_path`");
                self.report.error(wrong, span, at);
            }
            Some(url) => drop(self.redirect_places.insert(url.clone(), (span, at))),
        }
        url
    }

    /// The paths at which browsers come back; none when one of them is a route's.
    pub(super) fn redirects(
        &mut self,
        destinations: &BTreeMap<Name, Arc<Destination>>,
        index: &RouteIndex,
        routes: &[Arc<Route>],
    ) -> Option<BTreeMap<Box<str>, Vec<Name>>> {
        let mut redirects: BTreeMap<Box<str>, Vec<Name>> = BTreeMap::new();
        let base = self.public_url.as_ref().and_then(|base| Some(Url::parse(base).ok()?.path().trim_end_matches('/').len()));
        for (name, destination) in destinations {
            let Some((client, false, _)) = destination.client() else { continue };
            let Some(url) = &client.redirect_url else { continue };
            let Some(path) = url.path().get(base.unwrap_or(0)..) else { continue };
            if let Some(route) = index.find(path.as_bytes()).and_then(|at| routes.get(at)) {
                let wrong =
                    Wrong::new(format!("the route `{}` has the path `{path}` already", route.name)).hint("take another `redirect_path`");
                let (span, at) = self.redirect_places.get(url).cloned().unwrap_or_default();
                self.report.error(wrong, span, at);
                return None;
            }
            redirects.entry(path.into()).or_default().push(name.clone());
        }
        Some(redirects)
    }

    /// The secret under this key.
    fn secret_at(&mut self, section: &Section<'_>, key: &str) -> Option<Secret> {
        section.get(key).and_then(|node| self.plain_secret(node, &section.path(key)))
    }

    /// A made-up secret as a GUID; any other as it is.
    fn guid(&self, key: Secret) -> Secret {
        let made_up = self.options.allow_missing_secrets && key.expose().len() == 64 && key.expose().iter().all(u8::is_ascii_hexdigit);
        if made_up { Secret::new(key.expose()[..32].to_vec()) } else { key }
    }

    /// The text or secret under this key.
    fn words(&mut self, section: &Section<'_>, key: &str) -> Option<Secret> {
        section.get(key).and_then(|node| self.text_or_secret(node, &section.path(key)))
    }

    /// The same, as text.
    fn text_of(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        let bytes = self.words(section, key)?;
        let text = String::from_utf8(bytes.expose().to_vec()).ok();
        if text.is_none() {
            self.report.error(Wrong::new("is not UTF-8"), section.span(key), section.path(key));
        }
        text
    }

    /// `auth.oauth2`.
    pub(super) fn oauth2(&mut self, section: &Section<'_>) -> Option<Auth> {
        let id = section.get("client_id").and_then(|node| self.text_or_secret(node, &section.path("client_id")));
        let secret = section.get("client_secret").and_then(|node| self.plain_secret(node, &section.path("client_secret")));
        let token_url = section.text("token_url").and_then(|text| scalar::url(text).ok())?;
        if is_open(&token_url) {
            let wrong = Wrong::new("the client's secret goes over plain http");
            self.report.warn(wrong, section.span("token_url"), section.path("token_url"));
        }
        let (id, secret) = (id?, secret?);
        for (key, bytes) in [("client_id", &id), ("client_secret", &secret)] {
            if std::str::from_utf8(bytes.expose()).is_err() {
                self.report.error(Wrong::new("is not UTF-8"), section.span(key), section.path(key));
            }
        }
        Some(Auth::OAuth2(Arc::new(oauth::Client {
            token_url,
            authorize_url: None,
            redirect_url: None,
            id: String::from_utf8_lossy(id.expose()).into_owned(),
            secret,
            scopes: section.texts("scopes"),
            format: if section.text("token_format") == Some("json") { TokenFormat::Json } else { TokenFormat::Form },
            auth: if section.text("client_auth") == Some("basic") { ClientAuth::Basic } else { ClientAuth::Body },
            pkce: false,
        })))
    }

    /// Settings that their connector has checked; what is wrong with them is reported where it stands.
    fn checked<T>(&mut self, section: &Section<'_>, settings: Result<T, Vec<Invalid>>) -> Option<T> {
        let invalid = match settings {
            Ok(settings) => return Some(settings),
            Err(invalid) => invalid,
        };
        for Invalid { key, message } in invalid {
            let (mut at, mut last) = (section.clone(), key);
            while let Some((outer, inner)) = last.split_once('.') {
                (at, last) = (at.section(outer), inner);
            }
            if at.get(last).is_some() && message.starts_with("is missing") {
                // It is written, and what is wrong with it is reported already.
                continue;
            }
            self.report.error(Wrong::new(format!("`{last}` {message}")), at.span(last), at.path(last));
        }
        None
    }
}
