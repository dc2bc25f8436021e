//! One binary for every integration test: each further binary would link everything once more.

mod admin;
mod config;
mod ingress;
mod relay;
mod signature;
mod store;
