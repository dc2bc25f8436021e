//! The command line. Results go to standard output, messages to standard error, and the exit code says what
//! kind of end it was ([`Exit`]).
//!
//! Commands that look at a running server talk to its admin API like anybody else. Only `serve` opens the store;
//! `store` reads and mends its files.

mod check;
mod client;
mod clock;
#[cfg(feature = "demo")]
mod demo;
mod destinations;
mod events;
mod exit;
mod health;
mod init;
mod output;
mod refusals;
mod replay;
mod secret;
mod send;
mod serve;
mod settings;
mod show;
mod store;
mod table;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::model::Timestamp;
use crate::telemetry::logs;
use exit::Failure;
use output::Output;

pub use exit::Exit;

/// The configuration that is read where none is named.
pub const CONFIG_DEFAULT: &str = "routes.yaml";

/// A durable relay for webhooks and callbacks: verifies, stores, then delivers.
#[derive(Parser)]
#[command(name = "kurier", version, arg_required_else_help = true, after_help = exit::HELP, max_term_width = 100)]
pub struct Cli {
    /// The configuration [default: routes.yaml]
    #[arg(long, global = true, env = "KURIER_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The form of log lines on standard error; the variable KURIER_LOG filters them
    #[arg(long, global = true, env = "KURIER_LOG_FORMAT", hide_env_values = true, default_value = "text", value_name = "FORMAT",
        value_parser = ["text", "json"])]
    log_format: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay
    Serve(serve::Args),
    /// Write a commented routes.yaml to start from
    Init(init::Args),
    /// Everything in one process: relay, a sample downstream, signed sample callbacks
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    /// Check a configuration the way the start does, and name every problem
    Check(check::Args),
    /// Run signature vectors, or explain one request: captured, or in quarantine
    Verify(Box<verify::Args>),
    /// Show events of a running server
    Events(Box<events::Args>),
    /// Deliver stored events again
    Replay(replay::Args),
    /// Show, pause and resume destinations of a running server
    Destinations(destinations::Args),
    /// Send a correctly signed sample request to the running server
    Send(send::Args),
    /// Make secrets
    Secret(secret::Args),
    /// Look at, check, repair, back up and restore the store's folder
    Store(store::Args),
    /// Say that a clock which jumped is right
    Clock(clock::Args),
    /// Exit with 0 when the running server is ready
    Health(health::Args),
}

impl Cli {
    /// Which log lines are wanted where the operator names none.
    pub fn log_filter_default(&self) -> &'static str {
        match self.command {
            // The demo prints the journeys itself, and what it warns of belongs to its samples.
            #[cfg(feature = "demo")]
            Command::Demo(_) => "error",
            _ => logs::FILTER_DEFAULT,
        }
    }

    /// Whether log lines are JSON.
    pub fn logs_as_json(&self) -> bool {
        self.log_format == "json"
    }
}

/// What every command has at hand.
struct Context {
    config: Option<PathBuf>,
    now: Timestamp,
    out: Output,
}

impl Context {
    fn config_path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG_DEFAULT))
    }
}

/// Runs a command whose results go to `out`; `now` is the time it was called at.
pub async fn run(cli: Cli, now: Timestamp, out: Box<dyn Write + Send>) -> Exit {
    let mut context = Context { config: cli.config, now, out: Output::new(out) };
    let done = Box::pin(dispatch(cli.command, &mut context)).await;
    match done {
        Ok(exit) => exit,
        Err(failure) => {
            eprint!("{failure}");
            failure.exit()
        }
    }
}

async fn dispatch(command: Command, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => serve::run(args, context.config_path()).await,
        Command::Init(args) => init::run(&args, context),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args).await,
        Command::Check(args) => check::run(&args, context),
        Command::Verify(args) => verify::run(*args, context).await,
        Command::Events(args) => events::run(*args, context).await,
        Command::Replay(args) => replay::run(args, context).await,
        Command::Destinations(args) => destinations::run(args, context).await,
        Command::Send(args) => send::run(args, context).await,
        Command::Secret(args) => secret::run(&args, context),
        Command::Store(args) => store::run(args, context).await,
        Command::Clock(args) => clock::run(args, context).await,
        Command::Health(args) => health::run(args, context).await,
    }
}
