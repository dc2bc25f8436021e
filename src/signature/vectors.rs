//! Stand-in for the vector runner, which is built in the signature room.

/// What one vector came to.
pub struct VectorResult {
    /// Its id.
    pub id: String,
    /// Whether the outcome was the expected one.
    pub passed: bool,
    /// What happened.
    pub detail: String,
}

/// What a run came to.
pub struct Report {
    /// One per vector, in their order.
    pub results: Vec<VectorResult>,
}

/// Runs vectors.
///
/// # Errors
/// What is wrong with the file.
pub fn run(json: &[u8]) -> Result<Report, String> {
    let list: Vec<serde_json::Value> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok(Report {
        results: list
            .iter()
            .map(|vector| VectorResult { id: vector["id"].to_string(), passed: false, detail: "the engine is not merged".to_owned() })
            .collect(),
    })
}
