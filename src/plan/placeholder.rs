//! Texts of a command with placeholders for what differs between the instances of an upstream:
//! `{socket}`, `{port}`, `{index}`. `{{word}}` is `{word}` itself. Any other brace stands for
//! itself, so that JSON needs no escapes.

/// What stands for a part of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    Socket,
    Port,
    Index,
}

pub const ALL: [(&str, Placeholder); 3] =
    [("socket", Placeholder::Socket), ("port", Placeholder::Port), ("index", Placeholder::Index)];

/// A text with its placeholders found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Placeholder(Placeholder),
}

impl Text {
    /// # Errors
    /// A word in braces that is no placeholder.
    pub fn parse(text: &str) -> Result<Text, String> {
        let mut parsed = Text::default();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            parsed.push_literal(&rest[..at]);
            rest = &rest[at..];
            if let Some((word, after)) = rest.strip_prefix("{{").and_then(word)
                && let Some(after) = after.strip_prefix('}')
            {
                parsed.push_literal(&format!("{{{word}}}"));
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix('{').and_then(word) {
                let known = ALL.iter().find(|(known, _)| *known == name);
                let (_, placeholder) = known.ok_or_else(|| name.to_owned())?;
                parsed.0.push(Part::Placeholder(*placeholder));
                rest = after;
            } else {
                parsed.push_literal("{");
                rest = &rest[1..];
            }
        }
        parsed.push_literal(rest);
        Ok(parsed)
    }

    fn push_literal(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Part::Literal(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(Part::Literal(text.to_owned())),
        }
    }

    pub fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.0.iter().filter_map(|part| match part {
            Part::Placeholder(placeholder) => Some(*placeholder),
            Part::Literal(_) => None,
        })
    }

    /// With `value` of each placeholder in its place.
    pub fn fill(&self, value: impl Fn(Placeholder) -> String) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.clone(),
            Part::Placeholder(placeholder) => value(*placeholder),
        });
        parts.collect()
    }
}

/// `word` and what follows of `word}…`: lower-case letters and underscores, at least one.
fn word(text: &str) -> Option<(&str, &str)> {
    let (word, after) = text.split_once('}')?;
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word.then_some((word, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_other_braces_kept() {
        let cases = [
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("unix://{socket}", Ok("unix://<Socket>")),
            ("{port}{index}-{port}", Ok("<Port><Index>-<Port>")),
            ("{{index}} {{", Ok("{index} {{")),
            ("{{{index}}}", Ok("{{index}}")),
            ("{\"a\":{\"b\":1}} {} { } {A} {1}", Ok("{\"a\":{\"b\":1}} {} { } {A} {1}")),
            ("{", Ok("{")),
            ("ü{index}ü", Ok("ü<Index>ü")),
            ("{sockt}", Err("sockt")),
            ("a {host} b", Err("host")),
        ];
        for (text, expected) in cases {
            let filled = Text::parse(text).map(|text| text.fill(|placeholder| format!("<{placeholder:?}>")));
            assert_eq!(filled, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
