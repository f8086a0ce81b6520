//! A token bucket for each client or key, right across cores.
//!
//! The algorithm is GCRA, the token bucket that needs one number: the time at which the bucket will be full
//! again. A request moves it on by the time that one token takes to come; if that would be further than
//! a full bucket from now, there is no token. `store.advance` does that in one step, so two cores
//! cannot spend the same token. Exact but for the clock, whose millisecond is the finest step, and
//! for a restart, which fills all buckets.
//!
//! Config: `rate` (requests a second), `burst` (1 at least), `field` (whose value names the bucket; the
//! client's address without it).

#[cfg(target_family = "wasm")]
mod guest;

use serde_json::{Map, Value};

#[derive(Debug)]
pub struct Settings {
    /// Milliseconds until a token comes.
    pub interval_ms: f64,
    pub burst: f64,
    pub field: Option<String>,
}

/// Arguments of `store.advance`.
#[derive(Debug, PartialEq)]
pub struct Advance {
    pub floor: f64,
    pub by: f64,
    pub ceiling: f64,
    pub ttl_ms: u32,
}

impl Settings {
    /// # Errors
    /// What is wrong with the configuration.
    pub fn parse(json: &str) -> Result<Settings, String> {
        let config: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| format!("config: {error}"))?;
        let number = |key: &str, least: f64| {
            let value = config.get(key).and_then(Value::as_f64);
            value
                .filter(|value| (least..=1e6).contains(value))
                .ok_or(format!("{key}: a number from {least} to 1000000 is needed"))
        };
        let (rate, burst) = (number("rate", 0.001)?, number("burst", 1.0)?);
        let interval_ms = 1000.0 / rate;
        if burst * interval_ms > f64::from(u32::MAX) {
            return Err("burst: a bucket must be full again within 49 days".into());
        }
        let field = match config.get("field") {
            None => None,
            Some(Value::String(field)) if !field.is_empty() => Some(field.clone()),
            Some(_) => return Err("field: the name of a request field is needed".into()),
        };
        Ok(Settings { interval_ms, burst, field })
    }

    pub fn take(&self, now_ms: f64) -> Advance {
        let full = self.burst * self.interval_ms;
        Advance { floor: now_ms, by: self.interval_ms, ceiling: now_ms + full, ttl_ms: full.ceil() as u32 }
    }

    /// Whole seconds until there is a token, for `Retry-After`, at least 1.
    pub fn retry_after_secs(&self, full_at_ms: f64, now_ms: f64) -> u32 {
        let wait_ms = full_at_ms + self.interval_ms - now_ms - self.burst * self.interval_ms;
        (wait_ms / 1000.0).ceil().max(1.0) as u32
    }
}

/// The key of a bucket in the store, which takes 256 bytes: what is longer shares buckets by its hash.
pub fn bucket(name: &str) -> String {
    if name.len() <= 200 {
        return format!("b:{name}");
    }
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("h:{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the store promises of `advance`.
    fn advance(number: &mut f64, asked: &Advance) -> bool {
        let next = number.max(asked.floor) + asked.by;
        let fits = next <= asked.ceiling;
        if fits {
            *number = next;
        }
        fits
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let settings = Settings::parse(r#"{"rate":10,"burst":5}"#).expect("settings");
        let mut full_at = 0.0;
        let mut taken =
            |now, tries: u32| (0..tries).filter(|_| advance(&mut full_at, &settings.take(now))).count();
        let start = 1.8e12;
        assert_eq!(taken(start, 20), 5);
        assert_eq!(taken(start + 99.0, 20), 0);
        assert_eq!(taken(start + 100.0, 20), 1);
        assert_eq!(taken(start + 300.0, 20), 2);
        assert_eq!(taken(start + 60_000.0, 20), 5, "never more than the burst");
    }

    #[test]
    fn who_waits_as_long_as_told_gets_a_token() {
        let settings = Settings::parse(r#"{"rate":0.1,"burst":2}"#).expect("settings");
        let mut full_at = 0.0;
        while advance(&mut full_at, &settings.take(5000.0)) {}
        assert_eq!(settings.retry_after_secs(full_at, 5000.0), 10);
        assert!(advance(&mut full_at, &settings.take(15_000.0)));
    }

    #[test]
    fn a_key_fits_into_the_store() {
        assert_eq!(bucket("192.0.2.1"), "b:192.0.2.1");
        assert!(bucket(&"x".repeat(5000)).len() < 256);
        assert_ne!(bucket(&"x".repeat(500)), bucket(&"x".repeat(501)));
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        for json in
            ["{}", r#"{"rate":0,"burst":1}"#, r#"{"rate":1,"burst":0}"#, r#"{"rate":0.001,"burst":9999999}"#]
        {
            assert!(Settings::parse(json).is_err(), "{json}");
        }
    }
}
