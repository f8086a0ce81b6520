//! What was probably meant by a name or a value that is not known.
//!
//! Pure: what was written in, words for a help line out.

use std::time::Duration;

use super::known::{CALLED_OTHERWISE, KEYS, PROCESS, table_of};
use super::node::Value;
use super::value;

/// More slips of the hand make another word.
const SLIPS_MAX: usize = 3;

/// The known name nearest to `written`: a slip of the hand away, or a part of it, or more.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips_max = (written.chars().count() / 3).clamp(1, SLIPS_MAX);
    let known: Vec<&str> = known.into_iter().collect();
    let slip = known
        .iter()
        .map(|name| (distance(written, name), *name))
        .filter(|(slips, name)| *slips <= slips_max && *slips < name.len())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name);
    slip.or_else(|| known.into_iter().find(|name| is_part(written, name) || is_part(name, written)))
}

/// Whether `part` is the beginning of `whole`, or its last words.
fn is_part(part: &str, whole: &str) -> bool {
    const LENGTH_MIN: usize = 3;
    let is_end = || whole.strip_suffix(part).is_some_and(|before| before.ends_with(['_', '-']));
    part.len() >= LENGTH_MIN && (whole.starts_with(part) || is_end())
}

/// How many characters have to be added, removed, replaced or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    const LENGTH_MAX: usize = 256;
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    // What differs that much in length is no slip; and the time grows with the product.
    if left.len().abs_diff(right.len()) > SLIPS_MAX || left.len() > LENGTH_MAX {
        return usize::MAX;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = usize::from(left[i - 1] != right[j - 1]);
            let mut slips = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + replaced);
            let swapped = i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                slips = slips.min(before_last[j - 2] + 1);
            }
            row.push(slips);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

/// Help with a key that the table of this title does not have, but the `known` ones.
pub fn key<'a>(written: &str, title: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let named = table_of(title);
    let is_here = |(table, _, _): &&(&str, &str, &str)| match named {
        PROCESS => *table == PROCESS,
        named => named.starts_with(table),
    };
    let mut called = CALLED_OTHERWISE.iter().filter(is_here);
    if let Some((_, _, ours)) = called.find(|(_, theirs, _)| *theirs == written) {
        return Some(format!("did you mean `{ours}`?"));
    }
    let homes = homes(written);
    if !homes.is_empty() {
        return Some(format!("`{written}` belongs to {}", homes.join(" or ")));
    }
    match nearest(written, known) {
        Some(meant) => Some(format!("did you mean `{meant}`?")),
        None => keys_of(title).map(|keys| format!("{title} has the keys `{}`", keys.join("`, `"))),
    }
}

/// All keys of the table with this title, and the tables in it.
fn keys_of(title: &str) -> Option<Vec<&'static str>> {
    let table = table_of(title);
    let below: &[&str] = match table {
        "[server]" => &["limits"],
        "[upstreams.NAME]" => &["instances", "health", "process"],
        "[wasm]" => &["components", "workloads"],
        "[wasm.components.NAME]" => &["interface_config", "limits", "outgoing"],
        "[wasm.workloads.NAME]" => &["host_interfaces"],
        _ => &[],
    };
    let (_, keys) = KEYS.iter().find(|(known, _)| *known == table)?;
    Some(keys.iter().chain(below).copied().collect())
}

/// The tables that have this key.
fn homes(key: &str) -> Vec<&'static str> {
    let bare = key.strip_suffix("_secs").or(key.strip_suffix("_bytes")).unwrap_or(key);
    let has = |keys: &[&str]| keys.contains(&key) || keys.contains(&bare);
    KEYS.iter().filter(|(_, keys)| has(keys)).map(|(table, _)| *table).collect()
}

/// Help with a table at the top of the file that is none of the `known` ones. `below` is the
/// first name in it.
pub fn table<'a>(written: &str, below: Option<&str>, known: impl IntoIterator<Item = &'a str>) -> String {
    let inner = match written {
        "limit" | "limits" => Some("[server.limits]".to_owned()),
        "health" | "healthcheck" | "health_check" => Some("[upstreams.NAME.health]".to_owned()),
        "resolver" => Some("[dns]".to_owned()),
        "instance" | "instances" => Some("[[upstreams.NAME.instances]]".to_owned()),
        _ => None,
    };
    let title = inner.or_else(|| match (nearest(written, known)?, below) {
        ("upstreams", Some(name)) => Some(format!("[upstreams.{name}]")),
        ("upstreams", None) => Some("[upstreams.NAME]".to_owned()),
        ("routes", _) => Some("[[routes]]".to_owned()),
        (name, _) => Some(format!("[{name}]")),
    });
    match title {
        Some(title) => format!("did you mean `{title}`?"),
        None => {
            let tables: Vec<&str> = KEYS.iter().map(|(table, _)| *table).collect();
            format!("the tables are {}", tables.join(", "))
        }
    }
}

/// What kind of value a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    /// A string that no help shows.
    Secret,
    Boolean,
    Integer,
    Fraction,
    Duration,
    Size,
    Strings,
    Table,
    Tables,
}

impl Kind {
    /// Completes "must be …".
    pub fn words(self) -> &'static str {
        match self {
            Kind::String | Kind::Secret => "a string",
            Kind::Boolean => "true or false",
            Kind::Integer => "an integer",
            Kind::Fraction => "a number from 0 to 1",
            Kind::Duration => "a duration such as \"5s\"",
            Kind::Size => "a size such as \"32 KiB\"",
            Kind::Strings => "a list of strings",
            Kind::Table => "a table",
            Kind::Tables => "a list of tables",
        }
    }
}

/// How a value of another kind has to be written. `path` is the key with its tables.
pub fn retyped(key: &str, path: &str, wanted: Kind, found: &Value) -> Option<String> {
    let write = |value: String| Some(format!("write {key} = {value}"));
    match (wanted, found) {
        (_, Value::Template(_)) => {
            Some("variables are in upper case; write `$${` for `${` itself".to_owned())
        }
        (Kind::Integer, Value::String(text)) => {
            let number: u64 = text.trim().parse().ok()?;
            write(number.to_string()).map(|help| help + ", without quotes")
        }
        (Kind::Fraction, Value::String(text)) => {
            value::fraction(text.trim()).and_then(|part| write(format!("{part}, without quotes")))
        }
        (Kind::Boolean, Value::String(text)) => {
            let is_on = match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => true,
                "false" | "no" | "off" | "0" => false,
                _ => return None,
            };
            write(is_on.to_string()).map(|help| help + ", without quotes")
        }
        (Kind::Boolean, Value::Integer(number)) => match number.text.as_str() {
            "0" => write("false".to_owned()),
            "1" => write("true".to_owned()),
            _ => None,
        },
        (Kind::String, Value::Integer(number)) => write(format!("\"{}\"", number.text)),
        (Kind::Strings, Value::String(text) | Value::Bare(text)) => {
            write(format!("[\"{}\"]", text.escape_debug()))
        }
        (Kind::Table, Value::Array(_)) => {
            Some(format!("write [{path}], with one bracket on each side, and only once"))
        }
        (Kind::Table, _) => Some(format!("write [{path}], and its keys below")),
        (Kind::Tables, Value::Table(_)) => {
            Some(format!("write [[{path}]], with two brackets on each side, above each of them"))
        }
        _ => None,
    }
}

/// The way to write this duration, if it can be understood at all: `30 sec` is `30s`.
pub fn duration(text: &str) -> Option<String> {
    let mut millis: u128 = 0;
    for (number, unit) in quantities(text)? {
        let factor = match unit.as_str() {
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return None,
        };
        millis = millis.checked_add(number.times(factor)?)?;
    }
    let written = match millis {
        millis if millis % 3_600_000 == 0 => format!("{}h", millis / 3_600_000),
        millis if millis % 60_000 == 0 => format!("{}m", millis / 60_000),
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    };
    let is_allowed = |meant: Duration| !meant.is_zero() && meant <= value::DURATION_MAX;
    value::duration(&written).filter(|meant| is_allowed(*meant)).map(|_| written)
}

/// The way to write this size, if it can be understood at all: `10 MB` is `10 MiB`.
pub fn size(text: &str) -> Option<String> {
    let [(number, unit)] = quantities(text)?.try_into().ok()?;
    let (factor, unit) = match unit.as_str() {
        "" | "b" | "byte" | "bytes" => (1, "B"),
        "k" | "kb" | "kib" | "kbyte" | "kilobyte" | "kilobytes" => (1 << 10, "KiB"),
        "m" | "mb" | "mib" | "mbyte" | "megabyte" | "megabytes" => (1 << 20, "MiB"),
        "g" | "gb" | "gib" | "gbyte" | "gigabyte" | "gigabytes" => (1 << 30, "GiB"),
        _ => return None,
    };
    let written = match number.times(1) {
        Some(whole) => format!("{whole} {unit}"),
        None => format!("{} B", number.times(factor)?),
    };
    value::size(&written).map(|_| written)
}

/// A number with as many digits after the point as `places`, which are part of `digits`.
#[derive(Clone, Copy, Debug)]
struct Number {
    digits: u128,
    places: u32,
}

impl Number {
    /// `None`: not a whole number.
    fn times(self, factor: u128) -> Option<u128> {
        let scale = 10_u128.checked_pow(self.places)?;
        let product = self.digits.checked_mul(factor)?;
        (product % scale == 0).then_some(product / scale)
    }
}

/// `1h 30m`: numbers, each with the lower-case letters that follow it.
fn quantities(text: &str) -> Option<Vec<(Number, String)>> {
    const LENGTH_MAX: usize = 32;
    let text: String = text.chars().filter(|character| *character != ' ').collect();
    if text.len() > LENGTH_MAX {
        return None;
    }
    let mut rest = text.as_str();
    let mut quantities = Vec::new();
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) =
            after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}").parse().ok()?;
        let places = u32::try_from(fraction.len()).ok()?;
        if unit.is_empty() {
            return None;
        }
        quantities.push((Number { digits, places }, unit.to_ascii_lowercase()));
        rest = after;
    }
    (!quantities.is_empty()).then_some(quantities)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../config/warpdrive.toml");

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_does_not() {
        let known = ["port", "host", "http_port", "https_port", "strip_prefix", "warn", "fields"];
        let cases = [
            ("prot", Some("port")),
            ("hots", Some("host")),
            ("http_prt", Some("http_port")),
            ("strip-prefix", Some("strip_prefix")),
            ("PORT", Some("port")),
            ("warning", Some("warn")),
            ("prefix", Some("strip_prefix")),
            ("fields_max", Some("fields")),
            ("colour", None),
            ("x", None),
            ("", None),
        ];
        for (written, meant) in cases {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }

    #[test]
    fn a_key_finds_the_table_that_it_belongs_to() {
        let known = ["head_timeout", "fields"];
        let cases = [
            (
                "read_timeout",
                "[server.limits]",
                Some("`read_timeout` belongs to [upstreams.NAME] or [[routes]]"),
            ),
            (
                "read_timeout_secs",
                "[log]",
                Some("`read_timeout_secs` belongs to [upstreams.NAME] or [[routes]]"),
            ),
            ("http_port", "", Some("`http_port` belongs to [server]")),
            ("port", "[server]", Some("did you mean `http_port`?")),
            ("servers", "[upstreams.a]", Some("did you mean `instances`?")),
            ("haed_timeout", "[server.limits]", Some("did you mean `head_timeout`?")),
            (
                "colour",
                "[log]",
                Some(
                    "[log] has the keys `format`, `template`, `output`, `file`, `journal_socket`, `sample`, `redact_query`, `level`, `events`",
                ),
            ),
            (
                "colour",
                "[[upstreams.a.instances]]",
                Some("[[upstreams.a.instances]] has the keys `host`, `port`, `socket`, `weight`, `backup`"),
            ),
            ("colour", "[somewhere]", None),
        ];
        for (written, title, help) in cases {
            assert_eq!(key(written, title, known).as_deref(), help, "{written} in {title}");
        }
    }

    /// The tables of the reference file with the keys in each, commented out or not.
    fn reference() -> Vec<(String, Vec<String>)> {
        let mut tables: Vec<(String, Vec<String>)> = Vec::new();
        for line in REFERENCE.lines() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            if tables.is_empty() && !line.starts_with('[') {
                continue;
            }
            let is_key = |key: &&str| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if line.starts_with('[') && line.ends_with(']') {
                let title = line
                    .replace("upstreams.app", "upstreams.NAME")
                    .replace("wasm.components.user", "wasm.components.NAME")
                    .replace("\"wasi:http/incoming-handler\"", "INTERFACE")
                    .replace("wasm.policies.sticky", "wasm.policies.NAME")
                    .replace("wasm.middleware.auth", "wasm.middleware.NAME")
                    .replace("wasm.workloads.site", "wasm.workloads.NAME");
                if !tables.iter().any(|(table, _)| *table == title) {
                    tables.push((title, Vec::new()));
                }
            } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_key(key)) {
                // The list of instances ends where the keys of the upstream go on.
                let has = |table: &&mut (String, Vec<String>)| {
                    KEYS.iter().any(|(title, keys)| *title == table.0 && keys.contains(&key))
                };
                let table = tables.iter_mut().rev().find(has);
                let (_, keys) = table.unwrap_or_else(|| panic!("`{key}` is in no table of the list"));
                if !keys.iter().any(|known| known == key) {
                    keys.push(key.to_owned());
                }
            }
        }
        tables
    }

    #[test]
    fn the_list_of_keys_is_the_reference() {
        let list = KEYS.iter().map(|(table, keys)| {
            let keys = keys.iter().map(|key| (*key).to_owned());
            ((*table).to_owned(), keys.collect::<Vec<_>>())
        });
        let sorted = |tables: Vec<(String, Vec<String>)>| {
            let mut pairs: Vec<(String, String)> = tables
                .into_iter()
                .flat_map(|(table, keys)| keys.into_iter().map(move |key| (table.clone(), key)))
                .collect();
            pairs.sort();
            pairs
        };
        assert_eq!(sorted(reference()), sorted(list.collect()));
    }

    #[test]
    fn durations_and_sizes_are_understood_in_the_words_of_others() {
        let durations = [
            ("30 sec", Some("30s")),
            ("1.5s", Some("1500ms")),
            ("1m30s", Some("90s")),
            ("1h 30 min", Some("90m")),
            ("5 Minutes", Some("5m")),
            ("1d", Some("24h")),
            ("2 days", None),
            ("0.0001s", None),
            ("soon", None),
            ("30", None),
            ("", None),
            ("s", None),
            (".s", None),
            ("99999999999999999999999999999s", None),
        ];
        for (text, meant) in durations {
            assert_eq!(duration(text).as_deref(), meant, "{text}");
        }
        let sizes = [
            ("10 MB", Some("10 MiB")),
            ("10kb", Some("10 KiB")),
            ("1.5 GiB", Some("1610612736 B")),
            ("4 bytes", Some("4 B")),
            ("1 TB", None),
            ("1k 2k", None),
            ("much", None),
        ];
        for (text, meant) in sizes {
            assert_eq!(size(text).as_deref(), meant, "{text}");
        }
    }
}
