//! What an operator says of BankIntegration.dk.

use sha2::{Digest as _, Sha256};
use url::Url;
use uuid::Uuid;

use crate::connectors::keys::{Holds, Invalid, Key, Problems};
use crate::connectors::scrub;
use crate::model::Secret;

/// The vendor's only address.
pub const BASE_URL: &str = "https://api.bankintegration.dk";

/// Four digits of the registration number and ten of the account.
const ACCOUNT_DIGITS: usize = 14;

const SCHEME_DEFAULT: &str = "Basic";

/// The keys of `destinations.<name>.bankintegration`.
pub const KEYS: &[Key] = &[
    Key::default("base_url", Holds::Url, BASE_URL, "The vendor's address."),
    Key::required("erp", Holds::TextOrSecret, "The ERP name or code that came with the API key."),
    Key::required("api_key", Holds::Secret, "The ERP provider's API key, a GUID."),
    Key::required("account", Holds::TextOrSecret, "The customer's account: 14 digits, registration number and account."),
    Key::required("integration_code", Holds::Secret, "The customer's integration code, from the account's settings."),
    Key::optional("user", Holds::Text, "A user of the ERP system, for the bank's log."),
    Key::default("scheme", Holds::Text, SCHEME_DEFAULT, "The first word of `Authorization`."),
];

/// The further keys of `pull.bankintegration`, beside [`KEYS`].
pub const PULL_KEYS: &[Key] = &[
    Key::required("report", Holds::Word(&["account", "balance", "status"]), "What is fetched."),
    Key::optional("from", Holds::Date, "The first day that is fetched; without it the day of the first poll."),
    Key::default("every", Holds::Duration { min: 60_000, max: 86_400_000 }, "1h", "How often."),
];

/// The settings as written; what is `None` has a default.
#[derive(Default)]
pub struct SettingsDraft {
    /// The address.
    pub base_url: Option<Url>,
    /// The ERP name.
    pub erp: Option<String>,
    /// The API key.
    pub api_key: Option<Secret>,
    /// The account.
    pub account: Option<String>,
    /// The integration code.
    pub integration_code: Option<Secret>,
    /// A user.
    pub user: Option<String>,
    /// The scheme's word.
    pub scheme: Option<String>,
}

/// One customer's account.
#[derive(Clone)]
pub struct Settings {
    /// The address; its path ends with a slash.
    pub base_url: Url,
    /// The account's 14 digits.
    pub account: String,
    pub(super) erp: String,
    /// The API key's bytes in .NET's order.
    pub(super) key: Secret,
    /// As configured, to be taken out of what is kept.
    api_key: Secret,
    integration_code: Secret,
    /// Hex SHA-256 of the integration code.
    pub(super) token: Secret,
    pub(super) user: Option<String>,
    pub(super) scheme: String,
}

impl Settings {
    /// Checked settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(draft: SettingsDraft) -> Result<Self, Vec<Invalid>> {
        let mut problems = Problems::default();
        let base_url = draft.base_url.or_else(|| Url::parse(BASE_URL).ok()).map(crate::connectors::folder);
        let erp = problems.need("erp", draft.erp);
        for (key, text) in [("erp", &erp), ("user", &draft.user)] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() || text.contains('#') || text.chars().any(char::is_control) {
                problems.add(key, "is empty, or holds a `#` or a control character");
            }
        }
        let api_key = problems.need("api_key", draft.api_key);
        let key = api_key.as_ref().and_then(|secret| std::str::from_utf8(secret.expose()).ok()?.trim().parse::<Uuid>().ok());
        if api_key.is_some() && key.is_none() {
            problems.add("api_key", "is not a GUID such as 00112233-4455-6677-8899-aabbccddeeff");
        }
        let account = problems.need("account", draft.account);
        let account = account.map(|text| text.chars().filter(|c| !matches!(c, ' ' | '-' | '.')).collect::<String>());
        if let Some(digits) = &account
            && (digits.len() != ACCOUNT_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()))
        {
            problems.add("account", "is not 14 digits: four of the registration number and ten of the account, filled up with zeros");
        }
        let integration_code = problems.need("integration_code", draft.integration_code);
        if integration_code.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
            problems.add("integration_code", "is empty");
        }
        let scheme = draft.scheme.unwrap_or_else(|| SCHEME_DEFAULT.to_owned());
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            problems.add("scheme", "is not one word such as `Basic`");
        }
        let settings = || {
            let integration_code = integration_code?;
            Some(Self {
                base_url: base_url?,
                account: account?,
                erp: erp?,
                key: Secret::new(key?.to_bytes_le().to_vec()),
                api_key: api_key?,
                token: Secret::new(hex::encode(Sha256::digest(integration_code.expose())).into_bytes()),
                integration_code,
                user: draft.user,
                scheme,
            })
        };
        let settings = settings();
        problems.finish(settings)
    }

    /// An answer as it may be kept.
    pub fn clean(&self, answer: &[u8]) -> Vec<u8> {
        scrub(answer, &[&self.api_key, &self.integration_code, &self.token])
    }

    /// The address of a function.
    pub(super) fn url(&self, path: &str) -> Url {
        // The base ends with a slash and the paths are our own words: joining them can't fail.
        self.base_url.join(path).unwrap_or_else(|_error| self.base_url.clone())
    }
}
