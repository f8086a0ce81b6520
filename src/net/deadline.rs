//! Timeouts: one coarse timer wheel per core.
//!
//! A timer belongs to one stream. To arm it is to store a tick, because a timer that is queued
//! too early is only looked at and queued again. When a deadline passes, the direction of the
//! socket is shut down: the pending operation completes and its task finds out why. Nothing is
//! cancelled, so no byte is lost. Hot path: no allocation, no system call.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::os::fd::RawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::task::unless;
use crate::sys::socket::{self, Ended};

/// The granularity: a timeout fires up to one tick late, never early.
pub const TICK: Duration = Duration::from_millis(100);

const TICKS_PER_SECOND: u64 = 1_000_000_000 / TICK.subsec_nanos() as u64;

/// 102 seconds; later deadlines go round more than once.
const SLOTS: usize = 1024;
const NEVER: u32 = u32::MAX;
const NIL: u32 = u32::MAX;

/// What a timeout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nothing came.
    Read,
    /// Nothing could be sent.
    Write,
}

/// Why a stream was shut down by the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    Timeout(Side),
    /// An idle stream was asked to leave.
    Retired,
}

struct Node {
    prev: u32,
    next: u32,
    /// The tick of the slot that it is queued in; [`NEVER`] if in none.
    queued: u32,
    read: u32,
    write: u32,
    wake: u32,
    fd: RawFd,
    /// What a read timeout ends; a write timeout ends both directions.
    read_ends: Ended,
    /// A stream holds it, and its descriptor is open.
    is_open: bool,
    is_idle: bool,
    expired: Option<Expired>,
    waker: Option<Waker>,
}

impl Node {
    fn earliest(&self) -> u32 {
        self.read.min(self.write).min(self.wake)
    }
}

struct Inner {
    nodes: Vec<Node>,
    free: Vec<u32>,
    slots: Box<[u32]>,
    now: u32,
    queued: usize,
    /// Where [`Wheel::retire_idle`] goes on.
    cursor: usize,
}

/// The timers of one core.
pub struct Wheel {
    inner: RefCell<Inner>,
    start: Instant,
}

/// What is to be done once the wheel is not borrowed any more.
#[derive(Default)]
struct Due {
    shutdowns: Vec<(RawFd, Ended)>,
    wakers: Vec<Waker>,
}

impl Due {
    fn carry_out(self) {
        for (fd, ended) in self.shutdowns {
            socket::shutdown(fd, ended);
        }
        for waker in self.wakers {
            waker.wake();
        }
    }
}

impl Wheel {
    pub fn new(start: Instant) -> Rc<Wheel> {
        let inner = Inner {
            nodes: Vec::new(),
            free: Vec::new(),
            slots: vec![NIL; SLOTS].into(),
            now: 0,
            queued: 0,
            cursor: 0,
        };
        Rc::new(Wheel { inner: RefCell::new(inner), start })
    }

    /// Whether any timer waits for a tick.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.inner.borrow().queued == 0
    }

    /// Lets everything fire that is due at `now`.
    pub fn advance(&self, now: Instant) {
        let target = (now.saturating_duration_since(self.start).as_millis() / TICK.as_millis()) as u32;
        let mut due = Due::default();
        {
            let mut inner = self.inner.borrow_mut();
            // After a long sleep one round sees every slot; the rest of the ticks are skipped.
            if target.saturating_sub(inner.now) > SLOTS as u32 {
                inner.now = target - SLOTS as u32;
            }
            while inner.now < target {
                inner.now += 1;
                inner.turn(&mut due);
            }
        }
        due.carry_out();
    }

    /// Shuts down up to `count` idle streams; returns how many there were.
    pub fn retire_idle(&self, count: usize) -> usize {
        let mut due = Due::default();
        {
            let mut inner = self.inner.borrow_mut();
            for _ in 0..inner.nodes.len() {
                if due.shutdowns.len() == count {
                    break;
                }
                inner.cursor = (inner.cursor + 1) % inner.nodes.len();
                let cursor = inner.cursor;
                let node = &mut inner.nodes[cursor];
                if node.is_idle && node.expired.is_none() {
                    node.expired = Some(Expired::Retired);
                    due.shutdowns.push((node.fd, Ended::Read));
                }
            }
        }
        let retired = due.shutdowns.len();
        due.carry_out();
        retired
    }

    /// Shuts down every stream.
    pub fn end_all(&self) {
        let mut due = Due::default();
        for node in self.inner.borrow_mut().nodes.iter_mut().filter(|node| node.is_open) {
            node.expired.get_or_insert(Expired::Retired);
            due.shutdowns.push((node.fd, Ended::Both));
        }
        due.carry_out();
    }

    /// Resolves after `after`, up to a tick late.
    pub async fn sleep(self: &Rc<Wheel>, after: Duration) {
        Timer::new(self, -1, Ended::Read).pause(after).await;
    }

    /// The output of `future`, or `None` if it takes longer. The future is dropped then.
    pub async fn timeout<F: Future>(self: &Rc<Wheel>, after: Duration, future: F) -> Option<F::Output> {
        let timer = Timer::new(self, -1, Ended::Read);
        unless(pin!(future), pin!(timer.pause(after))).await
    }
}

impl Inner {
    /// Looks at the slot of the current tick.
    fn turn(&mut self, due: &mut Due) {
        let slot = self.now as usize % SLOTS;
        let mut key = std::mem::replace(&mut self.slots[slot], NIL);
        while key != NIL {
            let now = self.now;
            let node = &mut self.nodes[key as usize];
            let next = node.next;
            if node.queued > now {
                self.link(key, self.nodes[key as usize].queued);
                self.queued -= 1;
                key = next;
                continue;
            }
            node.queued = NEVER;
            if node.wake <= now {
                node.wake = NEVER;
                due.wakers.extend(node.waker.take());
            }
            for (side, ended) in [(Side::Read, node.read_ends), (Side::Write, Ended::Both)] {
                let deadline = if side == Side::Read { &mut node.read } else { &mut node.write };
                if *deadline <= now {
                    *deadline = NEVER;
                    node.expired.get_or_insert(Expired::Timeout(side));
                    due.shutdowns.push((node.fd, ended));
                }
            }
            let earliest = node.earliest();
            self.queued -= 1;
            if earliest != NEVER {
                self.link(key, earliest);
            }
            key = next;
        }
    }

    fn link(&mut self, key: u32, tick: u32) {
        let slot = tick as usize % SLOTS;
        let head = std::mem::replace(&mut self.slots[slot], key);
        if head != NIL {
            self.nodes[head as usize].prev = key;
        }
        let node = &mut self.nodes[key as usize];
        node.prev = NIL;
        node.next = head;
        node.queued = tick;
        self.queued += 1;
    }

    fn unlink(&mut self, key: u32) {
        let Node { prev, next, queued, .. } = self.nodes[key as usize];
        if queued == NEVER {
            return;
        }
        if prev == NIL {
            self.slots[queued as usize % SLOTS] = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        self.nodes[key as usize].queued = NEVER;
        self.queued -= 1;
    }

    /// Moves a timer that has to fire before the tick which it is queued for.
    #[inline]
    fn hasten(&mut self, key: u32, tick: u32) {
        if tick < self.nodes[key as usize].queued {
            self.move_to(key, tick);
        }
    }

    /// Apart, so that what is nearly always only looked at is inlined.
    #[cold]
    fn move_to(&mut self, key: u32, tick: u32) {
        self.unlink(key);
        self.link(key, tick);
    }

    fn tick_after(&self, after: Duration) -> u32 {
        let ticks = after.as_secs().saturating_mul(TICKS_PER_SECOND)
            + u64::from(after.subsec_nanos().div_ceil(TICK.subsec_nanos()));
        // One more, because the current tick has begun already.
        let tick = u64::from(self.now).saturating_add(ticks).saturating_add(1);
        u32::try_from(tick).unwrap_or(NEVER).min(NEVER - 1)
    }
}

/// The timer of one stream; it leaves the wheel when it is dropped.
pub struct Timer {
    wheel: Rc<Wheel>,
    key: u32,
}

impl Timer {
    /// `fd` must stay the stream's own until the timer is dropped.
    pub fn new(wheel: &Rc<Wheel>, fd: RawFd, read_ends: Ended) -> Timer {
        let mut inner = wheel.inner.borrow_mut();
        let node = Node {
            prev: NIL,
            next: NIL,
            queued: NEVER,
            read: NEVER,
            write: NEVER,
            wake: NEVER,
            fd,
            read_ends,
            is_open: fd >= 0,
            is_idle: false,
            expired: None,
            waker: None,
        };
        let key = match inner.free.pop() {
            Some(key) => {
                inner.nodes[key as usize] = node;
                key
            }
            None => {
                inner.nodes.push(node);
                (inner.nodes.len() - 1) as u32
            }
        };
        Timer { wheel: Rc::clone(wheel), key }
    }

    /// From now on, `after` without another call ends the stream.
    pub fn arm(&self, side: Side, after: Duration) {
        let mut inner = self.wheel.inner.borrow_mut();
        let tick = inner.tick_after(after);
        let node = &mut inner.nodes[self.key as usize];
        match side {
            Side::Read => node.read = tick,
            Side::Write => node.write = tick,
        }
        inner.hasten(self.key, tick);
    }

    pub fn disarm(&self, side: Side) {
        let mut inner = self.wheel.inner.borrow_mut();
        let node = &mut inner.nodes[self.key as usize];
        match side {
            Side::Read => node.read = NEVER,
            Side::Write => node.write = NEVER,
        }
    }

    /// Why the wheel shut the stream down, if it did.
    pub fn expired(&self) -> Option<Expired> {
        self.wheel.inner.borrow().nodes[self.key as usize].expired
    }

    /// An idle stream may be retired when the process drains or descriptors are short.
    pub fn set_idle(&self, is_idle: bool) {
        self.wheel.inner.borrow_mut().nodes[self.key as usize].is_idle = is_idle;
    }

    /// Resolves after `after`, up to a tick late. One pause at a time.
    pub fn pause(&self, after: Duration) -> impl Future<Output = ()> + '_ {
        let mut deadline = None;
        poll_fn(move |cx| {
            let mut inner = self.wheel.inner.borrow_mut();
            let tick = *deadline.get_or_insert_with(|| inner.tick_after(after));
            if inner.now >= tick {
                return Poll::Ready(());
            }
            let node = &mut inner.nodes[self.key as usize];
            node.wake = tick;
            match &mut node.waker {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                waker => *waker = Some(cx.waker().clone()),
            }
            inner.hasten(self.key, tick);
            Poll::Pending
        })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut inner = self.wheel.inner.borrow_mut();
        inner.unlink(self.key);
        let node = &mut inner.nodes[self.key as usize];
        node.is_open = false;
        node.is_idle = false;
        let waker = node.waker.take();
        inner.free.push(self.key);
        drop(inner);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_deadline_ends_its_stream_and_not_before() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let timer = Timer::new(&wheel, ours.as_raw_fd(), Ended::Read);
        timer.arm(Side::Read, Duration::from_secs(200));
        wheel.advance(at(start, 150_000));
        assert_eq!(timer.expired(), None);
        assert!(ours.read(&mut [0]).is_err(), "would block");
        wheel.advance(at(start, 200_200));
        assert_eq!(timer.expired(), Some(Expired::Timeout(Side::Read)));
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "ended");
        assert!(wheel.is_empty());
    }

    #[test]
    fn an_armed_deadline_moves_both_ways() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let timer = Timer::new(&wheel, ours.as_raw_fd(), Ended::Both);
        timer.arm(Side::Read, Duration::from_secs(60));
        timer.arm(Side::Write, Duration::from_secs(1));
        wheel.advance(at(start, 900));
        timer.arm(Side::Write, Duration::from_secs(5));
        wheel.advance(at(start, 3_000));
        assert_eq!(timer.expired(), None);
        wheel.advance(at(start, 6_200));
        assert_eq!(timer.expired(), Some(Expired::Timeout(Side::Write)));
    }

    #[test]
    fn dropped_and_disarmed_timers_never_fire() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let dropped = Timer::new(&wheel, ours.as_raw_fd(), Ended::Both);
        dropped.arm(Side::Read, Duration::from_secs(1));
        let disarmed = Timer::new(&wheel, theirs.as_raw_fd(), Ended::Both);
        disarmed.arm(Side::Read, Duration::from_secs(1));
        drop(dropped);
        disarmed.disarm(Side::Read);
        wheel.advance(at(start, 5_000));
        assert_eq!(disarmed.expired(), None);
        assert!(wheel.is_empty());
        let reused = Timer::new(&wheel, -1, Ended::Both);
        assert_eq!(reused.expired(), None, "a key that is used again starts anew");
    }

    #[test]
    fn only_idle_streams_are_retired() {
        let wheel = Wheel::new(Instant::now());
        let pairs: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap()).collect();
        let timers: Vec<Timer> =
            pairs.iter().map(|(ours, _)| Timer::new(&wheel, ours.as_raw_fd(), Ended::Read)).collect();
        timers[1].set_idle(true);
        timers[3].set_idle(true);
        assert_eq!(wheel.retire_idle(1), 1);
        assert_eq!(wheel.retire_idle(10), 1);
        assert_eq!(wheel.retire_idle(10), 0);
        let retired: Vec<bool> = timers.iter().map(|timer| timer.expired().is_some()).collect();
        assert_eq!(retired, [false, true, false, true]);
    }

    #[test]
    fn random_timers_fire_in_their_tick() {
        let start = Instant::now();
        let wheel = Wheel::new(start);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut seed = 7u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let timers: Vec<(Timer, u64)> = (0..500)
            .map(|_| {
                let after = random() % 300_000;
                let timer = Timer::new(&wheel, ours.as_raw_fd(), Ended::Read);
                timer.arm(Side::Read, Duration::from_millis(after));
                (timer, after)
            })
            .collect();
        for now in (0..310_000).step_by(700) {
            wheel.advance(at(start, now));
            for (timer, after) in &timers {
                let expired = timer.expired().is_some();
                assert!(!expired || now >= *after, "early");
                assert!(expired || now < after + 1_000, "late");
            }
        }
    }
}
