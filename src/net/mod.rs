//! I/O on monoio: streams, buffers, deadlines.

/// Which driver the event loops use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// io_uring with flags, then without, then epoll.
    Auto,
    IoUring,
    Epoll,
}
