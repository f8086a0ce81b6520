//! One running copy of a middleware, and how it is called.

use std::cell::RefCell;

use wasmtime::component::{Component, InstancePre, Linker, Resource};
use wasmtime::{Result, Store};

use super::messages;
use super::passing::{self, Passing, RequestHandle, ResponseHandle};
use super::{Hooks, RequestAction, ResponseAction, Summary};
use crate::wasm::hooks::asked::{self, Asked, Endpoints};
use crate::wasm::hooks::bindings::middleware::exports::warpdrive::middleware::filter::{
    self as interface, BodyAccess, Subscription,
};
use crate::wasm::hooks::bindings::middleware::{Middleware, MiddlewareIndices};
use crate::wasm::hooks::engine::Engine;
use crate::wasm::hooks::facilities::{self, Facilities};
use crate::wasm::hooks::guest;
use crate::wasm::hooks::loader::Refused;
use crate::wasm::hooks::running::{Failed, Running, State, Turn};
use crate::wasm::hooks::settings::Limits;

/// Middleware that was compiled and linked.
pub struct Code {
    engine: Engine,
    pre: InstancePre<State>,
    indices: MiddlewareIndices,
}

/// What we call of a middleware.
pub type Exports = Middleware;

pub type Instance = Running<Exports>;

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
        let pre = linker.instantiate_pre(component)?;
        Ok(Code { engine: engine.clone(), indices: MiddlewareIndices::new(&pre)?, pre })
    }

    fn instantiate(
        &self,
        facilities: Facilities,
        limits: &Limits,
        turn: Turn,
    ) -> std::result::Result<(Instance, Hooks), Refused> {
        let json = facilities.component.json();
        let load = |store: &mut Store<State>| {
            let instance = self.pre.instantiate(&mut *store)?;
            self.indices.load(&mut *store, &instance)
        };
        let configure = |store: &mut Store<State>, middleware: &Middleware| {
            middleware.warpdrive_middleware_filter().call_configure(store, &json)
        };
        let (instance, wanted) =
            Running::configured(&self.engine, facilities, limits, turn, load, configure)?;
        Ok((instance, subscribed(&wanted)?))
    }
}

/// # Errors
/// It subscribes to what does not work yet.
fn subscribed(wanted: &Subscription) -> std::result::Result<Hooks, Refused> {
    for (body, of) in [(wanted.request_body, "request"), (wanted.response_body, "response")] {
        let access = match body {
            BodyAccess::None => continue,
            BodyAccess::Whole(_) => "whole",
            BodyAccess::Stream => "stream",
        };
        let reason =
            format!("it subscribes to the {of} body as `{access}`, which does not work yet in this version");
        return Err(Refused { reason, is_final: true });
    }
    let has = |hook| wanted.hooks.contains(hook);
    Ok(Hooks {
        request: has(interface::Hooks::REQUEST),
        response: has(interface::Hooks::RESPONSE),
        log: has(interface::Hooks::LOG),
    })
}

impl Running<Exports> {
    /// One call about an exchange, with so many messages.
    fn about<'a, R>(
        &mut self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
        messages: u32,
        call: impl FnOnce(&mut Store<State>, &Middleware, u32) -> Result<R>,
    ) -> std::result::Result<R, Failed> {
        asked::lend(Asked { request: None, endpoints }, || {
            passing::lend(passing, || {
                self.call(self.turn(), |store, middleware| {
                    let number = store.data_mut().next_call(messages);
                    call(store, middleware, number)
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
        self.about(passing, endpoints, 1, |store, middleware, number| {
            let request = Resource::<RequestHandle>::new_own(number);
            middleware.warpdrive_middleware_filter().call_on_request(store, request)
        })
    }

    /// # Errors
    /// The instance has failed.
    pub fn on_response<'a>(
        &mut self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
    ) -> std::result::Result<ResponseAction, Failed> {
        self.about(passing, endpoints, 2, |store, middleware, number| {
            let request = Resource::<RequestHandle>::new_own(number);
            let response = Resource::<ResponseHandle>::new_own(number);
            middleware.warpdrive_middleware_filter().call_on_response(store, request, response)
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
        self.about(passing, endpoints, 1, |store, middleware, number| {
            let request = Resource::<RequestHandle>::new_own(number);
            middleware.warpdrive_middleware_filter().call_on_log(store, request, summary)
        })
    }
}
