//! Who may look. The Unix socket is guarded by its mode; a port by a token, or else by being of
//! this machine alone: then a page from elsewhere must not reach it under a name of its own.

use std::net::IpAddr;

use data_encoding::BASE64;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST};

use crate::plan::Token;

/// How somebody came in.
#[derive(Clone)]
pub enum Door {
    Socket,
    Port { token: Option<Token> },
}

/// Why somebody may not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The host that is asked for is none of this machine's: DNS may have been bent to point here.
    Host,
    Token,
}

/// Whether anyone may come as far as the door, to see whether somebody is there.
///
/// # Errors
/// Why not.
pub fn knock(door: &Door, fields: &HeaderMap) -> Result<(), Refused> {
    match door {
        Door::Port { token: None } if !is_of_this_machine(fields) => Err(Refused::Host),
        _ => Ok(()),
    }
}

/// Whether somebody may look at everything.
///
/// # Errors
/// Why not.
pub fn admit(door: &Door, fields: &HeaderMap) -> Result<(), Refused> {
    knock(door, fields)?;
    match door {
        Door::Port { token: Some(token) } if !given(fields).is_some_and(|given| token.is_token(&given)) => {
            Err(Refused::Token)
        }
        _ => Ok(()),
    }
}

/// An address cannot be bent, and `localhost` is no name that others could have.
fn is_of_this_machine(fields: &HeaderMap) -> bool {
    let mut hosts = fields.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// The token as a program gives it, or as the password of a browser, whatever the name.
fn given(fields: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, value) = fields.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.as_bytes().to_vec());
    }
    let pair = BASE64.decode(value.as_bytes()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = memchr::memchr(b':', &pair)?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, value.parse().unwrap());
        }
        fields
    }

    #[test]
    fn only_addresses_and_localhost_are_of_this_machine() {
        let cases = [
            ("127.0.0.1:9180", true),
            ("127.0.0.1", true),
            ("[::1]:9180", true),
            ("localhost:1", true),
            ("LOCALHOST", true),
            ("evil.example", false),
            ("localhost.evil.example:9180", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ];
        for (host, expected) in cases {
            let fields = fields(&[("host", host)]);
            assert_eq!(admit(&Door::Port { token: None }, &fields).is_ok(), expected, "{host}");
            assert_eq!(admit(&Door::Socket, &fields), Ok(()), "{host}");
        }
        let none = admit(&Door::Port { token: None }, &fields(&[]));
        assert_eq!(none, Err(Refused::Host));
        let two = fields(&[("host", "127.0.0.1"), ("host", "evil.example")]);
        assert_eq!(admit(&Door::Port { token: None }, &two), Err(Refused::Host));
    }

    #[test]
    fn a_token_is_taken_in_either_way_and_under_any_name() {
        let door = Door::Port { token: Some(Token::new("0123456789abcdef")) };
        let cases = [
            ("Bearer 0123456789abcdef", true),
            ("bearer  0123456789abcdef", true),
            // :0123456789abcdef and me:0123456789abcdef
            ("Basic OjAxMjM0NTY3ODlhYmNkZWY=", true),
            ("Basic bWU6MDEyMzQ1Njc4OWFiY2RlZg==", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer", false),
            ("Basic 0123456789abcdef", false),
            ("Digest 0123456789abcdef", false),
        ];
        for (value, expected) in cases {
            let fields = fields(&[("host", "metrics.example"), ("authorization", value)]);
            assert_eq!(admit(&door, &fields).is_ok(), expected, "{value}");
        }
        let nobody = fields(&[("host", "metrics.example")]);
        assert_eq!(admit(&door, &nobody), Err(Refused::Token));
        assert_eq!(knock(&door, &nobody), Ok(()));
    }
}
