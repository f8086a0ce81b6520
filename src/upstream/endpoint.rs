//! One address of an upstream, and what is known of how it does.
//!
//! Must not know: who finds that out, and who picks by it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::UpstreamId;
use super::ejection::{self, Change, Ejection};

/// Where an instance is, as configured: a host name may stand for several addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Host { host: String, port: u16 },
    Socket(PathBuf),
}

/// One address that can be connected to without asking anyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One address of an instance as it is now.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: Address,
    /// Index in [`super::Settings::instances`].
    pub instance: u32,
    /// The same for as long as upstream, place and address are: by it, a core knows an endpoint
    /// again in a new table.
    pub vitals: Arc<Vitals>,
}

/// What the instances of one upstream have become; sent to every worker on its own.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub upstream: UpstreamId,
    /// Grows with each table of an upstream; an older one is ignored.
    pub generation: u64,
    pub endpoints: Arc<[Endpoint]>,
}

/// How an endpoint does, for the whole process. Written seldom, read by every core for each
/// request: on a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
pub struct Vitals {
    id: u32,
    health: AtomicU8,
    supervision: AtomicU8,
    recovered_at_ms: AtomicU64,
    ejection: Ejection,
    /// Connections that are open, where they are counted.
    connections: AtomicU32,
    /// Requests that wait until there may be one more.
    waiting: AtomicU32,
    /// Connections that were refused since the last answer.
    refusals: AtomicU32,
}

/// One of the connections that an endpoint may have; given back on drop. Nothing is counted
/// where there is no limit.
#[derive(Debug)]
pub struct Slot(Option<Arc<Vitals>>);

impl Slot {
    /// Another request, perhaps of another core, waits for it.
    pub fn is_wanted(&self) -> bool {
        self.0.as_ref().is_some_and(|vitals| vitals.is_waited_for())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(vitals) = &self.0 {
            vitals.connections.fetch_sub(1, Relaxed);
        }
    }
}

/// A request that waits for a slot of any of these; no longer on drop.
#[derive(Debug)]
pub struct Waiting(Box<[Arc<Vitals>]>);

impl Waiting {
    pub fn of(vitals: impl Iterator<Item = Arc<Vitals>>) -> Waiting {
        let vitals: Box<[_]> = vitals.collect();
        vitals.iter().for_each(|one| _ = one.waiting.fetch_add(1, Relaxed));
        Waiting(vitals)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.iter().for_each(|one| _ = one.waiting.fetch_sub(1, Relaxed));
    }
}

/// What active checks have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet, or nobody checks: it is used.
    Unknown,
    Up,
    Down,
}

/// What the process behind an endpoint does, if it is one that we keep running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervision {
    /// Somebody else does.
    None,
    Ready,
    /// It will be ready soon.
    Starting,
    /// It will not.
    Stopped,
}

impl Default for Vitals {
    fn default() -> Vitals {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Vitals {
            id: NEXT.fetch_add(1, Relaxed),
            health: AtomicU8::default(),
            supervision: AtomicU8::default(),
            recovered_at_ms: AtomicU64::default(),
            ejection: Ejection::default(),
            connections: AtomicU32::default(),
            waiting: AtomicU32::default(),
            refusals: AtomicU32::default(),
        }
    }
}

impl Vitals {
    /// No other endpoint of this process has or had it.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn supervision(&self) -> Supervision {
        match self.supervision.load(Relaxed) {
            0 => Supervision::None,
            1 => Supervision::Ready,
            2 => Supervision::Starting,
            _ => Supervision::Stopped,
        }
    }

    /// Notes what the process does. One that has become ready is not blamed for what the one
    /// before it did.
    pub fn set_supervision(&self, supervision: Supervision) {
        let code = match supervision {
            Supervision::None => 0,
            Supervision::Ready => 1,
            Supervision::Starting => 2,
            Supervision::Stopped => 3,
        };
        let before = self.supervision.swap(code, Relaxed);
        if supervision == Supervision::Ready && before != code {
            self.ejection.clear();
            self.refusals.store(0, Relaxed);
        }
    }

    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Unknown,
            1 => Health::Up,
            _ => Health::Down,
        }
    }

    /// Notes what was found, at `now_ms` since 1970: only what was down can recover.
    pub fn set_health(&self, health: Health, now_ms: u64) {
        let code = match health {
            Health::Unknown => 0,
            Health::Up => 1,
            Health::Down => 2,
        };
        if self.health() == Health::Down && health != Health::Down {
            self.recovered_at_ms.store(now_ms, Relaxed);
        }
        self.health.store(code, Relaxed);
    }

    /// When it was last down no longer, in milliseconds since 1970; 0 if it never was down.
    pub fn recovered_at_ms(&self) -> u64 {
        self.recovered_at_ms.load(Relaxed)
    }

    /// Not down by active checks, and its process is ready, if it is one of ours.
    pub fn is_up(&self) -> bool {
        let supervision = self.supervision();
        self.health() != Health::Down && matches!(supervision, Supervision::None | Supervision::Ready)
    }

    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Whether there may be one more connection, of so many; 0 is any number.
    pub fn has_slot(&self, most: u32) -> bool {
        most == 0 || self.connections.load(Relaxed) < most
    }

    pub fn take_slot(self: &Arc<Vitals>, most: u32) -> Option<Slot> {
        if most == 0 {
            return Some(Slot(None));
        }
        let one_more = |open: u32| (open < most).then_some(open + 1);
        self.connections.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| Slot(Some(Arc::clone(self))))
    }

    pub fn ejection(&self) -> &Ejection {
        &self.ejection
    }

    /// A connection to it was refused.
    pub fn note_refusal(&self) {
        self.refusals.fetch_add(1, Relaxed);
    }

    /// Whether so many connections were refused since the last answer; they are counted anew then.
    pub fn has_refused(&self, at_least: u32) -> bool {
        let has = self.refusals.load(Relaxed) >= at_least;
        if has {
            self.refusals.store(0, Relaxed);
        }
        has
    }

    pub fn note_failure(&self, settings: &ejection::Settings, now_ms: u64) -> Change {
        self.ejection.note_failure(settings, now_ms)
    }

    /// An answer came at `now_ms` to what was sent at `sent_ms`.
    pub fn note_success(&self, settings: &ejection::Settings, sent_ms: u64, now_ms: u64) -> Change {
        // Seldom anything but 0, and every core reads it.
        if self.refusals.load(Relaxed) != 0 {
            self.refusals.store(0, Relaxed);
        }
        let change = self.ejection.note_success(settings, sent_ms);
        if change == Change::Returned {
            self.recovered_at_ms.store(now_ms, Relaxed);
        }
        change
    }
}

impl Endpoint {
    /// An endpoint of which nothing is known.
    pub fn new(address: Address, instance: u32) -> Endpoint {
        Endpoint { address, instance, vitals: Arc::default() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Host { host, port } => write!(f, "{host}:{port}"),
            Place::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_down_recovers() {
        let vitals = Vitals::default();
        let table = [
            (Health::Unknown, 1, true, 0),
            (Health::Up, 2, true, 0),
            (Health::Down, 3, false, 0),
            (Health::Down, 4, false, 0),
            (Health::Up, 5, true, 5),
            (Health::Up, 6, true, 5),
            (Health::Down, 7, false, 5),
            (Health::Unknown, 8, true, 8),
        ];
        for (health, now, is_available, recovered) in table {
            vitals.set_health(health, now);
            assert_eq!(vitals.health(), health);
            assert_eq!((vitals.is_up(), vitals.recovered_at_ms()), (is_available, recovered), "{now}");
        }
    }

    #[test]
    fn slots_are_as_many_as_allowed_and_come_back() {
        let vitals = Arc::new(Vitals::default());
        let slots: Vec<_> = (0..3).map_while(|_| vitals.take_slot(2)).collect();
        assert_eq!(slots.len(), 2);
        assert!(!vitals.has_slot(2) && vitals.has_slot(3) && vitals.has_slot(0));
        assert!(vitals.take_slot(0).is_some());
        assert!(!slots[0].is_wanted());
        let waiting = Waiting::of([Arc::clone(&vitals)].into_iter());
        assert!(slots[0].is_wanted());
        drop(waiting);
        assert!(!slots[0].is_wanted());
        drop(slots);
        assert!(vitals.take_slot(1).is_some());
    }

    #[test]
    fn refusals_in_a_row_are_counted_until_there_is_an_answer_or_another_process() {
        let vitals = Vitals::default();
        let refuse = |times| (0..times).for_each(|_| vitals.note_refusal());
        refuse(2);
        assert!(!vitals.has_refused(3));
        refuse(1);
        assert!(vitals.has_refused(3) && !vitals.has_refused(1));
        refuse(2);
        vitals.note_success(&ejection::Settings::NEVER, 0, 0);
        refuse(2);
        assert!(!vitals.has_refused(3));
        vitals.set_supervision(Supervision::Ready);
        refuse(2);
        assert!(!vitals.has_refused(3));
    }

    #[test]
    fn no_two_endpoints_share_a_cache_line() {
        assert_eq!(std::mem::size_of::<Vitals>(), 64);
    }
}
