//! Whether a request may pass: the token in its field `X-Admin-Token`.
//!
//! Hot path: no allocation. The field goes no further than here, whatever is in it.

use std::fmt;

use constant_time_eq::constant_time_eq;

use crate::http::fields::{Fields, Known};

/// What a client has to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    token: Box<[u8]>,
}

impl Settings {
    pub fn new(token: &str) -> Settings {
        Settings { token: token.as_bytes().into() }
    }

    /// Whether this is the token; the time that takes tells its length at most.
    pub fn is_token(&self, given: &[u8]) -> bool {
        constant_time_eq(given, &self.token)
    }
}

/// A token is not for logs.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    Absent,
    Wrong,
    /// More than one field. Together they are a list (RFC 9110 5.3), which is no token; which of
    /// them an application would take is not ours to guess.
    Repeated,
}

/// Compares the token in time that tells its length at most.
///
/// # Errors
/// There is no token, more than one, or another one.
pub fn authenticate(settings: &Settings, fields: &Fields) -> Result<(), Denied> {
    let mut values = fields.iter().filter(|field| field.known == Known::XAdminToken);
    match (values.next(), values.next()) {
        (None, _) => Err(Denied::Absent),
        (Some(_), Some(_)) => Err(Denied::Repeated),
        (Some(field), None) if field.value.is_empty() => Err(Denied::Absent),
        (Some(field), None) => match settings.is_token(field.value) {
            true => Ok(()),
            false => Err(Denied::Wrong),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_right_token_passes() {
        let settings = Settings::new("0123456789abcdef");
        let cases: [(&[&str], Result<(), Denied>); 9] = [
            (&["0123456789abcdef"], Ok(())),
            (&[], Err(Denied::Absent)),
            (&[""], Err(Denied::Absent)),
            (&["0123456789abcdeF"], Err(Denied::Wrong)),
            (&["0123456789abcde"], Err(Denied::Wrong)),
            (&["0123456789abcdef0"], Err(Denied::Wrong)),
            (&["0123456789abcdef, x"], Err(Denied::Wrong)),
            (&["0123456789abcdef", "0123456789abcdef"], Err(Denied::Repeated)),
            (&["", "0123456789abcdef"], Err(Denied::Repeated)),
        ];
        for (values, expected) in cases {
            let mut fields = Fields::default();
            for value in values {
                fields.push(b"x-admin-TOKEN", value.as_bytes());
            }
            assert_eq!(authenticate(&settings, &fields), expected, "{values:?}");
        }
        let mut named_away = Fields::default();
        named_away.push(b"X-Admin-Token", b"0123456789abcdef");
        named_away.mark_hop_by_hop(b"x-admin-token");
        assert_eq!(authenticate(&settings, &named_away), Err(Denied::Absent));
        assert_eq!(format!("{settings:?}"), "Settings { .. }");
    }
}
