//! `${NAME}` and `${NAME:-default}` in a string; `$${` is `${` itself. A name that begins with a
//! lower-case letter or a digit is no variable's: `${id}` is a part of the request, where the key
//! takes one.
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

/// What a string has become.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was to be replaced.
    Plain,
    Substituted {
        text: String,
        /// It was one `${…}` and nothing else.
        is_whole: bool,
        /// The same as a template, so that what variables hold is text in it.
        template: String,
    },
    /// It has parts of the request in it: a template, and nothing else.
    Template(String),
}

enum Piece<'a> {
    Text(&'a str),
    /// `$${`.
    Escaped,
    Variable {
        name: &'a str,
        default: Option<&'a str>,
    },
    /// What stands between `${` and `}`.
    Part(&'a str),
}

/// Replaces the variables.
///
/// # Errors
/// The first thing that is wrong.
pub fn substitute<'a>(text: &'a str, look_up: impl Fn(&str) -> Option<String>) -> Result<Outcome, Fault<'a>> {
    if !text.contains("${") {
        return Ok(Outcome::Plain);
    }
    let pieces = pieces(text)?;
    let is_whole = matches!(pieces.as_slice(), [Piece::Variable { .. }]);
    let mut has_parts = false;
    let (mut out, mut template) = (String::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                out.push_str(text);
                template.push_str(text);
            }
            Piece::Escaped => {
                out.push_str("${");
                template.push_str("$${");
            }
            Piece::Variable { name, default } => {
                let value = look_up(name).filter(|value| default.is_none() || !value.is_empty());
                let value = value.or(default.map(str::to_owned)).ok_or(Fault::Undefined(name))?;
                out.push_str(&value);
                template.push_str(&value.replace('$', "$$"));
            }
            Piece::Part(name) => {
                has_parts = true;
                template.push_str(&format!("${{{name}}}"));
            }
        }
    }
    Ok(match has_parts {
        true => Outcome::Template(template),
        false => Outcome::Substituted { text: out, is_whole, template },
    })
}

/// The names of the variables in a string; none if something is wrong with it.
pub fn names(text: &str) -> Vec<&str> {
    let pieces = pieces(text).unwrap_or_default();
    let name = |piece| match piece {
        Piece::Variable { name, .. } => Some(name),
        Piece::Text(_) | Piece::Escaped | Piece::Part(_) => None,
    };
    pieces.into_iter().filter_map(name).collect()
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Fault<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, variable) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            pieces.extend([Piece::Text(before), Piece::Escaped]);
            rest = &variable[2..];
            continue;
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        let end = variable.find('}').ok_or(Fault::Unclosed)?;
        let inside = &variable[2..end];
        rest = &variable[end + 1..];
        if is_part(inside) {
            pieces.push(Piece::Part(inside));
            continue;
        }
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(Fault::Name(inside));
        }
        pieces.push(Piece::Variable { name, default });
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn is_name(name: &str) -> bool {
    is_word(name) && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn is_part(name: &str) -> bool {
    is_word(name) && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
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
            ("${A}", "a", true, "a"),
            ("${A}${A}", "aa", false, "aa"),
            ("x-${A}.${B:-b}!", "x-a.b!", false, "x-a.b!"),
            ("${B:-}", "", true, ""),
            ("${EMPTY}", "", true, ""),
            ("${EMPTY:-e}", "e", true, "e"),
            ("${A:-b}", "a", true, "a"),
            ("${B:-:-$}", ":-$", true, ":-$$"),
            ("${DOLLAR}", "${A}", true, "$${A}"),
            ("$${A}", "${A}", false, "$${A}"),
            ("$$${A} ${A}", "$${A} a", false, "$$${A} a"),
            ("é${A}é", "éaé", false, "éaé"),
        ];
        for (text, expected, is_whole, template) in cases {
            let (expected, template) = (expected.to_owned(), template.to_owned());
            let expected = Outcome::Substituted { text: expected, is_whole, template };
            assert_eq!(substitute(text, look_up), Ok(expected), "{text}");
        }
        for text in ["", "a", "$", "$A", "$ {A}", "}{", "$1", "$id"] {
            assert_eq!(substitute(text, look_up), Ok(Outcome::Plain), "{text}");
        }
        assert_eq!(names("${A} $${B} ${C:-d} ${e}"), ["A", "C"]);
    }

    #[test]
    fn parts_of_the_request_stay() {
        let cases =
            [("/${id}", "/${id}"), ("/${A}/${1}/$${x}", "/a/${1}/$${x}"), ("${DOLLAR}${id}", "$${A}${id}")];
        for (text, template) in cases {
            assert_eq!(substitute(text, look_up), Ok(Outcome::Template(template.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let cases = [
            ("${A", Fault::Unclosed),
            ("${}", Fault::Name("")),
            ("${a b}", Fault::Name("a b")),
            ("${-1}", Fault::Name("-1")),
            ("${A}${B}", Fault::Undefined("B")),
            ("${id}${B}", Fault::Undefined("B")),
        ];
        for (text, fault) in cases {
            assert_eq!(substitute(text, look_up), Err(fault), "{text}");
        }
    }
}
