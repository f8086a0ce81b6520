//! `[wasm.middleware.NAME]`: components that requests and responses of a route pass.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Written;
use super::diagnostic::{Diagnostic, Place};
use super::table::Table;
use super::value::{Wanted, wanted};
use super::wasm::{MEMORY_MAX, PAGE, beside, path};

const LATER: [&str; 1] = ["image"];

/// Of one store. Nobody needs more for numbers and small texts.
const STORE_MAX: u64 = 1 << 30;

const WAYS: [(&str, Way); 2] = [("open", Way::Open), ("closed", Way::Closed)];

/// A component that requests and responses of a route pass.
#[derive(Clone, Debug)]
pub struct Filter {
    pub name: Written<String>,
    /// Its header.
    pub place: Place,
    /// Relative to this process. `None` if it is missing or wrong.
    pub file: Option<Written<PathBuf>>,
    pub config: Map<String, Value>,
    /// Those that it may choose.
    pub upstreams: Vec<Written<String>>,
    pub max_memory: Option<u64>,
    pub max_execution_time: Option<Duration>,
    pub store: Option<Written<String>>,
    /// May be 0.
    pub store_size: Option<u64>,
    pub on_error: Option<Way>,
    pub on_timeout: Option<Way>,
    pub on_overload: Option<Way>,
    pub on_load_failure: Option<Way>,
    /// 400 to 599.
    pub status: Option<u16>,
}

/// What is done where a middleware fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    Closed,
}

pub fn read(name: Written<String>, mut table: Table<'_>) -> Filter {
    let is_there = *table.place() != Place::Default;
    let file = table.parsed("file", path);
    if !table.has("file") && is_there {
        let message = format!("{} has no file", table.title());
        let missing = Diagnostic::error(table.place().clone(), message);
        table.report().push_unless_torn(missing.with_help("such as file = \"auth.wasm\""));
    }
    let filter = Filter {
        name,
        place: table.place().clone(),
        file: file.map(|file| Written::new(beside(&file), file.place.clone())),
        config: table.object("config"),
        upstreams: table.list("upstreams", |text| Ok(text.to_owned())).unwrap_or_default(),
        max_memory: table.size("max_memory", PAGE..=MEMORY_MAX),
        max_execution_time: table.duration("max_execution_time"),
        store: table.parsed("store", self::name),
        store_size: table.size("store_size", 0..=STORE_MAX),
        on_error: table.choice("on_error", &WAYS, &[]),
        on_timeout: table.choice("on_timeout", &WAYS, &[]),
        on_overload: table.choice("on_overload", &WAYS, &[]),
        on_load_failure: table.choice("on_load_failure", &WAYS, &[]),
        status: table.integer("status", 400..=599).map(|status| status.value),
    };
    table.finish(&LATER);
    filter
}

pub fn name(text: &str) -> Result<String, Wanted> {
    match text {
        "" => Err(wanted("a name")),
        name => Ok(name.to_owned()),
    }
}
