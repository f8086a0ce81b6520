//! Conditions of a route as an operator writes them, to be shown again.
//!
//! Must not know: which of them fails, and on what.

use std::fmt;

use super::{Condition, Host, Network, Path, Route, Scheme, Test};

/// What a value is shown as that is nobody's business.
pub const HIDDEN: &str = "…";

impl Route {
    /// `host = "…"` or `hosts = […]`; empty without one.
    pub fn host_text(&self) -> String {
        let text = |host: &Host| match host {
            Host::Exact(name) => name.clone(),
            Host::Below(end) => format!("*{end}"),
        };
        match self.hosts.as_slice() {
            [] => String::new(),
            [host] => format!("host = {}", quoted(&text(host))),
            hosts => format!("hosts = {}", list(hosts.iter().map(text))),
        }
    }

    /// Empty without one.
    pub fn path_text(&self) -> String {
        let (key, text) = match self.path.as_ref().map(|path| &path.value) {
            None => return String::new(),
            Some(Path::Exact(text)) => ("path_exact", text),
            Some(Path::Prefix(text)) => ("path_prefix", text),
            Some(Path::Pattern(text)) => ("path", text),
            Some(Path::Regex(text)) => ("path_regex", text),
        };
        format!("{key} = {}", quoted(text))
    }

    pub fn methods_text(&self) -> String {
        format!("methods = {}", list(self.methods.iter().cloned()))
    }

    pub fn clients_text(&self) -> String {
        format!("client = {}", list(self.clients.iter().map(ToString::to_string)))
    }

    /// Empty without one.
    pub fn scheme_text(&self) -> String {
        self.scheme.map_or(String::new(), |scheme| format!("scheme = {}", quoted(scheme.word())))
    }
}

impl Scheme {
    pub fn word(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl fmt::Display for Network {
    /// An address alone, if it is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits_max = if self.address.is_ipv4() { 32 } else { 128 };
        match self.bits == bits_max {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

impl Condition {
    /// `header = { name = "…", value = "…" }`, with this key; without the value if that is
    /// hidden.
    pub fn text(&self, key: &str, is_hidden: bool) -> String {
        let value = |text: &str| quoted(if is_hidden { HIDDEN } else { text });
        let test = match &self.test {
            Test::Present => String::new(),
            Test::Absent => ", absent = true".to_owned(),
            Test::Equals(text) => format!(", value = {}", value(text)),
            Test::Matches(regex) => format!(", value_regex = {}", value(&regex.value)),
        };
        format!("{key} = {{ name = {}{test} }}", quoted(&self.name))
    }
}

/// A string of TOML: literal if it would need escapes and can do without, as an expression can.
fn quoted(text: &str) -> String {
    let is_literal = text.contains('\\') && !text.contains(|c: char| c == '\'' || c.is_control());
    match is_literal {
        true => format!("'{text}'"),
        // Whatever JSON escapes, TOML escapes alike.
        false => serde_json::Value::from(text).to_string(),
    }
}

fn list(texts: impl Iterator<Item = String>) -> String {
    let quoted: Vec<String> = texts.map(|text| quoted(&text)).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_shown_as_toml_that_reads_the_same() {
        let table = [
            ("/api", "\"/api\""),
            (r"^/\d+$", r"'^/\d+$'"),
            (r"\'", r#""\\'""#),
            ("a\"b", r#""a\"b""#),
            ("\\\u{1b}", r#""\\\u001b""#),
        ];
        for (text, expected) in table {
            assert_eq!(quoted(text), expected);
            let table: toml::Table = format!("x = {expected}").parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }
}
