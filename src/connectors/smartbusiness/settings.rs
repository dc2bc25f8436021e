//! What an operator says of SmartBusiness.

use url::Url;

use super::template::RequestTemplate;
use crate::connectors::keys::{Holds, Invalid, Key, Problems};
use crate::connectors::oauth::{Client, ClientAuth, TokenFormat};
use crate::model::Secret;

/// The vendor's address.
pub const BASE_URL: &str = "https://api-smartbusiness.postfinance.ch/v2";

/// The keys of `destinations.<name>.smartbusiness`.
pub const KEYS: &[Key] = &[
    Key::default("base_url", Holds::Url, BASE_URL, "The vendor's address."),
    Key::required("client_id", Holds::TextOrSecret, "From PostFinance (software-info@postfinance.ch)."),
    Key::required("client_secret", Holds::Secret, "From PostFinance."),
    Key::required("scopes", Holds::Texts, "What is asked for: profile, contact, letter, catalog, invoice, offer, …"),
    Key::optional(
        "request",
        Holds::Text,
        "Method and path, such as `POST /receivables/invoices`; `{json:/id}` in it is read from the event.",
    ),
    Key::default("token_format", Holds::Word(&["json", "form"]), "json", "How a token is asked for."),
    Key::default("grant", Holds::Word(&["client_credentials", "authorization_code"]), "client_credentials", "Own data, or a customer's."),
    Key::optional("refresh_token", Holds::Secret, "A refresh token to start from, instead of an authorization in the browser."),
    Key::optional("redirect_path", Holds::Text, "The path on the public port to which the browser comes back; for authorization_code."),
];

/// The further keys of `pull.smartbusiness`, beside [`KEYS`] without `request`.
pub const PULL_KEYS: &[Key] = &[
    Key::required("list", Holds::Text, "The list's path, such as `/receivables/invoices`."),
    Key::default("every", Holds::Duration { min: 60_000, max: 86_400_000 }, "15min", "How often."),
];

/// The settings as written; what is `None` has a default.
#[derive(Default)]
pub struct SettingsDraft {
    /// The address.
    pub base_url: Option<Url>,
    /// The client's id.
    pub client_id: Option<String>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The request template of a destination.
    pub request: Option<String>,
    /// The list of a pull.
    pub list: Option<String>,
    /// Whether tokens are asked for by a form.
    pub token_form: bool,
    /// Whether a person authorizes.
    pub by_person: bool,
    /// A refresh token to start from.
    pub refresh_token: Option<Secret>,
    /// `public_url` with `redirect_path`.
    pub redirect_url: Option<Url>,
}

/// One client of SmartBusiness.
#[derive(Clone)]
pub struct Settings {
    /// The address; its path ends with a slash.
    pub base_url: Url,
    /// How tokens are had.
    pub client: Client,
    /// Whether the client's own credentials are the grant.
    pub by_client: bool,
    /// A refresh token to start from.
    pub refresh_token: Option<Secret>,
    /// The request of a destination.
    pub request: Option<RequestTemplate>,
    /// The list of a pull, relative to the address.
    pub(super) list: Option<String>,
}

impl Settings {
    /// Checked settings: with `request` for a destination, with `list` for a pull.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(draft: SettingsDraft) -> Result<Self, Vec<Invalid>> {
        let mut problems = Problems::default();
        let base_url = draft.base_url.or_else(|| Url::parse(BASE_URL).ok()).map(crate::connectors::folder);
        let id = problems.need("client_id", draft.client_id.filter(|id| !id.trim().is_empty()));
        let secret = problems.need("client_secret", draft.client_secret);
        if secret.as_ref().is_some_and(|secret| std::str::from_utf8(secret.expose()).is_ok_and(str::is_empty)) {
            problems.add("client_secret", "is empty");
        }
        if secret.as_ref().is_some_and(|secret| std::str::from_utf8(secret.expose()).is_err()) {
            problems.add("client_secret", "is not UTF-8");
        }
        if draft.scopes.iter().any(|scope| scope.is_empty() || scope.contains(|c: char| c.is_whitespace() || c.is_control())) {
            problems.add("scopes", "one is empty or holds a blank; write each as an item of the list");
        }
        if draft.by_person && draft.redirect_url.is_none() && draft.refresh_token.is_none() {
            problems.add("redirect_path", "is missing: authorization_code needs it, or a `refresh_token` to start from");
        }
        let request = match draft.request.as_deref().map(RequestTemplate::new) {
            Some(Ok(request)) => Some(request),
            Some(Err(message)) => {
                problems.add("request", message);
                None
            }
            None if draft.list.is_none() => {
                problems.add("request", "is missing");
                None
            }
            None => None,
        };
        let list = draft.list.map(|list| list.trim_start_matches('/').to_owned());
        if list
            .as_deref()
            .is_some_and(|list| list.is_empty() || list.contains(['?', '#', '\\']) || list.split('/').any(|part| part == ".."))
        {
            problems.add("list", "is not a path such as `/receivables/invoices`");
        }
        let settings = || {
            let base_url = base_url?;
            let client = Client {
                token_url: base_url.join("auth/access-tokens").ok()?,
                authorize_url: base_url.join("auth/authorize").ok(),
                redirect_url: draft.redirect_url,
                id: id?,
                secret: secret?,
                scopes: draft.scopes,
                format: if draft.token_form { TokenFormat::Form } else { TokenFormat::Json },
                auth: ClientAuth::Body,
                pkce: true,
            };
            Some(Self { base_url, client, by_client: !draft.by_person, refresh_token: draft.refresh_token, request, list })
        };
        let settings = settings();
        problems.finish(settings)
    }
}
