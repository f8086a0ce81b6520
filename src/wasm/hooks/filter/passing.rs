//! The exchange that a call is about, for the functions that the guest may call meanwhile. It is
//! lent to them, not given: nothing of a message is copied until the guest asks for it, and nothing
//! of it is in a store.

use std::cell::RefCell;

use super::notes::Notes;
use crate::http::fields::{Fields, Known, Saved, Span, is_token, is_value};
use crate::http::forwarding::{OPERATORS, OWNED, Peer, Stamp};
use crate::http::h1::changes::is_fixed;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::status::Status;
use crate::http::target::{EncodedSlash, Target};
use crate::http::told::with_told;
use crate::net::Buffer;
use crate::sys::lend::{Lendable, Lent};
use crate::wasm::hooks::bindings::middleware::warpdrive::middleware::messages::{BodyError, ChangeError};

/// The resources `request` and `response`: their number is that of the call which they are for.
pub enum RequestHandle {}
pub enum ResponseHandle {}

/// A head that may be changed, or only be looked at.
pub enum Seen<'a, T> {
    Open(&'a mut T),
    Closed(&'a T),
}

impl<T> Seen<'_, T> {
    pub fn head(&self) -> &T {
        match self {
            Seen::Open(head) => head,
            Seen::Closed(head) => head,
        }
    }

    fn open(&mut self) -> Result<&mut T, ChangeError> {
        match self {
            Seen::Open(head) => Ok(head),
            Seen::Closed(_) => Err(ChangeError::TooLate),
        }
    }
}

/// What a head may have at most once it was changed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub head_bytes: usize,
    pub fields: usize,
    pub uri_bytes: usize,
    pub encoded_slash: EncodedSlash,
}

/// The body of the message that a hook is about.
pub enum Body<'a> {
    /// The hook is not to see it.
    Unseen,
    /// It is longer than the guest wanted to see.
    TooLarge,
    /// All of it; nothing, if it is empty. At most `most` bytes may be in its place.
    Whole { held: &'a mut Option<Buffer>, most: usize },
    /// Such a message has none.
    Never,
}

/// One exchange, as a call sees it.
pub struct Passing<'a> {
    pub request: Seen<'a, RequestHead>,
    pub response: Option<Seen<'a, ResponseHead>>,
    /// That of the response, if there is one.
    pub body: Body<'a>,
    pub peer: &'a Peer,
    pub stamp: &'a Stamp,
    pub notes: &'a mut Notes,
    /// Its place in the list of the route: whose notes are whose.
    pub place: usize,
    pub bounds: Bounds,
    pub undo: &'a mut Undo,
}

/// The heads as they were before the first change of a call. Kept from call to call, so that it is
/// allocated once.
#[derive(Default)]
pub struct Undo {
    request: Saved,
    target: Target,
    response: Saved,
    status: Option<(Status, Span)>,
    notes: Option<Notes>,
    /// A body that was replaced.
    body: Option<Option<Buffer>>,
    has_request: bool,
    has_response: bool,
}

impl Undo {
    /// A call begins.
    pub fn begin(&mut self) {
        self.has_request = false;
        self.has_response = false;
        self.notes = None;
        self.body = None;
    }

    /// The call has put another body in place of that of its message.
    pub fn has_replaced_body(&self) -> bool {
        self.body.is_some()
    }

    /// What the call has changed is as it was before. `held` is the body that it has seen.
    pub fn undo(
        &mut self,
        request: Option<&mut RequestHead>,
        response: Option<&mut ResponseHead>,
        held: Option<&mut Option<Buffer>>,
        notes: &mut Notes,
    ) {
        if let (Some(before), Some(held)) = (self.body.take(), held) {
            *held = before;
        }
        if let Some(before) = self.notes.take() {
            *notes = before;
        }
        if let (true, Some(head)) = (self.has_request, request) {
            head.fields.restore(&self.request);
            head.target = self.target;
        }
        if let (true, Some(head)) = (self.has_response, response) {
            head.fields.restore(&self.response);
            if let Some((status, phrase)) = self.status {
                (head.status, head.phrase) = (status, phrase);
            }
        }
    }
}

/// One of the two messages of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Request,
    Response,
}

/// How a field is changed.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    Set(&'a str),
    Append(&'a str),
    Remove,
}

impl Passing<'_> {
    /// Looks at the fields of the request as the application will be told them: at those with one
    /// name, if it is given.
    pub fn told<R>(&self, name: Option<&str>, look: impl FnOnce(&Fields) -> R) -> R {
        with_told(self.request.head(), self.peer, Some(self.stamp), name, look)
    }

    pub fn change_request(&mut self, name: &str, change: Change<'_>) -> Result<(), ChangeError> {
        let known = Known::of_any_spelling(name.as_bytes());
        let head = self.request.open()?;
        check(name, change, OWNED.contains(known) || known == Known::Host)?;
        save_request(self.undo, head);
        apply(&mut head.fields, name, change, self.bounds)
    }

    pub fn change_response(&mut self, name: &str, change: Change<'_>) -> Result<(), ChangeError> {
        let head = self.response.as_mut().ok_or(ChangeError::TooLate)?.open()?;
        check(name, change, false)?;
        save_response(self.undo, head);
        apply(&mut head.fields, name, change, self.bounds)
    }

    /// Path and query, instead of those that were asked for.
    pub fn set_target(&mut self, text: &str) -> Result<(), ChangeError> {
        let head = self.request.open()?;
        if text.len() > self.bounds.uri_bytes || head.fields.stored() > stored_max(self.bounds) {
            return Err(ChangeError::TooLarge);
        }
        if !text.starts_with('/') {
            return Err(ChangeError::Invalid);
        }
        save_request(self.undo, head);
        let raw = head.fields.push_bytes(text.as_bytes());
        let parsed = Target::parse(&mut head.fields, raw, head.method).map_err(|_| ChangeError::Invalid)?;
        let checked = self.bounds.encoded_slash.check(head.fields.bytes(parsed.path));
        checked.map_err(|_| ChangeError::Invalid)?;
        head.target = Target { path: parsed.path, query: parsed.query, ..head.target };
        Ok(())
    }

    pub fn set_status(&mut self, status: u16) -> Result<(), ChangeError> {
        let head = self.response.as_mut().ok_or(ChangeError::TooLate)?.open()?;
        let status = Status(status);
        if !(200..=599).contains(&status.0) || has_no_body(status) || has_no_body(head.status) {
            return Err(ChangeError::Invalid);
        }
        save_response(self.undo, head);
        head.status = status;
        head.phrase = head.fields.push_bytes(status.phrase().as_bytes());
        Ok(())
    }

    /// The body of one of the messages.
    pub fn body(&self, of: Of) -> Result<Vec<u8>, BodyError> {
        if of != self.of() {
            return Err(BodyError::NotSubscribed);
        }
        match &self.body {
            Body::Unseen => Err(BodyError::NotSubscribed),
            Body::TooLarge => Err(BodyError::TooLarge),
            Body::Never => Ok(Vec::new()),
            Body::Whole { held, .. } => Ok(held.as_ref().map_or_else(Vec::new, |held| held.data().to_vec())),
        }
    }

    pub fn set_body(&mut self, of: Of, bytes: &[u8]) -> Result<(), ChangeError> {
        if of != self.of() {
            return Err(ChangeError::TooLate);
        }
        match &mut self.body {
            Body::Unseen => Err(ChangeError::Forbidden),
            Body::TooLarge => Err(ChangeError::TooLarge),
            Body::Never => Err(ChangeError::Invalid),
            Body::Whole { most, .. } if bytes.len() > *most => Err(ChangeError::TooLarge),
            Body::Whole { held, .. } => {
                let other = (!bytes.is_empty()).then(|| Buffer::of(bytes));
                let before = std::mem::replace(*held, other);
                self.undo.body.get_or_insert(before);
                Ok(())
            }
        }
    }

    /// The message that the call is about.
    fn of(&self) -> Of {
        if self.response.is_some() { Of::Response } else { Of::Request }
    }

    pub fn note(&self, name: &str) -> Option<String> {
        self.notes.find(self.place, name).map(str::to_owned)
    }

    pub fn set_note(&mut self, name: String, text: String) -> Result<(), ChangeError> {
        let before = self.undo.notes.is_none().then(|| self.notes.clone());
        if !self.notes.set(self.place, name, text) {
            return Err(ChangeError::TooLarge);
        }
        self.undo.notes = self.undo.notes.take().or(before);
        Ok(())
    }
}

fn save_request(undo: &mut Undo, head: &RequestHead) {
    if !undo.has_request {
        head.fields.save(&mut undo.request);
        undo.target = head.target;
        undo.has_request = true;
    }
}

fn save_response(undo: &mut Undo, head: &ResponseHead) {
    if !undo.has_response {
        head.fields.save(&mut undo.response);
        undo.status = Some((head.status, head.phrase));
        undo.has_response = true;
    }
}

/// Statuses whose responses have no body.
pub fn has_no_body(status: Status) -> bool {
    matches!(status.0, 204 | 205 | 304)
}

fn check(name: &str, change: Change<'_>, is_ours: bool) -> Result<(), ChangeError> {
    let is_fit = match change {
        Change::Set(value) | Change::Append(value) => is_value(value.as_bytes()),
        Change::Remove => true,
    };
    if !is_token(name.as_bytes()) || !is_fit {
        return Err(ChangeError::Invalid);
    }
    if is_ours || is_fixed(name) { Err(ChangeError::Forbidden) } else { Ok(()) }
}

/// Distinct names that may be set or removed in one head: each is compared with those before it.
const EXCLUDED_MAX: usize = 256;

/// What may be stored of one head: changes leave bytes behind.
fn stored_max(bounds: Bounds) -> usize {
    4 * bounds.head_bytes
}

fn apply(fields: &mut Fields, name: &str, change: Change<'_>, bounds: Bounds) -> Result<(), ChangeError> {
    let value = match change {
        Change::Remove => "",
        Change::Set(value) | Change::Append(value) => value,
    };
    let name = name.as_bytes();
    // The name counts twice: it is kept for the trailers as well.
    if fields.stored() + 2 * name.len() + value.len() > stored_max(bounds)
        || fields.excluded() >= EXCLUDED_MAX
    {
        return Err(ChangeError::TooLarge);
    }
    if matches!(change, Change::Remove) {
        fields.exclude(name);
        return Ok(());
    }
    // What a set field replaces counts, too: it is not worth a look at each.
    let weight = fields.weight() + name.len() + value.len();
    if weight > bounds.head_bytes || fields.len() >= bounds.fields {
        return Err(ChangeError::TooLarge);
    }
    if matches!(change, Change::Set(_)) {
        fields.exclude(name);
    }
    // Middleware is the operator's: what it sets is not a client's claim.
    let known = Known::of_any_spelling(name);
    let known = if OPERATORS.contains(known) { Known::Other } else { known };
    fields.push_as(known, name, value.as_bytes());
    Ok(())
}

struct PassingNow;

impl Lendable for PassingNow {
    type For<'a> = &'a RefCell<Passing<'a>>;
}

thread_local! {
    static PASSING: Lent<PassingNow> = const { Lent::new() };
}

/// Makes a call that is about this exchange.
pub fn lend<'a, R>(passing: &'a RefCell<Passing<'a>>, call: impl FnOnce() -> R) -> R {
    PASSING.with(|place| place.lend(passing, call))
}

/// The exchange of the call at hand, if there is one.
pub fn with<R>(look: impl FnOnce(&mut Passing<'_>) -> R) -> Option<R> {
    PASSING.with(|place| place.with(|passing| Some(look(&mut passing?.borrow_mut()))))
}
