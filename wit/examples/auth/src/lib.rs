//! Lets requests in that carry a JSON Web Token (RFC 7519) which one of the configured keys has
//! signed with HS256. Who it is goes to the upstream in `x-user`.
//!
//! Config: `keys` (table of key id to secret; the id `default` is for tokens without `kid`), and
//! optionally `audience`, `issuer`, `leeway` (seconds, 30).

#[cfg(all(target_family = "wasm", feature = "component"))]
mod guest;

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;

/// More than any honest token: what is beyond is not looked at.
const TOKEN_MAX: usize = 8 * 1024;
/// RFC 7518 3.2: a key as long as the hash at least.
const SECRET_MIN: usize = 32;

pub struct Settings {
    keys: Vec<(String, Vec<u8>)>,
    audience: Option<String>,
    issuer: Option<String>,
    leeway_secs: f64,
}

/// Why a request is not let in; the text is for `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no token.
    Missing,
    Malformed,
    /// Another algorithm than HS256, `none` above all.
    Algorithm,
    UnknownKey,
    Signature,
    Expired,
    NotYet,
    Audience,
    Issuer,
}

impl Denial {
    pub fn challenge(&self) -> String {
        let description = match self {
            Denial::Missing => return "Bearer".into(),
            Denial::Malformed => "malformed token",
            Denial::Algorithm => "algorithm not accepted",
            Denial::UnknownKey => "unknown key",
            Denial::Signature => "wrong signature",
            Denial::Expired => "token expired",
            Denial::NotYet => "token not valid yet",
            Denial::Audience => "wrong audience",
            Denial::Issuer => "wrong issuer",
        };
        format!("Bearer error=\"invalid_token\", error_description=\"{description}\"")
    }
}

impl Settings {
    /// # Errors
    /// What is wrong with the configuration.
    pub fn parse(json: &str) -> Result<Settings, String> {
        let config: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| format!("config: {error}"))?;
        let Some(Value::Object(table)) = config.get("keys") else {
            return Err("keys: a table of key id to secret is needed".into());
        };
        let mut keys = Vec::new();
        for (id, secret) in table {
            match secret.as_str() {
                Some(secret) if secret.len() >= SECRET_MIN => {
                    keys.push((id.clone(), secret.as_bytes().to_vec()));
                }
                _ => return Err(format!("keys.{id}: a string of at least {SECRET_MIN} bytes is needed")),
            }
        }
        if keys.is_empty() {
            return Err("keys: at least one is needed".into());
        }
        let leeway_secs = match config.get("leeway") {
            None => 30.0,
            Some(value) => value
                .as_f64()
                .filter(|secs| (0.0..=3600.0).contains(secs))
                .ok_or("leeway: a number of seconds up to 3600 is needed")?,
        };
        let (audience, issuer) = (text(&config, "audience")?, text(&config, "issuer")?);
        Ok(Settings { keys, audience, issuer, leeway_secs })
    }

    /// The subject of the token in an `Authorization` field, empty if it names none.
    ///
    /// # Errors
    /// The token does not let anyone in at `now` (seconds since 1970).
    pub fn authenticate(&self, authorization: Option<&str>, now: f64) -> Result<String, Denial> {
        let (scheme, token) = authorization.and_then(|value| value.split_once(' ')).ok_or(Denial::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denial::Missing);
        }
        let token = token.trim();
        if token.len() > TOKEN_MAX {
            return Err(Denial::Malformed);
        }
        let claims = self.verify(token)?;
        self.check(&claims, now)?;
        Ok(claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// The claims of a token, once its signature holds: nothing of them is read before.
    fn verify(&self, token: &str) -> Result<Map<String, Value>, Denial> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Denial::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Denial::Malformed)?;
        let header = object(header)?;
        if header.get("alg").and_then(Value::as_str) != Some("HS256") {
            return Err(Denial::Algorithm);
        }
        // RFC 7515 4.1.11: what a token calls critical and we do not know makes it invalid.
        if header.contains_key("crit") {
            return Err(Denial::Malformed);
        }
        let id = match header.get("kid") {
            None => "default",
            Some(id) => id.as_str().ok_or(Denial::Malformed)?,
        };
        let (_, secret) = self.keys.iter().find(|(known, _)| known == id).ok_or(Denial::UnknownKey)?;
        let signature = Base64UrlUnpadded::decode_vec(signature).map_err(|_| Denial::Malformed)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
        mac.update(signed.as_bytes());
        // Compares in constant time.
        mac.verify_slice(&signature).map_err(|_| Denial::Signature)?;
        object(claims)
    }

    fn check(&self, claims: &Map<String, Value>, now: f64) -> Result<(), Denial> {
        if let Some(expires) = claims.get("exp")
            && now >= seconds(expires)? + self.leeway_secs
        {
            return Err(Denial::Expired);
        }
        if let Some(begins) = claims.get("nbf")
            && now < seconds(begins)? - self.leeway_secs
        {
            return Err(Denial::NotYet);
        }
        if let Some(audience) = &self.audience {
            let is_ours = match claims.get("aud") {
                Some(Value::String(one)) => one == audience,
                Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
                _ => false,
            };
            if !is_ours {
                return Err(Denial::Audience);
            }
        }
        if self.issuer.is_some() && claims.get("iss").and_then(Value::as_str) != self.issuer.as_deref() {
            return Err(Denial::Issuer);
        }
        Ok(())
    }
}

fn text(config: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match config.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{key}: a string is needed")),
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Denial> {
    let bytes = Base64UrlUnpadded::decode_vec(part).map_err(|_| Denial::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Denial::Malformed)
}

fn seconds(claim: &Value) -> Result<f64, Denial> {
    claim.as_f64().ok_or(Denial::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NOW: f64 = 1_800_000_000.0;

    fn settings() -> Settings {
        let json = format!(r#"{{"keys":{{"default":"{SECRET}","k2":"{SECRET}{SECRET}"}},"audience":"api"}}"#);
        Settings::parse(&json).expect("settings")
    }

    fn sign(header: &str, claims: &str, secret: &str) -> String {
        let encode = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("key");
        mac.update(signed.as_bytes());
        format!("{signed}.{}", Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes()))
    }

    fn check(header: &str, claims: &str, secret: &str, expected: Result<&str, Denial>) {
        let authorization = format!("Bearer {}", sign(header, claims, secret));
        let found = settings().authenticate(Some(&authorization), NOW);
        assert_eq!(found, expected.map(str::to_owned), "{header} {claims}");
    }

    #[test]
    fn a_token_is_worth_what_it_says() {
        let hs = r#"{"alg":"HS256"}"#;
        let good = r#"{"sub":"ann","aud":"api","exp":1800000100,"nbf":1799999990}"#;
        check(hs, good, SECRET, Ok("ann"));
        check(r#"{"alg":"HS256","kid":"k2"}"#, good, &SECRET.repeat(2), Ok("ann"));
        check(r#"{"alg":"HS256","kid":"k2"}"#, good, SECRET, Err(Denial::Signature));
        check(r#"{"alg":"HS256","kid":"k3"}"#, good, SECRET, Err(Denial::UnknownKey));
        check(r#"{"alg":"none"}"#, good, SECRET, Err(Denial::Algorithm));
        check(r#"{"alg":"HS256","crit":["x"]}"#, good, SECRET, Err(Denial::Malformed));
        check(hs, r#"{"aud":["x","api"]}"#, SECRET, Ok(""));
        check(hs, r#"{"aud":"x"}"#, SECRET, Err(Denial::Audience));
        check(hs, r#"{"sub":"ann"}"#, SECRET, Err(Denial::Audience));
        check(hs, r#"{"aud":"api","exp":1799999970}"#, SECRET, Err(Denial::Expired));
        check(hs, r#"{"aud":"api","exp":1799999971}"#, SECRET, Ok(""));
        check(hs, r#"{"aud":"api","nbf":1800000031}"#, SECRET, Err(Denial::NotYet));
        check(hs, r#"{"aud":"api","exp":"soon"}"#, SECRET, Err(Denial::Malformed));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (value, denial) in [
            (None, Denial::Missing),
            (Some("Basic abc"), Denial::Missing),
            (Some("Bearer"), Denial::Missing),
            (Some("Bearer a.b"), Denial::Malformed),
            (Some("Bearer ..."), Denial::Malformed),
            (Some("Bearer !.!.!"), Denial::Malformed),
        ] {
            assert_eq!(settings().authenticate(value, NOW), Err(denial), "{value:?}");
        }
    }

    #[test]
    fn a_short_secret_or_none_is_refused() {
        for json in ["{}", r#"{"keys":{}}"#, r#"{"keys":{"a":"short"}}"#, r#"{"keys":{"a":1}}"#, "["] {
            assert!(Settings::parse(json).is_err(), "{json}");
        }
    }
}
