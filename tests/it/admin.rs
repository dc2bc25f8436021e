//! The admin side in process and on a socket: access, the API, and the command line that talks to it.

mod access;
mod api;
mod cli;
mod operate;
mod replays;
mod world;
