//! Counts what each customer uses: the tokens that a response's `usage` object tells (JSON, or the events of
//! a stream), or the bytes of its body. The sums are in the shared store, right across cores, and a metric.
//!
//! Config: `customers` (table of API key to name), `unit` (`tokens` or `bytes`). The key is the
//! value of `x-api-key` or the bearer token. Requests without a known key are answered with 401.

#[cfg(target_family = "wasm")]
mod guest;

use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Tokens,
    Bytes,
}

pub struct Settings {
    customers: Vec<(String, String)>,
    pub unit: Unit,
}

impl Settings {
    /// # Errors
    /// What is wrong with the configuration.
    pub fn parse(json: &str) -> Result<Settings, String> {
        let config: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| format!("config: {error}"))?;
        let unit = match config.get("unit").and_then(Value::as_str) {
            Some("tokens") => Unit::Tokens,
            Some("bytes") => Unit::Bytes,
            _ => return Err("unit: tokens or bytes is needed".into()),
        };
        let Some(Value::Object(table)) = config.get("customers") else {
            return Err("customers: a table of API key to name is needed".into());
        };
        let mut customers = Vec::new();
        for (key, name) in table {
            // Part of the name of a metric, `tokens.NAME`.
            let name = name.as_str().filter(|name| is_name(name));
            let name = name.ok_or("customers: a name has 1 to 40 letters, digits, _ or -")?;
            customers.push((key.clone(), name.to_owned()));
        }
        Ok(Settings { customers, unit })
    }

    pub fn customer(&self, key: &str) -> Option<&str> {
        // All are compared, and each to its end, so that the time does not tell a key.
        let mut found = None;
        for (known, name) in &self.customers {
            if is_same(known.as_bytes(), key.as_bytes()) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=40).contains(&name.len()) && name.bytes().all(is_letter)
}

fn is_same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

const NEEDLE: &[u8] = b"\"usage\"";
/// A usage object has some hundred bytes. A longer one is not counted.
const OBJECT_MAX: usize = 4096;

/// Finds the `usage` objects of a body as it streams. In text of a JSON string, the quotes around
/// the word would be escaped, so only keys and whole strings match.
#[derive(Default)]
pub struct Meter {
    place: Place,
    object: Vec<u8>,
    input: u64,
    output: u64,
    total: u64,
}

#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Start,
    /// So many bytes of the needle were there.
    Needle(usize),
    /// After the key: white space, a colon, or the object.
    Key,
    Object {
        depth: u32,
        in_string: bool,
        is_escaped: bool,
    },
}

impl Meter {
    pub fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.place = self.step(byte);
        }
    }

    /// Tokens of the whole response.
    pub fn tokens(&self) -> u64 {
        self.total.max(self.input.saturating_add(self.output))
    }

    fn step(&mut self, byte: u8) -> Place {
        match self.place {
            Place::Start if byte == NEEDLE[0] => Place::Needle(1),
            Place::Needle(count) if byte == NEEDLE[count] => match count + 1 {
                all if all == NEEDLE.len() => Place::Key,
                some => Place::Needle(some),
            },
            Place::Needle(_) if byte == NEEDLE[0] => Place::Needle(1),
            Place::Key if byte == b':' || byte.is_ascii_whitespace() => Place::Key,
            Place::Key if byte == b'{' => {
                self.object.clear();
                self.object.push(byte);
                Place::Object { depth: 1, in_string: false, is_escaped: false }
            }
            Place::Key if byte == NEEDLE[0] => Place::Needle(1),
            Place::Start | Place::Needle(_) | Place::Key => Place::Start,
            Place::Object { depth, in_string, is_escaped } => self.inside(byte, depth, in_string, is_escaped),
        }
    }

    fn inside(&mut self, byte: u8, depth: u32, in_string: bool, is_escaped: bool) -> Place {
        if self.object.len() == OBJECT_MAX {
            return Place::Start;
        }
        self.object.push(byte);
        let depth = match byte {
            b'{' if !in_string => depth + 1,
            b'}' if !in_string => depth - 1,
            _ => depth,
        };
        if depth == 0 {
            self.count();
            return Place::Start;
        }
        let in_string = if byte == b'"' && !is_escaped { !in_string } else { in_string };
        Place::Object { depth, in_string, is_escaped: in_string && byte == b'\\' && !is_escaped }
    }

    /// A stream may tell its usage several times, as it grows: the most is what counts.
    fn count(&mut self) {
        let Ok(usage) = serde_json::from_slice::<Map<String, Value>>(&self.object) else { return };
        let most = |names: [&str; 2]| {
            names.iter().filter_map(|name| usage.get(*name).and_then(Value::as_u64)).max().unwrap_or(0)
        };
        self.input = self.input.max(most(["input_tokens", "prompt_tokens"]));
        self.output = self.output.max(most(["output_tokens", "completion_tokens"]));
        self.total = self.total.max(most(["total_tokens", "total_tokens"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: u64) {
        for size in [1, 2, 3, 7, 1000] {
            let mut meter = Meter::default();
            body.as_bytes().chunks(size).for_each(|chunk| meter.read(chunk));
            assert_eq!(meter.tokens(), expected, "{body} in chunks of {size}");
            assert!(meter.object.len() <= OBJECT_MAX);
        }
    }

    #[test]
    fn usage_is_found_wherever_it_is() {
        check(r#"{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#, 7);
        check(r#"{"a":"x","usage" : {"input_tokens":3,"output_tokens":4,"d":{"x":"}"}}}"#, 7);
        check("data: {\"usage\":null}\n\ndata: {\"usage\":{\"total_tokens\":9}}\n\ndata: [DONE]\n", 9);
        let growing =
            "{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}\n{\"usage\":{\"output_tokens\":25}}";
        check(growing, 35);
    }

    #[test]
    fn what_only_looks_like_it_is_not_counted() {
        check("", 0);
        check(r#"{"text":"\"usage\":{\"total_tokens\":9}"}"#, 0);
        check(r#"{"usage":{"total_tokens":-1}}"#, 0);
        check(r#"{"usage":{"total_tokens":"#, 0);
        check(&format!("{{\"usage\":{{\"x\":\"{}\",\"total_tokens\":9}}}}", "y".repeat(5000)), 0);
    }

    #[test]
    fn a_key_is_a_customer() {
        let settings = Settings::parse(r#"{"unit":"tokens","customers":{"k-1":"ann","k-2":"bob"}}"#);
        let settings = settings.expect("settings");
        assert_eq!(settings.customer("k-2"), Some("bob"));
        assert_eq!(settings.customer("k-"), None);
        assert_eq!(settings.customer(""), None);
        for json in ["{}", r#"{"unit":"x","customers":{}}"#, r#"{"unit":"bytes","customers":{"k":"a b"}}"#] {
            assert!(Settings::parse(json).is_err(), "{json}");
        }
    }
}
