//! Fuzz targets: each is a plain function that takes any bytes and panics where the product
//! does what it must not.
//!
//! `reference` reads HTTP slowly and strictly and is what the product is compared with;
//! `corpus` is what was found worth keeping; `mutate` is a fuzzer for want of a better one.

pub mod chunked;
pub mod configuration;
pub mod connection;
pub mod corpus;
pub mod mutate;
pub mod reference;
pub mod request_head;
pub mod response_head;
pub mod route;
pub mod split;
pub mod target;

/// A name, and what is called with every input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("request_head", request_head::check),
    ("response_head", response_head::check),
    ("chunked", chunked::check),
    ("target", target::check),
    ("configuration", configuration::check),
    ("route", route::check),
    ("connection", connection::check),
];

/// Bytes as a failed check shows them.
pub fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
