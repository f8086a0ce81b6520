//! The requests of guests: `wasi:http/outgoing-handler` and what it answers with.
//!
//! What a guest sends is put into the outbox of its call, and taken out by whoever runs the call, on
//! the same core. The answer comes back through [`Reply`]. Neither is of a core: both may be in a
//! store. The library's own way ends in a task of tokio, so the future of an answer is ours, too.
//!
//! Must not know: who may be asked, and how.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderName;
use http_body_util::BodyExt;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Method, Scheme};
use wasmtime_wasi_http::p2::body::HostIncomingBody;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{FieldMap, RequestOptions};

use super::host::{Hooks, Host};
use super::message::{self, GuestBody};
use super::pipe::Receiver;

/// As the library names them; each stands for every version of 0.2.
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
const TYPES: &str = "wasi:http/types@0.2.12";

/// A request of a guest.
pub struct Ask {
    /// For whom it is, as the guest wrote it.
    pub authority: String,
    /// As a client would send it.
    pub head: Vec<u8>,
    pub body: Option<GuestBody>,
    pub timeouts: Timeouts,
    /// How long all of it may take, to the last byte of the answer.
    pub patience: Option<Duration>,
    pub reply: Reply,
}

/// What the guest has said of its patience.
pub type Timeouts = RequestOptions;
/// An answer as a guest gets it.
pub type Answer = http::Response<Receiver>;

/// Why a request of a guest came to no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It may not ask there, or not so often.
    Denied,
    /// It is none that may be sent.
    Malformed,
    BodyTooLarge,
    AnswerTooLarge,
    Unreachable,
    NoConnection,
    ConnectFailed,
    ConnectTimeout,
    Timeout,
    /// The connection was closed before the answer.
    Closed,
    /// It was closed within the answer.
    Incomplete,
    Protocol,
    /// The guest itself did not go on with it.
    Abandoned,
}

impl Refusal {
    fn code(self) -> ErrorCode {
        match self {
            Refusal::Denied => ErrorCode::HttpRequestDenied,
            Refusal::Malformed | Refusal::Protocol => ErrorCode::HttpProtocolError,
            Refusal::BodyTooLarge => ErrorCode::HttpRequestBodySize(None),
            Refusal::AnswerTooLarge => ErrorCode::HttpResponseBodySize(None),
            Refusal::Unreachable => ErrorCode::DestinationUnavailable,
            Refusal::NoConnection => ErrorCode::ConnectionLimitReached,
            Refusal::ConnectFailed => ErrorCode::ConnectionRefused,
            Refusal::ConnectTimeout => ErrorCode::ConnectionTimeout,
            Refusal::Timeout => ErrorCode::ConnectionReadTimeout,
            Refusal::Closed => ErrorCode::ConnectionTerminated,
            Refusal::Incomplete => ErrorCode::HttpResponseIncomplete,
            Refusal::Abandoned => ErrorCode::InternalError(Some("the request was given up".to_owned())),
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // No one who holds it runs anything that can panic.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an instance has sent and nobody has taken out yet.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<Outgoing>>);

#[derive(Default)]
struct Outgoing {
    asks: Vec<Ask>,
    /// How many more the call at hand may send.
    left: u32,
}

impl Outbox {
    /// A new call may send so many; what one before has left here is given up.
    pub(super) fn refill(&self, most: u32) {
        *lock(&self.0) = Outgoing { asks: Vec::new(), left: most };
    }

    /// # Errors
    /// It has sent too many already.
    pub(super) fn put(&self, ask: impl FnOnce() -> Ask) -> Result<(), Refusal> {
        let mut outgoing = lock(&self.0);
        outgoing.left = outgoing.left.checked_sub(1).ok_or(Refusal::Denied)?;
        outgoing.asks.push(ask());
        Ok(())
    }

    /// All that is in it, in the order in which it was sent.
    pub fn take(&self) -> Vec<Ask> {
        std::mem::take(&mut lock(&self.0).asks)
    }
}

#[derive(Default)]
struct State {
    answer: Option<Result<Answer, Refusal>>,
    /// The guest has it.
    is_taken: bool,
    /// The guest does not want it any more.
    is_dropped: bool,
    guest: Option<Waker>,
    sender: Option<Waker>,
}

/// Where the answer to a request goes. Dropped without one, the request was given up.
pub struct Reply(Arc<Mutex<State>>);

/// The guest's end of a [`Reply`].
pub(super) struct Awaited(Arc<Mutex<State>>);

/// A place for an answer, and who waits for it.
pub(super) fn reply() -> (Reply, Awaited) {
    let state = Arc::default();
    (Reply(Arc::clone(&state)), Awaited(state))
}

impl Reply {
    /// The first word counts.
    pub fn put(&self, answer: Result<Answer, Refusal>) {
        let mut state = lock(&self.0);
        if state.answer.is_none() && !state.is_taken {
            state.answer = Some(answer);
        }
        state.guest.take().into_iter().for_each(Waker::wake);
    }

    /// Resolves when the guest does not wait for an answer any more.
    pub async fn dropped(&self) {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if state.is_dropped && !state.is_taken {
                return Poll::Ready(());
            }
            state.sender = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.put(Err(Refusal::Abandoned));
    }
}

impl Awaited {
    /// The answer, once it is here.
    ///
    /// # Errors
    /// There is none.
    pub async fn answer(self) -> Result<Answer, Refusal> {
        poll_fn(|cx| self.poll(cx)).await;
        let mut state = lock(&self.0);
        state.is_taken = true;
        state.answer.take().unwrap_or(Err(Refusal::Abandoned))
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.answer.is_some() || state.is_taken {
            return Poll::Ready(());
        }
        state.guest = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_dropped = true;
        let sender = state.sender.take();
        drop(state);
        sender.into_iter().for_each(Waker::wake);
    }
}

#[async_trait]
impl Pollable for Awaited {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

/// In place of what the library has: its own future of an answer is a task of tokio.
///
/// # Errors
/// Something else has these names.
pub fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.instance(HANDLER)?.func_wrap("handle", handle)?;
    let mut types = linker.instance(TYPES)?;
    let ours = ResourceType::host::<HostFutureIncomingResponse>();
    types.resource("future-incoming-response", ours, |mut store, rep| {
        store.data_mut().table.delete(Resource::<Awaited>::new_own(rep))?;
        Ok(())
    })?;
    types.func_wrap("[method]future-incoming-response.subscribe", subscribe_to)?;
    types.func_wrap("[method]future-incoming-response.get", get)
}

/// A handle that the guest has for one of ours.
type Future = Resource<HostFutureIncomingResponse>;

fn handle(
    mut store: StoreContextMut<'_, Host>,
    (request, options): (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>),
) -> Result<(Result<Future, ErrorCode>,)> {
    let host = store.data_mut();
    let timeouts = match options {
        Some(options) => *host.table.get(&options)?,
        None => Timeouts::default(),
    };
    let request = host.table.delete(request)?;
    let (head, authority) = match head_of(&request) {
        Ok(written) => written,
        Err(code) => return Ok((Err(code),)),
    };
    let body = request.body.map(|body| body.map_err(Into::into).boxed_unsync());
    let (reply, awaited) = reply();
    let sent = host.outbox.put(|| Ask { authority, head, body, timeouts, patience: None, reply });
    if let Err(refusal) = sent {
        return Ok((Err(refusal.code()),));
    }
    let awaited = host.table.push(awaited)?;
    Ok((Ok(Future::new_own(awaited.rep())),))
}

/// The head as a client would send it, and the authority in it.
fn head_of(request: &HostOutgoingRequest) -> Result<(Vec<u8>, String), ErrorCode> {
    // There is no TLS on the way to an upstream, and who asks for it is not to go without.
    if !matches!(request.scheme, None | Some(Scheme::Http)) {
        return Err(ErrorCode::HttpRequestDenied);
    }
    let method: http::Method =
        Method::clone(&request.method).try_into().map_err(|_| ErrorCode::HttpRequestMethodInvalid)?;
    let authority = request.authority.clone().unwrap_or_default();
    let target = request.path_with_query.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let length = length_of(&request.headers)?;
    let mut head = Vec::with_capacity(512);
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\nhost: ", &authority, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    match (&request.body, length) {
        (None, Some(length)) if length > 0 => return Err(ErrorCode::HttpRequestBodySize(Some(0))),
        (Some(_), None) => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    for (name, value) in request.headers.iter().filter(|(name, _)| !is_ours(name)) {
        message::push(&mut head, name, value);
    }
    head.extend_from_slice(b"\r\n");
    Ok((head, authority))
}

/// What is said of the connection is ours to say; nor does anyone wait for leave to send a body.
fn is_ours(name: &HeaderName) -> bool {
    wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS.contains(name) || *name == http::header::EXPECT
}

fn length_of(fields: &FieldMap) -> Result<Option<u64>, ErrorCode> {
    let Some(length) = fields.get(http::header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    length.map(Some).ok_or(ErrorCode::HttpProtocolError)
}

fn subscribe_to(
    mut store: StoreContextMut<'_, Host>,
    (future,): (Future,),
) -> Result<(Resource<DynPollable>,)> {
    Ok((subscribe(&mut store.data_mut().table, Resource::<Awaited>::new_borrow(future.rep()))?,))
}

type Given = Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>;

fn get(mut store: StoreContextMut<'_, Host>, (future,): (Future,)) -> Result<(Given,)> {
    let host = store.data_mut();
    let awaited = host.table.get(&Resource::<Awaited>::new_borrow(future.rep()))?;
    let answer = {
        let mut state = lock(&awaited.0);
        match state.answer.take() {
            None if state.is_taken => return Ok((Some(Err(())),)),
            None => return Ok((None,)),
            Some(answer) => {
                state.is_taken = true;
                answer
            }
        }
    };
    let answer = match answer {
        Ok(answer) => Ok(host.table.push(incoming(&mut host.hooks, answer))?),
        Err(refusal) => Err(refusal.code()),
    };
    Ok((Some(Ok(answer)),))
}

fn incoming(hooks: &mut Hooks, answer: Answer) -> HostIncomingResponse {
    let (parts, body) = answer.into_parts();
    HostIncomingResponse {
        status: parts.status.as_u16(),
        headers: FieldMap::new_immutable(hooks, parts.headers),
        body: Some(HostIncomingBody::new(body.boxed_unsync())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipe::pipe;
    use super::*;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn the_first_word_is_the_answer() {
        let (reply, awaited) = reply();
        assert!(awaited.poll(&cx()).is_pending());
        reply.put(Ok(Answer::new(pipe(None).1)));
        reply.put(Err(Refusal::Timeout));
        drop(reply);
        assert!(awaited.poll(&cx()).is_ready());
        assert!(lock(&awaited.0).answer.take().unwrap().is_ok());
    }

    #[test]
    fn a_request_that_is_given_up_is_answered() {
        let (reply, awaited) = reply();
        drop(reply);
        let answer = lock(&awaited.0).answer.take();
        assert_eq!(answer.unwrap().err(), Some(Refusal::Abandoned));
    }

    #[test]
    fn a_call_sends_so_many_and_no_more() {
        let outbox = Outbox::default();
        let ask = || Ask {
            authority: String::new(),
            head: Vec::new(),
            body: None,
            timeouts: Timeouts::default(),
            patience: None,
            reply: reply().0,
        };
        assert_eq!(outbox.put(ask).err(), Some(Refusal::Denied));
        outbox.refill(2);
        assert_eq!((outbox.put(ask), outbox.put(ask)), (Ok(()), Ok(())));
        assert_eq!(outbox.put(ask).err(), Some(Refusal::Denied));
        assert_eq!((outbox.take().len(), outbox.take().len()), (2, 0));
        outbox.put(ask).unwrap_err();
    }
}
