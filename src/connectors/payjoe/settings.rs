//! What an operator says of PayJoe.

use std::time::Duration;

use url::Url;

use crate::connectors::keys::{Holds, Invalid, Key, Problems};
use crate::connectors::scrub;
use crate::model::Secret;

/// Where payments are uploaded.
pub const UPLOAD_URL: &str = "https://api.payjoe.de/zahlungsupload";
/// Records of one upload, unless `batch.max` says otherwise.
pub const BATCH_MAX_DEFAULT: usize = 100;
/// PayJoe recommends no more than 500 records an upload.
pub const BATCH_MAX_MAX: usize = 500;
/// How long a batch waits for more records.
pub const BATCH_WAIT_DEFAULT: Duration = Duration::from_secs(5);
const BATCH_WAIT_MAX: Duration = Duration::from_secs(3600);

/// The vendor's maximum for `UserName` and `APIKey`.
const CREDENTIAL_CHARS_MAX: usize = 100;

/// The keys of `destinations.<name>.payjoe`.
pub const KEYS: &[Key] = &[
    Key::default("url", Holds::Url, UPLOAD_URL, "Where to upload; open items and receipts have addresses of their own."),
    Key::required("user", Holds::TextOrSecret, "`UserName` of the API access."),
    Key::required("api_key", Holds::Secret, "`APIKey` of the API access."),
    Key::required("access_id", Holds::Integer { min: 0, max: 2_147_483_647 }, "`ZugangID` of the API access."),
    Key::optional(
        "batch",
        Holds::Object(&[
            Key::default("max", Holds::Integer { min: 1, max: 500 }, "100", "Most records of one upload."),
            Key::default("wait", Holds::Duration { min: 0, max: 3_600_000 }, "5s", "How long a batch waits for more records."),
        ]),
        "How records are gathered.",
    ),
    Key::default("strict", Holds::Flag, "false", "Whether a wrong IBAN or BIC is a dead letter instead of a warning."),
];

/// `payjoe` as written; what is `None` has a default.
#[derive(Default)]
pub struct SettingsDraft {
    /// Where to upload.
    pub url: Option<Url>,
    /// `UserName`.
    pub user: Option<Secret>,
    /// `APIKey`.
    pub api_key: Option<Secret>,
    /// `ZugangID`.
    pub access_id: Option<u64>,
    /// Most records of one upload.
    pub batch_max: Option<u64>,
    /// How long a batch waits.
    pub batch_wait: Option<Duration>,
    /// Whether checksums are refused.
    pub strict: bool,
}

/// How payments are uploaded.
#[derive(Clone)]
pub struct Settings {
    /// Where to.
    pub url: Url,
    pub(super) user: Secret,
    pub(super) api_key: Secret,
    pub(super) access_id: i32,
    /// Most records of one upload.
    pub batch_max: usize,
    /// How long a batch waits for more records.
    pub batch_wait: Duration,
    /// Whether a wrong IBAN or BIC is refused.
    pub strict: bool,
}

impl Settings {
    /// Checked settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(draft: SettingsDraft) -> Result<Self, Vec<Invalid>> {
        let mut problems = Problems::default();
        let url = draft.url.or_else(|| Url::parse(UPLOAD_URL).ok());
        let user = problems.need("user", draft.user);
        let api_key = problems.need("api_key", draft.api_key);
        for (key, secret) in [("user", &user), ("api_key", &api_key)] {
            let Some(secret) = secret else { continue };
            match std::str::from_utf8(secret.expose()) {
                Ok("") => problems.add(key, "is empty"),
                Ok(text) if text.chars().count() > CREDENTIAL_CHARS_MAX => {
                    problems.add(key, format!("is longer than {CREDENTIAL_CHARS_MAX} characters"));
                }
                Ok(_) => {}
                Err(_) => problems.add(key, "is not UTF-8"),
            }
        }
        let access_id = problems.need("access_id", draft.access_id).map(i32::try_from);
        if let Some(Err(_)) = access_id {
            problems.add("access_id", "is larger than PayJoe's `ZugangID` can be");
        }
        let batch_max = draft.batch_max.map_or(BATCH_MAX_DEFAULT, |max| usize::try_from(max).unwrap_or(usize::MAX));
        if batch_max == 0 || batch_max > BATCH_MAX_MAX {
            problems.add("batch.max", format!("must be from 1 to {BATCH_MAX_MAX}"));
        }
        let batch_wait = draft.batch_wait.unwrap_or(BATCH_WAIT_DEFAULT);
        if batch_wait > BATCH_WAIT_MAX {
            problems.add("batch.wait", "is longer than 1h");
        }
        let settings = || {
            let access_id = access_id?.ok()?;
            Some(Self { url: url?, user: user?, api_key: api_key?, access_id, batch_max, batch_wait, strict: draft.strict })
        };
        let settings = settings();
        problems.finish(settings)
    }

    /// An answer as it may be kept: without the credentials that PayJoe may have repeated in it.
    pub fn clean(&self, answer: &[u8]) -> Vec<u8> {
        scrub(answer, &[&self.api_key, &self.user])
    }
}
