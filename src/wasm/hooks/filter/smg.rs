//! Middleware of the Shepherd Model Gateway (`smg:gateway`), as it is: each hook is one function that gets
//! a copy of the message and answers with what is to become of it.

use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::component::{Component, Instance, Linker, TypedFunc};
use wasmtime::error::Context;
use wasmtime::{Result, Store, bail};

use super::messages::all;
use super::passing::{self, Change, Of, Passing};
use super::{Access, Answer, Hooks, RequestAction, ResponseAction};
use crate::wasm::hooks::asked::text;
use crate::wasm::hooks::bindings::middleware::warpdrive::middleware::messages::{BodyError, ChangeError};
use crate::wasm::hooks::bindings::smg::smg::gateway::middleware_types::{
    Action, Header, ModifyAction, Request, Response,
};
use crate::wasm::hooks::running::State;
use crate::wasm::hooks::wasi;

/// What it may export.
pub const ON_REQUEST: &str = "smg:gateway/middleware-on-request";
pub const ON_RESPONSE: &str = "smg:gateway/middleware-on-response";

/// What it imports, which is nothing but types.
pub const TYPES: &str = "smg:gateway/middleware-types";

/// There is an exchange whenever it is called.
const NO_EXCHANGE: &str = "it is called about nothing";

/// Whether this is such a one.
pub fn is(component: &Component) -> bool {
    [ON_REQUEST, ON_RESPONSE].iter().any(|name| component.get_export_index(None, name).is_some())
}

/// # Errors
/// Something of it is linked already.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    wasi::link(linker)?;
    linker.instance(TYPES)?;
    Ok(())
}

/// The hooks that one has.
#[derive(Clone, Copy)]
pub struct Smg {
    on_request: Option<TypedFunc<(Request,), (Action,)>>,
    on_response: Option<TypedFunc<(Response,), (Action,)>>,
}

impl Smg {
    /// # Errors
    /// A hook has another type.
    pub fn of(store: &mut Store<State>, instance: &Instance) -> Result<Smg> {
        let mut find = |interface: &str, name: &str| {
            let interface = instance.get_export_index(&mut *store, None, interface)?;
            instance.get_export_index(&mut *store, Some(&interface), name)
        };
        let (request, response) = (find(ON_REQUEST, "on-request"), find(ON_RESPONSE, "on-response"));
        let on_request = request.map(|index| instance.get_typed_func(&mut *store, index)).transpose()?;
        let on_response = response.map(|index| instance.get_typed_func(&mut *store, index)).transpose()?;
        Ok(Smg { on_request, on_response })
    }

    /// It wants to see all of what it sees, and nothing of what is a stream.
    pub fn hooks(&self) -> Hooks {
        let whole = |has: bool| if has { Access::Whole(usize::MAX) } else { Access::None };
        let (request, response) = (self.on_request.is_some(), self.on_response.is_some());
        Hooks {
            request,
            response,
            log: false,
            request_body: whole(request),
            response_body: whole(response),
            skips_streams: true,
        }
    }

    /// # Errors
    /// It fails, or the body that it puts in place of another is too long.
    pub async fn on_request(&self, store: &mut Store<State>) -> Result<RequestAction> {
        let call = self.on_request.context("it has no such hook")?;
        let Some(request) = passing::with(request).context(NO_EXCHANGE)? else {
            return Ok(RequestAction::Respond(refusal(413)));
        };
        let answer = done(Of::Request, called(store, call, request).await?)?;
        Ok(answer.map_or(RequestAction::Next, RequestAction::Respond))
    }

    /// # Errors
    /// As [`Self::on_request`].
    pub async fn on_response(&self, store: &mut Store<State>) -> Result<ResponseAction> {
        let call = self.on_response.context("it has no such hook")?;
        let Some(response) = passing::with(response).context(NO_EXCHANGE)? else {
            return Ok(ResponseAction::Respond(refusal(502)));
        };
        let answer = done(Of::Response, called(store, call, response).await?)?;
        Ok(answer.map_or(ResponseAction::Next, ResponseAction::Respond))
    }
}

/// Does what it wants with a message, which goes on then; or the answer in its place.
fn done(of: Of, action: Action) -> Result<Option<Answer>> {
    match action {
        Action::Continue => Ok(None),
        Action::Reject(status) => Ok(Some(refusal(status))),
        Action::Modify(modify) => {
            passing::with(|passing| change(passing, of, &modify)).context(NO_EXCHANGE)??;
            Ok(None)
        }
    }
}

async fn called<P>(store: &mut Store<State>, call: TypedFunc<(P,), (Action,)>, message: P) -> Result<Action>
where
    P: wasmtime::component::ComponentType + wasmtime::component::Lower + Send + Sync + 'static,
{
    store.data_mut().begin_output();
    let action = call.call_async(&mut *store, (message,)).await;
    store.data_mut().end_output();
    Ok(action?.0)
}

fn refusal(status: u16) -> Answer {
    Answer { status, fields: Vec::new(), body: Vec::new() }
}

/// The request as it gets it. None if its body is too long to be shown.
fn request(passing: &mut Passing<'_>) -> Option<Request> {
    let body = whole(passing, Of::Request)?;
    let headers = headers(passing.told(None, all));
    let head = passing.request.head();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Request {
        method: text(head.text(head.method_text)),
        path: text(head.text(head.target.path)),
        query: head.text(head.target.query).strip_prefix(b"?").map(text).unwrap_or_default(),
        headers,
        body,
        request_id: text(passing.peer.request_id(head, passing.stamp)),
        now_epoch_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    })
}

/// The response as it gets it. None if its body is too long to be shown.
fn response(passing: &mut Passing<'_>) -> Option<Response> {
    let body = whole(passing, Of::Response)?;
    let head = passing.response.as_ref()?.head();
    Some(Response { status: head.status.0, headers: headers(all(&head.fields)), body })
}

fn whole(passing: &Passing<'_>, of: Of) -> Option<Vec<u8>> {
    match passing.body(of) {
        Ok(body) => Some(body),
        Err(BodyError::NotSubscribed) => Some(Vec::new()),
        Err(BodyError::TooLarge) => None,
    }
}

fn headers(fields: Vec<(String, String)>) -> Vec<Header> {
    fields.into_iter().map(|(name, value)| Header { name, value }).collect()
}

/// Makes the changes that it wants. Fields that it may not have are left as they are: it says more
/// than it needs to, such as the length of the body that it gives.
///
/// # Errors
/// The new body, or all of the fields, are too long; or the status is none.
fn change(passing: &mut Passing<'_>, of: Of, wanted: &ModifyAction) -> Result<()> {
    let mut field = |name: &str, change| match of {
        Of::Request => passing.change_request(name, change),
        Of::Response => passing.change_response(name, change),
    };
    let set = wanted.headers_set.iter().map(|one| (&one.name, Change::Set(&one.value)));
    let added = wanted.headers_add.iter().map(|one| (&one.name, Change::Append(&one.value)));
    let removed = wanted.headers_remove.iter().map(|name| (name, Change::Remove));
    for (name, change) in set.chain(added).chain(removed) {
        if let Err(ChangeError::TooLarge) = field(name, change) {
            bail!("it sets more fields than a message may have");
        }
    }
    if let (Of::Response, Some(status)) = (of, wanted.status)
        && passing.set_status(status).is_err()
    {
        bail!("it sets the status {status}, which cannot be");
    }
    match &wanted.body_replace {
        Some(body) if passing.set_body(of, body).is_err() => bail!("it sets a body that cannot be"),
        _ => Ok(()),
    }
}
