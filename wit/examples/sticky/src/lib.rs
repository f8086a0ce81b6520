//! A load-balancing policy: the same cookie or field goes to the same endpoint for as long as that is
//! healthy (weighted rendezvous hashing). When an endpoint goes, only its own keys move.
//!
//! Config: `cookie` or `field`, the name of what holds the key. Requests without it are the fallback's.

#[cfg(target_family = "wasm")]
mod guest;

use serde_json::{Map, Value};

#[derive(Debug, PartialEq)]
pub enum Key {
    Cookie(String),
    Field(String),
}

impl Key {
    /// # Errors
    /// What is wrong with the configuration.
    pub fn parse(json: &str) -> Result<Key, String> {
        let config: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| format!("config: {error}"))?;
        let name = |key| config.get(key).and_then(Value::as_str).map(str::to_owned);
        match (name("cookie"), name("field")) {
            (Some(cookie), None) => Ok(Key::Cookie(cookie)),
            (None, Some(field)) => Ok(Key::Field(field)),
            _ => Err("config: either cookie or field is needed".into()),
        }
    }
}

pub struct Endpoint {
    /// Of its URL: the same in every process.
    pub hash: u64,
    pub weight: u32,
    pub healthy: bool,
}

/// FNV-1a, finished as in MurmurHash3, so that all bits depend on all.
pub fn hash(text: &str) -> u64 {
    mix(text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The index of the healthy endpoint with the highest score for a key.
pub fn pick(key: u64, endpoints: impl Iterator<Item = Endpoint>) -> Option<u32> {
    let mut best: Option<(f64, u32)> = None;
    for (index, endpoint) in endpoints.enumerate() {
        if !endpoint.healthy {
            continue;
        }
        // In (0, 1): 53 bits, never 0 or 1, so the logarithm is finite and not 0.
        let unit = ((mix(key ^ endpoint.hash) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        let score = -f64::from(endpoint.weight) / unit.ln();
        if best.is_none_or(|(highest, _)| score > highest) {
            best = Some((score, index as u32));
        }
    }
    best.map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(weights: &[u32]) -> Vec<(u64, u32, bool)> {
        let url = |index| format!("http://10.0.0.{index}:3000");
        weights.iter().enumerate().map(|(index, &weight)| (hash(&url(index)), weight, true)).collect()
    }

    fn picked(key: u32, all: &[(u64, u32, bool)]) -> Option<u32> {
        let all = all.iter().map(|&(hash, weight, healthy)| Endpoint { hash, weight, healthy });
        pick(hash(&key.to_string()), all)
    }

    #[test]
    fn only_the_keys_of_a_lost_endpoint_move() {
        let all = endpoints(&[1, 1, 1, 1]);
        let mut fewer = all.clone();
        fewer[2].2 = false;
        for key in 0..2000 {
            let before = picked(key, &all);
            let after = picked(key, &fewer);
            assert_ne!(after, Some(2));
            assert!(before == after || before == Some(2), "key {key}");
        }
    }

    #[test]
    fn each_gets_its_weight() {
        let all = endpoints(&[1, 2, 1]);
        let mut counts = [0; 3];
        for key in 0..8000 {
            counts[picked(key, &all).expect("healthy") as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([2000_i32, 4000, 2000]) {
            assert!((count - expected).abs() < 200, "{counts:?}");
        }
    }

    #[test]
    fn none_is_picked_where_none_is_healthy() {
        assert_eq!(picked(1, &[(7, 1, false)]), None);
        assert_eq!(picked(1, &[]), None);
    }

    #[test]
    fn there_is_one_key() {
        assert_eq!(Key::parse(r#"{"cookie":"sid"}"#), Ok(Key::Cookie("sid".into())));
        assert_eq!(Key::parse(r#"{"field":"x-user"}"#), Ok(Key::Field("x-user".into())));
        assert!(Key::parse("{}").is_err());
        assert!(Key::parse(r#"{"cookie":"a","field":"b"}"#).is_err());
    }
}
