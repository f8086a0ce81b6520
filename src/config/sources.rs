//! Where a configuration comes from: one file, or none, and the environment.
//!
//! Everything is read once into [`Sources`], which is complete in itself, so that the process
//! that checks a configuration and the one that runs it work on the same bytes.
//! Must not know: what the text means.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Document, Place};

/// Where a file is looked for when none is named.
const USUAL_FILES: [&str; 2] = ["warpdrive.toml", "/etc/warpdrive/warpdrive.toml"];

/// The variable that names the file.
pub const FILE_VARIABLE: &str = "WARPDRIVE_CONFIG";

/// Variables without this prefix are not ours.
pub const PREFIX: &str = "WARPDRIVE_";

const FILE_BYTES_MAX: u64 = 16 << 20;

/// First line of the encoded form; the number grows when the form changes.
const ENCODING: &str = "warpdrive sources 1\n";

/// A configuration as it was found, before anything is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// `None` is the mode without a file: one upstream, named by the environment.
    pub file: Option<File>,
    /// Name and value of each variable with our prefix, sorted by name.
    pub environment: Vec<(String, String)>,
}

/// A file and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    pub text: String,
}

impl Sources {
    /// Reads the file that `explicit`, the environment or the usual places name.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8.
    pub fn load(explicit: Option<&Path>) -> Result<Sources, Diagnostic> {
        let environment = environment();
        let file = find_file(explicit, &environment);
        Sources::read(file, environment)
    }

    /// Reads this file, if any. As [`Sources::load`], with the choice made.
    pub fn read(path: Option<PathBuf>, environment: Vec<(String, String)>) -> Result<Sources, Diagnostic> {
        let file = match path {
            Some(path) => {
                let text = read_text(&path)?;
                Some(File { path, text })
            }
            None => None,
        };
        Ok(Sources { file, environment })
    }

    /// One string of bytes that [`Sources::decode`] takes back.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = ENCODING.as_bytes().to_vec();
        if let Some(file) = &self.file {
            let path = file.path.as_os_str().as_bytes();
            encode_pair(&mut out, "file", path, file.text.as_bytes());
        }
        for (name, value) in &self.environment {
            encode_pair(&mut out, "variable", name.as_bytes(), value.as_bytes());
        }
        out.extend_from_slice(b"end\n");
        out
    }

    /// # Errors
    /// The bytes were not written by [`Sources::encode`] of this version.
    pub fn decode(bytes: &[u8]) -> Result<Sources, DecodeError> {
        let mut rest =
            bytes.strip_prefix(ENCODING.as_bytes()).ok_or(DecodeError("not sources of this version"))?;
        let mut sources = Sources::default();
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or(DecodeError("cut off"))?;
            let line = std::str::from_utf8(&rest[..end]).map_err(|_| DecodeError("not text"))?;
            rest = &rest[end + 1..];
            let mut words = line.split(' ');
            let kind = words.next().unwrap_or_default();
            if kind == "end" {
                return match rest {
                    [] => Ok(sources),
                    _ => Err(DecodeError("bytes after the end")),
                };
            }
            let first = decode_piece(&mut rest, words.next())?;
            let second = decode_text(decode_piece(&mut rest, words.next())?)?;
            match kind {
                "file" => {
                    sources.file =
                        Some(File { path: PathBuf::from(OsString::from_vec(first.to_vec())), text: second });
                }
                "variable" => sources.environment.push((decode_text(first)?, second)),
                _ => return Err(DecodeError("unknown kind")),
            }
        }
    }

    /// The file as diagnostics show it.
    pub(super) fn document(&self) -> Option<Document> {
        let file = self.file.as_ref()?;
        let name = file.path.display().to_string();
        Some(Document::new(name, file.text.clone()))
    }
}

/// Why [`Sources::decode`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError(&'static str);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "encoded configuration: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Which file to read: the one named by an argument, by `$WARPDRIVE_CONFIG`, or the first of
/// the usual ones that exists. `None` is the mode without a file.
pub fn find_file(explicit: Option<&Path>, environment: &[(String, String)]) -> Option<PathBuf> {
    if let Some(path) = explicit {
        return Some(path.to_owned());
    }
    let named = environment.iter().find(|(name, _)| name == FILE_VARIABLE);
    if let Some((_, path)) = named {
        return Some(PathBuf::from(path));
    }
    USUAL_FILES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// The variables of this process that have our prefix, sorted by name.
pub fn environment() -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            (name, value.to_string_lossy().into_owned())
        })
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    variables.sort();
    variables
}

fn read_text(path: &Path) -> Result<String, Diagnostic> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    let wrong = match read {
        Err(error) => Some(format!("cannot read the file: {error}")),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Some("the file is larger than 16 MiB".to_owned()),
        Ok(_) => None,
    };
    if let Some(wrong) = wrong {
        return Err(Diagnostic::error(Place::File(name), wrong));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        Diagnostic::error(Place::File(name), format!("line {line} of the file is not UTF-8"))
    })
}

fn encode_pair(out: &mut Vec<u8>, kind: &str, first: &[u8], second: &[u8]) {
    let head = format!("{kind} {} {}\n", first.len(), second.len());
    out.extend_from_slice(head.as_bytes());
    for piece in [first, second] {
        out.extend_from_slice(piece);
        out.push(b'\n');
    }
}

/// Takes a piece of `length` bytes and the line end after it.
fn decode_piece<'a>(rest: &mut &'a [u8], length: Option<&str>) -> Result<&'a [u8], DecodeError> {
    let length: usize =
        length.and_then(|length| length.parse().ok()).ok_or(DecodeError("a length is missing"))?;
    let cut = DecodeError("cut off");
    let (piece, after) = rest.split_at_checked(length).ok_or(cut)?;
    *rest = after.strip_prefix(b"\n").ok_or(cut)?;
    Ok(piece)
}

fn decode_text(bytes: &[u8]) -> Result<String, DecodeError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError("not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let path = PathBuf::from(OsString::from_vec(b"/etc/\xff x\n.toml".to_vec()));
        let text = "é = \"\n\"\nend\n".to_owned();
        let cases = [
            Sources::default(),
            Sources { file: None, environment: vec![variable("WARPDRIVE_HTTP_PORT", "")] },
            Sources {
                file: Some(File { path, text }),
                environment: vec![variable("WARPDRIVE_A", "line\nend\n"), variable("WARPDRIVE_B", "ü")],
            },
        ];
        for case in cases {
            let encoded = case.encode();
            assert_eq!(Sources::decode(&encoded), Ok(case));
            for cut in 0..encoded.len() {
                assert!(Sources::decode(&encoded[..cut]).is_err());
            }
        }
    }

    #[test]
    fn an_argument_beats_the_variable_beats_the_usual_places() {
        let environment = [variable(FILE_VARIABLE, "from-variable.toml")];
        let argument = Path::new("from-argument.toml");
        assert_eq!(find_file(Some(argument), &environment), Some(argument.to_owned()));
        assert_eq!(find_file(None, &environment), Some(PathBuf::from("from-variable.toml")));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Sources::read(Some(PathBuf::from("/nowhere/warpdrive.toml")), Vec::new());
        let error = error.unwrap_err();
        assert_eq!(error.place, Place::File("/nowhere/warpdrive.toml".into()));
        assert!(error.message.starts_with("cannot read the file: "));
    }
}
