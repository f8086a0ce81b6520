//! What `[wasm.policies.NAME]` and `[wasm.middleware.NAME]` have in common.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Written;
use super::diagnostic::{Diagnostic, Place};
use super::table::Table;
use super::value::{Wanted, wanted};
use super::wasm::{MEMORY_MAX, PAGE, beside, path};

/// Keys that both will have.
pub const LATER: [&str; 1] = ["image"];

/// Of one store. Nobody needs more for numbers and small texts.
const STORE_MAX: u64 = 1 << 30;

/// A component that is called on a request's way.
#[derive(Clone, Debug)]
pub struct Guest {
    pub name: Written<String>,
    /// Its header.
    pub place: Place,
    /// Relative to this process. `None` if it is missing or wrong.
    pub file: Option<Written<PathBuf>>,
    pub config: Map<String, Value>,
    pub max_memory: Option<u64>,
    pub max_execution_time: Option<Duration>,
    pub store: Option<Written<String>>,
    /// May be 0.
    pub store_size: Option<u64>,
}

/// `example` is a file that it may have.
pub fn read(name: Written<String>, table: &mut Table<'_>, example: &str) -> Guest {
    let is_there = *table.place() != Place::Default;
    let file = table.parsed("file", path);
    if !table.has("file") && is_there {
        let message = format!("{} has no file", table.title());
        let missing = Diagnostic::error(table.place().clone(), message);
        table.report().push_unless_torn(missing.with_help(format!("such as file = \"{example}\"")));
    }
    Guest {
        name,
        place: table.place().clone(),
        file: file.map(|file| Written::new(beside(&file), file.place.clone())),
        config: table.object("config"),
        max_memory: table.size("max_memory", PAGE..=MEMORY_MAX),
        max_execution_time: table.duration("max_execution_time"),
        store: table.parsed("store", self::name),
        store_size: table.size("store_size", 0..=STORE_MAX),
    }
}

/// A component that chooses endpoints.
pub fn read_policy(name: Written<String>, mut table: Table<'_>) -> Guest {
    let policy = read(name, &mut table, "sticky.wasm");
    table.finish(&LATER);
    policy
}

pub fn name(text: &str) -> Result<String, Wanted> {
    match text {
        "" => Err(wanted("a name")),
        name => Ok(name.to_owned()),
    }
}
