//! PayJoe: payments are uploaded in batches; each record has its own outcome.
//!
//! A record is checked against the vendor's table before it is sent. A batch that PayJoe refuses is split in halves
//! until the record that it dislikes stands alone, so a bad record never holds up the others. PayJoe knows a repeat by
//! its `UniqueIdentifier`; a record without one gets the event's id.

mod check;
mod fields;
mod plan;
mod record;
mod settings;
mod upload;

pub use fields::{FIELDS, Field, Kind};
pub use plan::{Plan, batches};
pub use record::{Checked, RECORD_BYTES_MAX, RecordProblem, record};
pub use settings::{BATCH_MAX_DEFAULT, BATCH_MAX_MAX, BATCH_WAIT_DEFAULT, KEYS, Settings, SettingsDraft, UPLOAD_URL};
pub use upload::{BATCH_BYTES_MAX, TIMEOUT, Uploaded, judge, last_payment, upload};
