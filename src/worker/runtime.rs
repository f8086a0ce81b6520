//! Which event loop a worker runs on: io_uring with our flags, without them, epoll.
//!
//! monoio's own probe does not try flags, so the ladder is ours; each step down is logged.

use std::future::Future;

use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::net::Io;

/// Submission queue entries. More than a core has at once between two waits.
const ENTRIES: u32 = 1024;

pub enum EventLoop {
    Ring { runtime: Runtime<IoUringDriver>, has_flags: bool },
    Epoll(Runtime<LegacyDriver>),
}

/// Builds the event loop on the thread that will run it, as SINGLE_ISSUER demands.
pub fn build(io: Io) -> Result<EventLoop, String> {
    if io == Io::Epoll {
        return epoll();
    }
    for has_flags in [true, false] {
        match ring(has_flags) {
            Ok(runtime) => return Ok(EventLoop::Ring { runtime, has_flags }),
            Err(error) => {
                let flags = if has_flags { "coop_taskrun and single_issuer" } else { "no flags" };
                tracing::warn!("io_uring with {flags} is not available: {error}");
            }
        }
    }
    match io {
        Io::Auto => epoll(),
        _ => Err("server.io = \"io_uring\", but the kernel does not allow it".to_owned()),
    }
}

fn ring(has_flags: bool) -> std::io::Result<Runtime<IoUringDriver>> {
    let mut ring = io_uring::IoUring::builder();
    if has_flags {
        ring.setup_coop_taskrun().setup_single_issuer();
    }
    RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(ring).build()
}

fn epoll() -> Result<EventLoop, String> {
    match RuntimeBuilder::<LegacyDriver>::new().build() {
        Ok(runtime) => Ok(EventLoop::Epoll(runtime)),
        Err(error) => Err(format!("no event loop: {error}")),
    }
}

impl EventLoop {
    pub fn name(&self) -> &'static str {
        match self {
            EventLoop::Ring { has_flags: true, .. } => "io_uring (coop_taskrun, single_issuer)",
            EventLoop::Ring { has_flags: false, .. } => "io_uring",
            EventLoop::Epoll(_) => "epoll",
        }
    }

    pub fn block_on(self, future: impl Future<Output = ()>) {
        match self {
            EventLoop::Ring { mut runtime, .. } => runtime.block_on(future),
            EventLoop::Epoll(mut runtime) => runtime.block_on(future),
        }
    }
}

/// Whether the event loop of this thread waits for readiness instead of completion: then its
/// sockets must not block, and otherwise they must.
pub fn needs_nonblocking() -> bool {
    monoio::utils::is_legacy()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use monoio::io::AsyncReadRent;
    use monoio::net::UnixStream;

    use super::*;

    /// Whether something that another thread's socket says arrives on this loop.
    fn works(event_loop: EventLoop) {
        event_loop.block_on(async {
            let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.set_nonblocking(needs_nonblocking()).unwrap();
            let mut ours = UnixStream::from_std(ours).unwrap();
            theirs.write_all(b"said").unwrap();
            let (read, bytes) = ours.read(Vec::with_capacity(8)).await;
            assert_eq!((read.unwrap(), &bytes[..]), (4, b"said".as_slice()));
        });
    }

    #[test]
    fn every_step_of_the_ladder_works() {
        for has_flags in [true, false] {
            works(EventLoop::Ring { runtime: ring(has_flags).unwrap(), has_flags });
        }
        works(epoll().unwrap());
    }

    #[test]
    fn a_forced_driver_is_the_one_that_runs() {
        assert_eq!(build(Io::Auto).unwrap().name(), "io_uring (coop_taskrun, single_issuer)");
        assert!(build(Io::IoUring).unwrap().name().starts_with("io_uring"));
        assert_eq!(build(Io::Epoll).unwrap().name(), "epoll");
    }
}
