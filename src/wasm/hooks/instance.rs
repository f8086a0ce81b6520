//! One running copy of a policy, and how it is called.

use wasmtime::component::{Component, InstancePre, Linker, Resource};
use wasmtime::{Result, Store};

use super::asked::{self, Asked};
use super::bindings::optional::exports::warpdrive::guest::about;
use super::bindings::optional::exports::warpdrive::policy::feedback;
use super::bindings::policy::exports::warpdrive::policy::load_balancer::Endpoint;
use super::bindings::policy::{Policy, PolicyIndices};
use super::engine::Engine;
use super::facilities::{self, Facilities};
use super::guest;
use super::loader::Refused;
use super::policy::Subscription;
use super::requests;
use super::running::{Failed, Running, State, Turn, cut};
use super::settings::Limits;

/// More of a body than this is not waited for.
const TEXT_MAX: u32 = 64 << 10;

/// Bytes that are told of what a guest says of itself.
const NAME_MAX: usize = 64;
const STATISTICS_MAX: usize = 4 << 10;

/// A policy that was compiled and linked.
pub struct Code {
    engine: Engine,
    pre: InstancePre<State>,
    policy: PolicyIndices,
    feedback: Option<feedback::GuestIndices>,
    about: Option<about::GuestIndices>,
}

/// What we call of a policy.
pub struct Exports {
    policy: Policy,
    feedback: Option<feedback::Guest>,
    about: Option<about::Guest>,
}

pub type Instance = Running<Exports>;

/// How one went that the policy has picked an endpoint for.
pub use feedback::Outcome;

impl Code {
    pub fn has_feedback(&self) -> bool {
        self.feedback.is_some()
    }
}

impl guest::Code for Code {
    type Exports = Exports;
    type Subscription = Subscription;

    const KIND: &'static str = "policy";
    /// Until another thread has made one, the fallback decides.
    const IS_MADE_HERE: bool = false;

    fn link(engine: &Engine, component: &Component) -> Result<Code> {
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

    fn instantiate(
        &self,
        facilities: Facilities,
        limits: &Limits,
        turn: Turn,
    ) -> Result<(Instance, Subscription), Refused> {
        let json = facilities.component.json();
        let load = |store: &mut Store<State>| {
            let instance = self.pre.instantiate(&mut *store)?;
            let policy = self.policy.load(&mut *store, &instance)?;
            let feedback = self.feedback.as_ref().map(|indices| indices.load(&mut *store, &instance));
            let about = self.about.as_ref().map(|indices| indices.load(&mut *store, &instance));
            Ok(Exports { policy, feedback: feedback.transpose()?, about: about.transpose()? })
        };
        let configure = |store: &mut Store<State>, one: &Exports| {
            one.policy.warpdrive_policy_load_balancer().call_configure(store, &json)
        };
        let (instance, wanted) =
            Running::configured(&self.engine, facilities, limits, turn, load, configure)?;
        let text_max = wanted.text_max.min(TEXT_MAX) as usize;
        Ok((instance, Subscription { head: wanted.head, text_max }))
    }
}

impl Running<Exports> {
    /// The index that it picks.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn select(&mut self, asked: Asked<'_>, endpoints: &[Endpoint]) -> Result<Option<u32>, Failed> {
        asked::lend(asked, || {
            self.call(self.turn(), |store, exports| {
                let context = Resource::new_own(store.data_mut().next_call(1));
                exports.policy.warpdrive_policy_load_balancer().call_select(store, context, endpoints)
            })
        })
    }

    /// Tells it how a request went, if it wants to know.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn report(&mut self, asked: Asked<'_>, id: u32, outcome: Outcome) -> Result<(), Failed> {
        asked::lend(asked, || {
            self.call(self.turn(), |store, exports| match &exports.feedback {
                Some(feedback) => feedback.call_report(store, id, outcome),
                None => Ok(()),
            })
        })
    }

    /// Its name and its version, if it tells them.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn introduce(&mut self, turn: Turn) -> Result<Option<(String, String)>, Failed> {
        self.call(turn, |store, exports| {
            let Some(about) = &exports.about else { return Ok(None) };
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
        let text = asked::lend(asked, || {
            self.call(self.turn(), |store, exports| {
                exports.about.as_ref().map(|about| about.call_statistics(store)).transpose()
            })
        })?;
        let text = text.filter(|text| text.len() <= STATISTICS_MAX);
        let value = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        Ok(value.filter(serde_json::Value::is_object))
    }
}
