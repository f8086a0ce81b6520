use std::cell::RefCell;

use crate::Redactor;
use exports::warpdrive::middleware::filter::{
    BodyAccess, Guest, Hooks, RequestAction, ResponseAction, Subscription, Summary,
};
use exports::warpdrive::middleware::response_stream::{self, GuestBody, Outcome};
use warpdrive::guest::metrics;
use warpdrive::middleware::messages::{Request, Response};

wit_bindgen::generate!({
    path: ["../../guest", "../../middleware"],
    inline: "
        package example:pii;
        world pii {
            include warpdrive:middleware/middleware@0.1.0;
            export warpdrive:middleware/response-stream@0.1.0;
        }
    ",
    generate_all,
});

struct Pii;
export!(Pii);

impl Guest for Pii {
    fn configure(_: String) -> Result<Subscription, String> {
        Ok(Subscription {
            hooks: Hooks::REQUEST | Hooks::RESPONSE,
            request_body: BodyAccess::None,
            response_body: BodyAccess::Stream,
        })
    }

    fn on_request(request: Request) -> RequestAction {
        // Compressed bytes and parts of a whole cannot be searched: neither is asked for.
        for field in ["accept-encoding", "range", "if-range"] {
            request.remove_field(field).expect("a field of the client's");
        }
        RequestAction::Next
    }

    fn on_response(_: Request, response: Response) -> ResponseAction {
        // They speak of the bytes before the redaction.
        for field in ["etag", "content-digest", "repr-digest", "accept-ranges"] {
            response.remove_field(field).expect("a field of the upstream's");
        }
        ResponseAction::Next
    }

    fn on_log(_: Request, _: Summary) {}
}

impl response_stream::Guest for Pii {
    type Body = Body;
}

struct Body {
    redactor: RefCell<Redactor>,
    is_text: bool,
    is_coded: bool,
}

impl GuestBody for Body {
    fn new(_: Request, response: Response) -> Body {
        let kind = response.field("content-type").unwrap_or_default().to_ascii_lowercase();
        let is_binary = ["image/", "audio/", "video/", "font/"].iter().any(|prefix| kind.starts_with(prefix));
        let coding = response.field("content-encoding");
        Body {
            redactor: RefCell::default(),
            is_text: !is_binary,
            is_coded: coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")),
        }
    }

    fn chunk(&self, bytes: Vec<u8>, last: bool) -> Outcome {
        if !self.is_text {
            return Outcome::Leave;
        }
        if self.is_coded {
            return Outcome::Abort("compressed though not asked for: it cannot be redacted".into());
        }
        let mut redactor = self.redactor.borrow_mut();
        let redacted = redactor.chunk(&bytes, last);
        if last && redactor.found > 0 {
            metrics::record_metric("redacted", f64::from(redactor.found));
        }
        redacted.map_or(Outcome::Pass, Outcome::Replace)
    }
}
