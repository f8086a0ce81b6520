//! I/O on monoio: streams, buffers, deadlines, admission. Must not know HTTP or the plan.

pub mod admission;
pub mod alarm;
pub mod buffer;
pub mod connect;
pub mod deadline;
pub mod queue;
pub mod stream;
pub mod task;
pub mod ticker;
pub mod total;

pub use alarm::Alarms;
pub use buffer::{Buffer, Buffers, Room};
pub use deadline::{Side, Timer, Wheel};
pub use stream::{Reader, Stream, Writer};

/// Which driver the event loops use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// io_uring with flags, then without, then epoll.
    Auto,
    IoUring,
    Epoll,
}
