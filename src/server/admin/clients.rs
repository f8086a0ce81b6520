//! The connections of one admin listener: how many there may be, how long each may keep us waiting,
//! and which one is closed when a new one needs its place.
//!
//! A connection is only ever closed for another one while it waits for its client. One whose request
//! is being answered keeps its place.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout};

/// From the connection to the end of its first request head.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// From the end of a response to the end of the next request head.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection is kept for further requests: another token may be in force by then.
const AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// From the beginning of a response to its end.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// A client that has not taken its response for so long may be closed for another one.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);

/// Between two looks whether a connection may be closed by now.
const LOOK: Duration = Duration::from_millis(100);

/// How many connections a listener has at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub total: usize,
    /// From one address.
    pub per_address: usize,
}

/// Those of one listener.
pub struct Clients {
    bounds: Bounds,
    /// In the order in which they came.
    list: Mutex<Vec<Arc<Entry>>>,
    /// A connection has ended, or waits for its client.
    changed: Notify,
}

struct Entry {
    address: Option<IpAddr>,
    came: Instant,
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For a request head, or the rest of one.
    Waiting { since: Instant, is_first: bool },
    /// A request is being answered.
    Answering,
    /// The response is on its way to the client.
    Delivering { since: Instant },
    /// Another one has its place.
    Closed,
}

/// A connection in its place, which it leaves on drop.
pub struct Client {
    clients: Arc<Clients>,
    entry: Arc<Entry>,
}

impl Clients {
    pub fn new(bounds: Bounds) -> Arc<Clients> {
        Arc::new(Clients { bounds, list: Mutex::default(), changed: Notify::new() })
    }

    /// A place for a new connection. If there is none, the one that has kept us waiting longest is
    /// closed; only while requests of all of them are being answered does the new one have to wait.
    pub async fn enter(self: &Arc<Clients>, address: Option<IpAddr>) -> Client {
        let address = address.map(|address| address.to_canonical());
        loop {
            if let Some(client) = self.try_enter(address, Instant::now()) {
                return client;
            }
            // Whether it was told or not, it looks again.
            let _told = timeout(LOOK, self.changed.notified()).await;
        }
    }

    fn try_enter(self: &Arc<Clients>, address: Option<IpAddr>, now: Instant) -> Option<Client> {
        let mut list = lock(&self.list);
        let states: Vec<(Option<IpAddr>, State)> =
            list.iter().map(|entry| (entry.address, *lock(&entry.state))).collect();
        match make_room(&states, address, self.bounds, now) {
            Room::Free => {}
            Room::Of(index) => list.remove(index).close(),
            Room::None => return None,
        }
        let state = Mutex::new(State::Waiting { since: now, is_first: true });
        let entry = Arc::new(Entry { address, came: now, state, closed: Notify::new() });
        list.push(Arc::clone(&entry));
        Some(Client { clients: Arc::clone(self), entry })
    }
}

impl Entry {
    fn close(&self) {
        *lock(&self.state) = State::Closed;
        self.closed.notify_one();
    }

    fn deadline(&self) -> Option<Instant> {
        match *lock(&self.state) {
            State::Waiting { since, is_first: true } => Some(since + FIRST_HEAD_TIMEOUT),
            State::Waiting { since, is_first: false } => {
                Some((since + IDLE_TIMEOUT).min(self.came + AGE_MAX))
            }
            State::Delivering { since } => Some(since + DELIVERY_TIMEOUT),
            State::Answering | State::Closed => None,
        }
    }
}

impl Client {
    /// A request head is here.
    pub fn begin_answer(&self) {
        self.set(State::Answering);
    }

    /// The response is known and is sent from now on.
    pub fn begin_delivery(&self) {
        self.set(State::Delivering { since: Instant::now() });
    }

    /// All that was written is with the kernel.
    fn flushed(&self) {
        if matches!(*lock(&self.entry.state), State::Delivering { .. }) {
            self.set(State::Waiting { since: Instant::now(), is_first: false });
            self.clients.changed.notify_one();
        }
    }

    fn set(&self, state: State) {
        let mut current = lock(&self.entry.state);
        if *current != State::Closed {
            *current = state;
        }
    }

    /// Resolves when the connection has to end: its place is another one's, or its client took too
    /// long.
    pub async fn ended(&self) {
        loop {
            // A state without a deadline is looked at again before the next one can have passed its own.
            let until = match self.entry.deadline() {
                Some(until) if until <= Instant::now() => return,
                Some(until) => until,
                None => Instant::now() + FIRST_HEAD_TIMEOUT,
            };
            tokio::select! {
                () = self.entry.closed.notified() => return,
                () = sleep_until(until.into()) => {}
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        lock(&self.clients.list).retain(|entry| !Arc::ptr_eq(entry, &self.entry));
        self.clients.changed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change under it can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a new connection finds its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// That of another one, by its index.
    Of(usize),
    None,
}

/// An address beyond its bound closes one of its own, so that it cannot drive out others; where none
/// of its own may be closed, the total decides.
fn make_room(all: &[(Option<IpAddr>, State)], address: Option<IpAddr>, bounds: Bounds, now: Instant) -> Room {
    if let Some(address) = address {
        let is_of_it = |index: usize| all[index].0 == Some(address);
        let count = (0..all.len()).filter(|index| is_of_it(*index)).count();
        if count >= bounds.per_address
            && let Some(index) = longest_silent(all, is_of_it, now)
        {
            return Room::Of(index);
        }
    }
    if all.len() < bounds.total {
        return Room::Free;
    }
    longest_silent(all, |_| true, now).map_or(Room::None, Room::Of)
}

/// Of these the one that has waited longest for its client: for a request or, if none waits for
/// that, for its response to be taken.
fn longest_silent(
    all: &[(Option<IpAddr>, State)],
    is_one: impl Fn(usize) -> bool,
    now: Instant,
) -> Option<usize> {
    let silence = |index: usize| match all[index].1 {
        State::Waiting { since, .. } => Some((false, since)),
        State::Delivering { since } if now.duration_since(since) >= DELIVERY_GRACE => Some((true, since)),
        State::Delivering { .. } | State::Answering | State::Closed => None,
    };
    let silent = (0..all.len()).filter(|index| is_one(*index) && silence(*index).is_some());
    silent.min_by_key(|index| silence(*index))
}

/// A stream whose client is told of as soon as what was written is gone.
pub struct Watched<'a, S> {
    pub stream: S,
    pub client: &'a Client,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.client.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { total: 4, per_address: 2 };

    #[test]
    fn a_new_connection_takes_the_place_of_the_longest_silent_one() {
        let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().ok());
        let start = Instant::now();
        let now = start + Duration::from_secs(10);
        let at = |secs| start + Duration::from_secs(secs);
        let waiting = |secs| State::Waiting { since: at(secs), is_first: true };
        let idle = |secs| State::Waiting { since: at(secs), is_first: false };
        let delivering = |secs| State::Delivering { since: at(secs) };
        let answering = State::Answering;
        let cases = [
            ("none", vec![], Room::Free),
            ("few", vec![(a, waiting(1)), (b, waiting(0))], Room::Free),
            ("two of its own", vec![(b, waiting(0)), (a, waiting(2)), (a, waiting(1))], Room::Of(2)),
            ("idle ones count alike", vec![(a, waiting(2)), (a, idle(1))], Room::Of(1)),
            ("one is answered", vec![(a, answering), (a, waiting(9))], Room::Of(1)),
            (
                "all of its own are answered",
                vec![(a, answering), (a, answering), (b, waiting(1))],
                Room::Free,
            ),
            (
                "all places are taken",
                vec![(b, waiting(3)), (b, waiting(2)), (b, answering), (b, answering)],
                Room::Of(1),
            ),
            (
                "rather one that is silent than one that takes its response",
                vec![(b, delivering(1)), (b, answering), (b, answering), (b, waiting(9))],
                Room::Of(3),
            ),
            (
                "a response is not taken",
                vec![(b, answering), (b, delivering(9)), (b, delivering(8)), (b, answering)],
                Room::Of(2),
            ),
            (
                "a response has just begun",
                vec![(b, answering), (b, delivering(10)), (b, answering), (b, answering)],
                Room::None,
            ),
            ("all are answered", vec![(b, answering); 4], Room::None),
        ];
        for (what, all, expected) in cases {
            assert_eq!(make_room(&all, a, BOUNDS, now), expected, "{what}");
        }
        let of_a_socket = vec![(None, waiting(2)), (None, waiting(1)), (None, waiting(3)), (None, answering)];
        assert_eq!(make_room(&of_a_socket[..3], None, BOUNDS, now), Room::Free);
        assert_eq!(make_room(&of_a_socket, None, BOUNDS, now), Room::Of(1));
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let clients = Clients::new(BOUNDS);
        let now = Instant::now();
        let count = || lock(&clients.list).len();
        let mut all: Vec<Client> = (0..4).filter_map(|_| clients.try_enter(None, now)).collect();
        all.iter().for_each(Client::begin_answer);
        assert!(clients.try_enter(None, now).is_none());
        all.pop();
        assert_eq!(count(), 3);
        let fourth = clients.try_enter(None, now).unwrap();
        assert_eq!(count(), 4);
        // Its place is taken, and what it does afterwards does not bring it back.
        let fifth = clients.try_enter(None, now).unwrap();
        fourth.begin_answer();
        assert_eq!(*lock(&fourth.entry.state), State::Closed);
        assert_eq!(count(), 4);
        drop((fourth, fifth));
        assert_eq!(count(), 3);
    }

    #[test]
    fn only_a_response_that_is_gone_makes_its_client_wait() {
        let clients = Clients::new(BOUNDS);
        let client = clients.try_enter(None, Instant::now()).unwrap();
        let state = || *lock(&client.entry.state);
        client.flushed();
        assert!(matches!(state(), State::Waiting { is_first: true, .. }));
        client.begin_answer();
        client.flushed();
        assert_eq!(state(), State::Answering);
        client.begin_delivery();
        client.flushed();
        assert!(matches!(state(), State::Waiting { is_first: false, .. }));
    }
}
