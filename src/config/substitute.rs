//! `${NAME}` and `${NAME:-default}` in a string; `$${` is `${` itself.
//!
//! Pure. What a variable holds is not looked at again: substitution does not recur.
//! Must not know: where the string is, and where variables come from.

/// What is wrong with a string.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault<'a> {
    /// `${` without `}`.
    Unclosed,
    /// What stands between `${` and `}` is no name.
    Name(&'a str),
    Undefined(&'a str),
}

/// A string with the values of its variables.
#[derive(Debug, PartialEq, Eq)]
pub struct Substituted {
    pub text: String,
    /// It was one `${…}` and nothing else.
    pub is_whole: bool,
}

enum Piece<'a> {
    Text(&'a str),
    Variable { name: &'a str, default: Option<&'a str> },
}

/// `None`: nothing is to be replaced.
///
/// # Errors
/// The first thing that is wrong.
pub fn substitute<'a>(
    text: &'a str,
    look_up: impl Fn(&str) -> Option<String>,
) -> Result<Option<Substituted>, Fault<'a>> {
    if !text.contains("${") {
        return Ok(None);
    }
    let pieces = pieces(text)?;
    let is_whole = matches!(pieces.as_slice(), [Piece::Variable { .. }]);
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Variable { name, default } => {
                let value = look_up(name).filter(|value| default.is_none() || !value.is_empty());
                let value = value.or(default.map(str::to_owned));
                out.push_str(&value.ok_or(Fault::Undefined(name))?);
            }
        }
    }
    Ok(Some(Substituted { text: out, is_whole }))
}

/// The names of the variables in a string; none if something is wrong with it.
pub fn names(text: &str) -> Vec<&str> {
    let pieces = pieces(text).unwrap_or_default();
    let name = |piece| match piece {
        Piece::Variable { name, .. } => Some(name),
        Piece::Text(_) => None,
    };
    pieces.into_iter().filter_map(name).collect()
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Fault<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, variable) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            pieces.extend([Piece::Text(before), Piece::Text("${")]);
            rest = &variable[2..];
            continue;
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let end = variable.find('}').ok_or(Fault::Unclosed)?;
        let inside = &variable[2..end];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(Fault::Name(inside));
        }
        pieces.push(Piece::Variable { name, default });
        rest = &variable[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn is_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_word) && !name.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(name: &str) -> Option<String> {
        match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${A}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        let cases = [
            ("${A}", "a", true),
            ("${A}${A}", "aa", false),
            ("x-${A}.${B:-b}!", "x-a.b!", false),
            ("${B:-}", "", true),
            ("${EMPTY}", "", true),
            ("${EMPTY:-e}", "e", true),
            ("${A:-b}", "a", true),
            ("${B:-:-$}", ":-$", true),
            ("${DOLLAR}", "${A}", true),
            ("$${A}", "${A}", false),
            ("$$${A} ${A}", "$${A} a", false),
            ("é${A}é", "éaé", false),
        ];
        for (text, expected, is_whole) in cases {
            let expected = Substituted { text: expected.to_owned(), is_whole };
            assert_eq!(substitute(text, look_up), Ok(Some(expected)), "{text}");
        }
        for text in ["", "a", "$", "$A", "$ {A}", "}{"] {
            assert_eq!(substitute(text, look_up), Ok(None), "{text}");
        }
        assert_eq!(names("${A} $${B} ${C:-d}"), ["A", "C"]);
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let cases = [
            ("${A", Fault::Unclosed),
            ("${}", Fault::Name("")),
            ("${a b}", Fault::Name("a b")),
            ("${1}", Fault::Name("1")),
            ("${A}${B}", Fault::Undefined("B")),
        ];
        for (text, fault) in cases {
            assert_eq!(substitute(text, look_up), Err(fault), "{text}");
        }
    }
}
