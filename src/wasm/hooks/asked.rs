//! What a call is about, for the functions that a guest may ask meanwhile. It is lent to them, not
//! given: nothing of a request is copied until the guest asks for it, and nothing of it is in a store.

use std::cell::OnceCell;

use crate::http::forwarding::Peer;
use crate::http::head::RequestHead;
use crate::sys::lend::{Lendable, Lent};

/// The resource `context`: its number is that of the call whose request it is.
pub enum RequestHandle {}

/// What a call is about.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// `None` if it is about no request.
    pub request: Option<&'a Request<'a>>,
    pub endpoints: &'a dyn Endpoints,
}

/// The request that an endpoint is wanted for.
pub struct Request<'a> {
    /// `None` if the guest has no business with it.
    pub head: Option<(&'a RequestHead, &'a Peer)>,
    /// The name of the upstream.
    pub upstream: &'a str,
    pub attempt: u32,
    /// The beginning of its body, if that was waited for.
    pub text: Option<&'a [u8]>,
    pub candidates: &'a dyn Candidates,
    /// Of the text, once it was looked for.
    pub model: OnceCell<Option<String>>,
}

/// The endpoints of which one is to be picked.
pub trait Candidates {
    fn url(&self, index: usize) -> Option<String>;
}

/// The endpoints of all upstreams, as the core of the call knows them.
pub trait Endpoints {
    fn count(&self, upstream: &str) -> usize;
    fn endpoint(&self, upstream: &str, index: usize) -> Option<Endpoint>;
}

pub struct Endpoint {
    pub url: String,
    /// Requests in flight to it.
    pub load: u32,
    pub is_healthy: bool,
}

/// For calls that no core makes.
pub struct NoEndpoints;

impl Endpoints for NoEndpoints {
    fn count(&self, _: &str) -> usize {
        0
    }

    fn endpoint(&self, _: &str, _: usize) -> Option<Endpoint> {
        None
    }
}

struct Asking;

impl Lendable for Asking {
    type For<'a> = Asked<'a>;
}

thread_local! {
    static ASKED: Lent<Asking> = const { Lent::new() };
}

/// Makes a call that is about this.
pub fn lend<R>(asked: Asked<'_>, call: impl FnOnce() -> R) -> R {
    ASKED.with(|place| place.lend(asked, call))
}

/// What the request of the call at hand says. Nothing outside of calls about one.
pub fn of_request<R>(look: impl FnOnce(&Request<'_>) -> Option<R>) -> Option<R> {
    ASKED.with(|place| place.with(|asked| look(asked?.request?)))
}

pub fn of_endpoints<R>(look: impl FnOnce(&dyn Endpoints) -> Option<R>) -> Option<R> {
    ASKED.with(|place| place.with(|asked| look(asked?.endpoints)))
}

/// As a guest gets it: what is no UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
