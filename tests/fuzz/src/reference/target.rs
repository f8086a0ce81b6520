//! Request targets and hosts (RFC 9112 3.2) and their normal form (RFC 3986 5.2.4 and 6.2.2).

/// What a request line may have beside its target: method, version and spaces, in bytes.
pub const LINE_MORE_MAX: usize = 64;

/// A target in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub path: Vec<u8>,
    /// With its `?`.
    pub query: Vec<u8>,
    /// Of the absolute form.
    pub authority: Option<Vec<u8>>,
}

pub fn read(raw: &[u8], is_options: bool) -> Option<Target> {
    if raw == b"*" && is_options {
        return Some(Target { path: raw.to_vec(), query: Vec::new(), authority: None });
    }
    let is_visible = raw.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    let (authority, rest) = match raw {
        [b'/', ..] => (None, raw),
        _ => {
            let start = String::from_utf8_lossy(raw).to_ascii_lowercase();
            let scheme = ["http://", "https://"].into_iter().find(|scheme| start.starts_with(scheme))?;
            let after = &raw[scheme.len()..];
            let end = after.iter().position(|byte| b"/?".contains(byte)).unwrap_or(after.len());
            host(&after[..end])?;
            (Some(after[..end].to_vec()), &after[end..])
        }
    };
    let question = rest.iter().position(|byte| *byte == b'?').unwrap_or(rest.len());
    let (path, query) = rest.split_at(question);
    let path = if path.is_empty() { b"/".to_vec() } else { normal(path)? };
    is_visible.then(|| Target { path, query: query.to_vec(), authority })
}

/// A path that starts with `/` in normal form.
pub fn normal(path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = String::new();
    let mut rest = std::str::from_utf8(path).ok()?;
    while let Some(first) = rest.chars().next() {
        if first != '%' {
            decoded.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let digits = rest.get(1..3).filter(|digits| digits.chars().all(|one| one.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        match byte {
            0 => return None,
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(char::from(byte)),
            _ => decoded.push_str(&format!("%{byte:02X}")),
        }
        rest = &rest[3..];
    }
    Some(without_dots(&decoded).into_bytes())
}

/// The loop of RFC 3986 5.2.4, letter by letter, for a path that starts with `/`.
fn without_dots(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("/./") {
            input.replace_range(..3, "/");
        } else if input == "/." {
            input.replace_range(.., "/");
        } else if input.starts_with("/../") || input == "/.." {
            let up = if input == "/.." { 3 } else { 4 };
            input.replace_range(..up, "/");
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.push_str(&input[..end]);
            input.replace_range(..end, "");
        }
    }
    output
}

/// The host of `host [":" port]` in normal form.
pub fn host(authority: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(authority).ok()?;
    let (name, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (address, port) = inner.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (format!("[{address}]"), port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let is_name = |one: char| one.is_ascii_alphanumeric() || "-._".contains(one);
            let name = text[..end].to_owned();
            (!name.is_empty() && name.chars().all(is_name)).then_some(())?;
            (name, &text[end..])
        }
    };
    if let Some(digits) = port.strip_prefix(':') {
        let is_port = digits.len() <= 5 && digits.chars().all(|one| one.is_ascii_digit());
        let is_small = digits.is_empty() || digits.parse::<u32>().is_ok_and(|port| port <= 65_535);
        (is_port && is_small).then_some(())?;
    } else if !port.is_empty() {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase();
    let is_dotted = name.is_empty() || name.ends_with('.');
    (!is_dotted).then(|| name.into_bytes())
}
