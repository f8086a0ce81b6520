//! Components answer here as they do under `wasmtime serve`, whose answers tests/alike has.
//!
//! What may differ: the fields of the connection and the date, what we tell a component of the client,
//! after a failure the status and the page, which are each server's own, and what [`OTHERWISE`] has.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::harness::wire::Fields;
use crate::harness::{Client, Proxy};
use crate::workloads::with_engine;

#[derive(Deserialize)]
struct Recorded {
    by: String,
    answers: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    component: String,
    request: String,
    answer: Answer,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Answer {
    /// None if the connection was closed without an answer.
    status: Option<u16>,
    fields: Fields,
    body: String,
    trailers: Fields,
    is_whole: bool,
}

/// Of the connection, and what says when.
const OWN: [&str; 4] = ["connection", "content-length", "date", "transfer-encoding"];

/// What a component is told of the client beside what the client sent.
const TOLD: [&str; 8] = [
    "via: ",
    "x-forwarded-for: ",
    "x-forwarded-host: ",
    "x-forwarded-port: ",
    "x-forwarded-proto: ",
    "x-real-ip: ",
    "x-request-id: ",
    "x-request-start: ",
];

/// Where we answer otherwise, and on purpose: the beginning of the request, our status, what comes of
/// the body, whether that is whole, and why.
const OTHERWISE: [(&str, u16, &str, bool, &str); 4] = [
    ("GET /late-trap ", 200, "begun", false, "a client can tell that the rest is missing; there it cannot"),
    ("GET /length?9 ", 200, "12345", false, "there the connection closes without an answer"),
    ("GET /length?2 ", 500, "", false, "there it is cut to the length that was said first"),
    (
        "POST /echo HTTP/1.1\r\nHost: a.example\r\nTransfer",
        200,
        "abc",
        true,
        "trailers are passed on; there they are dropped",
    ),
];

fn lower(fields: &Fields) -> Fields {
    let mut fields: Fields =
        fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    fields.retain(|(name, _)| !OWN.contains(&name.as_str()));
    fields.sort();
    fields
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn ask(client: &mut Client, request: &str) -> Answer {
    let method = request.split(' ').next().unwrap_or_default();
    client.send(request);
    match client.try_response_to(method) {
        Ok(response) => Answer {
            status: Some(response.status),
            fields: lower(&response.head.fields),
            body: text(&response.body),
            trailers: lower(&response.trailers),
            is_whole: true,
        },
        Err(broken) => {
            let Some(head) = broken.head else { return Answer::default() };
            Answer {
                status: head.word(1).parse().ok(),
                fields: lower(&head.fields),
                body: text(&broken.body),
                ..Answer::default()
            }
        }
    }
}

/// Without what may differ.
fn reduced(mut answer: Answer) -> Answer {
    let is_told = |line: &&str| TOLD.iter().any(|name| line.starts_with(name));
    // Fields come in an order of their own.
    let mut lines: Vec<&str> = answer.body.split_inclusive('\n').filter(|line| !is_told(line)).collect();
    lines.sort_unstable();
    answer.body = lines.concat();
    if answer.status.is_none_or(|status| status >= 500) {
        return Answer { status: Some(500), ..Answer::default() };
    }
    answer
}

fn file_of(component: &str) -> PathBuf {
    let folder = if component.starts_with("demo/") { "config" } else { "tests/guests" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(component)
}

fn start(component: &str) -> Proxy {
    let file = file_of(component);
    with_engine("")
        .toml(&format!(
            "[wasm.components.one]\nfile = \"{}\"\n[wasm.components.one.limits]\ntime = \"2s\"\n\
             [wasm.workloads.all]\ncomponents = [\"one\"]\n[[routes]]\nworkload = \"all\"\n",
            file.display()
        ))
        .start()
}

#[test]
fn components_answer_as_under_the_reference_server() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alike/answers.json");
    let text = std::fs::read_to_string(file).expect("what was recorded");
    let recorded: Recorded = serde_json::from_str(&text).expect("its form");
    assert!(recorded.by.starts_with("wasmtime 48."), "{}", recorded.by);
    let mut wrong = Vec::new();
    let mut proxies: Vec<(&str, Proxy)> = Vec::new();
    for Case { component, request, answer } in &recorded.answers {
        if proxies.last().is_none_or(|(name, _)| name != component) {
            proxies.push((component, start(component)));
        }
        let (_, proxy) = proxies.last().expect("one was started");
        let ours = reduced(ask(&mut proxy.client(), request));
        let otherwise = OTHERWISE.iter().find(|(start, ..)| request.starts_with(start));
        if let Some((_, status, body, is_whole, why)) = otherwise {
            assert_eq!(
                (ours.status, ours.body.as_str(), ours.is_whole),
                (Some(*status), *body, *is_whole),
                "{request:?}: {why}"
            );
            continue;
        }
        let theirs = reduced(Answer {
            fields: lower(&answer.fields),
            body: answer.body.clone(),
            trailers: lower(&answer.trailers),
            ..*answer
        });
        if ours != theirs {
            wrong.push(format!("{component}: {request:?}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
