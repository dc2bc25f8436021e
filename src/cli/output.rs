//! Standard output. A reader that has seen enough (`| head`) is no error.

use std::io::{self, Write};

use super::exit::Failure;

pub(super) struct Output(Box<dyn Write + Send>);

impl Output {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self(out)
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        let text = text.as_ref();
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes a JSON value, indented.
    pub(super) fn json(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        self.line(format!("{value:#}"))
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.0.write_all(bytes).and_then(|()| self.0.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(format!("writing the result: {error}"))),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
