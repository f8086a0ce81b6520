//! After the head of an event stream: the rest of a response that may go on for days.
//!
//! It has no plan, so that a plan that is not in force any more does not live as long.

use std::pin::pin;
use std::time::Duration;

use super::body::h1_source::{Bounds, Left};
use super::body::{Delimiter, H1Sink, H1Source, Sink, Source, relay};
use super::connection::Work;
use super::core::Core;
use super::error::Error;
use super::exchange::Next;
use super::forward::relay_error;
use super::trace::Trace;
use super::upload::gone;
use crate::http::framing::BodyLength;
use crate::http::head::ResponseHead;
use crate::http::trailers::Excluded;
use crate::net::Stream;
use crate::net::task::unless;
use crate::upstream::pool::Lease;
use crate::upstream::state::Pick;

/// All that an exchange leaves to the event stream that it became.
pub struct EventStream {
    /// Counts for its endpoint as long as it lives.
    pub _pick: Pick,
    pub lease: Lease,
    /// A middleware may have waited for some of the body, or all.
    pub body: Left,
    /// How the client is told where it ends.
    pub delimiter: Delimiter,
    /// The client was promised another exchange.
    pub persists: bool,
    /// How long the upstream may be silent.
    pub silence: Duration,
    /// How long the client may take nothing.
    pub write_timeout: Duration,
    /// A client that sends no more is gone.
    pub abort_on_close: bool,
    /// Names of fields that the route sets or removes.
    pub removed: Box<[String]>,
}

/// Whether a response is one: of no known length, and of their type (HTML, 9.2.5).
pub fn begins(response: &ResponseHead) -> bool {
    matches!(response.body, BodyLength::Chunked | BodyLength::UntilClose)
        && response
            .fields
            .iter()
            .any(|field| field.name.eq_ignore_ascii_case(b"content-type") && is_of_events(field.value))
}

fn is_of_events(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

impl EventStream {
    /// Passes on what is left of the response in `work`, whose head the client has.
    pub async fn run(self, core: &Core, client: &mut Stream, work: &mut Work, trace: &mut Trace) -> Next {
        let relayed = self.pass_on(core, client, work, trace).await;
        relayed.unwrap_or_else(|error| {
            trace.break_off(if core.is_cut() { Error::Cut } else { error });
            Next::Close
        })
    }

    async fn pass_on(
        mut self,
        core: &Core,
        client: &mut Stream,
        work: &mut Work,
        trace: &mut Trace,
    ) -> Result<Next, Error> {
        let Work { input, response, out, .. } = work;
        let (client_reader, writer) = client.split();
        let (reader, _) = self.lease.stream().split();
        let bounds = Bounds { timeout: self.silence, bytes: None, min_rate: None };
        let Left { progress, input: mut by_upstream } = self.body;
        let source = H1Source::resume(reader, &core.buffers, &mut by_upstream, progress, bounds);
        let mut source = Source::H1(source);
        let mut sink = H1Sink::new(writer, &core.buffers, out, self.write_timeout);
        sink.delimiter = self.delimiter;
        let excluded = Excluded { route: &self.removed, head: &response.fields, untrusted: &[] };
        let relayed = {
            let relayed = pin!(relay(&mut source, Sink::H1(&mut sink), excluded));
            let gone = pin!(gone(Some(&client_reader), || self.abort_on_close));
            unless(relayed, gone).await
        };
        trace.bytes_out = sink.sent();
        let is_drained = source.is_drained();
        source.finish();
        match relayed {
            Some(Ok(())) => {}
            Some(Err(fault)) => return Err(relay_error(fault)),
            None => return Err(Error::ClientGone),
        }
        if response.keep_alive && is_drained && by_upstream.is_none() {
            self.lease.mark_clean(trace.end());
        }
        Ok(Next::after(true, self.persists, input.as_ref(), client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_may_have_parameters() {
        for (content_type, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/event-stream ;x", true),
            ("text/event-streams", false),
            ("text/html; text/event-stream", false),
            ("", false),
        ] {
            assert_eq!(is_of_events(content_type.as_bytes()), expected, "{content_type}");
        }
    }
}
