//! Processes as others see them: what `master` and the data process say to each other, a child
//! of `master` and whether it accepts connections yet, how they tell what happens, how they
//! end, and when a process that died is started again.
//!
//! Must not know: what a configuration or a worker is.

pub mod child;
pub mod end;
pub mod events;
pub mod listening;
pub mod orders;
pub mod output;
mod packets;
pub mod readiness;
pub mod restart;
pub mod settings;
mod stderr;
