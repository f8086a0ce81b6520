//! Processes as others see them: what `master` and the data process say to each other, how
//! they tell what happens, and when a process that died is started again.
//!
//! Must not know: what a configuration or a worker is.

pub mod events;
pub mod orders;
pub mod restart;
