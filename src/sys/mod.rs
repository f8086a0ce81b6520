//! The kernel's edge: everything that is `unsafe`, each with its reason.

pub mod child;
pub mod lend;
pub mod process;
pub mod socket;
pub mod user;
