//! The admin side in process and on a socket: access, the API, and the command line that talks to it.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod access;
mod api;
mod cli;
mod operate;
mod world;
