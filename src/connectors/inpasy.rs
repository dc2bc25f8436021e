//! InPaSy (INFOKOM): orders are started by Kurier, paid in the Sparkassen-Internetkasse, and completed by a callback that
//! names the transaction id (`lid`).
//!
//! What the vendor does not publish (addresses, the callback's method and words, its authentication) is a setting. The
//! authentication is the route's `verify`; the notifications of Sparkassen-Internetkasse and GiroCheckout are presets of
//! the scheme language.

mod callback;
mod charset;
mod order;
mod settings;
mod start;
mod state;

pub use callback::{Callback, CallbackError, Completion, FIELDS_MAX, Finding, Sources};
pub use charset::Charset;
pub use order::{Lid, Method, Order, PARAMETERS, Parameter, ParameterProblem, Shape};
pub use settings::{EXPIRE_DEFAULT, KEYS, ResultBy, Settings, SettingsDraft};
pub use start::{Started, id_request, judge_id, judge_start, start};
pub use state::{Decision, Kind, State, Track, event_body};
