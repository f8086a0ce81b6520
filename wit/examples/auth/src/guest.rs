use std::cell::OnceCell;

use crate::Settings;
use exports::warpdrive::middleware::filter::{
    Answer, BodyAccess, Guest, Hooks, RequestAction, ResponseAction, Subscription, Summary,
};
use warpdrive::guest::clock;
use warpdrive::middleware::messages::{Request, Response};

wit_bindgen::generate!({
    path: ["../../guest", "../../middleware"],
    world: "warpdrive:middleware/middleware",
    generate_all,
});

thread_local!(static SETTINGS: OnceCell<Settings> = const { OnceCell::new() });

struct Auth;
export!(Auth);

impl Guest for Auth {
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
        let authorization = request.field("authorization");
        let result = SETTINGS.with(|cell| {
            let settings = cell.get().expect("configure comes first");
            settings.authenticate(authorization.as_deref(), clock::unix_seconds())
        });
        match result {
            Ok(user) => match request.set_field("x-user", &user) {
                Ok(()) => RequestAction::Next,
                // A subject that is no field value must not leave what the client sent there.
                Err(_) => refuse("Bearer error=\"invalid_token\"".into()),
            },
            Err(denial) => refuse(denial.challenge()),
        }
    }

    fn on_response(_: Request, _: Response) -> ResponseAction {
        ResponseAction::Next
    }

    fn on_log(_: Request, _: Summary) {}
}

fn refuse(challenge: String) -> RequestAction {
    RequestAction::Respond(Answer {
        status: 401,
        fields: vec![("www-authenticate".into(), challenge)],
        body: b"unauthorized\n".to_vec(),
    })
}
