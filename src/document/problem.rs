//! One thing that is wrong with a document, said so that it can be found and mended.

use std::fmt;

use super::Span;

/// Something wrong in a configuration: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where in the text.
    pub span: Span,
    /// The key's path, such as `routes.invoices.deliver[1].to`; empty for the document itself.
    pub path: String,
    /// What is wrong: a lower-case fragment, values in quotes or backticks.
    pub message: String,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(span: Span, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { span, path: path.into(), message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As a line for people and editors: `routes.yaml:12:5: routes.invoices.path: what; hint`.
    pub fn located(&self, file: &str) -> impl fmt::Display + '_ {
        Located { file: file.to_owned(), problem: self }
    }
}

struct Located<'a> {
    file: String,
    problem: &'a Problem,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.problem.span.line > 0 {
            write!(f, "{}:{}:", self.problem.span.line, self.problem.span.column)?;
        }
        if !self.problem.path.is_empty() {
            write!(f, " {}:", self.problem.path)?;
        }
        write!(f, " {}", self.problem.message)?;
        match &self.problem.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// The path of a key below another. A very long key is cut short: paths are for people, and a file of many
/// problems under one long key must not become a file of long problems.
pub fn key_path(path: &str, key: &str) -> String {
    const KEY_CHARS_SHOWN: usize = 80;
    let (key, more) = match key.char_indices().nth(KEY_CHARS_SHOWN) {
        Some((end, _)) => (&key[..end], "…"),
        None => (key, ""),
    };
    if path.is_empty() { format!("{key}{more}") } else { format!("{path}.{key}{more}") }
}

/// The hint `did you mean "…"?`, when one of the known words is close to this one.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const WORD_BYTES_MAX: usize = 128;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!("did you mean \"{candidate}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_file_line_column_path_and_hint() {
        let problem = Problem::new(Span { line: 12, column: 5 }, "routes.a.deliver[1].to", "unknown destination \"erq\"")
            .with_hint(did_you_mean("erq", ["bookkeeping", "erp"]).unwrap());
        assert_eq!(
            problem.located("routes.yaml").to_string(),
            "routes.yaml:12:5: routes.a.deliver[1].to: unknown destination \"erq\"; did you mean \"erp\"?"
        );
        assert_eq!(did_you_mean("zebra", ["erp"]), None);
    }

    #[test]
    fn a_very_long_key_is_cut_short_in_paths() {
        assert_eq!(key_path("a", "b"), "a.b");
        assert_eq!(key_path("", &"ä".repeat(100)), format!("{}…", "ä".repeat(80)));
    }
}
