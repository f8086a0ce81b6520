use std::cell::{Cell, OnceCell, RefCell};

use crate::{Meter, Settings, Unit};
use exports::warpdrive::middleware::filter::{
    Answer, BodyAccess, Guest, Hooks, RequestAction, ResponseAction, Subscription, Summary,
};
use exports::warpdrive::middleware::response_stream::{self, GuestBody, Outcome};
use warpdrive::guest::log::{Level, log};
use warpdrive::guest::{metrics, store};
use warpdrive::middleware::messages::{Request, Response};

wit_bindgen::generate!({
    path: ["../../guest", "../../middleware"],
    inline: "
        package example:billing;
        world billing {
            include warpdrive:middleware/middleware@0.1.0;
            export warpdrive:middleware/response-stream@0.1.0;
        }
    ",
    generate_all,
});

thread_local!(static SETTINGS: OnceCell<Settings> = const { OnceCell::new() });

struct Billing;
export!(Billing);

fn with_settings<T>(ask: impl FnOnce(&Settings) -> T) -> T {
    SETTINGS.with(|cell| ask(cell.get().expect("configure comes first")))
}

impl Guest for Billing {
    fn configure(json: String) -> Result<Subscription, String> {
        let settings = Settings::parse(&json)?;
        SETTINGS.with(|cell| cell.set(settings).map_err(|_| "configured twice"))?;
        Ok(Subscription {
            hooks: Hooks::REQUEST,
            request_body: BodyAccess::None,
            response_body: BodyAccess::Stream,
        })
    }

    fn on_request(request: Request) -> RequestAction {
        let bearer = || request.field("authorization")?.strip_prefix("Bearer ").map(str::to_owned);
        let key = request.field("x-api-key").or_else(bearer).unwrap_or_default();
        let customer = with_settings(|settings| settings.customer(&key).map(str::to_owned));
        let Some(customer) = customer else { return answer(401, "an API key is needed\n") };
        // Without the note the response would be free; without this, what it says could not be read.
        let is_noted = request.set_note("customer", &customer).is_ok()
            && request.remove_field("accept-encoding").is_ok();
        if is_noted { RequestAction::Next } else { answer(503, "cannot be billed\n") }
    }

    fn on_response(_: Request, _: Response) -> ResponseAction {
        ResponseAction::Next
    }

    fn on_log(_: Request, _: Summary) {}
}

fn answer(status: u16, text: &str) -> RequestAction {
    RequestAction::Respond(Answer { status, fields: Vec::new(), body: text.as_bytes().to_vec() })
}

impl response_stream::Guest for Billing {
    type Body = Body;
}

struct Body {
    customer: Option<String>,
    unit: Unit,
    meter: RefCell<Meter>,
    bytes: Cell<f64>,
}

impl GuestBody for Body {
    fn new(request: Request, _: Response) -> Body {
        Body {
            customer: request.note("customer"),
            unit: with_settings(|settings| settings.unit),
            meter: RefCell::default(),
            bytes: Cell::new(0.0),
        }
    }

    fn chunk(&self, bytes: Vec<u8>, _: bool) -> Outcome {
        match self.unit {
            Unit::Tokens => self.meter.borrow_mut().read(&bytes),
            Unit::Bytes => self.bytes.set(self.bytes.get() + bytes.len() as f64),
        }
        Outcome::Pass
    }
}

/// A body that broke off is dropped too, and what has passed of it is used.
impl Drop for Body {
    fn drop(&mut self) {
        let Some(customer) = &self.customer else { return };
        let (unit, amount) = match self.unit {
            Unit::Tokens => ("tokens", self.meter.borrow().tokens() as f64),
            Unit::Bytes => ("bytes", self.bytes.get()),
        };
        if amount == 0.0 {
            return;
        }
        metrics::record_metric(&format!("{unit}.{customer}"), amount);
        if let Err(error) = store::increment(&format!("{unit}:{customer}"), amount, 0) {
            log(Level::Error, &format!("{amount} {unit} of {customer} are not in the store: {error:?}"));
        }
    }
}
