//! One running copy of a policy, and how it is called.

use std::time::{Duration, Instant};

use wasmtime::component::{Component, InstancePre, Linker, Resource};
use wasmtime::{Result, Store};

use super::account::Kind;
use super::asked::{self, Asked};
use super::bindings::optional::exports::warpdrive::guest::about;
use super::bindings::optional::exports::warpdrive::policy::feedback;
use super::bindings::policy::exports::warpdrive::policy::load_balancer::{Endpoint, Subscription};
use super::bindings::policy::{Policy, PolicyIndices};
use super::engine::Engine;
use super::facilities::{self, Facilities};
use super::requests;
use super::watch::Watch;
use crate::wasm::limits::{Memory, Quota};
use crate::wasm::meter::Exhausted;
use crate::wasm::settings::TABLE_ELEMENTS;

/// What the first call of an instance may take: nobody waits for it.
const CONFIGURE_TIME: Duration = Duration::from_secs(1);

/// Bytes that are told of what a guest says of itself.
const ERROR_MAX: usize = 1 << 10;
const NAME_MAX: usize = 64;
const STATISTICS_MAX: usize = 4 << 10;

/// One instance's side of the host.
pub struct State {
    facilities: Facilities,
    memory: Memory,
    watch: Watch,
    /// The number of the call at hand, which is that of the request that it is about.
    call: u32,
    /// Requests of calls that the guest has not let go of.
    kept: u32,
}

impl State {
    /// The guest is given the request of another call.
    fn next_call(&mut self) -> u32 {
        self.call = self.call.wrapping_add(1);
        self.kept += 1;
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

/// A policy that was compiled and linked.
pub struct Code {
    engine: Engine,
    pre: InstancePre<State>,
    policy: PolicyIndices,
    feedback: Option<feedback::GuestIndices>,
    about: Option<about::GuestIndices>,
}

/// How a call failed. Its instance is of no use any more.
#[derive(Debug)]
pub struct Failed {
    pub kind: Kind,
    pub message: String,
}

pub struct Instance {
    store: Store<State>,
    engine: Engine,
    time: Duration,
    policy: Policy,
    feedback: Option<feedback::Guest>,
    about: Option<about::Guest>,
}

/// How one went that the policy has picked an endpoint for.
pub use feedback::Outcome;

impl Code {
    /// # Errors
    /// It is no policy, or wants what there is not.
    pub fn link(engine: &Engine, component: &Component) -> Result<Code> {
        let mut linker = Linker::<State>::new(&engine.wasmtime);
        facilities::link(&mut linker)?;
        requests::link(&mut linker)?;
        let pre: InstancePre<State> = linker.instantiate_pre(component)?;
        let has = |name: &str| component.get_export_index(None, name).is_some();
        let feedback = has("warpdrive:policy/feedback@0.1.0").then(|| feedback::GuestIndices::new(&pre));
        let about = has("warpdrive:guest/about@0.1.0").then(|| about::GuestIndices::new(&pre));
        Ok(Code {
            engine: engine.clone(),
            feedback: feedback.transpose()?,
            about: about.transpose()?,
            policy: PolicyIndices::new(&pre)?,
            pre,
        })
    }

    pub fn has_feedback(&self) -> bool {
        self.feedback.is_some()
    }

    /// Makes an instance and configures it. Takes its time: for threads that serve nobody.
    ///
    /// # Errors
    /// There is no room, it fails, or it does not like its configuration.
    pub fn instantiate(
        &self,
        facilities: Facilities,
        memory: u64,
        time: Duration,
    ) -> Result<(Instance, Subscription), String> {
        let json = serde_json::Value::Object(facilities.component.config.clone()).to_string();
        let memory = Memory::of(memory, TABLE_ELEMENTS, Quota::new(memory));
        let state = State { facilities, memory, watch: Watch::new(), call: 0, kept: 0 };
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut store| store.data_mut().watch.tick());
        let thread = self.engine.maker;
        let whole = |error: wasmtime::Error| format!("{error:#}");
        let made = timed(&self.engine, thread, CONFIGURE_TIME, &mut store, |store| {
            let instance = self.pre.instantiate(&mut *store)?;
            let policy = self.policy.load(&mut *store, &instance)?;
            let feedback = self.feedback.as_ref().map(|indices| indices.load(&mut *store, &instance));
            let about = self.about.as_ref().map(|indices| indices.load(&mut *store, &instance));
            Ok((policy, feedback.transpose()?, about.transpose()?))
        });
        let (policy, feedback, about) = made.map_err(whole)?;
        let mut instance = Instance { store, engine: self.engine.clone(), time, policy, feedback, about };
        let configured = instance.call(thread, CONFIGURE_TIME, |store, one| {
            one.policy.warpdrive_policy_load_balancer().call_configure(store, &json)
        });
        match configured.map_err(|failed| failed.message)? {
            Ok(subscription) => Ok((instance, subscription)),
            Err(reason) => Err(format!("configure: {}", cut(&reason, ERROR_MAX))),
        }
    }
}

/// Runs what calls a guest, on the thread with this number.
fn timed<R>(
    engine: &Engine,
    thread: usize,
    budget: Duration,
    store: &mut Store<State>,
    call: impl FnOnce(&mut Store<State>) -> Result<R>,
) -> Result<R> {
    store.data_mut().watch.begin(budget);
    store.set_epoch_deadline(1);
    engine.beat.begin(thread);
    let result = call(store);
    engine.beat.end(thread);
    result
}

/// The exports of an instance.
struct Exports<'a> {
    policy: &'a Policy,
    feedback: Option<&'a feedback::Guest>,
    about: Option<&'a about::Guest>,
}

impl Instance {
    fn call<R>(
        &mut self,
        thread: usize,
        budget: Duration,
        call: impl FnOnce(&mut Store<State>, Exports<'_>) -> Result<R>,
    ) -> Result<R, Failed> {
        let exports =
            Exports { policy: &self.policy, feedback: self.feedback.as_ref(), about: self.about.as_ref() };
        let result = timed(&self.engine, thread, budget, &mut self.store, |store| call(store, exports));
        result.map_err(|error| self.failed(&error))
    }

    #[cold]
    fn failed(&self, error: &wasmtime::Error) -> Failed {
        let kind = match error.is::<Exhausted>() {
            true => Kind::Timeout,
            false if self.store.data().memory.was_refused() => Kind::Memory,
            false => Kind::Trap,
        };
        // The last cause says what it was; what is around it is where.
        Failed { kind, message: error.root_cause().to_string() }
    }

    /// The index that it picks.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn select(&mut self, asked: Asked<'_>, endpoints: &[Endpoint]) -> Result<Option<u32>, Failed> {
        let core = self.store.data().facilities.core;
        asked::lend(asked, || {
            self.call(core, self.time, |store, exports| {
                let context = Resource::new_own(store.data_mut().next_call());
                exports.policy.warpdrive_policy_load_balancer().call_select(store, context, endpoints)
            })
        })
    }

    /// How long its last call took.
    pub fn taken(&self) -> Duration {
        self.store.data().watch.taken()
    }

    /// Tells it how a request went, if it wants to know.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn report(&mut self, asked: Asked<'_>, id: u32, outcome: Outcome) -> Result<(), Failed> {
        let core = self.store.data().facilities.core;
        asked::lend(asked, || {
            self.call(core, self.time, |store, exports| match exports.feedback {
                Some(feedback) => feedback.call_report(store, id, outcome),
                None => Ok(()),
            })
        })
    }

    /// Its name and its version, if it tells them.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn introduce(&mut self) -> Result<Option<(String, String)>, Failed> {
        let (thread, time) = (self.engine.maker, CONFIGURE_TIME);
        self.call(thread, time, |store, exports| {
            let Some(about) = exports.about else { return Ok(None) };
            let name = about.call_name(&mut *store)?;
            let version = about.call_version(&mut *store)?;
            Ok(Some((cut(&name, NAME_MAX).to_owned(), cut(&version, NAME_MAX).to_owned())))
        })
    }

    /// A JSON object with its numbers, if it tells them and it is one.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn statistics(&mut self, asked: Asked<'_>) -> Result<Option<serde_json::Value>, Failed> {
        let core = self.store.data().facilities.core;
        let text = asked::lend(asked, || {
            self.call(core, self.time, |store, exports| {
                exports.about.map(|about| about.call_statistics(store)).transpose()
            })
        })?;
        let text = text.filter(|text| text.len() <= STATISTICS_MAX);
        let value = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        Ok(value.filter(serde_json::Value::is_object))
    }

    /// How many requests it was given and has not let go of.
    pub fn kept(&self) -> u32 {
        self.store.data().kept
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        self.store.data().memory.used()
    }
}

/// The beginning of a text.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
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
