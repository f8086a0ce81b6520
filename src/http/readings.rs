//! The paths that programs behind a proxy commonly read out of one path.
//!
//! No standard says what `/a%2Fb`, `/a;b`, `/a\b` and `//a` mean to an application. CGI, WSGI, Rack
//! and PHP decode the whole path, so that `%2F` divides it; servlet containers drop `;` and what
//! follows it in a segment; Windows and URL parsers of browsers take `\` for `/`; some merge empty
//! segments and some do not; and a parser of references (RFC 3986 4.2) takes what follows a leading
//! `//` for a host. All combinations are listed, because a path may pass several such programs.
//!
//! Not listed, because what an application makes of them is its own: case, suffixes such as
//! `.json`, escapes that are decoded twice. Pure.

use super::target::{escaped, push_canonical, remove_dot_segments};

/// One other path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading<'a> {
    /// As routes are matched: decoded, without dot segments.
    pub path: &'a [u8],
    /// It leads elsewhere: by dot segments that the path itself does not have, or because its
    /// beginning is taken for a host.
    pub leaves: bool,
}

/// What a program takes for a border between segments, or leaves out of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Habits {
    slash_escapes: bool,
    backslashes: bool,
    parameters: bool,
}

impl Habits {
    /// Those that make a difference to a path in normal form.
    fn that_matter(path: &[u8]) -> Habits {
        let has = |text: &[u8]| memchr::memmem::find(path, text).is_some();
        Habits {
            slash_escapes: has(b"%2F"),
            backslashes: has(b"\\") || has(b"%5C"),
            parameters: has(b";") || has(b"%3B"),
        }
    }

    /// All combinations of them, the one without any first.
    fn combinations(self) -> impl Iterator<Item = Habits> {
        (0..8_u8)
            .map(|bits| Habits {
                slash_escapes: bits & 1 != 0,
                backslashes: bits & 2 != 0,
                parameters: bits & 4 != 0,
            })
            .filter(move |one| {
                one.slash_escapes <= self.slash_escapes
                    && one.backslashes <= self.backslashes
                    && one.parameters <= self.parameters
            })
    }

    /// Appends `path` with `/` at every border.
    fn read(self, path: &[u8], out: &mut Vec<u8>) {
        let mut rest = path;
        let mut is_parameter = false;
        while let [first, after @ ..] = rest {
            let escape = if *first == b'%' { escaped(after) } else { None };
            let (byte, tail) = escape.unwrap_or((*first, after));
            let is_border = match byte {
                b'/' => escape.is_none() || self.slash_escapes,
                b'\\' => self.backslashes,
                _ => false,
            };
            if is_border {
                out.push(b'/');
                is_parameter = false;
            } else if byte == b';' && self.parameters {
                is_parameter = true;
            } else if !is_parameter {
                out.extend_from_slice(&rest[..rest.len() - tail.len()]);
            }
            rest = tail;
        }
    }
}

/// Whether `holds` of any other reading of a path in normal form that starts with `/`. At most 31
/// readings are looked at.
pub fn any(path: &[u8], mut holds: impl FnMut(Reading<'_>) -> bool) -> bool {
    let habits = Habits::that_matter(path);
    if habits == Habits::default() && memchr::memmem::find(path, b"//").is_none() {
        return false;
    }
    let mut text = Vec::with_capacity(path.len());
    let mut canonical = Vec::with_capacity(path.len());
    let mut finds = |text: &[u8], merges: bool, leaves: bool| {
        let resolved = remove_dot_segments(text);
        canonical.clear();
        push_canonical(&mut canonical, &resolved, merges);
        holds(Reading { path: &canonical, leaves: leaves || resolved != text })
    };
    habits.combinations().any(|habits| {
        text.clear();
        habits.read(path, &mut text);
        // A host may be empty, and some skip all the slashes before it.
        let slashes = text.iter().take_while(|byte| **byte == b'/').count();
        let starts = [2, slashes];
        let starts = &starts[..slashes.min(3).saturating_sub(1)];
        let has_empty = memchr::memmem::find(&text, b"//").is_some();
        // Without a habit and with its segments merged, it is the path itself.
        (habits != Habits::default() && finds(&merged(&text), true, false))
            || (has_empty && finds(&text, false, false))
            || starts.iter().any(|start| finds(&merged(behind_host(&text[*start..])), true, true))
    })
}

fn behind_host(authority: &[u8]) -> &[u8] {
    memchr::memchr(b'/', authority).map_or(&b"/"[..], |at| &authority[at..])
}

/// Without empty segments, but for the last.
fn merged(path: &[u8]) -> Vec<u8> {
    let mut merged = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || merged.last() != Some(&b'/') {
            merged.push(byte);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that lead elsewhere are marked by `^`.
    fn readings(path: &str) -> Vec<String> {
        let mut found = Vec::new();
        any(path.as_bytes(), |reading| {
            let mark = if reading.leaves { "^" } else { "" };
            found.push(format!("{mark}{}", String::from_utf8_lossy(reading.path)));
            false
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn other_readings_of_a_path() {
        let table: [(&str, &[&str]); 17] = [
            ("/admin", &[]),
            ("/a%20b/%40", &[]),
            ("/admin%2Fusers", &["/admin/users"]),
            ("/admin;v=1/x;y", &["/admin/x"]),
            ("/admin%3Bv", &["/admin"]),
            ("/admin\\x", &["/admin/x"]),
            ("/admin%5Cx", &["/admin/x"]),
            ("/a//b", &["/a//b"]),
            ("//a.example/admin", &["//a.example/admin", "^/admin"]),
            ("//a.example", &["//a.example", "^/"]),
            ("///a.example/admin", &["///a.example/admin", "^/a.example/admin", "^/admin"]),
            ("//", &["//", "^/"]),
            ("/\\/a/admin", &["///a/admin", "/a/admin", "^/a/admin", "^/admin"]),
            ("/pub/..%2Fadmin", &["^/admin"]),
            ("/pub/..;/admin", &["^/admin"]),
            ("/pub/..%5Cadmin", &["^/admin"]),
            ("/a%2F%2Fb", &["/a//b", "/a/b"]),
        ];
        for (path, expected) in table {
            assert_eq!(readings(path), expected, "{path}");
        }
    }

    #[test]
    fn habits_add_up() {
        let found = readings("/pub%5C..;x%2Fadmin");
        assert!(found.contains(&"^/admin".to_owned()), "{found:?}");
        let found = readings("/pub//..%2Fadmin");
        assert!(found.contains(&"^/admin".to_owned()), "merged first: {found:?}");
        assert!(found.contains(&"^/pub/admin".to_owned()), "not merged: {found:?}");
        let found = readings("/\\a.example\\admin");
        assert!(found.contains(&"^/admin".to_owned()), "{found:?}");
    }

    #[test]
    fn there_are_only_so_many() {
        let mut count = 0;
        any(b"///a%2F..%5Cb;c//d\\e", |_| {
            count += 1;
            false
        });
        assert_eq!(count, 31);
    }
}
