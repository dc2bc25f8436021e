//! The remote systems as their documents describe them, on loopback. Written from the documents, not from the code that
//! speaks to them: they refuse what the real ones refuse, and can be told to fail, hang, break off and lie.

pub(crate) mod bankintegration;
pub(crate) mod dvelop;
pub(crate) mod inpasy;
pub(crate) mod payjoe;
mod server;
pub(crate) mod smartbusiness;

pub(crate) use server::{Answer, Call, Simulator, Trouble};
