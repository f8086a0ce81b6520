//! What is counted of one middleware, whatever becomes of its code: a reload counts on.
//!
//! Each core has a part of its own, which other threads only read.

use crate::telemetry::counters::{Counter, Histogram};

/// The hooks of a middleware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Request,
    Response,
    Log,
    RequestBody,
    ResponseBody,
}

impl Hook {
    pub const ALL: [(Hook, &str); 5] = [
        (Hook::Request, "request"),
        (Hook::Response, "response"),
        (Hook::Log, "log"),
        (Hook::RequestBody, "request-body"),
        (Hook::ResponseBody, "response-body"),
    ];

    pub fn word(self) -> &'static str {
        Hook::ALL[self as usize].1
    }
}

impl Hook {
    /// What can come of its calls.
    pub fn outcomes(self) -> impl Iterator<Item = (Outcome, &'static str)> {
        let is_of_body = matches!(self, Hook::RequestBody | Hook::ResponseBody);
        Outcome::ALL.into_iter().filter(move |(outcome, _)| match outcome {
            Outcome::Next => !is_of_body,
            Outcome::Respond => matches!(self, Hook::Request | Hook::Response),
            Outcome::Upstream => self == Hook::Request,
            Outcome::NoRoom => matches!(self, Hook::Request | Hook::Response),
            Outcome::Invalid => self != Hook::Log,
            Outcome::Pass | Outcome::Replace | Outcome::Leave | Outcome::Abort | Outcome::Lost => is_of_body,
            Outcome::Trap | Outcome::Memory | Outcome::Timeout | Outcome::Overload | Outcome::Absent => true,
        })
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Next,
    Respond,
    Upstream,
    /// A chunk of a body went on as it was.
    Pass,
    /// Other bytes went on in place of a chunk.
    Replace,
    /// The guest wanted no more of a body.
    Leave,
    /// The guest cut a body off.
    Abort,
    /// It answered with what is no answer, or chose an upstream that it may not choose.
    Invalid,
    Trap,
    /// It ended after it was refused memory.
    Memory,
    Timeout,
    /// There was no instance: those before have failed too often.
    Overload,
    /// There was no room for a body that it was to see whole.
    NoRoom,
    /// It could not be loaded.
    Absent,
    /// The instance that has seen the beginning of a body has failed with another exchange.
    Lost,
}

impl Outcome {
    pub const ALL: [(Outcome, &str); 15] = [
        (Outcome::Next, "next"),
        (Outcome::Respond, "respond"),
        (Outcome::Upstream, "upstream"),
        (Outcome::Pass, "pass"),
        (Outcome::Replace, "replace"),
        (Outcome::Leave, "leave"),
        (Outcome::Abort, "abort"),
        (Outcome::Invalid, "invalid"),
        (Outcome::Trap, "trap"),
        (Outcome::Memory, "memory"),
        (Outcome::Timeout, "timeout"),
        (Outcome::Overload, "overload"),
        (Outcome::NoRoom, "no_room"),
        (Outcome::Absent, "absent"),
        (Outcome::Lost, "lost"),
    ];

    pub fn word(self) -> &'static str {
        Outcome::ALL[self as usize].1
    }
}

/// The numbers of one middleware, core by core.
pub struct Tally {
    pub cores: Box<[Part]>,
}

#[derive(Default)]
#[repr(align(128))]
pub struct Part {
    calls: [[Counter; Outcome::ALL.len()]; Hook::ALL.len()],
    durations: [Histogram; Hook::ALL.len()],
    /// Failures after which an exchange went on as if the middleware were not there.
    pub opened: Counter,
    /// Those that were answered with a status.
    pub closed: Counter,
    /// Requests that it has sent itself.
    pub sent: Counter,
}

impl Tally {
    pub fn new(cores: usize) -> Tally {
        Tally { cores: std::iter::repeat_with(Part::default).take(cores).collect() }
    }

    pub fn count(&self, hook: Hook, outcome: Outcome) -> u64 {
        self.sum(|part| part.calls(hook, outcome))
    }

    pub fn sum(&self, of: impl Fn(&Part) -> &Counter) -> u64 {
        self.cores.iter().map(|part| of(part).value()).sum()
    }

    pub fn durations(&self, hook: Hook) -> impl Iterator<Item = &Histogram> {
        self.cores.iter().map(move |part| part.duration(hook))
    }
}

impl Part {
    pub fn calls(&self, hook: Hook, outcome: Outcome) -> &Counter {
        &self.calls[hook as usize][outcome as usize]
    }

    /// Of the calls that came back.
    pub fn duration(&self, hook: Hook) -> &Histogram {
        &self.durations[hook as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_in_the_order_of_what_they_mean() {
        for (place, (hook, _)) in Hook::ALL.iter().enumerate() {
            assert_eq!(*hook as usize, place);
        }
        for (place, (outcome, _)) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
        }
    }
}
