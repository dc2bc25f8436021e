//! One binary for every integration test: each further binary would link everything once more.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly, as the tests themselves do")]
#![expect(clippy::disallowed_methods, reason = "tests of the real binary run on real time")]

mod admin;
mod config;
mod connectors;
mod days;
mod fuzz;
mod harness;
mod ingress;
mod jq;
mod relay;
mod road;
mod seeds;
mod signature;
mod sim;
mod store;
mod systems;
mod tidy;
