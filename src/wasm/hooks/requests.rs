//! What a policy may ask about the request of the call at hand.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::asked::{Request, RequestHandle, of_request, text};
use super::bindings::policy::warpdrive::policy::requests::{self, Host, HostContext};
use super::model::model;
use super::running::State;
use crate::http::forwarding::Peer;
use crate::http::head::RequestHead;
use crate::http::told::with_told;

/// # Errors
/// They are linked already.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    requests::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl State {
    /// Of the call at hand, and of no other: a guest may have kept what it was given for one before.
    fn of_request<R>(
        &self,
        context: &Resource<RequestHandle>,
        look: impl FnOnce(&Request<'_>) -> Option<R>,
    ) -> Option<R> {
        if self.is_current(context.rep()) { of_request(look) } else { None }
    }

    fn of_head(
        &self,
        context: &Resource<RequestHandle>,
        look: impl FnOnce(&RequestHead, &Peer) -> Option<String>,
    ) -> Option<String> {
        self.of_request(context, |request| request.head.and_then(|(head, peer)| look(head, peer)))
    }
}

fn model_of(request: &Request<'_>) -> Option<String> {
    request.model.get_or_init(|| model(request.text?)).clone()
}

impl Host for State {}

impl HostContext for State {
    fn method(&mut self, context: Resource<RequestHandle>) -> String {
        self.of_head(&context, |head, _| Some(text(head.text(head.method_text)))).unwrap_or_default()
    }

    fn path(&mut self, context: Resource<RequestHandle>) -> String {
        self.of_head(&context, |head, _| Some(text(head.text(head.target.path)))).unwrap_or_default()
    }

    fn query(&mut self, context: Resource<RequestHandle>) -> Option<String> {
        self.of_head(&context, |head, _| head.text(head.target.query).strip_prefix(b"?").map(text))
    }

    fn host(&mut self, context: Resource<RequestHandle>) -> String {
        self.of_head(&context, |head, _| Some(text(head.text(head.target.host)))).unwrap_or_default()
    }

    fn field(&mut self, context: Resource<RequestHandle>, name: String) -> Option<String> {
        self.of_head(&context, |head, peer| {
            with_told(head, peer, None, Some(&name), |fields| fields.named(&name).next().map(text))
        })
    }

    fn cookie(&mut self, context: Resource<RequestHandle>, name: String) -> Option<String> {
        self.of_head(&context, |head, _| head.cookie(&name).map(text))
    }

    fn client(&mut self, context: Resource<RequestHandle>) -> String {
        self.of_head(&context, |head, peer| Some(text(peer.client(head)))).unwrap_or_default()
    }

    fn text(&mut self, context: Resource<RequestHandle>) -> Option<String> {
        self.of_request(&context, |request| request.text.map(text))
    }

    fn model(&mut self, context: Resource<RequestHandle>) -> Option<String> {
        self.of_request(&context, model_of)
    }

    fn upstream(&mut self, context: Resource<RequestHandle>) -> String {
        self.of_request(&context, |request| Some(request.upstream.to_owned())).unwrap_or_default()
    }

    fn url(&mut self, context: Resource<RequestHandle>, index: u32) -> Option<String> {
        self.of_request(&context, |request| request.candidates.url(index as usize))
    }

    fn attempt(&mut self, context: Resource<RequestHandle>) -> u32 {
        self.of_request(&context, |request| Some(request.attempt)).unwrap_or(0)
    }

    fn drop(&mut self, _: Resource<RequestHandle>) -> Result<()> {
        self.has_dropped();
        Ok(())
    }
}
