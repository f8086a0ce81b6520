//! Command lines of the form `--name value`.

use std::collections::HashMap;
use std::str::FromStr;

#[derive(Debug)]
pub struct Arguments {
    given: HashMap<String, String>,
}

impl Arguments {
    /// Reads the process's arguments; a name that is not in `known` is an error.
    pub fn from_env(known: &[&str]) -> Result<Self, String> {
        Self::parse(std::env::args().skip(1), known)
    }

    fn parse(mut words: impl Iterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut given = HashMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").filter(|name| known.contains(name));
            let Some(name) = name else {
                return Err(format!(
                    "unknown argument {word}; known: --{}",
                    known.join(", --")
                ));
            };
            let value = words
                .next()
                .ok_or_else(|| format!("{word} needs a value"))?;
            given.insert(name.to_owned(), value);
        }
        Ok(Self { given })
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    pub fn value<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |text: &String| {
            text.parse()
                .map_err(|_| format!("--{name} {text}: not a valid value"))
        };
        self.given.get(name).map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<Option<u32>, &str>) {
        let words = line.split_whitespace().map(str::to_owned);
        let found = Arguments::parse(words, &["count"])
            .and_then(|arguments| arguments.value::<u32>("count"));
        assert_eq!(found, expected.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn a_wrong_command_line_says_what_is_wrong() {
        check("", Ok(None));
        check("--count 3", Ok(Some(3)));
        check("--count", Err("--count needs a value"));
        check("--count many", Err("--count many: not a valid value"));
        check("--size 3", Err("unknown argument --size; known: --count"));
    }
}
