//! Where logs go and in what form; the only place that knows the subscriber.
//!
//! Logs go to standard error. Of other people's crates only warnings are let through, whatever the filter
//! says: at their finer levels HTTP libraries print headers, and a header may be a credential (I9).

use std::fmt;
use std::io;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

/// The environment variable that holds the filter, such as `debug` or `kurier::relay=debug,info`.
pub const FILTER_VARIABLE: &str = "KURIER_LOG";

/// The filter where nobody gave one.
pub const FILTER_DEFAULT: &str = "info,h2=error";

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(Error::UnknownFormat(other.to_owned())),
        }
    }
}

/// Why logs can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither text nor JSON.
    #[error("`{0}` is no log format; use `text` or `json`")]
    UnknownFormat(String),
    /// The filter can't be read.
    #[error("`{filter}` is no log filter ({reason}); use a level such as `debug`, or `kurier::relay=debug,info`")]
    InvalidFilter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody was first.
    #[error("logs are set up already")]
    Installed,
}

/// Sends the logs of this process to standard error.
///
/// # Errors
/// When the filter can't be read, or logs are set up already.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    subscriber(format, filter, io::stderr)?.try_init().map_err(|_error| Error::Installed)
}

/// The same without installing it, to any writer.
///
/// # Errors
/// When the filter can't be read.
pub fn subscriber<W>(format: Format, filter: &str, writer: W) -> Result<impl Subscriber + Send + Sync + use<W>, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Error::InvalidFilter { filter: filter.to_owned(), reason: error.to_string() })?;
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        Format::Text => Box::new(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer)),
        Format::Json => Box::new(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer)),
    };
    Ok(Registry::default().with(filter_fn(is_ours_or_a_warning)).with(filter).with(lines))
}

fn is_ours_or_a_warning(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target == "kurier" || target.starts_with("kurier::");
    ours || *metadata.level() <= LevelFilter::WARN
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn captured(format: Format, filter: &str, work: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn fine_grained_logs_of_other_crates_stay_out_at_any_filter() {
        for filter in ["trace", "h2=trace", "trace,hyper=trace"] {
            let text = captured(Format::Text, filter, || {
                tracing::debug!(target: "h2::codec", "authorization: Bearer canary");
                tracing::trace!(target: "hyper::proto", "canary");
                tracing::debug!(target: "kurierish", "canary");
                tracing::warn!(target: "h2::codec", "a warning");
            });
            assert!(!text.contains("canary"), "{text}");
            assert!(text.contains("a warning"), "{text}");
        }
    }

    #[test]
    fn the_filter_decides_about_our_own_logs() {
        let text = captured(Format::Text, "kurier::relay=debug,info", || {
            tracing::debug!(target: "kurier::relay", "shown");
            tracing::debug!(target: "kurier::store", "hidden");
        });
        assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn json_lines_carry_the_fields_by_their_dotted_names() {
        let text = captured(Format::Json, "info", || {
            tracing::info!(target: "kurier::admin", { event.id = "evt_1" }, "replayed");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event.id"], "evt_1");
        assert_eq!(line["message"], "replayed");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_that_says_what_to_write() {
        let Err(error) = subscriber(Format::Text, "kurier=loud", io::sink) else { panic!("accepted") };
        assert!(error.to_string().contains("kurier::relay=debug,info"), "{error}");
        assert!("xml".parse::<Format>().is_err());
    }
}
