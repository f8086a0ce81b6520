//! Rust source as the architecture tests see it: text without comments and strings.

use std::path::{Path, PathBuf};

/// A file under a folder of the package.
pub struct Source {
    /// From the package's root, as in `src/http/mod.rs`.
    pub path: String,
    pub text: String,
    /// The text with every comment, string and character blanked; the same lines.
    pub code: String,
}

impl Source {
    /// The first folder or the file under `src`: `http`, `cli`.
    pub fn module(&self) -> &str {
        let below = self.path.trim_start_matches("src/");
        let first = below.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    /// The words of the code with where they begin; `r#` and lifetimes are not words.
    pub fn words(&self) -> Vec<(usize, &str)> {
        let mut words = Vec::new();
        let mut start = None;
        for (at, c) in self.code.char_indices().chain([(self.code.len(), ' ')]) {
            let inside = c.is_alphanumeric() || c == '_';
            match (start, inside) {
                (None, true) => start = Some(at),
                (Some(from), false) => {
                    words.push((from, &self.code[from..at]));
                    start = None;
                }
                _ => {}
            }
        }
        words
    }

    pub fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// All Rust files under a folder of the package.
pub fn all(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join(folder), &mut files);
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let path = file.strip_prefix(root).expect("under the root");
        Source { path: path.display().to_string(), code: blank(&text), text }
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        // What cargo has built is not ours.
        let is_built = path.ends_with("target");
        if path.is_dir() && !is_built {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Blanks comments, strings and characters; line ends stay.
pub fn blank(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    let mut previous = ' ';
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, 1),
            'b' | 'c' | 'r' if !is_word(previous) => prefixed(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[length..];
        }
        previous = c;
    }
    code
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let bytes = &text.as_bytes()[at..];
        if bytes.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of a string whose inside begins at `from`.
fn quoted(text: &str, from: usize) -> usize {
    let mut escaped = false;
    for (at, c) in text[from..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return from + at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of `b"…"`, `c"…"`, `b'…'`, `r#"…"#` or the like; 0 if it is none of them.
fn prefixed(text: &str) -> usize {
    let letters = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    let after = &text[letters..];
    if letters > 2 {
        return 0;
    }
    if !text[..letters].contains('r') {
        return match after.chars().next() {
            Some('"') => letters + quoted(after, 1),
            Some('\'') => letters + character(after),
            _ => 0,
        };
    }
    let marks = after.len() - after.trim_start_matches('#').len();
    if !after[marks..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(marks));
    let inside = &after[marks + 1..];
    let found = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    letters + marks + 1 + found
}

/// Length of a character literal; 0 if this begins a lifetime.
fn character(text: &str) -> usize {
    let inside: Vec<char> = text.chars().skip(1).take(12).collect();
    let end = match inside.as_slice() {
        ['\\', _, rest @ ..] => rest.iter().position(|c| *c == '\'').map(|at| at + 3),
        [_, '\'', ..] => Some(2),
        _ => None,
    };
    end.map_or(0, |count| text.chars().take(count + 1).map(char::len_utf8).sum())
}

#[test]
fn strings_comments_and_characters_are_blanked() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("unsafe \" x") g"#, "f(             ) g"),
        (r##"f(r#"a"b"#) g"##, "f(        ) g"),
        ("f(b\"x\", b'x', 'y', '\\n', '\\u{e9}')", "f(    ,     ,    ,     ,         )"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("bar(crate::b)", "bar(crate::b)"),
    ];
    for (text, code) in cases {
        assert_eq!(blank(text).trim_end(), code.trim_end(), "{text}");
    }
}
