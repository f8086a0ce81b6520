//! What the tests stand on: the proxy as a real process, a scripted origin, a raw client.
//!
//! Every wait is bounded by [`BOUND`] and says what was seen when the bound is reached. Only
//! [`eventually`] sleeps, between two looks at a condition.

pub mod client;
pub mod name_server;
pub mod origin;
pub mod proxy;
pub mod wire;

use std::fmt::Debug;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub use client::Client;
pub use origin::Origin;
pub use proxy::{Builder, Proxy};

/// How long anything may take.
pub const BOUND: Duration = Duration::from_secs(10);

/// Long enough to be sure that something which must not happen does not.
pub const QUIET: Duration = Duration::from_millis(400);

/// Looks until `look` finds something; after `bound` it fails and tells what it saw last.
pub fn eventually_within<T, S: Debug>(
    bound: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > bound => {
                panic!("waited {bound:?} for {what}; seen: {seen:#?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub fn eventually<T, S: Debug>(what: &str, look: impl FnMut() -> Result<T, S>) -> T {
    eventually_within(BOUND, what, look)
}

/// `Ok` if it holds; else what was seen, for [`eventually`].
pub fn holds<S>(condition: bool, seen: S) -> Result<(), S> {
    if condition { Ok(()) } else { Err(seen) }
}

/// Something that one thread waits for and another lets go, once.
#[derive(Clone, Default)]
pub struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) -> io::Result<()> {
        let guard = self.0.0.lock().unwrap();
        let waited = self.0.1.wait_timeout_while(guard, BOUND, |open| !*open);
        match waited.unwrap().1.timed_out() {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "the latch stayed shut")),
            false => Ok(()),
        }
    }
}

/// A fresh directory, gone with this value.
pub struct Directory(PathBuf);

impl Directory {
    pub fn fresh() -> Directory {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wd-it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a fresh directory");
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody listens on, for a program that cannot say which one it chose. It is below
/// those that the kernel hands out, so that no connection takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 100) as u16 * 100;
    let mut ports =
        std::iter::repeat_with(|| 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    ports.find(is_free).expect("an endless row of ports")
}

/// Waits until a process has ended, reaped or not. Its first thread is listed until it is reaped;
/// while another lives, its ring still accepts.
pub fn ended(pid: u32) {
    eventually(&format!("the end of process {pid}"), || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let is_dead = stat.is_err() || threads <= 1 && stat.as_ref().is_ok_and(|stat| stat.contains(") Z "));
        holds(is_dead, (threads, stat.ok()))
    });
}

/// Makes a named pipe: who reads from it waits until somebody has written, or opened and closed.
pub fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode};
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a named pipe");
}

/// The writing end of a named pipe, once somebody reads from it.
pub fn reach_reader(path: &Path) -> OwnedFd {
    use rustix::fs::{Mode, OFlags};
    eventually("somebody to read from the pipe", || {
        rustix::fs::open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
    })
}

/// A small repeatable source of numbers (xorshift).
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Random {
        Random(seed.max(1))
    }

    /// Less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("less than end")
    }
}

/// Memory that repeats only after a while, so that misplaced bytes are seen.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 / 7 % 251) as u8).collect()
}

/// Bytes as a reader can read them.
pub fn show(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(600)];
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    format!("{}{more} ({} bytes)", shown.escape_ascii(), bytes.len())
}
