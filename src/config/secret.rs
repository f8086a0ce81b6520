//! What must not be seen: a value that shows itself to nobody, and texts with stars in its place.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Every key of this table is taken to be secret.
const SECRET_TABLE: &str = "auth";

/// Keys with one of these words are taken to be secret, but for the paths of files.
const SECRET_WORDS: [&str; 4] = ["token", "secret", "password", "hmac"];

/// A text that neither `Debug` nor an accident prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself, for what has to compare or send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The text of a file with a star for every character of a secret, so that diagnostics can show
/// its lines. Each has as many bytes as what it hides, so every place stays. It goes by lines, for broken syntax and misspelt keys, and by what
/// was parsed, for strings of several lines.
pub fn hide(text: &str, root: &DeTable<'_>) -> String {
    let mut spans = Vec::new();
    for (key, value) in root {
        find_in_value(value, key.get_ref() == SECRET_TABLE, &mut spans);
    }
    find_in_table(root, false, &mut spans);
    find_in_lines(text, &mut spans);
    let mut is_hidden = vec![false; text.len()];
    for span in spans {
        is_hidden[span].fill(true);
    }
    let star = |(at, character): (usize, char)| match character.len_utf8() {
        _ if !is_hidden[at] || character.is_ascii_whitespace() => character,
        1 => '*',
        2 => '·',
        3 => '•',
        _ => '🞄',
    };
    text.char_indices().map(star).collect()
}

fn find_in_table(table: &DeTable<'_>, is_secret: bool, spans: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let key: &str = key.get_ref();
        let is_named = has_secret_word(key) && !matches!(value.get_ref(), DeValue::Table(_));
        find_in_value(value, (is_secret || is_named) && !key.ends_with("_file"), spans);
    }
}

fn find_in_value(value: &Spanned<DeValue<'_>>, is_secret: bool, spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(entries) => find_in_table(entries, is_secret, spans),
        DeValue::Array(items) => {
            for item in items.iter() {
                find_in_value(item, is_secret, spans);
            }
        }
        _ if is_secret => spans.push(value.span()),
        _ => {}
    }
}

fn find_in_lines(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut start = 0;
    let mut is_in_table = false;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if line.trim_start().starts_with('[') {
            is_in_table = line.trim_matches(['[', ']', ' ', '\t', '\r', '\n']) == SECRET_TABLE;
        }
        if let Some((key, _)) = line.split_once('=') {
            let mut segments = key.split('.').map(|part| part.trim_matches(['"', '\'', ' ', '\t', '#']));
            let first = segments.next().unwrap_or_default();
            let last = segments.next_back().unwrap_or(first);
            let is_secret = is_in_table || first == SECRET_TABLE || has_secret_word(last);
            if is_secret && !last.ends_with("_file") {
                spans.push(start + key.len() + 1..end);
            }
        }
        start = end;
    }
}

fn has_secret_word(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_stars_wherever_it_is_written() {
        let cases = [
            ("[auth]\nadmin_token = \"abc d\"\n", "[auth]\nadmin_token = **** **\n"),
            ("[auth]\nadmin_tokn = 'a' # b\n", "[auth]\nadmin_tokn = *** * *\n"),
            ("auth = { admin_token = \"é\" }", "auth = * *********** * *·* *"),
            ("x = { admin_token = 'é' }", "x = { admin_token = *·* }"),
            ("auth.admin_token = \"\"\"\na\nb\"\"\"\n", "auth.admin_token = ***\n*\n****\n"),
            ("[auth]\nadmin_token = abc def\n", "[auth]\nadmin_token = *** ***\n"),
            ("[auth]\nadmin_token_file = \"/t\"\n", "[auth]\nadmin_token_file = \"/t\"\n"),
            ("[upstreams.auth]\nhost = 1\n", "[upstreams.auth]\nhost = 1\n"),
            ("upstreams.token = { port = 1 }\n", "upstreams.token = * **** * * *\n"),
            ("[upstreams]\ntoken.port = 1\n", "[upstreams]\ntoken.port = 1\n"),
            ("[[routes]]\nrequire_auth = true\n", "[[routes]]\nrequire_auth = true\n"),
            ("[server]\nhttp_port = 1\n", "[server]\nhttp_port = 1\n"),
        ];
        for (text, hidden) in cases {
            let (root, _) = DeTable::parse_recoverable(text);
            assert_eq!(hide(text, root.get_ref()), hidden);
        }
        assert_eq!(format!("{:?}", Secret::new("abc".to_owned())), "Secret(…)");
    }
}
