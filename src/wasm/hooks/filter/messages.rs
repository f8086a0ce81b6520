//! What a guest may ask about the exchange of the call at hand, and change of it.

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::passing::{self, Change, Of, Passing, RequestHandle, ResponseHandle};
use crate::http::fields::Fields;
use crate::http::head::RequestHead;
use crate::wasm::hooks::asked::text;
use crate::wasm::hooks::bindings::middleware::warpdrive::middleware::messages::{
    self, BodyError, ChangeError, Host, HostRequest, HostResponse,
};
use crate::wasm::hooks::running::State;

type Changed = std::result::Result<(), ChangeError>;

/// # Errors
/// They are linked already.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    messages::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

fn first(fields: &Fields, name: &str) -> Option<String> {
    fields.named(name).next().map(text)
}

fn every(fields: &Fields, name: &str) -> Vec<String> {
    fields.named(name).map(text).collect()
}

/// Names in lower case, and values.
pub fn all(fields: &Fields) -> Vec<(String, String)> {
    let lower = |name: &[u8]| {
        let mut name = text(name);
        name.make_ascii_lowercase();
        name
    };
    fields.iter().map(|field| (lower(field.name), text(field.value))).collect()
}

impl State {
    /// What the exchange says, if the handle is one of the call at hand.
    fn look<R>(&self, number: u32, look: impl FnOnce(&mut Passing<'_>) -> Option<R>) -> Option<R> {
        if self.is_current(number) { passing::with(look).flatten() } else { None }
    }

    fn of_message<R>(
        &self,
        handle: &Resource<RequestHandle>,
        look: impl FnOnce(&RequestHead) -> Option<R>,
    ) -> Option<R> {
        self.look(handle.rep(), |passing| look(passing.request.head()))
    }

    /// Of the fields of a request as the application will be told them.
    fn of_told<R>(
        &self,
        handle: &Resource<RequestHandle>,
        name: Option<&str>,
        look: impl FnOnce(&Fields) -> Option<R>,
    ) -> Option<R> {
        self.look(handle.rep(), |passing| passing.told(name, look))
    }

    fn of_fields<R>(
        &self,
        handle: &Resource<ResponseHandle>,
        look: impl FnOnce(&Fields) -> Option<R>,
    ) -> Option<R> {
        self.look(handle.rep(), |passing| look(&passing.response.as_ref()?.head().fields))
    }

    fn change(&self, number: u32, change: impl FnOnce(&mut Passing<'_>) -> Changed) -> Changed {
        self.look(number, |passing| Some(change(passing))).unwrap_or(Err(ChangeError::TooLate))
    }
}

impl Host for State {}

impl HostRequest for State {
    fn method(&mut self, handle: Resource<RequestHandle>) -> String {
        self.of_message(&handle, |head| Some(text(head.text(head.method_text)))).unwrap_or_default()
    }

    fn path(&mut self, handle: Resource<RequestHandle>) -> String {
        self.of_message(&handle, |head| Some(text(head.text(head.target.path)))).unwrap_or_default()
    }

    fn query(&mut self, handle: Resource<RequestHandle>) -> Option<String> {
        self.of_message(&handle, |head| head.text(head.target.query).strip_prefix(b"?").map(text))
    }

    fn scheme(&mut self, handle: Resource<RequestHandle>) -> String {
        self.look(handle.rep(), |passing| Some(passing.peer.scheme(passing.request.head()).text().to_owned()))
            .unwrap_or_default()
    }

    fn host(&mut self, handle: Resource<RequestHandle>) -> String {
        self.of_message(&handle, |head| Some(text(head.text(head.target.host)))).unwrap_or_default()
    }

    fn client(&mut self, handle: Resource<RequestHandle>) -> String {
        self.look(handle.rep(), |passing| Some(text(passing.peer.client(passing.request.head()))))
            .unwrap_or_default()
    }

    fn id(&mut self, handle: Resource<RequestHandle>) -> String {
        self.look(handle.rep(), |passing| {
            Some(text(passing.peer.request_id(passing.request.head(), passing.stamp)))
        })
        .unwrap_or_default()
    }

    fn field(&mut self, handle: Resource<RequestHandle>, name: String) -> Option<String> {
        self.of_told(&handle, Some(&name), |fields| first(fields, &name))
    }

    fn field_values(&mut self, handle: Resource<RequestHandle>, name: String) -> Vec<String> {
        self.of_told(&handle, Some(&name), |fields| Some(every(fields, &name))).unwrap_or_default()
    }

    fn fields(&mut self, handle: Resource<RequestHandle>) -> Vec<(String, String)> {
        self.of_told(&handle, None, |fields| Some(all(fields))).unwrap_or_default()
    }

    fn cookie(&mut self, handle: Resource<RequestHandle>, name: String) -> Option<String> {
        self.of_message(&handle, |head| head.cookie(&name).map(text))
    }

    fn set_target(&mut self, handle: Resource<RequestHandle>, target: String) -> Changed {
        self.change(handle.rep(), |passing| passing.set_target(&target))
    }

    fn set_field(&mut self, handle: Resource<RequestHandle>, name: String, value: String) -> Changed {
        self.change(handle.rep(), |passing| passing.change_request(&name, Change::Set(&value)))
    }

    fn append_field(&mut self, handle: Resource<RequestHandle>, name: String, value: String) -> Changed {
        self.change(handle.rep(), |passing| passing.change_request(&name, Change::Append(&value)))
    }

    fn remove_field(&mut self, handle: Resource<RequestHandle>, name: String) -> Changed {
        self.change(handle.rep(), |passing| passing.change_request(&name, Change::Remove))
    }

    fn body(&mut self, handle: Resource<RequestHandle>) -> std::result::Result<Vec<u8>, BodyError> {
        self.look(handle.rep(), |passing| Some(passing.body(Of::Request)))
            .unwrap_or(Err(BodyError::NotSubscribed))
    }

    fn set_body(&mut self, handle: Resource<RequestHandle>, body: Vec<u8>) -> Changed {
        self.change(handle.rep(), |passing| passing.set_body(Of::Request, &body))
    }

    fn note(&mut self, handle: Resource<RequestHandle>, name: String) -> Option<String> {
        self.look(handle.rep(), |passing| passing.note(&name))
    }

    fn set_note(&mut self, handle: Resource<RequestHandle>, name: String, note: String) -> Changed {
        self.change(handle.rep(), |passing| passing.set_note(name, note))
    }

    fn drop(&mut self, _: Resource<RequestHandle>) -> Result<()> {
        self.has_dropped();
        Ok(())
    }
}

impl HostResponse for State {
    fn status(&mut self, handle: Resource<ResponseHandle>) -> u16 {
        let status = |passing: &mut Passing<'_>| Some(passing.response.as_ref()?.head().status.0);
        self.look(handle.rep(), status).unwrap_or_default()
    }

    fn set_status(&mut self, handle: Resource<ResponseHandle>, status: u16) -> Changed {
        self.change(handle.rep(), |passing| passing.set_status(status))
    }

    fn field(&mut self, handle: Resource<ResponseHandle>, name: String) -> Option<String> {
        self.of_fields(&handle, |fields| first(fields, &name))
    }

    fn field_values(&mut self, handle: Resource<ResponseHandle>, name: String) -> Vec<String> {
        self.of_fields(&handle, |fields| Some(every(fields, &name))).unwrap_or_default()
    }

    fn fields(&mut self, handle: Resource<ResponseHandle>) -> Vec<(String, String)> {
        self.of_fields(&handle, |fields| Some(all(fields))).unwrap_or_default()
    }

    fn set_field(&mut self, handle: Resource<ResponseHandle>, name: String, value: String) -> Changed {
        self.change(handle.rep(), |passing| passing.change_response(&name, Change::Set(&value)))
    }

    fn append_field(&mut self, handle: Resource<ResponseHandle>, name: String, value: String) -> Changed {
        self.change(handle.rep(), |passing| passing.change_response(&name, Change::Append(&value)))
    }

    fn remove_field(&mut self, handle: Resource<ResponseHandle>, name: String) -> Changed {
        self.change(handle.rep(), |passing| passing.change_response(&name, Change::Remove))
    }

    fn body(&mut self, handle: Resource<ResponseHandle>) -> std::result::Result<Vec<u8>, BodyError> {
        self.look(handle.rep(), |passing| Some(passing.body(Of::Response)))
            .unwrap_or(Err(BodyError::NotSubscribed))
    }

    fn set_body(&mut self, handle: Resource<ResponseHandle>, body: Vec<u8>) -> Changed {
        self.change(handle.rep(), |passing| passing.set_body(Of::Response, &body))
    }

    fn drop(&mut self, _: Resource<ResponseHandle>) -> Result<()> {
        self.has_dropped();
        Ok(())
    }
}
