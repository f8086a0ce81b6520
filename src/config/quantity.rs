//! The getters of a table for what has several spellings: durations, sizes, statuses,
//! secrets.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::json;

use super::Written;
use super::diagnostic::Diagnostic;
use super::node::Value;
use super::report::Kind;
use super::secret::Secret;
use super::suggest::{self, Kind as Wants};
use super::table::Table;
use super::value;

impl Table<'_> {
    /// `key = "5s"`, or whole seconds under `key_secs`; longer than nothing, at most a day.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        let found = self.read_duration(key);
        self.record(key, Kind::Duration, found.as_ref(), |duration| json!(value::show_duration(*duration)));
        found.map(|found| found.value)
    }

    /// The same, with the place of its key.
    pub fn placed_duration(&mut self, key: &str) -> Option<Written<Duration>> {
        let value = self.duration(key)?;
        let place = self.key_place(key).or_else(|| self.key_place(&format!("{key}_secs")))?;
        Some(Written::new(value, place))
    }

    fn read_duration(&mut self, key: &str) -> Option<Written<Duration>> {
        let in_secs = format!("{key}_secs");
        if self.are_both(key, &in_secs) {
            return None;
        }
        let secs_max = value::DURATION_MAX.as_secs();
        if let Some(secs) = self.whole_number(&in_secs, 1..=secs_max) {
            return Some(Written::new(Duration::from_secs(secs.value), secs.place));
        }
        let node = self.entry(key)?;
        let wanted = match &node.value {
            Value::String(text) | Value::Bare(text) => match value::duration(text) {
                Some(found) if found.is_zero() => format!("longer than 0, not \"{text}\""),
                Some(found) if found > value::DURATION_MAX => {
                    format!("at most \"24h\", not \"{text}\"")
                }
                Some(found) => return Some(Written::new(found, node.place.clone())),
                None => {
                    let wanted =
                        format!("a duration such as \"5s\", \"250ms\", \"5m\" or \"1h\", not \"{text}\"");
                    return self.misspelt(&node.place, key, &wanted, suggest::duration(text));
                }
            },
            Value::Integer(integer) => {
                let number = &integer.text;
                let message = format!("{key} must be a duration with a unit, not {number}");
                let help = format!("write {key} = \"{number}s\" or {in_secs} = {number}");
                self.report().push(Diagnostic::error(node.place.clone(), message).with_help(help));
                return None;
            }
            other => return self.mistyped(&node.place, key, Wants::Duration, other),
        };
        self.wrong(&node.place, key, &wanted)
    }

    /// A part of a whole, from 0 to 1.
    pub fn fraction(&mut self, key: &str) -> Option<f64> {
        let found = self.read_fraction(key);
        self.record(key, Kind::Fraction, found.as_ref(), |part| json!(part));
        found.map(|found| found.value)
    }

    fn read_fraction(&mut self, key: &str) -> Option<Written<f64>> {
        let node = self.entry(key)?;
        let text = match &node.value {
            Value::Float(text) | Value::Bare(text) => text,
            Value::Integer(integer) => &integer.text,
            other => return self.mistyped(&node.place, key, Wants::Fraction, other),
        };
        match value::fraction(text) {
            Some(part) => Some(Written::new(part, node.place.clone())),
            None => self.wrong(&node.place, key, &format!("a number from 0 to 1, not {text}")),
        }
    }

    /// Bytes: an integer, or `"32 KiB"`; an integer also under `key_bytes`.
    pub fn size(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let found = self.read_size(key, range.clone());
        let (least, most) = range.into_inner();
        self.record(key, Kind::Size { least, most }, found.as_ref(), |bytes| value::show_size(*bytes));
        found.map(|found| found.value)
    }

    fn read_size(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Written<u64>> {
        let in_bytes = format!("{key}_bytes");
        if !key.ends_with("_bytes") {
            if self.are_both(key, &in_bytes) {
                return None;
            }
            if let Some(bytes) = self.whole_number(&in_bytes, range.clone()) {
                return Some(bytes);
            }
        }
        let node = self.entry(key)?;
        let (number, text) = match &node.value {
            Value::Integer(integer) => (integer.number, integer.text.clone()),
            Value::String(text) | Value::Bare(text) => match value::size(text) {
                Some(number) => (Some(number), format!("\"{text}\"")),
                None => {
                    let wanted = format!("a size in B, KiB, MiB or GiB such as \"32 KiB\", not \"{text}\"");
                    return self.misspelt(&node.place, key, &wanted, suggest::size(text));
                }
            },
            other => return self.mistyped(&node.place, key, Wants::Size, other),
        };
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(Written::new(number, node.place.clone()));
        }
        let wanted = match range.into_inner() {
            (least, u64::MAX) => format!("{least} bytes or more, not {text}"),
            (least, most) => format!("from {least} to {most} bytes, not {text}"),
        };
        self.wrong(&node.place, key, &wanted)
    }

    /// A status code, a range of them such as `"200-399"`, or a list of both.
    pub fn statuses(&mut self, key: &str) -> Option<Vec<RangeInclusive<u16>>> {
        let found = self.read_statuses(key);
        self.record(key, Kind::Statuses, found.as_ref(), |ranges| match ranges.as_slice() {
            [range] => json!(value::show_statuses(range)),
            ranges => json!(ranges.iter().map(value::show_statuses).collect::<Vec<_>>()),
        });
        found.map(|found| found.value)
    }

    fn read_statuses(&mut self, key: &str) -> Option<Written<Vec<RangeInclusive<u16>>>> {
        let node = self.entry(key)?;
        let items = match &node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut ranges = Vec::new();
        for item in items {
            let (range, text) = match &item.value {
                Value::Integer(integer) => (value::statuses(&integer.text), integer.text.clone()),
                Value::String(text) | Value::Bare(text) => (value::statuses(text), format!("\"{text}\"")),
                Value::Unknown => return None,
                other => (None, other.kind().to_owned()),
            };
            let Some(range) = range else {
                let wanted = format!("a status from 200 to 599 or a range such as \"200-399\", not {text}");
                let of = if matches!(node.value, Value::Array(_)) { "each of " } else { "" };
                return self.wrong(&item.place, &format!("{of}{key}"), &wanted);
            };
            ranges.push(range);
        }
        match ranges.as_slice() {
            [] => self.wrong(&node.place, key, "at least one status, not an empty list"),
            _ => Some(Written::new(ranges, node.place.clone())),
        }
    }

    /// A secret: the string itself, or under `key_file` the path of a file that holds it. No
    /// message shows it.
    pub fn secret(&mut self, key: &str) -> Option<Written<Secret>> {
        let found = self.read_secret(key);
        self.record(key, Kind::Secret, found.as_ref(), |_| json!(null));
        found
    }

    fn read_secret(&mut self, key: &str) -> Option<Written<Secret>> {
        let in_file = format!("{key}_file");
        if self.are_both(key, &in_file) {
            return None;
        }
        if let Some(path) = self.text(&in_file, Wants::String) {
            if path.value.is_empty() {
                return self.wrong(&path.place, &in_file, "a path, not an empty string");
            }
            let text = self.report().secret(&path)?;
            return Some(Written::new(Secret::new(text), path.place));
        }
        let text = self.text(key, Wants::Secret)?;
        Some(Written::new(Secret::new(text.value), text.place))
    }
}
