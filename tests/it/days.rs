//! The five systems' days, with a process that dies at each point of them.
//!
//! A day is played once to count its points: every sync of the disk and every request to a remote system. Then it is
//! played again for each point and each way to die there: just before it, and just after it; killed, and by a power cut.
//! A second process goes on from the same disk until all is quiet, and what the systems were told is held against what
//! had to come. docs/simulation.md says more.

mod bankintegration;
mod down;
mod dvelop;
mod fuse;
mod inpasy;
mod life;
mod net;
mod payjoe;
mod play;
mod smartbusiness;
