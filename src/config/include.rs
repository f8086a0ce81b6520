//! The files that a file includes: patterns to paths, each read once, in the order in which
//! they are taken.
//!
//! Must not know: what the files say, but for `include`.

use std::fs::File as OpenFile;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::diagnostic::{Diagnostic, Place};
use super::node::{Node, Value};
use super::parse::{self, Parsed, Variables};
use super::sources::File;

/// The key that names other files.
pub const INCLUDE: &str = "include";

/// Files of one configuration.
const FILES_MAX: usize = 1000;
/// All files together.
const BYTES_MAX: u64 = 16 << 20;
/// How deep an included file may include.
const DEPTH_MAX: usize = 8;

/// All files of a configuration, and the variables that they name.
pub struct Gathered {
    /// The first one includes the others: each directly before those that it includes.
    pub files: Vec<(File, Parsed)>,
    pub variables: Vec<(String, String)>,
    pub mistakes: Vec<Diagnostic>,
    /// Where patterns were looked for: a file more or less there changes the configuration.
    pub folders: Vec<PathBuf>,
}

/// Reads a file and all that it includes. `environment` is where variables come from.
///
/// # Errors
/// The first file cannot be read.
pub fn gather(path: PathBuf, environment: &Variables) -> Result<Gathered, Diagnostic> {
    let gathered =
        Gathered { files: Vec::new(), variables: Vec::new(), mistakes: Vec::new(), folders: Vec::new() };
    let mut gatherer = Gatherer { gathered, environment, bytes: 0, open: Vec::new(), seen: Vec::new() };
    let name = path.display().to_string();
    gatherer.take(path).map_err(|wrong| Diagnostic::error(Place::File(name), wrong))?;
    Ok(gatherer.gathered)
}

struct Gatherer<'a> {
    gathered: Gathered,
    environment: &'a Variables,
    bytes: u64,
    /// The files that include the one at hand, the outermost first.
    open: Vec<PathBuf>,
    /// Files that were taken, and by what.
    seen: Vec<(PathBuf, Place)>,
}

impl Gatherer<'_> {
    /// Reads one file, then what it includes. An error is about this file alone.
    fn take(&mut self, path: PathBuf) -> Result<(), String> {
        let too_large = match self.gathered.files.len() {
            0 => "the file is larger than 16 MiB",
            _ => "with it, all files together are larger than 16 MiB",
        };
        let text = read_text(&path, BYTES_MAX - self.bytes, too_large)?;
        self.bytes += text.len() as u64;
        self.learn_variables(&text);
        let file = File { path: path.clone(), text };
        let rank = self.gathered.files.len();
        let parsed = parse::parse(&file.name(), &file.text, rank, &self.gathered.variables);
        // What is not a list of strings is reported by the reader.
        let patterns = match parsed.entries.get(INCLUDE).map(|entry| &entry.node.value) {
            Some(Value::Array(patterns)) => patterns.clone(),
            _ => Vec::new(),
        };
        self.gathered.files.push((file, parsed));
        if !patterns.is_empty() {
            self.open.push(canonical(&path));
            for pattern in &patterns {
                self.include(&path, pattern);
            }
            self.open.pop();
        }
        Ok(())
    }

    fn include(&mut self, by: &Path, pattern: &Node) {
        let Some(text) = pattern.value.text() else {
            return;
        };
        if has_wildcard(text) {
            self.gathered.folders.push(folder(by, text));
        }
        let found = match find(by, text) {
            Ok(found) => found,
            Err(wrong) => return self.mistake(&pattern.place, wrong),
        };
        for path in found {
            let real = canonical(&path);
            let name = path.display();
            if self.gathered.files.len() == FILES_MAX {
                return self.mistake(&pattern.place, format!("there are more than {FILES_MAX} files"));
            }
            if self.open.contains(&real) {
                self.mistake(&pattern.place, format!("{name} includes itself{}", self.way()));
            } else if let Some((_, first)) = self.seen.iter().find(|(seen, _)| *seen == real) {
                let message = format!("{name} is included twice");
                let again = Diagnostic::error(pattern.place.clone(), message).with_label("again here");
                let again = again.with_related(first.clone(), "first here").with_help("remove one of them");
                self.gathered.mistakes.push(again);
            } else if self.open.len() > DEPTH_MAX {
                let wrong = format!("{name} is included {} deep, at most {DEPTH_MAX} work", self.open.len());
                self.mistake(&pattern.place, wrong);
            } else {
                self.seen.push((real, pattern.place.clone()));
                if let Err(wrong) = self.take(path.clone()) {
                    self.mistake(&pattern.place, format!("{name}: {wrong}"));
                }
            }
        }
    }

    /// Through which files an include came back to where it was.
    fn way(&self) -> String {
        let names: Vec<String> = self.open.iter().map(|path| path.display().to_string()).collect();
        match names.len() {
            1 => String::new(),
            _ => format!(", by way of {}", names.join(", ")),
        }
    }

    fn mistake(&mut self, place: &Place, message: String) {
        self.gathered.mistakes.push(Diagnostic::error(place.clone(), message));
    }

    fn learn_variables(&mut self, text: &str) {
        for name in parse::variable_names(text) {
            let is_known = self.gathered.variables.iter().any(|(known, _)| *known == name);
            let found = self.environment.iter().find(|(other, _)| *other == name);
            if let (false, Some(variable)) = (is_known, found) {
                self.gathered.variables.push(variable.clone());
            }
        }
    }
}

fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// The folder that a pattern with its wildcards in the last part looks in; of one with others, that
/// of the first.
fn folder(by: &Path, pattern: &str) -> PathBuf {
    let parts = Path::new(pattern).components();
    let fixed = parts.take_while(|part| !has_wildcard(&part.as_os_str().to_string_lossy()));
    by.parent().unwrap_or(Path::new("")).join(fixed.collect::<PathBuf>())
}

/// The files that a pattern means, by name. It is relative to the file that it stands in.
fn find(by: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let folder = by.parent().unwrap_or(Path::new(""));
    if !has_wildcard(pattern) {
        return match pattern {
            "" => Err("the path of a file to include is empty".to_owned()),
            _ => Ok(vec![folder.join(pattern)]),
        };
    }
    let whole = match Path::new(pattern).is_absolute() {
        true => pattern.to_owned(),
        false => {
            let folder = folder.to_str().ok_or("the path of this folder is not UTF-8")?;
            let separator = if folder.is_empty() || folder.ends_with('/') { "" } else { "/" };
            format!("{}{separator}{pattern}", Pattern::escape(folder))
        }
    };
    // Editors leave hidden files beside those that they edit.
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let matches = glob::glob_with(&whole, options)
        .map_err(|error| format!("`{pattern}` is not a pattern: {}", error.msg))?;
    let mut paths = Vec::new();
    for path in matches {
        let path = path.map_err(|error| format!("cannot look for `{pattern}`: {error}"))?;
        if !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// What tells whether two paths lead to one file; one that does not is as good as any other.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The text of a file, or why it cannot be had; `too_large` if it has more than so many bytes.
pub fn read_text(path: &Path, bytes_max: u64, too_large: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = |file: OpenFile| -> io::Result<usize> { file.take(bytes_max + 1).read_to_end(&mut bytes) };
    match OpenFile::open(path).and_then(read) {
        Err(error) => return Err(format!("cannot read the file: {error}")),
        Ok(_) if bytes.len() as u64 > bytes_max => return Err(too_large.to_owned()),
        Ok(_) => {}
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} of the file is not UTF-8")
    })
}
