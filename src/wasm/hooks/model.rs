//! The model that a request is for, as far as the beginning of its body tells.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};

/// The string `model` at the top of a JSON object, of which perhaps only the beginning is there.
pub fn model(text: &[u8]) -> Option<String> {
    let mut found = None;
    // What follows the string, or is missing there, changes nothing.
    let _rest = serde_json::Deserializer::from_slice(text).deserialize_map(Top(&mut found));
    found
}

struct Top<'a>(&'a mut Option<String>);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == "model" {
                *self.0 = Some(map.next_value()?);
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_wherever_it_stands_at_the_top() {
        let table = [
            (r#"{"model":"m-1"}"#, Some("m-1")),
            (
                r#" { "messages" : [{"model":"no"}], "a":{"model":"no"}, "model" : "y\u00e9\"s" }"#,
                Some("yé\"s"),
            ),
            (r#"{"model":"m","messages":[{"role":"us"#, Some("m")),
            (r#"{"m\u006fdel":"m"}"#, Some("m")),
            (r#"{"model":"cut o"#, None),
            (r#"{"model":5}"#, None),
            (r#"{"messages":[]}"#, None),
            (r#"["model","m"]"#, None),
            ("", None),
            ("model=m", None),
        ];
        for (text, expected) in table {
            assert_eq!(model(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }
}
