//! Stand-in for the vector runner, which is built in the signature room.

/// What one vector came to.
pub struct VectorResult {
    /// Its id.
    pub id: String,
    /// Why it failed; none when it passed.
    pub failure: Option<String>,
}

/// What a run came to.
pub struct Report {
    /// One per vector, in their order.
    pub results: Vec<VectorResult>,
}

impl Report {
    /// How many passed.
    pub fn passed(&self) -> usize {
        self.results.len() - self.failed()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.results.iter().filter(|result| result.failure.is_some()).count()
    }
}

/// Runs vectors.
///
/// # Errors
/// What is wrong with the file.
pub fn run(json: &[u8]) -> Result<Report, String> {
    let list: Vec<serde_json::Value> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let result = |vector: &serde_json::Value| VectorResult { id: vector["id"].to_string(), failure: Some("not merged".to_owned()) };
    Ok(Report { results: list.iter().map(result).collect() })
}
