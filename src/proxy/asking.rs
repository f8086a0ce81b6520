//! What forwarding does for a policy: the body that it wants to see, and word of how it went.

use super::body::Source;
use super::changes::Changes;
use super::downstream::Downstream;
use super::error::{Error, Fault};
use super::flight::{Flight, Text};
use super::forward::{Forward, client_error, downstream_error};
use crate::http::framing::BodyLength;
use crate::http::head::ResponseHead;
use crate::http::status::Status;
use crate::upstream::state::Pick;

impl Forward<'_> {
    /// The request as it goes out, with what of its body is here; and the beginning of that, if the
    /// policy wants to see it, as far as it is here.
    pub(super) fn load(
        &self,
        changes: &Changes,
        source: &mut Source<'_>,
    ) -> Result<(Flight, Option<Text>), Error> {
        let wanted = self.policy.as_ref().map_or(0, |policy| policy.text_max());
        let mut text = Text::wanted(wanted, self.request);
        let buffers = &self.core.buffers;
        let flight = Flight::load(
            buffers,
            self.request,
            changes,
            self.excluded(),
            self.peer,
            &self.stamp,
            source,
            text.as_mut(),
        );
        Ok((flight.map_err(client_error)?, text))
    }

    /// Waits for as much of the body as the policy wants to see; the request is sent with it.
    pub(super) async fn read_text(
        &mut self,
        mut text: Text,
        flight: &mut Flight,
        source: &mut Source<'_>,
        downstream: &mut Downstream<'_>,
    ) -> Result<(), Error> {
        if self.request.expects_continue && downstream.is_client() && source.received() == 0 {
            let head = ResponseHead { status: Status(100), ..ResponseHead::default() };
            downstream.inform(&head, &self.date).await.map_err(downstream_error)?;
        }
        let is_chunked = self.request.body == BodyLength::Chunked;
        flight.wait_for(&mut text, source, is_chunked, self.excluded()).await.map_err(client_error)?;
        if let Some(policy) = &mut self.policy {
            policy.set_text(text.into_bytes());
        }
        Ok(())
    }

    /// Tells the policy how an attempt went; who goes away himself is no failure of an endpoint.
    pub(super) fn report(&self, pick: &Pick, response: &ResponseHead, error: Option<Error>) {
        if let Some(policy) = &self.policy {
            let has_failed = error.is_some_and(|error| error.fault() != Fault::Downstream);
            policy.report(pick, response.status.0, has_failed);
        }
    }
}
