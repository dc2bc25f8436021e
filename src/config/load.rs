//! From a path to a configuration, or to everything that is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Config;
use super::compile::Compiler;
use super::environment::Environment;
use super::fingerprint::Fingerprints;
use super::limits::FILE_BYTES_MAX;
use super::reload;
use super::wrong::Wrong;
use crate::document::{self, Problem, Span};
use crate::model::Timestamp;

/// How strict a load is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// A secret, text or certificate that is missing becomes a warning, and something random stands in: for
    /// `check` in CI, where secrets are not at hand. Never serve with it.
    pub allow_missing_secrets: bool,
    /// The present time, for warnings of what has expired; none: no such warnings.
    pub now: Option<Timestamp>,
}

/// A configuration with what is worth knowing about it.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Allowed, and probably not meant; sorted by place.
    pub warnings: Vec<Problem>,
    /// What was read to make it, for a [`super::Watcher`].
    pub read: Fingerprints,
    /// Where the settings stand that a reload can't change, by key path.
    pub(super) fixed: BTreeMap<&'static str, Span>,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub struct LoadError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The problems, sorted by place; at least one.
    pub problems: Vec<Problem>,
    /// Allowed, and probably not meant; sorted by place.
    pub warnings: Vec<Problem>,
    /// What was read on the way, for a [`super::Watcher`]: a change of one may mend it.
    pub read: Fingerprints,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display().to_string();
        for (index, problem) in self.problems.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}", problem.located(&file))?;
        }
        Ok(())
    }
}

/// Reads, checks and links a configuration: the one code path of `check`, start and reload.
///
/// # Errors
/// All problems at once.
pub fn load(path: &Path, env: &dyn Environment, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let mut read = Fingerprints::default();
    let content = env.read(path, FILE_BYTES_MAX);
    read.note(path, content.as_ref().ok().map(|content| content.as_slice()));
    let wrong = match &content {
        Ok(content) => match std::str::from_utf8(content) {
            Ok(text) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                return load_text(text, path, folder, env, options, read);
            }
            Err(error) => {
                let line = content.get(..error.valid_up_to()).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1;
                Wrong::new("the file is not UTF-8").at(Span { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 }, "")
            }
        },
        Err(error) => {
            let wrong = Wrong::new(format!("the file can't be read: {error}"));
            let wrong =
                if error.kind() == std::io::ErrorKind::NotFound { wrong.hint("`kurier init` writes one to start from") } else { wrong };
            wrong.at(Span::default(), "")
        }
    };
    Err(LoadError { file: path.to_owned(), problems: vec![wrong], warnings: Vec::new(), read })
}

/// The same for a text; relative paths in it start at `folder`.
///
/// # Errors
/// All problems at once.
pub fn parse(text: &str, file: &Path, folder: &Path, env: &dyn Environment, options: &LoadOptions) -> Result<Loaded, LoadError> {
    load_text(text, file, folder, env, options, Fingerprints::default())
}

fn load_text(
    text: &str,
    file: &Path,
    folder: &Path,
    env: &dyn Environment,
    options: &LoadOptions,
    read: Fingerprints,
) -> Result<Loaded, LoadError> {
    let (tree, problems) = document::read(text);
    let mut compiler = Compiler::new(env, text, folder, options);
    compiler.read = read;
    compiler.report.errors = problems;
    let fixed = tree.as_ref().map(reload::places).unwrap_or_default();
    let config = tree.and_then(|tree| compiler.config(&tree));
    let sorted = |mut problems: Vec<Problem>| {
        problems.sort();
        problems.dedup();
        problems
    };
    let warnings = sorted(compiler.report.warnings);
    match config {
        Some(config) => Ok(Loaded { config, warnings, read: compiler.read, fixed }),
        None => Err(LoadError { file: file.to_owned(), problems: sorted(compiler.report.errors), warnings, read: compiler.read }),
    }
}
