//! One running copy of a middleware, and how it is called.

use std::cell::RefCell;

use wasmtime::component::{Component, InstancePre, Linker, Resource, ResourceAny, TypedFunc};
use wasmtime::error::Context;
use wasmtime::{Result, Store};

use super::messages;
use super::passing::{self, Passing, RequestHandle, ResponseHandle};
use super::smg::{self, Smg};
use super::tally::Hook;
use super::{Access, Hooks, RequestAction, ResponseAction, Summary};
use crate::wasm::hooks::asked::{self, Asked, Endpoints};
use crate::wasm::hooks::asking;
use crate::wasm::hooks::bindings::middleware::exports::warpdrive::middleware::filter::{
    self as interface, BodyAccess, Subscription,
};
use crate::wasm::hooks::bindings::middleware::{Middleware, MiddlewareIndices};
use crate::wasm::hooks::bindings::optional::exports::warpdrive::middleware::{
    request_stream, response_stream,
};
use crate::wasm::hooks::bindings::optional::warpdrive::middleware::chunks;
use crate::wasm::hooks::engine::Engine;
use crate::wasm::hooks::facilities::{self, Facilities};
use crate::wasm::hooks::guest;
use crate::wasm::hooks::loader::Refused;
use crate::wasm::hooks::running::{self, Failed, Running, State, Turn, at_once};
use crate::wasm::hooks::settings::Limits;

const FILTER: &str = "warpdrive:middleware/filter@0.1.0";
const REQUEST_STREAM: &str = "warpdrive:middleware/request-stream@0.1.0";
const RESPONSE_STREAM: &str = "warpdrive:middleware/response-stream@0.1.0";

/// Nobody is asked for one who has not said that it is there.
const NO_STREAM: &str = "it does not export the stream that it subscribes to";

/// Requests that it may send in one call.
const REQUESTS_MAX: u32 = 100;

/// Nobody waits who has not said that it could.
const NO_WAIT: &str = "it cannot wait";

/// Middleware that was compiled and linked.
pub struct Code {
    engine: Engine,
    pre: InstancePre<State>,
    /// None for one of another gateway.
    indices: Option<MiddlewareIndices>,
    request_stream: Option<request_stream::GuestIndices>,
    response_stream: Option<response_stream::GuestIndices>,
    /// It imports what it may have to wait for.
    waits: bool,
}

/// What we call of a middleware.
pub struct Exports {
    middleware: Option<Middleware>,
    request_stream: Option<request_stream::Guest>,
    response_stream: Option<response_stream::Guest>,
    waiting: Option<Waiting>,
    smg: Option<Smg>,
}

pub type Instance = Running<Exports>;

/// A call under way of one that waits.
pub type Call<R> = running::Waiting<Exports, R>;

/// The hooks of one that waits, to be called so that it can.
#[derive(Clone, Copy)]
struct Waiting {
    configure: TypedFunc<(String,), (std::result::Result<Subscription, String>,)>,
    on_request: TypedFunc<(Resource<RequestHandle>,), (RequestAction,)>,
    on_response: TypedFunc<(Resource<RequestHandle>, Resource<ResponseHandle>), (ResponseAction,)>,
    on_log: TypedFunc<(Resource<RequestHandle>, Summary), ()>,
}

impl Waiting {
    fn of(store: &mut Store<State>, instance: &wasmtime::component::Instance) -> Result<Waiting> {
        let filter = instance.get_export_index(&mut *store, None, FILTER).context(FILTER)?;
        let mut index = |name: &str| {
            instance.get_export_index(&mut *store, Some(&filter), name).with_context(|| name.to_owned())
        };
        let [configure, request, response, log] =
            [index("configure")?, index("on-request")?, index("on-response")?, index("on-log")?];
        Ok(Waiting {
            configure: instance.get_typed_func(&mut *store, configure)?,
            on_request: instance.get_typed_func(&mut *store, request)?,
            on_response: instance.get_typed_func(&mut *store, response)?,
            on_log: instance.get_typed_func(&mut *store, log)?,
        })
    }
}

impl guest::Code for Code {
    type Exports = Exports;
    type Subscription = Hooks;

    const KIND: &'static str = "middleware";
    /// So that the next call finds one.
    const IS_MADE_HERE: bool = true;

    fn link(engine: &Engine, component: &Component) -> Result<Code> {
        let mut linker = Linker::<State>::new(&engine.wasmtime);
        facilities::link(&mut linker)?;
        messages::link(&mut linker)?;
        let is_asking = |name: &str| name.split('@').next() == Some(asking::NAME);
        let is_smg = smg::is(component) && component.get_export_index(None, FILTER).is_none();
        if is_smg {
            smg::link(&mut linker)?;
        }
        let waits = component.component_type().imports(&engine.wasmtime).any(|(name, _)| is_asking(name));
        if waits {
            asking::link(&mut linker)?;
        }
        let pre = linker.instantiate_pre(component)?;
        let has = |name: &str| component.get_export_index(None, name).is_some();
        let request_stream = has(REQUEST_STREAM).then(|| request_stream::GuestIndices::new(&pre));
        let response_stream = has(RESPONSE_STREAM).then(|| response_stream::GuestIndices::new(&pre));
        Ok(Code {
            engine: engine.clone(),
            indices: (!is_smg).then(|| MiddlewareIndices::new(&pre)).transpose()?,
            request_stream: request_stream.transpose()?,
            response_stream: response_stream.transpose()?,
            pre,
            // What it has of WASI could, though none of it does.
            waits: waits || is_smg,
        })
    }

    fn instantiate(
        &self,
        facilities: Facilities,
        limits: &Limits,
        turn: Turn,
    ) -> std::result::Result<(Instance, Hooks), Refused> {
        let json = facilities.component.json();
        let load = |store: &mut Store<State>| {
            let instance = match self.waits {
                true => at_once(self.pre.instantiate_async(&mut *store))?,
                false => self.pre.instantiate(&mut *store)?,
            };
            let middleware = self.indices.as_ref().map(|one| one.load(&mut *store, &instance)).transpose()?;
            let is_smg = middleware.is_none();
            let of_requests = self.request_stream.as_ref().map(|one| one.load(&mut *store, &instance));
            let of_responses = self.response_stream.as_ref().map(|one| one.load(&mut *store, &instance));
            Ok(Exports {
                middleware,
                request_stream: of_requests.transpose()?,
                response_stream: of_responses.transpose()?,
                waiting: (self.waits && !is_smg).then(|| Waiting::of(store, &instance)).transpose()?,
                smg: is_smg.then(|| Smg::of(store, &instance)).transpose()?,
            })
        };
        let configure = |store: &mut Store<State>, exports: &Exports| {
            if let Some(smg) = &exports.smg {
                return Ok(Ok(Wanted::Hooks(smg.hooks())));
            }
            let subscribed = match &exports.waiting {
                Some(waiting) => at_once(waiting.configure.call_async(store, (json.clone(),)))?.0,
                None => exports.filter()?.call_configure(store, &json)?,
            };
            Ok(subscribed.map(Wanted::Subscription))
        };
        let (instance, wanted) =
            Running::configured(&self.engine, facilities, limits, turn, load, configure)?;
        let hooks = match wanted {
            Wanted::Hooks(hooks) => hooks,
            Wanted::Subscription(subscription) => self.subscribed(&subscription)?,
        };
        Ok((instance, hooks))
    }
}

/// What one says at its start that it wants to see.
enum Wanted {
    Subscription(Subscription),
    Hooks(Hooks),
}

impl Exports {
    /// # Errors
    /// It is of another gateway.
    fn filter(&self) -> Result<&interface::Guest> {
        let middleware = self.middleware.as_ref().context("it has no such hook")?;
        Ok(middleware.warpdrive_middleware_filter())
    }
}

impl Code {
    /// Its calls may wait.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// # Errors
    /// It subscribes to what it cannot take.
    fn subscribed(&self, wanted: &Subscription) -> std::result::Result<Hooks, Refused> {
        let streams = |access: BodyAccess| matches!(access, BodyAccess::Stream);
        if self.waits && (streams(wanted.request_body) || streams(wanted.response_body)) {
            let name = asking::NAME;
            let reason =
                format!("it subscribes to a body as `stream`, and imports {name}: a stream cannot wait");
            return Err(Refused { reason, is_final: true });
        }
        let has = |hook| wanted.hooks.contains(hook);
        let (request, response) = (has(interface::Hooks::REQUEST), has(interface::Hooks::RESPONSE));
        Ok(Hooks {
            request,
            response,
            log: has(interface::Hooks::LOG),
            request_body: access(
                wanted.request_body,
                request,
                REQUEST_STREAM,
                self.request_stream.is_some(),
            )?,
            response_body: access(
                wanted.response_body,
                response,
                RESPONSE_STREAM,
                self.response_stream.is_some(),
            )?,
            skips_streams: false,
        })
    }
}

/// `has_hook`: there is a call that would see it whole.
fn access(
    wanted: BodyAccess,
    has_hook: bool,
    stream: &str,
    has_stream: bool,
) -> std::result::Result<Access, Refused> {
    match wanted {
        BodyAccess::Whole(most) if has_hook => Ok(Access::Whole(most as usize)),
        BodyAccess::None | BodyAccess::Whole(_) => Ok(Access::None),
        BodyAccess::Stream if has_stream => Ok(Access::Stream),
        BodyAccess::Stream => {
            let reason = format!("it subscribes to a body as `stream`, but does not export {stream}");
            Err(Refused { reason, is_final: true })
        }
    }
}

impl Running<Exports> {
    /// One call about an exchange, with so many messages.
    fn about<'a, R>(
        &mut self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
        messages: u32,
        call: impl FnOnce(&mut Store<State>, &Exports, u32) -> Result<R>,
    ) -> std::result::Result<R, Failed> {
        asked::lend(Asked { request: None, endpoints }, || {
            passing::lend(passing, || {
                self.call(self.turn(), |store, exports| {
                    let number = store.data_mut().next_call(messages);
                    call(store, exports, number)
                })
            })
        })
    }

    /// # Errors
    /// The instance has failed.
    pub fn on_request<'a>(
        &mut self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
    ) -> std::result::Result<RequestAction, Failed> {
        self.about(passing, endpoints, 1, |store, exports, number| {
            let request = Resource::<RequestHandle>::new_own(number);
            exports.filter()?.call_on_request(store, request)
        })
    }

    /// # Errors
    /// The instance has failed.
    pub fn on_response<'a>(
        &mut self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
    ) -> std::result::Result<ResponseAction, Failed> {
        self.about(passing, endpoints, 2, |store, exports, number| {
            let request = Resource::<RequestHandle>::new_own(number);
            let response = Resource::<ResponseHandle>::new_own(number);
            exports.filter()?.call_on_response(store, request, response)
        })
    }

    /// # Errors
    /// The instance has failed.
    pub fn on_log<'a>(
        &mut self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
        summary: &Summary,
    ) -> std::result::Result<(), Failed> {
        self.about(passing, endpoints, 1, |store, exports, number| {
            let request = Resource::<RequestHandle>::new_own(number);
            match &exports.waiting {
                // Of one that has been answered nobody waits for more: it may send nothing.
                Some(waiting) => {
                    store.data().outbox.refill(0);
                    at_once(waiting.on_log.call_async(store, (request, summary.clone())))
                }
                None => exports.filter()?.call_on_log(store, request, summary),
            }
        })
    }

    /// The hook for requests of one that waits.
    pub fn begin_request(self) -> Call<RequestAction> {
        self.wait(REQUESTS_MAX, async |store, exports| {
            if let Some(smg) = &exports.smg {
                return smg.on_request(store).await;
            }
            let waiting = exports.waiting.as_ref().context(NO_WAIT)?;
            let request = Resource::<RequestHandle>::new_own(store.data_mut().next_call(1));
            Ok(waiting.on_request.call_async(store, (request,)).await?.0)
        })
    }

    /// The hook for responses of one that waits.
    pub fn begin_response(self) -> Call<ResponseAction> {
        self.wait(REQUESTS_MAX, async |store, exports| {
            if let Some(smg) = &exports.smg {
                return smg.on_response(store).await;
            }
            let waiting = exports.waiting.as_ref().context(NO_WAIT)?;
            let number = store.data_mut().next_call(2);
            let request = Resource::<RequestHandle>::new_own(number);
            let response = Resource::<ResponseHandle>::new_own(number);
            Ok(waiting.on_response.call_async(store, (request, response)).await?.0)
        })
    }

    /// Tells it of the body of a request. It exports that interface, or has not subscribed to it.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn begin_request_body<'a>(
        &mut self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
    ) -> std::result::Result<ResourceAny, Failed> {
        self.about(passing, endpoints, 1, |store, exports, number| {
            let stream = exports.request_stream.as_ref().context(NO_STREAM)?;
            stream.body().call_constructor(store, Resource::<RequestHandle>::new_own(number))
        })
    }

    /// The same of a response.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn begin_response_body<'a>(
        &mut self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
    ) -> std::result::Result<ResourceAny, Failed> {
        self.about(passing, endpoints, 2, |store, exports, number| {
            let stream = exports.response_stream.as_ref().context(NO_STREAM)?;
            let request = Resource::<RequestHandle>::new_own(number);
            let response = Resource::<ResponseHandle>::new_own(number);
            stream.body().call_constructor(store, request, response)
        })
    }

    /// One chunk of a body that it was told of.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn chunk(
        &mut self,
        hook: Hook,
        body: ResourceAny,
        bytes: &[u8],
        is_last: bool,
        endpoints: &dyn Endpoints,
    ) -> std::result::Result<chunks::Outcome, Failed> {
        asked::lend(Asked { request: None, endpoints }, || {
            self.call(self.turn(), |store, exports| match hook {
                Hook::RequestBody => {
                    let stream = exports.request_stream.as_ref().context(NO_STREAM)?;
                    stream.body().call_chunk(store, body, bytes, is_last)
                }
                _ => {
                    let stream = exports.response_stream.as_ref().context(NO_STREAM)?;
                    stream.body().call_chunk(store, body, bytes, is_last)
                }
            })
        })
    }

    /// It hears no more of this body.
    ///
    /// # Errors
    /// The instance has failed.
    pub fn end_body(&mut self, body: ResourceAny) -> std::result::Result<(), Failed> {
        self.call(self.turn(), |store, _| body.resource_drop(store))
    }
}
