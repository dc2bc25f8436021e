//! The five remote systems as their documents describe them, on loopback: for the demo and for tests. Written from the
//! documents, and independent of the code that speaks to them: they refuse what the real ones refuse, and can be told to
//! fail, hang, break off and lie.

pub mod bankintegration;
pub mod dvelop;
pub mod inpasy;
pub mod payjoe;
mod server;
pub mod smartbusiness;

pub use server::{Answer, Call, Direct, Simulator, Trouble};
