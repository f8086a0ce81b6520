//! `[wasm.middleware.NAME]`: components that requests and responses of a route pass.

use std::time::Duration;

use super::Written;
use super::guest::{self, Guest, LATER};
use super::table::Table;

/// A body that is shown at once is held in memory, and copied.
const BODY_MAX: u64 = 64 << 20;

const INSTANCES_MAX: u64 = 1000;

const WAYS: [(&str, Way); 2] = [("open", Way::Open), ("closed", Way::Closed)];

/// A component that requests and responses of a route pass.
#[derive(Clone, Debug)]
pub struct Filter {
    pub guest: Guest,
    /// Those that it may choose.
    pub upstreams: Vec<Written<String>>,
    pub on_error: Option<Way>,
    pub on_timeout: Option<Way>,
    pub on_overload: Option<Way>,
    pub on_load_failure: Option<Way>,
    /// 400 to 599.
    pub status: Option<u16>,
    /// Bytes of a body that it may see at once.
    pub max_body: Option<u64>,
    /// For a call of one that sends requests of its own.
    pub timeout: Option<Duration>,
    /// Of one event loop, of such a one.
    pub instances: Option<usize>,
}

/// What is done where a middleware fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    Closed,
}

pub fn read(name: Written<String>, mut table: Table<'_>) -> Filter {
    let filter = Filter {
        guest: guest::read(name, &mut table, "auth.wasm"),
        upstreams: table.list("upstreams", |text| Ok(text.to_owned())).unwrap_or_default(),
        on_error: table.choice("on_error", &WAYS, &[]),
        on_timeout: table.choice("on_timeout", &WAYS, &[]),
        on_overload: table.choice("on_overload", &WAYS, &[]),
        on_load_failure: table.choice("on_load_failure", &WAYS, &[]),
        max_body: table.size("max_body", 0..=BODY_MAX),
        timeout: table.duration("timeout"),
        instances: table.integer("instances", 1..=INSTANCES_MAX).map(|most| most.value),
        status: table.integer("status", 400..=599).map(|status| status.value),
    };
    table.finish(&LATER);
    filter
}
