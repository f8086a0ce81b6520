//! Where a configuration comes from: files, the environment and arguments.
//!
//! Everything is read once into [`Sources`], which is complete in itself, so that the process
//! that checks a configuration and the one that runs it work on the same bytes.
//! Must not know: what the text means, but for what other files it names.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::report::SecretFile;
use super::{file, include, secret_file, variables};

/// Where a file is looked for when none is named.
const USUAL_FILES: [&str; 2] = ["warpdrive.toml", "/etc/warpdrive/warpdrive.toml"];

/// The variable that names the file.
pub const FILE_VARIABLE: &str = "WARPDRIVE_CONFIG";

/// Where there is a file, variables without this prefix are not ours.
pub const PREFIX: &str = "WARPDRIVE_";

/// First line of the encoded form; the number grows when the form changes.
const ENCODING: &str = "warpdrive sources 2\n";

/// A configuration as it was found, before anything is understood.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// `None` is the mode without a file: one upstream, named by the environment.
    pub file: Option<File>,
    /// What it includes, in the order in which it is taken.
    pub included: Vec<File>,
    /// Name and value of each variable that sets a key, sorted by name.
    pub environment: Vec<(String, String)>,
    /// Name and value of each variable that a file names.
    pub variables: Vec<(String, String)>,
    /// `KEY=VALUE`, each from a `--set`.
    pub arguments: Vec<String>,
    /// The files that secrets are in.
    pub secrets: Vec<SecretFile>,
    /// What was found wrong with files. It is not encoded: with an error among it there is
    /// nothing to run.
    pub found: Vec<Diagnostic>,
    /// Where files to include were looked for. Not encoded either.
    pub folders: Vec<PathBuf>,
}

/// A file and its text.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    pub text: String,
}

/// Texts and values may hold secrets: only what they are called is shown.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<&PathBuf> = self.file.iter().chain(&self.included).map(|file| &file.path).collect();
        let names = self.environment.iter().chain(&self.variables).map(|(name, _)| name);
        let variables: Vec<&String> = names.collect();
        let shown = &mut f.debug_struct("Sources");
        shown.field("files", &files).field("variables", &variables).finish_non_exhaustive()
    }
}

impl File {
    /// What messages call it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl Sources {
    /// Reads the file that `explicit`, the environment or the usual places name, and every file
    /// that it leads to. `arguments` are those of `--set`.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8.
    pub fn load(explicit: Option<&Path>, arguments: &[String]) -> Result<Sources, Diagnostic> {
        let environment = environment();
        let file = find_file(explicit, &environment);
        Sources::gather(file, environment, arguments.to_vec())
    }

    /// Reads this file, if any. As [`Sources::load`], with the choice made.
    pub fn read(path: Option<PathBuf>, environment: Vec<(String, String)>) -> Result<Sources, Diagnostic> {
        Sources::gather(path, environment, Vec::new())
    }

    /// Every file and folder of which a change may make another configuration.
    pub fn places(&self) -> impl Iterator<Item = &Path> {
        let files = self.file.iter().chain(&self.included).map(|file| file.path.as_path());
        let secrets = self.secrets.iter().map(|secret| Path::new(&secret.path));
        files.chain(secrets).chain(self.folders.iter().map(PathBuf::as_path))
    }

    /// What is where these were found, now: the same file, what it leads to now, the environment
    /// and the same arguments.
    ///
    /// # Errors
    /// As [`Sources::load`].
    pub fn reread(&self) -> Result<Sources, Diagnostic> {
        let path = self.file.as_ref().map(|file| file.path.clone());
        Sources::gather(path, environment(), self.arguments.clone())
    }

    fn gather(
        path: Option<PathBuf>,
        environment: Vec<(String, String)>,
        arguments: Vec<String>,
    ) -> Result<Sources, Diagnostic> {
        let mut sources = Sources { arguments, ..Sources::default() };
        let mut parsed = Vec::new();
        if let Some(path) = path {
            let gathered = include::gather(path, &environment)?;
            let (files, texts) = gathered.files.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
            let mut files = files.into_iter();
            parsed = texts;
            sources.file = files.next();
            sources.included = files.collect();
            sources.variables = gathered.variables;
            sources.found = gathered.mistakes;
            sources.folders = gathered.folders;
        }
        sources.environment = environment;
        let is_simple = sources.file.is_none();
        sources
            .environment
            .retain(|(name, _)| name.starts_with(PREFIX) || is_simple && variables::is_for_simple_mode(name));
        for path in file::wanted_secrets(&sources, parsed) {
            match secret_file::read(&path) {
                Ok((secret, doubt)) => {
                    sources.secrets.push(secret);
                    sources.found.extend(doubt);
                }
                Err(wrong) => sources.found.push(wrong),
            }
        }
        Ok(sources)
    }

    /// One string of bytes that [`Sources::decode`] takes back.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = ENCODING.as_bytes().to_vec();
        for file in self.file.iter().chain(&self.included) {
            let path = file.path.as_os_str().as_bytes();
            encode_pair(&mut out, "file", path, file.text.as_bytes());
        }
        for (name, value) in &self.environment {
            encode_pair(&mut out, "setting", name.as_bytes(), value.as_bytes());
        }
        for (name, value) in &self.variables {
            encode_pair(&mut out, "variable", name.as_bytes(), value.as_bytes());
        }
        for argument in &self.arguments {
            encode_pair(&mut out, "argument", argument.as_bytes(), b"");
        }
        for secret in &self.secrets {
            encode_pair(&mut out, "secret", secret.path.as_bytes(), secret.text.as_bytes());
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
                    let path = PathBuf::from(OsString::from_vec(first.to_vec()));
                    let file = File { path, text: second };
                    match sources.file {
                        None => sources.file = Some(file),
                        Some(_) => sources.included.push(file),
                    }
                }
                "setting" => sources.environment.push((decode_text(first)?, second)),
                "variable" => sources.variables.push((decode_text(first)?, second)),
                "argument" => sources.arguments.push(decode_text(first)?),
                "secret" => {
                    sources.secrets.push(SecretFile { path: decode_text(first)?, text: second });
                }
                _ => return Err(DecodeError("unknown kind")),
            }
        }
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

/// The variables of this process, sorted by name.
pub fn environment() -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            (name, value.to_string_lossy().into_owned())
        })
        .collect();
    variables.sort();
    variables
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
    use crate::config::Place;

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let path = PathBuf::from(OsString::from_vec(b"/etc/\xff x\n.toml".to_vec()));
        let text = "é = \"\n\"\nend\n".to_owned();
        let cases = [
            Sources::default(),
            Sources { environment: vec![variable("WARPDRIVE_HTTP_PORT", "")], ..Sources::default() },
            Sources {
                file: Some(File { path: path.clone(), text: text.clone() }),
                included: vec![File { path: PathBuf::from("b"), text: String::new() }, File { path, text }],
                environment: vec![variable("WARPDRIVE_A", "line\nend\n"), variable("WARPDRIVE_B", "ü")],
                variables: vec![variable("C", "file 1 1\n")],
                arguments: vec!["a.b=\"\n\"".to_owned(), String::new()],
                secrets: vec![SecretFile { path: "/s".to_owned(), text: "t\n".to_owned() }],
                ..Sources::default()
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
