//! `kurier init`: a configuration to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};

use super::Context;
use super::exit::{Exit, Failure};
use crate::config;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Print it instead of writing the file
    #[arg(long)]
    print: bool,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let text = config::init_text();
    if args.print {
        context.out.bytes(text.as_bytes())?;
        return Ok(Exit::Done);
    }
    let path = context.config_path().to_owned();
    let shown = path.display();
    // Never over a file that is there: it may be the one in use.
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(|error| Failure::failed(format!("writing {shown}: {error}")))?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let hint = "write another file with `kurier init --config FILE`, or look at one with `kurier init --print`";
            return Err(Failure::failed(format!("{shown} exists already and was not touched")).with_hint(hint));
        }
        Err(error) => return Err(Failure::failed(format!("creating {shown}: {error}"))),
    }
    context.out.line(format!("wrote {shown}"))?;
    eprintln!("next: set the secrets it names, then `kurier check --config {shown}` and `kurier serve --config {shown}`");
    Ok(Exit::Done)
}
