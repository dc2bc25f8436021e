//! The fuzz target's way in: any bytes as routes.yaml, in an environment that touches nothing.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::environment::Environment;
use super::{LoadOptions, parse};

/// Every variable is set, every file is there.
struct Everything;

const VALUE: &str = "6b757269657220697320612072656c617920666f7220776562686f6f6b73212121";

impl Environment for Everything {
    fn var(&self, name: &str) -> Option<OsString> {
        // Some are missing, so that the other way is taken too.
        (!name.starts_with("NO_")).then(|| OsString::from(VALUE))
    }

    fn read(&self, path: &Path, _bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        if path.to_string_lossy().contains("missing") {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok(Zeroizing::new(VALUE.as_bytes().to_vec()))
    }
}

/// Reads and compiles arbitrary bytes as a configuration. It may refuse them and must not panic; when it
/// refuses, it says why; what it accepts can be asked for a route.
pub fn fuzz_routes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for allow_missing_secrets in [false, true] {
        let options = LoadOptions { allow_missing_secrets, now: None };
        match parse(&text, Path::new("routes.yaml"), Path::new(""), &Everything, &options) {
            Ok(loaded) => {
                for route in &loaded.config.routes {
                    let is_found =
                        |path: &super::PathPattern| loaded.config.route_for(path.text.as_bytes()).is_some() || !path.is_literal();
                    assert!(route.path.as_ref().is_none_or(is_found));
                }
            }
            Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
        }
    }
}
