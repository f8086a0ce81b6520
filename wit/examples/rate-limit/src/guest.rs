use std::cell::OnceCell;

use crate::{Settings, bucket};
use exports::warpdrive::middleware::filter::{
    Answer, BodyAccess, Guest, Hooks, RequestAction, ResponseAction, Subscription, Summary,
};
use warpdrive::guest::{clock, store};
use warpdrive::middleware::messages::{Request, Response};

wit_bindgen::generate!({
    path: ["../../guest", "../../middleware"],
    world: "warpdrive:middleware/middleware",
    generate_all,
});

thread_local!(static SETTINGS: OnceCell<Settings> = const { OnceCell::new() });

struct RateLimit;
export!(RateLimit);

impl Guest for RateLimit {
    fn configure(json: String) -> Result<Subscription, String> {
        let settings = Settings::parse(&json)?;
        SETTINGS.with(|cell| cell.set(settings).map_err(|_| "configured twice"))?;
        Ok(Subscription {
            hooks: Hooks::REQUEST,
            request_body: BodyAccess::None,
            response_body: BodyAccess::None,
        })
    }

    fn on_request(request: Request) -> RequestAction {
        SETTINGS.with(|cell| take(cell.get().expect("configure comes first"), &request))
    }

    fn on_response(_: Request, _: Response) -> ResponseAction {
        ResponseAction::Next
    }

    fn on_log(_: Request, _: Summary) {}
}

fn take(settings: &Settings, request: &Request) -> RequestAction {
    let named = settings.field.as_deref().and_then(|field| request.field(field));
    let key = bucket(&named.unwrap_or_else(|| request.client()));
    let now_ms = clock::unix_seconds() * 1000.0;
    let asked = settings.take(now_ms);
    match store::advance(&key, asked.floor, asked.by, asked.ceiling, asked.ttl_ms) {
        Ok(Some(_)) => RequestAction::Next,
        Ok(None) => {
            let full_at_ms = store::number(&key).unwrap_or(asked.ceiling);
            answer(429, settings.retry_after_secs(full_at_ms, now_ms))
        }
        // A full store is no reason to let everyone pass: filling it would be the way round.
        Err(_) => answer(503, 1),
    }
}

fn answer(status: u16, retry_after_secs: u32) -> RequestAction {
    RequestAction::Respond(Answer {
        status,
        fields: vec![("retry-after".into(), retry_after_secs.to_string())],
        body: b"too many requests\n".to_vec(),
    })
}
