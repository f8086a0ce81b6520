use std::cell::OnceCell;

use crate::Settings;
use exports::warpdrive::middleware::filter::{
    Answer, BodyAccess, Guest, Hooks, RequestAction, ResponseAction, Subscription, Summary,
};
use warpdrive::guest::log::{Level, log};
use warpdrive::guest::{http, metrics};
use warpdrive::middleware::messages::{BodyError, Request, Response};

wit_bindgen::generate!({
    path: ["../../guest", "../../middleware"],
    inline: "
        package example:moderation;
        world moderation {
            include warpdrive:middleware/middleware@0.1.0;
            import warpdrive:guest/http@0.1.0;
        }
    ",
    generate_all,
});

thread_local!(static SETTINGS: OnceCell<Settings> = const { OnceCell::new() });

struct Moderation;
export!(Moderation);

impl Guest for Moderation {
    fn configure(json: String) -> Result<Subscription, String> {
        let settings = Settings::parse(&json)?;
        let request_body = BodyAccess::Whole(settings.body_max);
        SETTINGS.with(|cell| cell.set(settings).map_err(|_| "configured twice"))?;
        Ok(Subscription { hooks: Hooks::REQUEST, request_body, response_body: BodyAccess::None })
    }

    fn on_request(request: Request) -> RequestAction {
        SETTINGS.with(|cell| judge(cell.get().expect("configure comes first"), &request))
    }

    fn on_response(_: Request, _: Response) -> ResponseAction {
        ResponseAction::Next
    }

    fn on_log(_: Request, _: Summary) {}
}

fn judge(settings: &Settings, request: &Request) -> RequestAction {
    let body = match request.body() {
        Ok(body) if body.is_empty() => return RequestAction::Next,
        Ok(body) => body,
        Err(BodyError::TooLarge) => return refuse(413, "too long to be checked\n"),
        Err(BodyError::NotSubscribed) => return refuse(503, "not checked\n"),
    };
    // What the classifier cannot read it cannot clear.
    if request.field("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return refuse(415, "compressed bodies cannot be checked\n");
    }
    let answer = http::http_request(&http::Request {
        upstream: settings.upstream.clone(),
        method: "POST".into(),
        path: settings.path.clone(),
        fields: vec![("content-type".into(), "application/json".into())],
        body: crate::question(&body),
        timeout_ms: settings.timeout_ms,
    });
    match answer {
        Ok(answer) if crate::is_cleared(answer.status, &answer.body) => RequestAction::Next,
        Ok(answer) if crate::is_flagged(answer.status, &answer.body) => {
            metrics::record_metric("flagged", 1.0);
            refuse(403, "refused by moderation\n")
        }
        Ok(answer) => {
            log(Level::Warn, &format!("the classifier answered {} without a verdict", answer.status));
            refuse(503, "not checked\n")
        }
        Err(error) => {
            log(Level::Warn, &format!("the classifier: {error:?}"));
            refuse(503, "not checked\n")
        }
    }
}

fn refuse(status: u16, text: &str) -> RequestAction {
    RequestAction::Respond(Answer { status, fields: Vec::new(), body: text.as_bytes().to_vec() })
}
