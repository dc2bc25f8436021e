//! The `kurier` binary: everything is in the library.

fn main() {}
