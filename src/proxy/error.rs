//! Why an exchange failed: whose fault, which status, what the log says.

use crate::http::h1::Refusal;
use crate::http::status::Status;
use crate::middleware::auth::Denied;
use crate::telemetry::counters::{Failure, Rejection};
use crate::wasm;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Downstream,
    Upstream,
    /// The component's that was to answer.
    Guest,
    Us,
}

/// How the connection to an upstream broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It was closed or reset before the first byte of a response.
    BeforeResponse,
    InHead,
    InBody,
    ResetInBody,
    InTunnel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    Refused(Refusal),
    HeadTimeout,
    Body(&'static str),
    BodyTooLarge,
    BodyTimeout,
    BodyTooSlow,
    /// The client takes nothing of the response.
    ClientStalled,
    ClientGone,
    NoRoute,
    NoRoutesConfigured,
    Denied(Denied),
    NoEndpoint,
    /// Too many requests wait for a connection to the upstream.
    QueueFull,
    QueueTimeout,
    /// Too many requests wait for the process behind the upstream.
    HoldFull,
    HoldTimeout,
    ConnectFailed,
    ConnectTimeout,
    UpstreamBroken(Broken),
    UpstreamTimeout,
    UpstreamProtocol(&'static str),
    TooManyConnections,
    TooManyConnectionsOfAddress,
    TunnelTimeout,
    /// The client of a tunnel went on after its upstream had ended.
    TunnelLinger,
    /// The workload has no components.
    NoComponents,
    /// None of the workload's components takes the path.
    NoComponent,
    Guest(wasm::Fault),
    /// A middleware has failed, and nothing passes without it.
    Middleware(Status, &'static str),
    GuestProtocol(&'static str),
    /// We end before it did.
    Cut,
    /// A mistake of ours.
    Panicked,
}

impl Error {
    pub fn status(self) -> Status {
        match self {
            Error::Refused(refusal) => refusal.status(),
            Error::Body(_) => Status::BAD_REQUEST,
            Error::HeadTimeout | Error::BodyTimeout | Error::BodyTooSlow => Status::REQUEST_TIMEOUT,
            Error::BodyTooLarge => Status::CONTENT_TOO_LARGE,
            Error::ClientGone | Error::ClientStalled => Status::CLIENT_CLOSED,
            Error::NoRoute | Error::NoRoutesConfigured => Status::NOT_FOUND,
            Error::Denied(Denied::Absent) => Status::UNAUTHORIZED,
            Error::Denied(Denied::Wrong | Denied::Repeated) => Status::FORBIDDEN,
            Error::NoEndpoint | Error::QueueFull | Error::QueueTimeout => Status::UNAVAILABLE,
            Error::HoldFull | Error::HoldTimeout => Status::UNAVAILABLE,
            Error::TooManyConnections | Error::Cut => Status::UNAVAILABLE,
            Error::TooManyConnectionsOfAddress => Status::TOO_MANY_REQUESTS,
            Error::ConnectFailed | Error::UpstreamBroken(_) | Error::UpstreamProtocol(_) => {
                Status::BAD_GATEWAY
            }
            Error::ConnectTimeout | Error::UpstreamTimeout => Status::GATEWAY_TIMEOUT,
            Error::Panicked => Status::INTERNAL_ERROR,
            Error::TunnelTimeout | Error::TunnelLinger => Status::SWITCHING_PROTOCOLS,
            Error::NoComponents | Error::NoComponent => Status::NOT_FOUND,
            Error::Guest(fault) => guest_status(fault),
            Error::Middleware(status, _) => status,
            Error::GuestProtocol(_) => Status::BAD_GATEWAY,
        }
    }

    /// For the log and, if it is the client's fault, for the client.
    pub fn reason(self) -> &'static str {
        match self {
            Error::Refused(refusal) => refusal.reason(),
            Error::Body(reason) | Error::UpstreamProtocol(reason) | Error::GuestProtocol(reason) => reason,
            Error::Middleware(_, reason) => reason,
            Error::HeadTimeout => "request head timeout",
            Error::BodyTooLarge => "request body too large",
            Error::BodyTimeout => "request body timeout",
            Error::BodyTooSlow => "request body slower than min_rate",
            Error::ClientStalled => "client takes no data",
            Error::ClientGone => "client closed the connection",
            Error::NoRoute => "no route matches",
            Error::NoRoutesConfigured => "no routes are configured",
            Error::Denied(Denied::Absent) => "admin token required",
            Error::Denied(Denied::Wrong) => "wrong admin token",
            Error::Denied(Denied::Repeated) => "more than one admin token",
            Error::NoEndpoint => "upstream has no usable endpoint",
            Error::QueueFull => "too many requests wait for the upstream",
            Error::QueueTimeout => "waited too long for a connection to the upstream",
            Error::HoldFull => "too many requests wait for the upstream to start",
            Error::HoldTimeout => "waited too long for the upstream to start",
            Error::ConnectFailed => "connecting to the upstream failed",
            Error::ConnectTimeout => "connecting to the upstream timed out",
            Error::UpstreamBroken(Broken::BeforeResponse) => {
                "upstream closed the connection without a response"
            }
            Error::UpstreamBroken(Broken::InHead) => "upstream closed the connection within a response head",
            Error::UpstreamBroken(Broken::InBody) => "upstream closed the connection within a response body",
            Error::UpstreamBroken(Broken::ResetInBody) => {
                "upstream reset the connection within a response body"
            }
            Error::UpstreamBroken(Broken::InTunnel) => "upstream closed the connection within a tunnel",
            Error::UpstreamTimeout => "upstream timeout",
            Error::TooManyConnections => "too many connections",
            Error::TooManyConnectionsOfAddress => "too many connections of one address",
            Error::TunnelTimeout => "tunnel timeout",
            Error::TunnelLinger => "client kept the tunnel open after the upstream had closed it",
            Error::NoComponents => "the workload has no components",
            Error::NoComponent => "no component of the workload takes this path",
            Error::Guest(fault) => fault.reason(),
            Error::Cut => "cut at the shutdown timeout",
            Error::Panicked => "panicked",
        }
    }

    pub fn fault(self) -> Fault {
        match self {
            Error::NoRoute | Error::NoRoutesConfigured | Error::NoEndpoint | Error::Cut => Fault::Us,
            Error::Panicked => Fault::Us,
            Error::NoComponents | Error::NoComponent => Fault::Us,
            Error::Guest(fault) if is_not_asked(fault) => Fault::Us,
            Error::Guest(_) | Error::GuestProtocol(_) | Error::Middleware(..) => Fault::Guest,
            Error::QueueFull | Error::QueueTimeout | Error::HoldFull | Error::HoldTimeout => Fault::Us,
            Error::TooManyConnections | Error::TooManyConnectionsOfAddress | Error::TunnelTimeout => {
                Fault::Us
            }
            Error::ConnectFailed | Error::ConnectTimeout | Error::UpstreamBroken(_) => Fault::Upstream,
            Error::UpstreamTimeout | Error::UpstreamProtocol(_) => Fault::Upstream,
            _ => Fault::Downstream,
        }
    }

    /// Seconds after which it may be different, where a client is told (RFC 9110 10.2.3).
    pub fn retry_after(self) -> Option<u16> {
        match (self, self.status()) {
            (Error::Guest(wasm::Fault::Paused { secs }), _) => Some(secs),
            (_, Status::UNAVAILABLE | Status::TOO_MANY_REQUESTS) => Some(1),
            _ => None,
        }
    }

    /// As it is counted of an endpoint that did wrong.
    pub fn failure(self) -> Option<Failure> {
        match self {
            Error::ConnectFailed => Some(Failure::Connect),
            Error::ConnectTimeout | Error::UpstreamTimeout => Some(Failure::Timeout),
            Error::UpstreamBroken(_) => Some(Failure::Broken),
            Error::UpstreamProtocol(_) => Some(Failure::Protocol),
            _ => None,
        }
    }

    /// As it is counted of an upstream without an endpoint for a request.
    pub fn rejection(self) -> Option<Rejection> {
        match self {
            Error::NoEndpoint => Some(Rejection::NoEndpoint),
            Error::QueueFull => Some(Rejection::QueueFull),
            Error::QueueTimeout => Some(Rejection::QueueTimeout),
            Error::HoldFull => Some(Rejection::HoldFull),
            Error::HoldTimeout => Some(Rejection::HoldTimeout),
            _ => None,
        }
    }

    /// What a client may know: its own mistakes in full, those of an upstream or a component in
    /// general.
    pub fn text(self) -> &'static str {
        match self.fault() {
            Fault::Downstream => self.reason(),
            Fault::Upstream | Fault::Guest => self.status().phrase(),
            Fault::Us => self.reason(),
        }
    }
}

/// The component knows nothing of the request: we have not given it any instance.
fn is_not_asked(fault: wasm::Fault) -> bool {
    use wasm::Fault;
    matches!(fault, Fault::NotMade | Fault::QueueFull | Fault::QueueTimeout | Fault::Paused { .. })
}

fn guest_status(fault: wasm::Fault) -> Status {
    match fault {
        wasm::Fault::Trap | wasm::Fault::Memory | wasm::Fault::Exit => Status::INTERNAL_ERROR,
        wasm::Fault::NoAnswer | wasm::Fault::Declined => Status::INTERNAL_ERROR,
        wasm::Fault::Cut | wasm::Fault::TooLong => Status::BAD_GATEWAY,
        wasm::Fault::Cpu | wasm::Fault::Time => Status::GATEWAY_TIMEOUT,
        wasm::Fault::NotMade | wasm::Fault::QueueFull => Status::UNAVAILABLE,
        wasm::Fault::QueueTimeout | wasm::Fault::Paused { .. } => Status::UNAVAILABLE,
    }
}
