//! What is answered to a request: which paths there are, and who may take which.

use std::fmt::Write;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::board::Phase;
use super::guard::{self, Refused};
use super::observation::Observation;
use super::{Desk, Door, Failure, Verb, Wish, metrics, status};
use crate::http::query;
use crate::server::control::Event;
use crate::telemetry::exposition::Format;

type Answer = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// The page in its three files, so that its policy can forbid all that stands within a text.
const PAGE: [(&str, &str, &str); 3] = [
    ("", HTML, include_str!("page/index.html")),
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
];

/// Of every answer: none is to be kept, framed, or taken for something else than it is, and the
/// page has all that it needs in itself.
const FIELDS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, include_str!("page/policy.txt")),
];

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Content type and body of a part of the page.
    Page(&'static str, &'static str),
    Healthz,
    Readyz,
    Metrics,
    Status,
    Reload,
    Child(String, Verb),
}

impl Place {
    fn of(path: &str) -> Option<Place> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let place = match (parts.next()?, parts.next(), parts.next()) {
            ("healthz", None, None) => Place::Healthz,
            ("readyz", None, None) => Place::Readyz,
            ("metrics", None, None) => Place::Metrics,
            ("status", None, None) => Place::Status,
            ("reload", None, None) => Place::Reload,
            (part, None, None) => {
                let (_, content_type, body) = PAGE.iter().find(|(name, _, _)| *name == part)?;
                Place::Page(content_type, body)
            }
            ("children", Some(name), Some(verb)) => {
                let verb = match verb {
                    "restart" => Verb::Restart,
                    "start" => Verb::Start,
                    "stop" => Verb::Stop,
                    _ => return None,
                };
                // In a path a plus is itself.
                let name = name.replace('+', "%2B");
                let name = String::from_utf8(query::decoded(name.as_bytes()).collect()).ok()?;
                Place::Child(name, verb)
            }
            _ => return None,
        };
        parts.next().is_none().then_some(place)
    }

    fn methods(&self) -> &'static str {
        match self {
            Place::Reload | Place::Child(..) => "POST",
            _ => "GET, HEAD",
        }
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods().split(", ").any(|one| one == method.as_str())
    }
}

pub async fn answer(door: &Door, desk: &Desk, request: &Request<Incoming>) -> Answer {
    let mut answer = decide(door, desk, request).await;
    let fields = answer.headers_mut();
    for (name, value) in FIELDS {
        fields.insert(name, HeaderValue::from_static(value.trim_ascii_end()));
    }
    answer
}

async fn decide(door: &Door, desk: &Desk, request: &Request<Incoming>) -> Answer {
    let place = Place::of(request.uri().path());
    let admitted = match &place {
        // Whoever asks only whether somebody is there needs no token.
        Some(Place::Healthz | Place::Readyz) => guard::knock(door, request.headers()),
        _ => guard::admit(door, request.headers()),
    };
    if let Err(refused) = admitted {
        return refuse(refused);
    }
    let Some(place) = place else {
        return text(StatusCode::NOT_FOUND, "there is /, /status, /metrics, /healthz and /readyz\n");
    };
    if !place.takes(request.method()) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "another method is needed\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(place.methods()));
        return answer;
    }
    match place {
        Place::Page(content_type, body) => with_type(StatusCode::OK, content_type, body),
        Place::Healthz => healthz(desk),
        Place::Readyz => readyz(desk),
        Place::Metrics => {
            let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let format = Format::accepted(accept.unwrap_or_default());
            match look(desk).await {
                Some(seen) => {
                    let page = metrics::page(format, &desk.board, &seen);
                    with_type(StatusCode::OK, format.content_type(), page)
                }
                None => not_serving(),
            }
        }
        Place::Status => match look(desk).await {
            Some(seen) => {
                let page = format!("{:#}\n", status::status(&desk.board, &seen));
                with_type(StatusCode::OK, JSON, page)
            }
            None => not_serving(),
        },
        Place::Reload | Place::Child(..) if !matches!(door, Door::Socket) => {
            text(StatusCode::FORBIDDEN, "only over the Unix socket of [admin] can anything be changed\n")
        }
        Place::Reload => reload(desk).await,
        Place::Child(name, verb) => change(desk, verb, name).await,
    }
}

fn healthz(desk: &Desk) -> Answer {
    let mut lines = String::new();
    for (worker, silence) in desk.board.stuck() {
        let _ = writeln!(lines, "worker {worker} has not responded for {} s", silence.as_secs());
    }
    match lines.is_empty() {
        true => text(StatusCode::OK, "ok\n"),
        false => text(StatusCode::SERVICE_UNAVAILABLE, lines),
    }
}

fn readyz(desk: &Desk) -> Answer {
    match desk.board.phase() {
        Phase::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Serving => text(StatusCode::OK, "ok\n"),
        Phase::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

/// What there is to see; nothing before there are workers, and at the end.
async fn look(desk: &Desk) -> Option<Observation> {
    let (answer, seen) = oneshot::channel();
    wish(desk, Wish::Look(answer)).await?;
    Some(seen.await.ok()?.complete().await)
}

/// When every worker runs by the configuration as it is now, or cannot.
async fn reload(desk: &Desk) -> Answer {
    let (answer, outcome) = oneshot::channel();
    let outcome = match wish(desk, Wish::Reload(answer)).await {
        Some(()) => outcome.await.ok(),
        None => None,
    };
    match outcome {
        None => not_serving(),
        Some(Ok(said)) => text(StatusCode::OK, said),
        Some(Err(why)) => text(StatusCode::UNPROCESSABLE_ENTITY, why),
    }
}

async fn change(desk: &Desk, verb: Verb, name: String) -> Answer {
    let (answer, outcome) = oneshot::channel();
    let outcome = match wish(desk, Wish::Child { verb, name, answer }).await {
        Some(()) => outcome.await.ok(),
        None => None,
    };
    let (status, message) = match outcome {
        None => return not_serving(),
        Some(Ok(())) => return text(StatusCode::OK, "done\n"),
        Some(Err(Failure::Unknown(message))) => (StatusCode::NOT_FOUND, message),
        Some(Err(Failure::Busy(message))) => (StatusCode::CONFLICT, message),
        Some(Err(Failure::Failed(message))) => (StatusCode::INTERNAL_SERVER_ERROR, message),
    };
    text(status, message + "\n")
}

async fn wish(desk: &Desk, wish: Wish) -> Option<()> {
    // The control loop does not listen to anyone before.
    if desk.board.phase() == Phase::Starting {
        return None;
    }
    desk.events.send(Event::Asked(wish)).await.ok()
}

fn not_serving() -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, "the process starts or ends\n")
}

fn refuse(refused: Refused) -> Answer {
    match refused {
        Refused::Host => {
            let message = "the field Host must be an address or localhost, unless there is a token\n";
            text(StatusCode::FORBIDDEN, message)
        }
        Refused::Token => {
            let mut answer = text(StatusCode::UNAUTHORIZED, "a token is needed\n");
            let challenge = HeaderValue::from_static("Basic realm=\"warpdrive\", charset=\"UTF-8\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            answer
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, TEXT, body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_places() {
        let child = |name: &str, verb| Some(Place::Child(name.to_owned(), verb));
        let cases = [
            ("/", Some(Place::Page(HTML, PAGE[0].2))),
            ("/page.js", Some(Place::Page(PAGE[2].1, PAGE[2].2))),
            ("/status", Some(Place::Status)),
            ("/status/", None),
            ("/reload", Some(Place::Reload)),
            ("/children/web/restart", child("web", Verb::Restart)),
            ("/children/my%20app.0/stop", child("my app.0", Verb::Stop)),
            ("/children/a+b%2Fc/start", child("a+b/c", Verb::Start)),
            ("/children/%ff/start", None),
            ("/children/web/reboot", None),
            ("/children/web", None),
            ("/children/web/stop/x", None),
            ("*", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(Place::of(path), expected, "{path}");
        }
    }
}
