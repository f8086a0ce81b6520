//! The key-value store of guests: shared by all cores, in memory, bounded. The only lock of a call,
//! taken only by those who use it, and one of several for each store.
//!
//! Entries that have expired are not there for any reader. Their memory is given back a few at a time,
//! however many expire together: a lock is held, and its core with it, for a bounded time.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::bindings::guest::warpdrive::guest::store::Error;

const SHARDS: usize = 16;
const KEY_MAX: usize = 256;
const VALUE_MAX: usize = 64 << 10;

/// What an entry costs beside its key and its value: two places in tables that are half empty.
const ENTRY_BYTES: usize = 160;

/// Expired entries that a write removes beside its own. More than it adds, so that they become fewer.
const SWEPT_BY_WRITE: usize = 16;

/// Expired entries that a write removes at most because it needs their room: enough for the largest
/// entry in place of the smallest ones.
const SWEPT_FOR_ROOM: usize = (ENTRY_BYTES + KEY_MAX + VALUE_MAX).div_ceil(ENTRY_BYTES + 1);

/// Expired entries of one shard that are removed at a time where nothing is written.
const SWEPT_BY_SETTLE: usize = 128;

/// A table with more places than this is made smaller once nearly all of them are free.
const PLACES_KEPT: usize = 1024;

/// A moment, in milliseconds since the store was made.
type Moment = u64;

pub struct Store {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    used: AtomicUsize,
    most: AtomicUsize,
    origin: Instant,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Arc<str>, Entry>,
    /// What will expire, the first of it first; a number tells those of one moment apart.
    expiring: BTreeMap<(Moment, u64), Arc<str>>,
    next: u64,
}

struct Entry {
    value: Value,
    /// Its place in `expiring`.
    expires: Option<(Moment, u64)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Bytes(Box<[u8]>),
    Number(f64),
}

impl Value {
    fn len(&self) -> usize {
        match self {
            Value::Bytes(bytes) => bytes.len(),
            Value::Number(_) => 0,
        }
    }
}

/// When what is written expires.
#[derive(Clone, Copy)]
enum Lifetime {
    /// As it did before; what is new, then.
    Kept(u32),
    Anew(u32),
}

impl Store {
    pub fn new(most: usize) -> Store {
        Store {
            shards: Default::default(),
            hasher: RandomState::new(),
            used: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            origin: Instant::now(),
        }
    }

    /// Another limit from now on. What is there stays, even if it is more.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.shard(key).live(key, self.now(), &self.used) {
            Some(Entry { value: Value::Bytes(bytes), .. }) => Some(bytes.to_vec()),
            _ => None,
        }
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        match self.shard(key).live(key, self.now(), &self.used) {
            Some(Entry { value: Value::Number(number), .. }) => Some(*number),
            _ => None,
        }
    }

    pub fn set(&self, key: &str, value: &[u8], ttl_ms: u32) -> Result<(), Error> {
        if value.len() > VALUE_MAX {
            return Err(Error::TooLong);
        }
        let new = |_: Option<&Value>| Ok(Some((Value::Bytes(value.into()), ())));
        self.write(key, Lifetime::Anew(ttl_ms), new).map(|_| ())
    }

    pub fn delete(&self, key: &str) {
        self.shard(key).remove(key, &self.used);
    }

    pub fn increment(&self, key: &str, by: f64, ttl_ms: u32) -> Result<f64, Error> {
        let new = |old: Option<&Value>| {
            let sum = number(old)?.unwrap_or(0.0) + by;
            if sum.is_finite() { Ok(Some((Value::Number(sum), sum))) } else { Err(Error::NotFinite) }
        };
        Ok(self.write(key, Lifetime::Kept(ttl_ms), new)?.unwrap_or_default())
    }

    pub fn advance(
        &self,
        key: &str,
        floor: f64,
        by: f64,
        ceiling: f64,
        ttl_ms: u32,
    ) -> Result<Option<f64>, Error> {
        if ![floor, by, ceiling].iter().all(|argument| argument.is_finite()) {
            return Err(Error::NotFinite);
        }
        let new = |old: Option<&Value>| {
            let sum = number(old)?.map_or(floor, |old| old.max(floor)) + by;
            match sum {
                sum if !sum.is_finite() => Err(Error::NotFinite),
                sum if sum > ceiling => Ok(None),
                sum => Ok(Some((Value::Number(sum), sum))),
            }
        };
        self.write(key, Lifetime::Anew(ttl_ms), new)
    }

    /// Replaces a value by what `new` makes of it, in one step; `None` leaves it as it is.
    fn write<T>(
        &self,
        key: &str,
        lifetime: Lifetime,
        new: impl Fn(Option<&Value>) -> Result<Option<(Value, T)>, Error>,
    ) -> Result<Option<T>, Error> {
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(Error::TooLong);
        }
        let now = self.now();
        let mut sweeps_left = SWEPT_FOR_ROOM;
        loop {
            let mut shard = self.shard(key);
            let old = shard.live(key, now, &self.used);
            let Some((value, answer)) = new(old.map(|entry| &entry.value))? else { return Ok(None) };
            let before = old.map_or(0, |old| cost(key, &old.value));
            let after = cost(key, &value);
            if after <= before || self.take(after - before) {
                self.used.fetch_sub(before.saturating_sub(after), Relaxed);
                shard.put(key, value, lifetime, now);
                shard.sweep(now, SWEPT_BY_WRITE, &self.used);
                return Ok(Some(answer));
            }
            // The locks of others are not taken together with this one.
            drop(shard);
            match self.make_room(key, after - before, now, sweeps_left) {
                0 => return Err(Error::Full),
                swept => sweeps_left -= swept,
            }
        }
    }

    /// Removes expired entries until there is room for so many bytes more, at most `sweeps` of them;
    /// returns how many. Another core may take the room before the caller does.
    fn make_room(&self, key: &str, bytes: usize, now: Moment, sweeps: usize) -> usize {
        let first = self.shard_of(key);
        let mut swept = 0;
        for index in (first..SHARDS).chain(0..first) {
            let mut shard = lock(&self.shards[index]);
            while swept < sweeps && !self.has_room(bytes) && shard.sweep(now, 1, &self.used) == 1 {
                swept += 1;
            }
        }
        swept
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.used() + bytes <= self.most.load(Relaxed)
    }

    /// Gives back some of the memory of what has expired where nothing is written. To be called now
    /// and then.
    pub fn settle(&self) {
        let now = self.now();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.sweep(now, SWEPT_BY_SETTLE, &self.used);
            shard.shrink();
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let most = self.most.load(Relaxed);
        let more = |used: usize| (used + bytes <= most).then_some(used + bytes);
        self.used.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.shard_of(key)])
    }

    fn shard_of(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }

    fn now(&self) -> Moment {
        self.origin.elapsed().as_millis() as Moment
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // No step of a write can panic half-way.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cost(key: &str, value: &Value) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

fn number(value: Option<&Value>) -> Result<Option<f64>, Error> {
    match value {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(*number)),
        Some(Value::Bytes(_)) => Err(Error::WrongKind),
    }
}

impl Shard {
    fn live(&mut self, key: &str, now: Moment, used: &AtomicUsize) -> Option<&Entry> {
        let is_over = |entry: &Entry| entry.expires.is_some_and(|(at, _)| at <= now);
        if self.entries.get(key).is_some_and(is_over) {
            self.remove(key, used);
        }
        self.entries.get(key)
    }

    /// Removes up to so many entries that have expired, the first of them first; returns how many.
    fn sweep(&mut self, now: Moment, most: usize, used: &AtomicUsize) -> usize {
        for swept in 0..most {
            let Some(first) = self.expiring.first_entry().filter(|first| first.key().0 <= now) else {
                return swept;
            };
            let key = first.remove();
            if let Some(entry) = self.entries.remove(&key) {
                used.fetch_sub(cost(&key, &entry.value), Relaxed);
            }
        }
        most
    }

    /// Gives back the places of many entries that are gone. Few are left to be moved.
    fn shrink(&mut self) {
        if self.entries.capacity() > PLACES_KEPT.max(32 * self.entries.len()) {
            self.entries.shrink_to(PLACES_KEPT / 2);
        }
    }

    fn remove(&mut self, key: &str, used: &AtomicUsize) {
        if let Some(entry) = self.entries.remove(key) {
            used.fetch_sub(cost(key, &entry.value), Relaxed);
            if let Some(place) = entry.expires {
                self.expiring.remove(&place);
            }
        }
    }

    fn put(&mut self, key: &str, value: Value, lifetime: Lifetime, now: Moment) {
        let key = match self.entries.get_key_value(key) {
            Some((key, _)) => Arc::clone(key),
            None => key.into(),
        };
        let ttl_ms = match (lifetime, self.entries.get_mut(&key)) {
            (Lifetime::Kept(_), Some(entry)) => {
                entry.value = value;
                return;
            }
            (Lifetime::Kept(ttl_ms) | Lifetime::Anew(ttl_ms), _) => ttl_ms,
        };
        let expires = (ttl_ms > 0).then(|| {
            self.next += 1;
            (now + Moment::from(ttl_ms), self.next)
        });
        if let Some(place) = expires {
            self.expiring.insert(place, Arc::clone(&key));
        }
        let before = self.entries.insert(key, Entry { value, expires });
        if let Some(place) = before.and_then(|before| before.expires) {
            self.expiring.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u32 = 3_600_000;

    /// Lets so many hours pass.
    fn pass(store: &mut Store, hours: u64) {
        store.origin -= std::time::Duration::from_secs(hours * 3600);
    }

    #[test]
    fn bytes_and_numbers_are_kept_apart() {
        let store = Store::new(1 << 20);
        store.set("a", b"x", 0).unwrap();
        assert_eq!(store.get("a"), Some(b"x".to_vec()));
        assert_eq!((store.number("a"), store.increment("a", 1.0, 0)), (None, Err(Error::WrongKind)));
        assert_eq!(store.advance("a", 0.0, 1.0, 9.0, 0), Err(Error::WrongKind));
        assert_eq!((store.increment("n", 2.5, 0), store.increment("n", -1.0, 0)), (Ok(2.5), Ok(1.5)));
        assert_eq!((store.get("n"), store.number("n")), (None, Some(1.5)));
        store.set("n", b"", 0).unwrap();
        assert_eq!(store.get("n"), Some(Vec::new()));
        store.delete("n");
        store.delete("n");
        assert_eq!(store.get("n"), None);
    }

    #[test]
    fn arguments_have_bounds() {
        let store = Store::new(1 << 20);
        for key in ["", &"k".repeat(KEY_MAX + 1)] {
            assert_eq!(store.set(key, b"", 0), Err(Error::TooLong));
            assert_eq!(store.increment(key, 1.0, 0), Err(Error::TooLong));
        }
        assert_eq!(store.set("k", &vec![0; VALUE_MAX + 1], 0), Err(Error::TooLong));
        assert_eq!(store.set(&"k".repeat(KEY_MAX), &vec![0; VALUE_MAX], 0), Ok(()));
        assert_eq!(store.increment("n", f64::NAN, 0), Err(Error::NotFinite));
        assert_eq!(store.increment("n", f64::MAX, 0), Ok(f64::MAX));
        assert_eq!(store.increment("n", f64::MAX, 0), Err(Error::NotFinite));
        assert_eq!(store.advance("m", f64::NEG_INFINITY, 1.0, 1.0, 0), Err(Error::NotFinite));
    }

    #[test]
    fn a_number_advances_from_its_floor_up_to_its_ceiling() {
        let store = Store::new(1 << 20);
        let advance = |floor, by, ceiling| store.advance("b", floor, by, ceiling, 0);
        assert_eq!(advance(10.0, 3.0, 15.0), Ok(Some(13.0)));
        assert_eq!(advance(10.0, 3.0, 15.0), Ok(None));
        assert_eq!(advance(10.0, 2.0, 15.0), Ok(Some(15.0)));
        assert_eq!(advance(20.0, 2.0, 25.0), Ok(Some(22.0)));
        assert_eq!(advance(20.0, -2.0, 25.0), Ok(Some(20.0)));
    }

    #[test]
    fn what_expires_is_gone_and_its_room_is_free() {
        let mut store = Store::new(1 << 20);
        store.set("a", b"1", HOUR_MS).unwrap();
        store.increment("window", 1.0, 3 * HOUR_MS).unwrap();
        pass(&mut store, 2);
        assert_eq!(store.get("a"), None);
        assert_eq!(store.increment("window", 1.0, 9 * HOUR_MS), Ok(2.0));
        pass(&mut store, 2);
        assert_eq!(store.increment("window", 1.0, 0), Ok(1.0), "later increments do not prolong it");
        store.set("a", b"1", HOUR_MS).unwrap();
        store.set("a", b"2", 0).unwrap();
        pass(&mut store, 2);
        assert_eq!(store.get("a"), Some(b"2".to_vec()), "what is written anew expires anew");
        store.delete("a");
        store.delete("window");
        assert_eq!(store.used(), 0);
    }

    #[test]
    fn a_full_store_takes_nothing_new_but_what_has_expired_makes_room() {
        let most = 10 * (ENTRY_BYTES + 98);
        let mut store = Store::new(most);
        let written = (0..1000).filter(|key| store.set(&format!("{key}"), &[0; 97], HOUR_MS).is_ok()).count();
        assert_eq!((written, store.used()), (10, most));
        assert_eq!(store.set("a", &[0; 97], 0), Err(Error::Full));
        assert_eq!(store.get("0"), Some(vec![0; 97]));
        assert_eq!(store.set("0", &[1; 97], HOUR_MS), Ok(()), "what is there already has its room");
        pass(&mut store, 2);
        let written = ('a'..='z').filter(|key| store.set(&key.to_string(), &[0; 97], 0).is_ok()).count();
        assert_eq!((written, store.used()), (10, most));
        assert_eq!(store.get("0"), None);
    }

    fn count(store: &Store) -> usize {
        store.shards.iter().map(|shard| lock(shard).entries.len()).sum()
    }

    /// A store with so many entries that have all expired.
    fn expired(most: usize, entries: usize) -> Store {
        let mut store = Store::new(most);
        (0..entries).for_each(|key| store.set(&format!("{key}"), b"x", HOUR_MS).unwrap());
        assert_eq!(count(&store), entries);
        pass(&mut store, 2);
        store
    }

    #[test]
    fn no_operation_removes_more_than_a_few_of_what_expires_together() {
        let store = expired(64 << 20, 100_000);
        let before = store.used();
        let mut most = 0;
        let mut step = |what: &dyn Fn()| {
            let before = count(&store);
            what();
            most = most.max(before.saturating_sub(count(&store)));
        };
        for index in 0..1000 {
            let (old, new) = (format!("{index}"), format!("new {index}"));
            step(&|| assert_eq!(store.get(&old), None, "{old}"));
            step(&|| assert_eq!(store.number(&old), None));
            step(&|| store.set(&new, b"y", 0).unwrap());
            step(&|| assert_eq!(store.increment("n", 1.0, 0), Ok(f64::from(index + 1))));
            step(&|| store.delete(&new));
        }
        assert!(most <= SWEPT_BY_WRITE, "{most}");
        assert!(store.used() < before / 10 * 9, "writes remove more than they add");
        for _ in 0..100_000 / (SHARDS * SWEPT_BY_SETTLE) + 50 {
            let before = count(&store);
            store.settle();
            assert!(before - count(&store) <= SHARDS * SWEPT_BY_SETTLE);
        }
        assert_eq!((count(&store), store.number("n")), (1, Some(1000.0)));
        store.delete("n");
        assert_eq!(store.used(), 0);
        let places: usize = store.shards.iter().map(|shard| lock(shard).entries.capacity()).sum();
        assert!(places <= SHARDS * 2 * PLACES_KEPT, "{places}");
        assert!(store.shards.iter().all(|shard| lock(shard).expiring.is_empty()));
    }

    #[test]
    fn what_has_expired_is_not_there_although_its_room_is_not_free_yet() {
        // Fewer than a write removes would be gone at once.
        let store = expired(64 << 20, 10_000);
        let last =
            |shard: &Mutex<Shard>| lock(shard).expiring.last_key_value().map(|(_, key)| key.to_string());
        let keys: Vec<String> = store.shards.iter().filter_map(last).collect();
        assert_eq!(keys.len(), SHARDS);
        for (index, key) in keys.iter().enumerate() {
            match index % 4 {
                0 => assert_eq!(store.get(key), None),
                1 => assert_eq!(store.increment(key, 1.0, 0), Ok(1.0), "of no other kind any more"),
                2 => assert_eq!(store.advance(key, 5.0, 1.0, 9.0, 0), Ok(Some(6.0))),
                _ => {
                    store.set(key, b"new", 0).unwrap();
                    assert_eq!(store.get(key), Some(b"new".to_vec()));
                }
            }
        }
        (0..100).for_each(|_| store.settle());
        assert_eq!(count(&store), 12, "what was written anew does not expire");
    }

    #[test]
    fn a_store_full_of_expired_entries_takes_whatever_fits() {
        let entry = ENTRY_BYTES + 6;
        let keys: Vec<String> = (0..10_000).map(|key| format!("{key:05}")).collect();
        for len in [0, 1, 1000, VALUE_MAX] {
            let mut store = Store::new(keys.len() * entry);
            keys.iter().for_each(|key| store.set(key, b"x", HOUR_MS).unwrap());
            assert_eq!(store.set("new", b"x", 0), Err(Error::Full));
            pass(&mut store, 2);
            let before = count(&store);
            assert_eq!(store.set("new", &vec![b'y'; len], 0), Ok(()), "{len}");
            let removed = before + 1 - count(&store);
            assert!(removed <= SWEPT_FOR_ROOM + SWEPT_BY_WRITE, "{removed} for {len}");
            assert_eq!(store.get("new"), Some(vec![b'y'; len]));
        }
    }

    #[test]
    fn increments_of_many_threads_are_all_there() {
        let store = Store::new(1 << 20);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| assert!(store.increment("n", 1.0, 0).is_ok())));
            }
        });
        assert_eq!(store.number("n"), Some(4000.0));
    }
}
