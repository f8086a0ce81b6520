//! One running copy of a middleware, and how it is called.

use std::cell::RefCell;

use wasmtime::component::{Component, InstancePre, Linker, Resource};
use wasmtime::{Result, Store};

use super::messages;
use super::passing::{self, Passing, RequestHandle, ResponseHandle};
use super::{RequestAction, ResponseAction, Subscription, Summary};
use crate::wasm::hooks::asked::{self, Asked, Endpoints};
use crate::wasm::hooks::bindings::middleware::{Middleware, MiddlewareIndices};
use crate::wasm::hooks::engine::Engine;
use crate::wasm::hooks::facilities::{self, Facilities};
use crate::wasm::hooks::instance::ERROR_MAX;
use crate::wasm::hooks::running::{Failed, Running, State, Turn, cut};
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

impl Code {
    /// # Errors
    /// It is no middleware, or wants what there is not.
    pub fn link(engine: &Engine, component: &Component) -> Result<Code> {
        let mut linker = Linker::<State>::new(&engine.wasmtime);
        facilities::link(&mut linker)?;
        messages::link(&mut linker)?;
        let pre = linker.instantiate_pre(component)?;
        Ok(Code { engine: engine.clone(), indices: MiddlewareIndices::new(&pre)?, pre })
    }

    /// Makes an instance and configures it.
    ///
    /// # Errors
    /// There is no room, it fails, or it does not like its configuration.
    pub fn instantiate(
        &self,
        facilities: Facilities,
        limits: &Limits,
        turn: Turn,
    ) -> std::result::Result<(Instance, Subscription), String> {
        let json = facilities.component.json();
        let made = Running::start(&self.engine, facilities, limits, turn, |store| {
            let instance = self.pre.instantiate(&mut *store)?;
            self.indices.load(&mut *store, &instance)
        });
        let mut instance = made.map_err(|failed| failed.message)?;
        let configured = instance.call(turn, |store, middleware| {
            middleware.warpdrive_middleware_filter().call_configure(store, &json)
        });
        match configured.map_err(|failed| failed.message)? {
            Ok(subscription) => Ok((instance, subscription)),
            Err(reason) => Err(format!("configure: {}", cut(&reason, ERROR_MAX))),
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
