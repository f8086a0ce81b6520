//! Sends spans to a collector of OpenTelemetry: OTLP over HTTP/1.1 with Protocol Buffers, from the
//! control thread.
//!
//! Workers hand over buffers of spans; what waits is sent as one message, each half a second.
//! A collector that is not there, or has too much to do, is asked again later and later with the
//! same message. Meanwhile the buffers that wait are bounded, and workers drop what is beyond.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::probe::{self, Failure};
use super::resolver::Resolver;
use crate::plan::Export;
use crate::telemetry::protobuf::{push_nested, push_str};
use crate::telemetry::spans;

/// Buffers of 64 KiB that may wait.
const BUFFERS_MAX: usize = 64;

/// From one message to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// Spans of one message, in bytes, and a buffer more.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// What the collector may take for one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// From one try to the next, twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Statuses that say that the same message may be taken later (OTLP, "Retryable Response Codes").
const LATER: [u16; 4] = [429, 502, 503, 504];

const NAME: &str = "warpdrive";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Fields of the messages around spans.
const RESOURCE_SPANS: u32 = 1;
const RESOURCE: u32 = 1;
const RESOURCE_ATTRIBUTES: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const SCOPE: u32 = 1;
const SCOPE_NAME: u32 = 1;
const SCOPE_VERSION: u32 = 2;
const KEY: u32 = 1;
const VALUE: u32 = 2;
const STRING_VALUE: u32 = 1;

/// The running exporter.
pub struct Exporter {
    task: JoinHandle<()>,
}

/// Why a message was not taken.
enum Refusal {
    /// It may be taken later.
    Now(String),
    Ever(String),
}

impl Exporter {
    /// Also the end for workers; the exporter ends when the last of them is gone.
    pub fn start(export: &Export, resolver: Resolver) -> (Exporter, Sender<Vec<u8>>) {
        let (sender, buffers) = crossbeam_channel::bounded(BUFFERS_MAX);
        let collector = Collector { export: export.clone(), resolver: Arc::new(resolver), is_failing: false };
        let task = tokio::spawn(collector.run(buffers));
        (Exporter { task }, sender)
    }

    /// Waits until everything is sent that was handed over, but not longer than this.
    pub async fn finish(self, patience: Duration) {
        if timeout(patience, self.task).await.is_err() {
            tracing::warn!("the last spans could not be exported");
        }
    }
}

struct Collector {
    export: Export,
    resolver: Arc<Resolver>,
    /// The last message was not taken, which was told.
    is_failing: bool,
}

impl Collector {
    async fn run(mut self, buffers: Receiver<Vec<u8>>) {
        loop {
            let (spans, is_last) = gather(&buffers);
            if !spans.is_empty() {
                self.deliver(&spans).await;
            }
            if is_last {
                return;
            }
            if spans.len() < MESSAGE_BYTES_MAX {
                sleep(PAUSE).await;
            }
        }
    }

    /// Tries until the spans are taken, or never will be.
    async fn deliver(&mut self, spans: &[u8]) {
        let request = request(&self.export, &message(&self.export.service_name, spans));
        let mut delay = RETRY_FIRST;
        loop {
            match self.send(&request).await {
                Ok(()) => {
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("spans are exported to {self} again");
                    }
                    return;
                }
                Err(Refusal::Now(why)) => {
                    self.complain(&why, "trying again");
                    sleep(delay).await;
                    delay = (delay * 2).min(RETRY_MAX);
                }
                Err(Refusal::Ever(why)) => return self.complain(&why, "these are lost"),
            }
        }
    }

    fn complain(&mut self, why: &str, then: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!("cannot export spans to {self}: {why}; {then}");
        }
    }

    async fn send(&self, request: &[u8]) -> Result<(), Refusal> {
        let now = |why: String| Refusal::Now(why);
        let sent = timeout(SEND_TIMEOUT, async {
            let stream = self.connect().await.map_err(now)?;
            probe::exchange(stream, request).await.map_err(|failure| now(failure.to_string()))
        });
        match sent.await.unwrap_or_else(|_| Err(now(Failure::Silent.to_string())))? {
            200..=299 => Ok(()),
            status if LATER.contains(&status) => Err(now(Failure::Status(status).to_string())),
            status => Err(Refusal::Ever(Failure::Status(status).to_string())),
        }
    }

    /// To the first of its addresses that takes a connection.
    async fn connect(&self) -> Result<TcpStream, String> {
        let addresses = match self.export.host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = self.resolver.look_up(&self.export.host).await;
                let addresses: Vec<IpAddr> =
                    [&found.v6, &found.v4].into_iter().flatten().flatten().copied().collect();
                if addresses.is_empty() {
                    return Err(found.failure().unwrap_or_else(|| "it has no address".to_owned()));
                }
                addresses
            }
        };
        let mut failure = String::new();
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, self.export.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Failure::Connect(error).to_string(),
            }
        }
        Err(failure)
    }
}

/// Its URL.
impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", authority(&self.export), self.export.path)
    }
}

fn authority(export: &Export) -> String {
    match export.host.contains(':') {
        true => format!("[{}]:{}", export.host, export.port),
        false => format!("{}:{}", export.host, export.port),
    }
}

/// What waits, up to a message; and whether nothing will follow it.
fn gather(buffers: &Receiver<Vec<u8>>) -> (Vec<u8>, bool) {
    let mut spans = Vec::new();
    while spans.len() < MESSAGE_BYTES_MAX {
        match buffers.try_recv() {
            Ok(buffer) => spans.extend_from_slice(&buffer),
            Err(TryRecvError::Empty) => return (spans, false),
            Err(TryRecvError::Disconnected) => return (spans, true),
        }
    }
    (spans, false)
}

/// `ExportTraceServiceRequest`.
fn message(service_name: &str, spans: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(spans.len() + 256);
    let attribute = |out: &mut Vec<u8>, key: &str, value: &str| {
        push_nested(out, RESOURCE_ATTRIBUTES, |out| {
            push_str(out, KEY, key);
            push_nested(out, VALUE, |out| push_str(out, STRING_VALUE, value));
        });
    };
    push_nested(&mut out, RESOURCE_SPANS, |out| {
        push_nested(out, RESOURCE, |out| {
            attribute(out, "service.name", service_name);
            attribute(out, "service.version", VERSION);
        });
        push_nested(out, SCOPE_SPANS, |out| {
            push_nested(out, SCOPE, |out| {
                push_str(out, SCOPE_NAME, NAME);
                push_str(out, SCOPE_VERSION, VERSION);
            });
            debug_assert_eq!(spans.first(), Some(&((spans::SPANS << 3 | 2) as u8)));
            out.extend_from_slice(spans);
        });
    });
    out
}

fn request(export: &Export, message: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: warpdrive/{}\r\n\
         Content-Type: application/x-protobuf\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        export.path,
        authority(export),
        VERSION,
        message.len()
    );
    [head.as_bytes(), message].concat()
}
