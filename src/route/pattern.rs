//! Paths with captures: `/user/{id}`, `/files/{*rest}`.

use std::fmt;

use crate::http::target::canonicalise;

/// A path by segments. A capture takes one segment that is not empty; a rest takes everything
/// that follows, at least one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Literal(String),
    /// Its name.
    Capture(String),
    /// Its name; only the last segment can be one.
    Rest(String),
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternFault {
    NoSlash,
    /// A brace that neither begins nor ends its segment.
    Brace,
    /// The name of a capture is not letters, digits and `_`, or begins with a digit.
    Name,
    RestNotLast,
    Twice(String),
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternFault::NoSlash => f.write_str("a pattern starts with `/`"),
            PatternFault::Brace => f.write_str("a capture is a whole segment, such as `/{name}/`"),
            PatternFault::Name => {
                f.write_str("the name of a capture is letters, digits and `_`, and starts with no digit")
            }
            PatternFault::RestNotLast => f.write_str("`{*name}` can only be the last segment"),
            PatternFault::Twice(name) => write!(f, "`{name}` is captured twice"),
        }
    }
}

impl Pattern {
    /// Literal segments in normal form are brought to canonical form, and empty ones left out.
    ///
    /// # Errors
    /// The text is not a pattern.
    pub fn parse(text: &str) -> Result<Pattern, PatternFault> {
        let rest = text.strip_prefix('/').ok_or(PatternFault::NoSlash)?;
        let mut segments = Vec::new();
        for text in rest.split('/') {
            if matches!(segments.last(), Some(Segment::Rest(_))) {
                return Err(PatternFault::RestNotLast);
            }
            let segment = Segment::parse(text)?;
            if let Some(name) = segment.name()
                && segments.iter().any(|earlier: &Segment| earlier.name() == Some(name))
            {
                return Err(PatternFault::Twice(name.to_owned()));
            }
            segments.push(segment);
        }
        let last = segments.pop();
        segments.retain(|segment| *segment != Segment::Literal(String::new()));
        segments.extend(last);
        Ok(Pattern { segments: segments.into() })
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of its captures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// Whether a path in canonical form matches.
    pub fn holds(&self, path: &[u8]) -> bool {
        let mut rest = path.strip_prefix(b"/");
        for segment in &self.segments {
            let Some(path) = rest else { return false };
            let end = memchr::memchr(b'/', path).unwrap_or(path.len());
            rest = path.get(end + 1..);
            match segment {
                Segment::Rest(_) => return !path.is_empty(),
                Segment::Literal(text) if text.as_bytes() == &path[..end] => {}
                Segment::Capture(_) if end > 0 => {}
                _ => return false,
            }
        }
        rest.is_none()
    }

    /// Calls `captured` with what each capture takes, in order, of a path in normal form whose
    /// canonical form matches. A rest is everything behind the slash that ends the segment before
    /// it, with the slashes that canonical forms do not have.
    pub fn captures<'p>(&self, path: &'p [u8], mut captured: impl FnMut(&'p [u8])) {
        let mut rest = path;
        for segment in &self.segments {
            rest = rest.strip_prefix(b"/").unwrap_or(rest);
            if matches!(segment, Segment::Rest(_)) {
                return captured(rest);
            }
            let start = rest.iter().position(|&byte| byte != b'/').unwrap_or(rest.len());
            rest = &rest[start..];
            let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            if matches!(segment, Segment::Capture(_)) {
                captured(&rest[..end]);
            }
            rest = &rest[end..];
        }
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, PatternFault> {
        let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            let is_literal = !text.contains(['{', '}']);
            return if is_literal { Ok(Segment::literal(text)) } else { Err(PatternFault::Brace) };
        };
        let (name, is_rest) = match inner.strip_prefix('*') {
            Some(name) => (name, true),
            None => (inner, false),
        };
        if name.contains(['{', '}']) {
            return Err(PatternFault::Brace);
        }
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        match (is_name, is_rest) {
            (false, _) => Err(PatternFault::Name),
            (true, true) => Ok(Segment::Rest(name.to_owned())),
            (true, false) => Ok(Segment::Capture(name.to_owned())),
        }
    }

    fn literal(text: &str) -> Segment {
        let canonical = canonicalise(text.as_bytes());
        Segment::Literal(String::from_utf8_lossy(&canonical).into_owned())
    }

    fn name(&self) -> Option<&str> {
        match self {
            Segment::Literal(_) => None,
            Segment::Capture(name) | Segment::Rest(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_capture_segments_and_rests() {
        let table: [(&str, &str, Option<&[&str]>); 20] = [
            ("/user/{id}", "/user/7", Some(&["7"])),
            ("/user/{id}", "/user/", None),
            ("/user/{id}", "/user/7/", None),
            ("/user/{id}", "/user/7/x", None),
            ("/user/{id}/", "/user/7/", Some(&["7"])),
            ("/{a}/x/{b}", "/1/x/2", Some(&["1", "2"])),
            ("/{a}/x/{b}", "/1/y/2", None),
            ("/files/{*rest}", "/files/a/b", Some(&["a/b"])),
            ("/files/{*rest}", "/files//", None),
            ("/files/{*rest}", "/files//a//b", Some(&["/a//b"])),
            ("/files/{*rest}", "//files/%40/%2F", Some(&["%40/%2F"])),
            ("/files//{*rest}", "/files/a", Some(&["a"])),
            ("/user/{id}/x", "//user///%40b//x", Some(&["%40b"])),
            ("/%40user/{id}/", "/@user/7//", Some(&["7"])),
            ("/%7Bid%7D/{id}", "/%7Bid%7D/7", Some(&["7"])),
            ("/files/{*rest}", "/files/", None),
            ("/files/{*rest}", "/files", None),
            ("/{*rest}", "/", None),
            ("/", "/", Some(&[])),
            ("/{*rest}", "*", None),
        ];
        for (pattern, path, expected) in table {
            let pattern = Pattern::parse(pattern).unwrap();
            let mut captured = Vec::new();
            let holds = pattern.holds(&canonicalise(path.as_bytes()));
            if holds {
                pattern.captures(path.as_bytes(), |text| captured.push(text));
            }
            let expected = expected.map(|texts| texts.iter().map(|text| text.as_bytes()).collect());
            assert_eq!(holds.then_some(captured), expected, "{pattern:?} {path}");
        }
    }

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        let table = [
            ("", PatternFault::NoSlash),
            ("user", PatternFault::NoSlash),
            ("/{id}.json", PatternFault::Brace),
            ("/a{id}", PatternFault::Brace),
            ("/{a}{b}", PatternFault::Brace),
            ("/{}", PatternFault::Name),
            ("/{*}", PatternFault::Name),
            ("/{1a}", PatternFault::Name),
            ("/{a-b}", PatternFault::Name),
            ("/{*rest}/x", PatternFault::RestNotLast),
            ("/{a}/{a}", PatternFault::Twice("a".to_owned())),
            ("/{a}/{*a}", PatternFault::Twice("a".to_owned())),
        ];
        for (text, expected) in table {
            assert_eq!(Pattern::parse(text), Err(expected), "{text}");
        }
    }
}
