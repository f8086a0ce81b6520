//! Asks a classifier about the body of each request, and lets nothing pass that it has not cleared:
//! a classifier that is away, slow or unclear is a refusal.
//!
//! Config: `upstream` (also in the component's `upstreams`), `path` (`/v1/moderations`), `body_max`
//! (bytes, 65536), `timeout_ms` (2000). The classifier gets `{"input":"…"}` and answers
//! `{"results":[{"flagged":false}]}`.

#[cfg(target_family = "wasm")]
mod guest;

use serde_json::{Map, Value, json};

pub struct Settings {
    pub upstream: String,
    pub path: String,
    pub body_max: u32,
    pub timeout_ms: u32,
}

impl Settings {
    /// # Errors
    /// What is wrong with the configuration.
    pub fn parse(json: &str) -> Result<Settings, String> {
        let config: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| format!("config: {error}"))?;
        let number = |key: &str, default: u32, most: u32| match config.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|value| u32::try_from(value).ok())
                .filter(|value| (1..=most).contains(value))
                .ok_or(format!("{key}: a whole number from 1 to {most} is needed")),
        };
        let upstream = config.get("upstream").and_then(Value::as_str).ok_or("upstream: a name is needed")?;
        let path = match config.get("path") {
            None => "/v1/moderations",
            Some(path) => path
                .as_str()
                .filter(|path| path.starts_with('/'))
                .ok_or("path: a text that begins with / is needed")?,
        };
        Ok(Settings {
            upstream: upstream.into(),
            path: path.into(),
            // As JSON it may be six times as long, and a request of ours has 1 MiB at most.
            body_max: number("body_max", 64 * 1024, 160 * 1024)?,
            timeout_ms: number("timeout_ms", 2000, 60_000)?,
        })
    }
}

/// What the classifier is sent.
pub fn question(body: &[u8]) -> Vec<u8> {
    json!({ "input": String::from_utf8_lossy(body) }).to_string().into_bytes()
}

/// It said so, and nothing else: one or more results, none of them flagged.
pub fn is_cleared(status: u16, answer: &[u8]) -> bool {
    let Ok(Value::Object(answer)) = serde_json::from_slice::<Value>(answer) else { return false };
    let Some(Value::Array(results)) = answer.get("results") else { return false };
    status == 200
        && !results.is_empty()
        && results.iter().all(|result| result.get("flagged") == Some(&Value::Bool(false)))
}

/// It said that the text must not pass.
pub fn is_flagged(status: u16, answer: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return false };
    let results = answer.get("results").and_then(Value::as_array);
    status == 200
        && results.is_some_and(|all| all.iter().any(|one| one.get("flagged") == Some(&Value::Bool(true))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_but_what_is_cleared() {
        for (status, answer, cleared, flagged) in [
            (200, r#"{"results":[{"flagged":false}]}"#, true, false),
            (200, r#"{"results":[{"flagged":true}]}"#, false, true),
            (200, r#"{"results":[{"flagged":false},{"flagged":true}]}"#, false, true),
            (200, r#"{"results":[]}"#, false, false),
            (200, r#"{"results":[{}]}"#, false, false),
            (200, r#"{"results":[{"flagged":"false"}]}"#, false, false),
            (500, r#"{"results":[{"flagged":false}]}"#, false, false),
            (200, "", false, false),
            (200, "[]", false, false),
        ] {
            assert_eq!(is_cleared(status, answer.as_bytes()), cleared, "{status} {answer}");
            assert_eq!(is_flagged(status, answer.as_bytes()), flagged, "{status} {answer}");
        }
    }

    #[test]
    fn any_body_is_a_question() {
        assert_eq!(question(b"say \"hi\"\n"), br#"{"input":"say \"hi\"\n"}"#);
        assert_eq!(question(b"\xff"), "{\"input\":\"\u{fffd}\"}".as_bytes());
    }

    #[test]
    fn settings_are_checked() {
        let good = Settings::parse(r#"{"upstream":"classifier"}"#).expect("settings");
        assert_eq!((good.path.as_str(), good.body_max, good.timeout_ms), ("/v1/moderations", 65536, 2000));
        for json in ["{}", r#"{"upstream":"c","path":"x"}"#, r#"{"upstream":"c","body_max":0}"#] {
            assert!(Settings::parse(json).is_err(), "{json}");
        }
    }
}
