//! File descriptors: each connection takes one, and so do deliveries, the store and the admin port.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept beside the callbacks' connections: deliveries, journal and index files, the admin port, reloads.
const RESERVE: u64 = 1_024;

/// Raises the soft limit as far as it may go; most systems start processes with 1,024 and allow far more. Returns
/// how many connections the public port may have of those that are configured.
pub(super) fn connections(configured: usize) -> usize {
    let given = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: given.maximum, maximum: given.maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => given.maximum,
        Err(error) => {
            tracing::warn!("the limit of open files can't be raised: {error}");
            given.current
        }
    };
    let Some(limit) = limit else { return configured };
    let room = room(limit);
    let fitting = usize::try_from(room).unwrap_or(usize::MAX).min(configured);
    if fitting < configured {
        tracing::warn!(
            "server.limits.connections is {configured}, but this process may open only {limit} files: {fitting} connections are \
             accepted at a time (`ulimit -n`, or LimitNOFILE= of the unit, raises it)"
        );
    }
    fitting
}

/// Most files go to connections, never all.
fn room(limit: u64) -> u64 {
    limit.saturating_sub(RESERVE).max(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_take_every_descriptor() {
        assert_eq!(room(1_048_576), 1_047_552);
        assert_eq!(room(1_024), 256);
        assert_eq!(room(64), 16);
    }
}
