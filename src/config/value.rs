//! The texts that stand for quantities: durations, sizes, addresses, names, paths.
//!
//! Pure: text in, value or what would be right out. Must not know: keys, tables, positions.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Host, Network};

/// What would have been right.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Completes "must be …".
    pub what: String,
    pub help: Option<String>,
}

pub fn wanted(what: impl Into<String>) -> Wanted {
    Wanted { what: what.into(), help: None }
}

impl Wanted {
    pub fn with_help(self, help: impl Into<String>) -> Wanted {
        Wanted { help: Some(help.into()), ..self }
    }
}

/// Longest duration that may be configured.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// `"5s"`, `"250ms"`, `"5m"`, `"1h"`: an integer and a unit.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

/// `"32 KiB"`, `"10m"`, `"512"`: an integer and a power of 1024, in bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" | "k" | "K" => 1 << 10,
        "MiB" | "m" | "M" => 1 << 20,
        "GiB" | "g" | "G" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A duration in its largest whole unit: `"5s"`, `"250ms"`, `"1m"`.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let whole = units.into_iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "ms"));
    format!("{}{name}", ms / unit)
}

/// A size in its largest whole unit: `"32 KiB"`, or an integer of bytes.
pub fn show_size(bytes: u64) -> serde_json::Value {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{} {name}", bytes / unit).into(),
        None => bytes.into(),
    }
}

/// `"200"` or `"200-399"`: final statuses, the first not above the last.
pub fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| digits(text.trim()).and_then(|status| u16::try_from(status).ok());
    let range = status(first)?..=status(last)?;
    (!range.is_empty() && *range.start() >= 200 && *range.end() <= 599).then_some(range)
}

pub fn show_statuses(range: &RangeInclusive<u16>) -> String {
    match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// A word without a type that stands for true or false.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// `0.25`, `.5`, `1`, `1e-3`: a part of a whole, from 0 to 1.
pub fn fraction(text: &str) -> Option<f64> {
    let number: f64 = text.replace('_', "").parse().ok()?;
    (0.0..=1.0).contains(&number).then_some(number)
}

/// A word without a type that stands for a number: digits only.
pub fn digits(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

/// An IP address; one of version 6 may stand in brackets.
pub fn ip_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// An address, or `address/bits` with no bit set after the first `bits`.
pub fn network(text: &str) -> Result<Network, Wanted> {
    let malformed = || wanted("an IP address, or a network such as 10.0.0.0/8");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| malformed())?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = match bits {
        Some(bits) => bits.parse().map_err(|_| malformed())?,
        None => bits_max,
    };
    if bits > bits_max {
        return Err(wanted(format!("a network of at most {bits_max} bits")));
    }
    let first = first_address(address, bits);
    if first != address {
        let help = format!("did you mean `{first}/{bits}`?");
        return Err(wanted("the first address of a network").with_help(help));
    }
    Ok(Network { address, bits })
}

fn first_address(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// Where an instance is: an address (without brackets) or a host name, in lower case.
pub fn upstream_host(text: &str) -> Result<String, Wanted> {
    if let Some(address) = ip_address(text) {
        return Ok(address.to_string());
    }
    let wanted = wanted("a host name or an IP address");
    if text.contains("://") {
        return Err(wanted.with_help("leave out the scheme; what it speaks is `protocol`"));
    }
    if text.contains(':') {
        return Err(wanted.with_help("the port has a key of its own, `port`"));
    }
    host_name(text).ok_or(wanted)
}

/// The host of a route, in lower case, as requests name it: a name, a literal address, or `*.`
/// and a name for all that is below it.
pub fn route_host(text: &str) -> Result<Host, Wanted> {
    match ip_address(text) {
        Some(IpAddr::V4(address)) => return Ok(Host::Exact(address.to_string())),
        Some(IpAddr::V6(address)) => return Ok(Host::Exact(format!("[{address}]"))),
        None => {}
    }
    let (name, is_below) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let wanted = wanted("a host name such as example.com or *.example.com");
    if text == "*" {
        return Err(wanted.with_help("leave it out for any host"));
    }
    if name.contains('*') {
        return Err(wanted.with_help("`*.` can only be at the beginning"));
    }
    if is_below && ip_address(name).is_some() {
        return Err(wanted.with_help("nothing is below an address"));
    }
    if text.contains('/') {
        return Err(wanted.with_help("leave out the scheme and the path"));
    }
    if text.contains(':') {
        return Err(wanted.with_help("leave out the port: it is not compared"));
    }
    if text.ends_with('.') {
        return Err(wanted.with_help("leave out the dot at the end"));
    }
    match (host_name(name), is_below) {
        (Some(name), false) => Ok(Host::Exact(name)),
        (Some(name), true) => Ok(Host::Below(format!(".{name}"))),
        (None, _) => Err(wanted),
    }
}

fn host_name(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let bare = text.strip_suffix('.').unwrap_or(text);
    (bare.len() <= 253 && bare.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}

/// A path of a route is written as it is compared: in normal form, so that a rule and a
/// request cannot differ in spelling only. An escape is left only where it has to be one.
pub fn route_path(text: &str) -> Result<String, Wanted> {
    path_in_normal_form(text, LITERALS)
}

/// A path with captures in braces, otherwise as [`route_path`].
pub fn route_pattern(text: &str) -> Result<String, Wanted> {
    path_in_normal_form(text, LITERALS_AND_BRACES)
}

/// What stands for itself in a path, beside the unreserved characters.
const LITERALS: &[u8] = b"/:@!$&'()*+,;=";
const LITERALS_AND_BRACES: &[u8] = b"/:@!$&'()*+,;={}";

/// Whoever compares paths may go down one segment after the other.
const SEGMENTS_MAX: usize = 64;

fn path_in_normal_form(text: &str, literals: &[u8]) -> Result<String, Wanted> {
    if !text.starts_with('/') {
        return Err(wanted("a path that starts with `/`"));
    }
    if text.contains(['?', '#']) {
        return Err(wanted("a path without a query"));
    }
    if text.bytes().filter(|byte| *byte == b'/').count() > SEGMENTS_MAX {
        return Err(wanted(format!("a path of at most {SEGMENTS_MAX} segments")));
    }
    match normal_form(text, literals) {
        Some(normal) if normal == text => Ok(normal),
        Some(normal) => {
            let mut help = format!("write `{normal}`");
            if literals == LITERALS && text.contains('{') {
                help += ", or use the key `path` for a pattern";
            }
            Err(wanted("a path in normal form").with_help(help))
        }
        None => Err(wanted("a path without a malformed escape")),
    }
}

/// An expression for paths. They are ASCII: anything else is escaped in them.
pub fn route_expression(text: &str) -> Result<String, Wanted> {
    let Some(other) = text.chars().find(|character| !character.is_ascii()) else {
        return Ok(text.to_owned());
    };
    let mut bytes = [0; 4];
    let escaped: String = other.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect();
    Err(wanted("in ASCII, as paths are").with_help(format!("write `{escaped}` for `{other}`")))
}

/// Those that are known by name; others are allowed.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

/// A method as requests name it (RFC 9110 9.1): case counts.
pub fn method(text: &str) -> Result<String, Wanted> {
    let upper = text.to_ascii_uppercase();
    if METHODS.contains(&upper.as_str()) && upper != text {
        let help = format!("did you mean `{upper}`?");
        return Err(wanted("a method in the right case").with_help(help));
    }
    if upper == "CONNECT" {
        return Err(wanted("a method that is forwarded").with_help("CONNECT is always refused"));
    }
    match is_token(text) {
        true => Ok(text.to_owned()),
        false => Err(wanted("a method such as GET")),
    }
}

/// The name of a field that is asked for.
pub fn field_name(text: &str) -> Result<String, Wanted> {
    if text.eq_ignore_ascii_case("host") {
        let wanted = wanted("a field that does not name the host");
        return Err(wanted.with_help("use the key `host` of the route"));
    }
    match is_token(text) {
        true => Ok(text.to_owned()),
        false => Err(wanted("the name of a field, such as X-API-Version")),
    }
}

/// The name of a field; a `*` at the end makes it a prefix.
pub fn field_pattern(text: &str) -> Result<String, Wanted> {
    let name = text.strip_suffix('*').unwrap_or(text);
    match is_token(name) && !name.contains('*') {
        true => Ok(text.to_owned()),
        false => Err(wanted("the name of a field, or the beginning of one such as X-Auth-*")),
    }
}

/// The value of a field: what a request cannot have would never be equal.
pub fn field_value(text: &str) -> Result<String, Wanted> {
    match text.trim_matches([' ', '\t']) == text && !text.contains(|c: char| c.is_control() && c != '\t') {
        true => Ok(text.to_owned()),
        false => Err(wanted("without blanks at its ends and without control characters")),
    }
}

/// The name of a field that is set or removed, as it is to be written.
pub fn changed_field(text: &str) -> Result<String, Wanted> {
    match is_token(text) {
        true => Ok(text.to_owned()),
        false => Err(wanted("the name of a field, such as X-Tenant")),
    }
}

/// What a path becomes, in normal form but for its parts of the request.
pub fn rewrite(text: &str) -> Result<String, Wanted> {
    if !text.starts_with(['/', '$']) {
        return Err(wanted("a path that starts with `/`"));
    }
    if text.contains(['?', '#']) {
        return Err(wanted("a path without a query").with_help("the query of the request is kept as it is"));
    }
    // What begins with a part of the request gets its slash when it is put together.
    let rooted = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    match normal_form(&rooted, LITERALS_AND_BRACES) {
        Some(normal) if normal == rooted => Ok(text.to_owned()),
        Some(normal) => Err(wanted("a path in normal form").with_help(format!("write `{normal}`"))),
        None => Err(wanted("a path without a malformed escape")),
    }
}

/// A place to send a client to: what `Location` may have (RFC 9110 10.2.2), of visible
/// characters.
pub fn location(text: &str) -> Result<String, Wanted> {
    match text.bytes().find(|byte| !(0x21..=0x7e).contains(byte)) {
        None => Ok(text.to_owned()),
        Some(_) => {
            Err(wanted("of visible characters in ASCII").with_help("write others as escapes, such as %20"))
        }
    }
}

/// The name of a parameter of a query.
pub fn parameter_name(text: &str) -> Result<String, Wanted> {
    if text.is_empty() { Err(wanted("the name of a parameter")) } else { Ok(text.to_owned()) }
}

/// RFC 9110 5.6.2.
/// What names a field, a method or a cookie (RFC 9110 5.6.2).
pub fn is_token(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_char)
}

/// The path with its needless escapes undone, its other ones complete and in upper case, and
/// its dot segments removed (RFC 3986, sections 5.2.4 and 6.2.2). `None`: a malformed escape.
fn normal_form(path: &str, literals: &[u8]) -> Option<String> {
    let mut unescaped = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let (value, is_escaped) = match byte {
            b'%' => (hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?, true),
            _ => (byte, false),
        };
        let is_unreserved = value.is_ascii_alphanumeric() || b"-._~".contains(&value);
        let is_literal = !is_escaped && literals.contains(&value);
        match (value, is_unreserved || is_literal) {
            (0, _) => return None,
            (_, true) => unescaped.push(char::from(value)),
            (_, false) => unescaped.push_str(&format!("%{value:02X}")),
        }
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in unescaped.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    if ends_open {
        segments.push("");
    }
    Some(format!("/{}", segments.join("/")))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let cases = [
            ("5s", Some(Duration::from_secs(5))),
            ("250ms", Some(Duration::from_millis(250))),
            ("5m", Some(Duration::from_secs(300))),
            ("1 h", Some(Duration::from_secs(3600))),
            ("5", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("99999999999999999999s", None),
            ("99999999999999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [
            ("32 KiB", Some(32 << 10)),
            ("10m", Some(10 << 20)),
            ("1GiB", Some(1 << 30)),
            ("512", Some(512)),
            ("10 MB", None),
            ("", None),
            ("99999999999 GiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn networks_are_written_by_their_first_address() {
        let cases = [
            ("10.0.0.0/8", Some(("10.0.0.0", 8))),
            ("0.0.0.0/0", Some(("0.0.0.0", 0))),
            ("::/0", Some(("::", 0))),
            ("192.0.2.7", Some(("192.0.2.7", 32))),
            ("fd00::/8", Some(("fd00::", 8))),
            ("10.1.0.0/8", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/", None),
            ("example.com", None),
        ];
        for (text, expected) in cases {
            let expected =
                expected.map(|(address, bits)| Network { address: address.parse().unwrap(), bits });
            assert_eq!(network(text).ok(), expected, "{text}");
        }
        let help = network("10.1.0.0/8").unwrap_err().help;
        assert_eq!(help.as_deref(), Some("did you mean `10.0.0.0/8`?"));
    }

    #[test]
    fn hosts_of_routes_are_names_without_port_and_scheme() {
        assert_eq!(route_host("Example.COM"), Ok(Host::Exact("example.com".to_owned())));
        assert_eq!(route_host("[::1]"), Ok(Host::Exact("[::1]".to_owned())));
        assert_eq!(route_host("*.Example.com"), Ok(Host::Below(".example.com".to_owned())));
        let wrong = ["a:80", "http://a", "a.", "", "a b", "a/b", "-a", "a..b"];
        for wrong in wrong.into_iter().chain(["*", "*.", "*a.b", "a.*.b", "*.*.a", "*.127.0.0.1", "*.a:80"]) {
            assert!(route_host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_of_routes_are_in_normal_form() {
        for right in ["/", "/a", "/a/", "/a//b", "/a%2Fb", "/a%20b", "/.well-known", "/a:b"] {
            assert_eq!(route_path(right), Ok(right.to_owned()));
        }
        let respelt = [
            ("/%7Ea", "/~a"),
            ("/a%2fb", "/a%2Fb"),
            ("/a b", "/a%20b"),
            ("/é", "/%C3%A9"),
            ("/a/./b", "/a/b"),
            ("/a/../b/..", "/"),
            ("/%2e%2e/a", "/a"),
        ];
        for (text, normal) in respelt {
            let help = route_path(text).unwrap_err().help;
            assert_eq!(help, Some(format!("write `{normal}`")), "{text}");
        }
        let deep = "/a".repeat(SEGMENTS_MAX);
        assert!(route_path(&deep).is_ok() && route_pattern(&deep).is_ok());
        let deeper = format!("{deep}/");
        for wrong in ["", "a", "/a?b", "/a#b", "/a%2", "/a%zz", "/a%00", &deeper] {
            assert_eq!(route_path(wrong).unwrap_err().help, None, "{wrong}");
            assert_eq!(route_pattern(wrong).unwrap_err().help, None, "{wrong}");
        }
    }

    #[test]
    fn patterns_of_routes_are_in_normal_form_around_their_captures() {
        for right in ["/", "/user/{id}", "/files/{*rest}", "/a%2Fb/{id}", "/%7Bid%7D/{id}"] {
            assert_eq!(route_pattern(right), Ok(right.to_owned()));
        }
        let respelt = [("/a b/{id}", "/a%20b/{id}"), ("/a/../{id}", "/{id}"), ("/%7bid%7d", "/%7Bid%7D")];
        for (text, normal) in respelt {
            let help = route_pattern(text).unwrap_err().help;
            assert_eq!(help, Some(format!("write `{normal}`")), "{text}");
        }
        let meant = route_path("/user/{id}").unwrap_err().help.unwrap();
        assert_eq!(meant, "write `/user/%7Bid%7D`, or use the key `path` for a pattern");
    }

    #[test]
    fn methods_and_names_are_tokens() {
        for right in ["GET", "PROPFIND", "M-SEARCH", "x"] {
            assert_eq!(method(right), Ok(right.to_owned()));
        }
        for wrong in ["", "get", "Post", "CONNECT", "GET ", "GET,POST", "É"] {
            assert!(method(wrong).is_err(), "{wrong}");
        }
        assert_eq!(field_name("X-API-Version"), Ok("X-API-Version".to_owned()));
        for wrong in ["", "X:", "X Y", ":path", "Host"] {
            assert!(field_name(wrong).is_err(), "{wrong}");
        }
        for (text, is_right) in [("", true), ("a b", true), (" a", false), ("a\t", false), ("a\nb", false)] {
            assert_eq!(field_value(text).is_ok(), is_right, "{text:?}");
        }
    }
}
