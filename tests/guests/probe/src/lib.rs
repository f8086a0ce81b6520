//! A component that does what the path of a request says, well and badly: what the tests of
//! instances, limits and bodies ask.

wit_bindgen::generate!({ path: "wit", world: "probe", generate_all });

use std::cell::{Cell, RefCell};

use exports::wasi::http::incoming_handler::Guest;
use wasi::clocks::monotonic_clock;
use wasi::http::types::*;
use wasi::io::streams::StreamError;

struct Probe;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
    static HOARD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = query.parse::<u64>().unwrap_or(0);
        let word = path.rsplit('/').next().unwrap_or_default();
        match word {
            "told" => say(out, 200, &told(&request)),
            "calls" => say(out, 200, &CALLS.with(Cell::get).to_string()),
            "settings" => say(out, 200, &settings()),
            "echo" => echo(&request, out),
            "bytes" => stream(out, number),
            "length" => short(out, number),
            "loop" => spin(),
            "spin" => {
                burn(number * 1_000_000);
                say(out, 200, "spun");
            }
            "sleep" => {
                monotonic_clock::subscribe_duration(number * 1_000_000).block();
                say(out, 200, "slept");
            }
            "never" => monotonic_clock::subscribe_duration(u64::MAX).block(),
            "trap" => core::arch::wasm32::unreachable(),
            "late-trap" => {
                let body = begin(out, 200, &[]);
                let stream = body.write().unwrap();
                stream.blocking_write_and_flush(b"begun").unwrap();
                core::arch::wasm32::unreachable()
            }
            "stall" => {
                let body = begin(out, 200, &[]);
                let stream = body.write().unwrap();
                stream.blocking_write_and_flush(b"begun").unwrap();
                monotonic_clock::subscribe_duration(u64::MAX).block();
            }
            "exit" => wasi::cli::exit::exit(Err(())),
            "none" => drop(out),
            "decline" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(None))),
            "hoard" => {
                hoard(number);
                say(out, 200, "hoarded");
            }
            "recurse" => say(out, 200, &recurse(number).to_string()),
            "print" => {
                print(number);
                say(out, 200, "printed");
            }
            "trailers" => trailers(out),
            "after" => {
                say(out, 200, "answered");
                monotonic_clock::subscribe_duration(number * 1_000_000).block();
                HOARD.with(|hoard| hoard.borrow_mut().push(b"after".to_vec()));
                write_out("went on\n");
            }
            "ask" => ask(out),
            "relay" => relay(&request, out),
            "asks" => many(out, number),
            "forget" => forget(out, number),
            "status" => say(out, number as u16, ""),
            _ => say(out, 404, "no such thing"),
        }
    }
}

/// The head of a response, which then has this body.
fn begin(out: ResponseOutparam, status: u16, fields: &[(&str, &str)]) -> OutgoingBody {
    let headers = Fields::new();
    for (name, value) in fields {
        headers.append(name, value.as_bytes()).unwrap();
    }
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

fn say(out: ResponseOutparam, status: u16, text: &str) {
    let body = begin(out, status, &[("content-type", "text/plain")]);
    {
        let stream = body.write().unwrap();
        for part in text.as_bytes().chunks(4096) {
            // Who asked may have gone.
            if stream.blocking_write_and_flush(part).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// The request as it came, one line each.
fn told(request: &IncomingRequest) -> String {
    let mut text = format!(
        "{:?} {} {} {:?}\n",
        request.method(),
        request.authority().unwrap_or_default(),
        request.path_with_query().unwrap_or_default(),
        request.scheme(),
    );
    for (name, value) in request.headers().entries() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    text
}

fn settings() -> String {
    let mut text = String::new();
    for (name, value) in wasi::cli::environment::get_environment() {
        text += &format!("env {name}={value}\n");
    }
    for (name, value) in wasi::config::store::get_all().unwrap_or_default() {
        text += &format!("config {name}={value}\n");
    }
    text
}

fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let body = begin(out, 200, &[]);
    {
        let (input, output) = (incoming.stream().unwrap(), body.write().unwrap());
        loop {
            match input.blocking_read(16 << 10) {
                Ok(data) => {
                    for part in data.chunks(4096) {
                        if output.blocking_write_and_flush(part).is_err() {
                            return;
                        }
                    }
                }
                Err(StreamError::Closed) => break,
                // The client is gone.
                Err(StreamError::LastOperationFailed(_)) => return,
            }
        }
    }
    let trailers = trailers_of(incoming);
    let _ = OutgoingBody::finish(body, trailers);
}

/// So many bytes without a length.
fn stream(out: ResponseOutparam, bytes: u64) {
    let body = begin(out, 200, &[]);
    {
        let stream = body.write().unwrap();
        let mut left = bytes as usize;
        while left > 0 {
            let part = left.min(4096);
            if stream.blocking_write_and_flush(&[b'x'; 4096][..part]).is_err() {
                return;
            }
            left -= part;
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// Says that so many bytes follow, and writes five.
fn short(out: ResponseOutparam, bytes: u64) {
    let body = begin(out, 200, &[("content-length", &bytes.to_string())]);
    {
        let stream = body.write().unwrap();
        let _ = stream.blocking_write_and_flush(b"12345");
    }
    let _ = OutgoingBody::finish(body, None);
}

fn trailers(out: ResponseOutparam) {
    let body = begin(out, 200, &[("trailer", "x-sum")]);
    {
        let stream = body.write().unwrap();
        stream.blocking_write_and_flush(b"with trailers").unwrap();
    }
    let fields = Fields::new();
    fields.append("x-sum", b"42").unwrap();
    let _ = OutgoingBody::finish(body, Some(fields));
}

fn spin() -> ! {
    let mut count = 0u64;
    loop {
        count = core::hint::black_box(count.wrapping_add(1));
    }
}

fn burn(nanos: u64) {
    let begun = monotonic_clock::now();
    while monotonic_clock::now() - begun < nanos {
        for count in 0..10_000u64 {
            core::hint::black_box(count);
        }
    }
}

/// Takes so many MiB and keeps them.
fn hoard(mib: u64) {
    for _ in 0..mib {
        HOARD.with(|hoard| hoard.borrow_mut().push(vec![1; 1 << 20]));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    if depth == 1 {
        return 0;
    }
    core::hint::black_box(recurse(core::hint::black_box(depth.wrapping_sub(1)))) + 1
}

fn write_out(text: &str) {
    let stream = wasi::cli::stdout::get_stdout();
    for part in text.as_bytes().chunks(4096) {
        let _ = stream.blocking_write_and_flush(part);
    }
}

/// A line to each stream, and then so many bytes in lines of 100.
fn print(bytes: u64) {
    write_out("to standard output\n");
    let stream = wasi::cli::stderr::get_stderr();
    let _ = stream.blocking_write_and_flush(b"to standard error\n");
    let line = "y".repeat(99) + "\n";
    for _ in 0..bytes / 100 {
        write_out(&line);
    }
}

/// A request for somebody: the fields `x-to`, `x-method`, `x-path` of the request at hand say for whom
/// and what, `x-connect`, `x-first`, `x-between` how many milliseconds it may take.
fn asking(request: &IncomingRequest) -> (OutgoingRequest, RequestOptions) {
    let said = |name: &str| {
        let value = request.headers().get(name).into_iter().next()?;
        String::from_utf8(value).ok()
    };
    let fields = Fields::new();
    for (name, value) in request.headers().entries() {
        if name.starts_with("x-pass-") || name == "content-length" || name == "expect" || name == "te" {
            fields.append(&name, &value).unwrap();
        }
    }
    let asked = OutgoingRequest::new(fields);
    let method = match said("x-method").as_deref() {
        Some("HEAD") => Method::Head,
        Some("POST") => Method::Post,
        _ => request.method(),
    };
    let scheme = if said("x-scheme").as_deref() == Some("https") { Scheme::Https } else { Scheme::Http };
    let _ = asked.set_method(&method);
    let _ = asked.set_scheme(Some(&scheme));
    let _ = asked.set_authority(Some(&said("x-to").unwrap_or("api".to_owned())));
    let _ = asked.set_path_with_query(Some(&said("x-path").unwrap_or("/asked".to_owned())));
    let options = RequestOptions::new();
    let millis = |name| said(name).and_then(|text| text.parse::<u64>().ok()).map(|millis| millis * 1_000_000);
    let _ = options.set_connect_timeout(millis("x-connect"));
    let _ = options.set_first_byte_timeout(millis("x-first"));
    let _ = options.set_between_bytes_timeout(millis("x-between"));
    (asked, options)
}

/// The answer, once it is here.
fn awaited(response: FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    response.subscribe().block();
    match response.get() {
        Some(Ok(answer)) => answer,
        _ => Err(ErrorCode::InternalError(Some("no answer".to_owned()))),
    }
}

/// Asks somebody, and says what came of it.
fn ask(out: ResponseOutparam) {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some("api"));
    let _ = request.set_path_with_query(Some("/asked"));
    match wasi::http::outgoing_handler::handle(request, None).and_then(awaited) {
        Err(error) => say(out, 200, &format!("{error:?}")),
        Ok(response) => say(out, 200, &format!("status {}", response.status())),
    }
}

/// Asks so often, one after the other, and says how that went.
fn many(out: ResponseOutparam, count: u64) {
    let mut text = String::new();
    for _ in 0..count {
        let request = OutgoingRequest::new(Fields::new());
        let _ = request.set_scheme(Some(&Scheme::Http));
        let _ = request.set_authority(Some("api"));
        text += &match wasi::http::outgoing_handler::handle(request, None).and_then(awaited) {
            Err(error) => format!("{error:?}\n"),
            Ok(response) => format!("status {}\n", response.status()),
        };
    }
    say(out, 200, &text);
}

/// Asks, and lets go of the answer after so many milliseconds.
fn forget(out: ResponseOutparam, millis: u64) {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some("api"));
    let response = wasi::http::outgoing_handler::handle(request, None);
    monotonic_clock::subscribe_duration(millis * 1_000_000).block();
    drop(response);
    say(out, 200, "forgotten");
    monotonic_clock::subscribe_duration(u64::MAX).block();
}

/// Passes the request on to somebody, and the answer back, with bodies and trailers.
fn relay(request: &IncomingRequest, out: ResponseOutparam) {
    let (asked, options) = asking(request);
    let has_body = matches!(request.method(), Method::Post | Method::Put);
    let body = has_body.then(|| asked.body().unwrap());
    let response = match wasi::http::outgoing_handler::handle(asked, Some(options)) {
        Ok(response) => response,
        Err(error) => return say(out, 502, &format!("refused {error:?}")),
    };
    if let Some(body) = body {
        let incoming = request.consume().unwrap();
        let end = copy(&incoming, &body);
        let trailers = trailers_of(incoming);
        match end {
            Ok(()) => {
                let _ = OutgoingBody::finish(body, trailers);
            }
            Err(()) => drop(body),
        }
    }
    let response = match awaited(response) {
        Ok(response) => response,
        Err(error) => return say(out, 502, &format!("failed {error:?}")),
    };
    let mut fields: Vec<(String, String)> = Vec::new();
    for (name, value) in response.headers().entries() {
        fields.push((format!("x-got-{name}"), String::from_utf8_lossy(&value).into_owned()));
    }
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let answer = begin(out, response.status(), &fields);
    let incoming = response.consume().unwrap();
    match copy(&incoming, &answer) {
        Ok(()) => {
            let trailers = trailers_of(incoming);
            let _ = OutgoingBody::finish(answer, trailers);
        }
        Err(()) => {
            let stream = answer.write();
            drop(stream);
            drop(answer);
        }
    }
}

/// All of a body; an error if it was cut, or nobody takes it.
fn copy(from: &IncomingBody, to: &OutgoingBody) -> Result<(), ()> {
    let (input, output) = (from.stream().unwrap(), to.write().unwrap());
    loop {
        match input.blocking_read(16 << 10) {
            Ok(data) => {
                for part in data.chunks(4096) {
                    output.blocking_write_and_flush(part).map_err(drop)?;
                }
            }
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => {
                write_out(&format!("body: {:?}\n", http_error_code(&error)));
                return Err(());
            }
        }
    }
}

fn trailers_of(body: IncomingBody) -> Option<Fields> {
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    match trailers.get() {
        Some(Ok(Ok(Some(fields)))) => {
            let copied = Fields::new();
            for (name, value) in fields.entries() {
                let _ = copied.append(&name, &value);
            }
            Some(copied)
        }
        _ => None,
    }
}

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

export!(Probe);
