//! The `kurier` binary: everything is in the library; this only sets up logs and the runtime.

use std::process::ExitCode;

use clap::Parser as _;
use kurier::cli::{self, Cli, Exit};
use kurier::clock::{Clock as _, SystemClock};
use kurier::jq;
use kurier::telemetry::logs;
use mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: a jq process has no logs, no threads and no configuration.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == jq::CHILD_ARGUMENT) {
        return jq::run_as_child();
    }
    let cli = Cli::parse();
    let given = std::env::var(logs::FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty());
    let filter = given.unwrap_or_else(|| cli.log_filter_default().to_owned());
    let format = if cli.logs_as_json() { logs::Format::Json } else { logs::Format::Text };
    if let Err(error) = logs::init(format, &filter) {
        eprintln!("error: {}: {error}", logs::FILTER_VARIABLE);
        return Exit::Usage.into();
    }
    // Linked in, mimalloc takes the place of malloc and free for Rust and C alike, and asking for its version links it in.
    tracing::debug!(mimalloc = MiMalloc.version(), "the allocator");
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(cli::run(cli, SystemClock.now(), Box::new(std::io::stdout())));
            // A disk that hangs must not keep a process that was told twice to end: a thread may be in its sync.
            runtime.shutdown_background();
            exit.into()
        }
        Err(error) => {
            eprintln!("error: starting the threads: {error}");
            Exit::Failed.into()
        }
    }
}
