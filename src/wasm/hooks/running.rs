//! One running copy of a guest, whatever it exports: how it is made, called and kept within its limits.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use wasmtime::{Result, Store, bail};

use super::account::Kind;
use super::engine::Engine;
use super::facilities::Facilities;
use super::settings::Limits;
use super::wasi::Wasi;
use super::watch::Watch;
use crate::wasm::limits::{Memory, Quota};
use crate::wasm::meter::{Exhausted, Meter, Metered};
use crate::wasm::outgoing::Outbox;
use crate::wasm::settings::TABLE_ELEMENTS;

/// What a guest may take of a thread that serves nobody.
const ASIDE_TIME: Duration = Duration::from_secs(1);

/// Bytes that are told of why a guest does not like its configuration.
const ERROR_MAX: usize = 1 << 10;

/// One instance's side of the host.
pub struct State {
    pub facilities: Facilities,
    memory: Memory,
    watch: Watch,
    /// The number of the call at hand, which is that of the messages that it is about.
    call: u32,
    /// Messages of calls that the guest has not let go of.
    kept: u32,
    /// What it has sent to others, if it may.
    pub outbox: Outbox,
    /// Of those that have some.
    pub wasi: Option<Box<Wasi>>,
}

impl State {
    /// The guest is given so many messages of another call.
    pub fn next_call(&mut self, messages: u32) -> u32 {
        self.call = self.call.wrapping_add(1);
        self.kept += messages;
        self.call
    }

    pub fn is_current(&self, call: u32) -> bool {
        self.call == call
    }

    pub fn has_dropped(&mut self) {
        self.kept = self.kept.saturating_sub(1);
    }
}

impl AsMut<Facilities> for State {
    fn as_mut(&mut self) -> &mut Facilities {
        &mut self.facilities
    }
}

/// The thread that a call is on, and for how long it may have it.
#[derive(Clone, Copy)]
pub struct Turn {
    /// For the beat.
    thread: usize,
    budget: Duration,
}

impl Turn {
    pub fn of_core(core: usize, budget: Duration) -> Turn {
        Turn { thread: core, budget }
    }

    /// That makes instances in place of others.
    pub fn of_maker(engine: &Engine) -> Turn {
        Turn { thread: engine.maker(), budget: ASIDE_TIME }
    }

    /// That loads what was configured.
    pub fn of_loader(engine: &Engine) -> Turn {
        Turn { thread: engine.loader(), budget: ASIDE_TIME }
    }
}

/// How a call failed. Its instance is of no use any more.
#[derive(Debug)]
pub struct Failed {
    pub kind: Kind,
    pub message: String,
}

/// An instance; `E` is what we call of it.
pub struct Running<E> {
    store: Store<State>,
    engine: Engine,
    /// On its core.
    time: Duration,
    /// A call has failed: it is of no use any more.
    has_failed: bool,
    exports: E,
}

impl<E> Running<E> {
    /// # Errors
    /// There is no room, or it fails.
    fn start(
        engine: &Engine,
        facilities: Facilities,
        limits: &Limits,
        turn: Turn,
        load: impl FnOnce(&mut Store<State>) -> Result<E>,
    ) -> Result<Running<E>, Failed> {
        let memory = Memory::of(limits.memory, TABLE_ELEMENTS, Quota::new(limits.memory));
        let state = State {
            facilities,
            memory,
            watch: Watch::new(),
            call: 0,
            kept: 0,
            outbox: Outbox::default(),
            wasi: None,
        };
        let mut store = Store::new(&engine.wasmtime, state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut store| store.data_mut().watch.tick());
        match timed(engine, turn, &mut store, load) {
            Ok(exports) => {
                let (engine, time) = (engine.clone(), limits.time);
                Ok(Running { store, engine, time, has_failed: false, exports })
            }
            Err(error) => Err(Failed { kind: kind(&store, &error), message: format!("{error:#}") }),
        }
    }

    /// The same, and has it told its configuration; with what it subscribes to.
    ///
    /// # Errors
    /// As [`Self::start`]; or it does not like its configuration.
    pub fn configured<S>(
        engine: &Engine,
        facilities: Facilities,
        limits: &Limits,
        turn: Turn,
        load: impl FnOnce(&mut Store<State>) -> Result<E>,
        configure: impl FnOnce(&mut Store<State>, &E) -> Result<Result<S, String>>,
    ) -> Result<(Running<E>, S), String> {
        let made = Running::start(engine, facilities, limits, turn, load);
        let mut instance = made.map_err(|failed| failed.message)?;
        match instance.call(turn, configure).map_err(|failed| failed.message)? {
            Ok(subscription) => Ok((instance, subscription)),
            Err(reason) => Err(format!("configure: {}", cut(&reason, ERROR_MAX))),
        }
    }

    /// # Errors
    /// The instance has failed.
    pub fn call<R>(
        &mut self,
        turn: Turn,
        call: impl FnOnce(&mut Store<State>, &E) -> Result<R>,
    ) -> Result<R, Failed> {
        let Running { store, engine, exports, has_failed, .. } = self;
        let result = timed(engine, turn, store, |store| call(store, exports));
        *has_failed = result.is_err();
        // The last cause says what it was; what is around it is where.
        result.map_err(|error| Failed { kind: kind(store, &error), message: error.root_cause().to_string() })
    }

    /// A call that may wait for others, of whom it may ask so many: of its processor time only what it
    /// uses itself counts. The instance comes back with what came of it.
    pub fn wait<R: 'static>(
        mut self,
        requests_max: u32,
        call: impl AsyncFnOnce(&mut Store<State>, &E) -> Result<R> + 'static,
    ) -> Waiting<E, R>
    where
        E: 'static,
    {
        let meter = Meter::new();
        meter.refill(self.time);
        let state = self.store.data_mut();
        let (core, outbox) = (state.facilities.core, state.outbox.clone());
        state.watch.begin_metered(Arc::clone(&meter));
        outbox.refill(requests_max);
        let beat = Arc::clone(&self.engine.beat);
        let running = async move {
            self.store.set_epoch_deadline(1);
            let result = call(&mut self.store, &self.exports).await;
            self.has_failed = result.is_err();
            let failed = |error: wasmtime::Error| Failed {
                kind: kind(&self.store, &error),
                message: error.root_cause().to_string(),
            };
            let result = result.map_err(failed);
            (self, result)
        };
        Waiting { running: Metered::new(meter, beat, core, running), outbox }
    }

    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// A call of its core, on a request's way.
    pub fn turn(&self) -> Turn {
        Turn::of_core(self.store.data().facilities.core, self.time)
    }

    /// How long its last call took.
    pub fn taken(&self) -> Duration {
        self.store.data().watch.taken()
    }

    /// How many messages it was given and has not let go of.
    pub fn kept(&self) -> u32 {
        self.store.data().kept
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        self.store.data().memory.used()
    }
}

/// A call under way that may wait. Dropped before its end, the instance ends.
pub struct Waiting<E, R> {
    running: Metered<(Running<E>, Result<R, Failed>)>,
    /// Where the instance puts the requests that it sends.
    pub outbox: Outbox,
}

impl<E, R> Waiting<E, R> {
    /// Lets the instance run until it has to wait.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Running<E>, Result<R, Failed>)> {
        Pin::new(&mut self.running).poll(cx)
    }
}

/// What comes of a call that has nothing to wait for, though it could.
///
/// # Errors
/// It waits all the same.
pub fn at_once<R>(call: impl Future<Output = Result<R>>) -> Result<R> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => bail!("it waits where it must not"),
    }
}

fn timed<R>(
    engine: &Engine,
    turn: Turn,
    store: &mut Store<State>,
    call: impl FnOnce(&mut Store<State>) -> Result<R>,
) -> Result<R> {
    store.data_mut().watch.begin(turn.budget);
    store.set_epoch_deadline(1);
    engine.beat.begin(turn.thread);
    let result = call(store);
    engine.beat.end(turn.thread);
    result
}

#[cold]
fn kind(store: &Store<State>, error: &wasmtime::Error) -> Kind {
    match error.is::<Exhausted>() {
        true => Kind::Timeout,
        false if store.data().memory.was_refused() => Kind::Memory,
        false => Kind::Trap,
    }
}

/// The beginning of a text.
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// After repeated failures nobody is asked for a while.
#[derive(Default)]
pub struct Rest(Cell<Option<Instant>>);

impl Rest {
    /// After so many failures in a row.
    pub fn begin(&self, failures: u32) {
        self.0.set(Some(back_off(failures, Instant::now())));
    }

    pub fn lasts(&self) -> bool {
        match self.0.get() {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.0.set(None);
                false
            }
            None => false,
        }
    }
}

/// When the next instance may be made, or used, after so many failures in a row: at once while they
/// are few, and later and later then.
pub fn back_off(failures: u32, now: Instant) -> Instant {
    const AT_ONCE: u32 = 2;
    const FIRST: Duration = Duration::from_secs(1);
    const DOUBLINGS_MAX: u32 = 6;
    match failures.checked_sub(AT_ONCE + 1) {
        None => now,
        Some(more) => now + FIRST * 2_u32.pow(more.min(DOUBLINGS_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_cost_more_and_more_time() {
        let now = Instant::now();
        let secs: Vec<u64> = (0..12).map(|failures| (back_off(failures, now) - now).as_secs()).collect();
        assert_eq!(secs, [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 9), "aé");
    }
}
