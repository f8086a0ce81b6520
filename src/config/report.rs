//! What is found while a configuration is read: its mistakes, its settings, and which secrets
//! are in files of their own.

use std::cell::RefCell;

use super::Written;
use super::diagnostic::{Diagnostic, Place};
use super::node::Entries;

/// A key that was asked for, and what it has.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `upstreams.app.port`, `routes.1.host`; routes are counted from 1.
    pub key: String,
    /// The same for all upstreams and all routes: `upstreams.*.port`, `routes[].host`.
    pub shape: String,
    pub kind: Kind,
    /// The value in its one form, with its place. `null` is a secret.
    pub value: Option<Written<serde_json::Value>>,
}

/// What a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Boolean,
    Integer {
        least: u64,
        most: u64,
    },
    /// From 0 to 1.
    Fraction,
    /// Also in whole seconds, with `_secs` at the end of the key.
    Duration,
    /// In bytes; also as a plain integer with `_bytes` at the end of the key.
    Size {
        least: u64,
        most: u64,
    },
    Choice(Vec<String>),
    Strings,
    /// A status code, a range such as `200-399`, or a list of them.
    Statuses,
    /// A table that says what is asked of a field or a parameter, or a list of them.
    Conditions,
    /// A table that says which field has which value, or a list of them. Some may be removed.
    Fields {
        may_remove: bool,
    },
    /// A list of lists of strings, each with at least one.
    Commands,
    /// A table of strings under names of the operator's, which are never shown.
    Variables,
    /// A table of whatever the operator writes, which is never shown.
    Object,
    /// A string that is never shown; also in a file, whose path has `_file` at the end of the key.
    Secret,
}

/// A secret in a file of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    pub path: String,
    pub text: String,
}

/// A secret's text is not for logs.
impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What one reading finds.
#[derive(Default)]
pub struct Report<'a> {
    found: RefCell<Vec<Diagnostic>>,
    settings: RefCell<Vec<Setting>>,
    /// Somebody wants to know the settings.
    is_recording: bool,
    /// Paths of secrets that are not in `secrets`.
    wanted: RefCell<Vec<Written<String>>>,
    secrets: &'a [SecretFile],
    /// A text was not TOML all through, or not read: what seems to be absent may be there.
    is_torn: bool,
    /// Every list and every table with names has an entry, so that all keys are asked for.
    is_describing: bool,
    /// Stands for a table that is absent.
    nothing: Entries,
}

impl<'a> Report<'a> {
    pub fn new(secrets: &'a [SecretFile], is_torn: bool) -> Report<'a> {
        Report { secrets, is_torn, ..Report::default() }
    }

    /// For a reading that is to find out which settings there are.
    pub fn recording(self) -> Report<'a> {
        Report { is_recording: true, ..self }
    }

    /// The same, but of which keys there are at all.
    pub fn describing() -> Report<'a> {
        Report { is_recording: true, is_describing: true, ..Report::default() }
    }

    pub fn is_recording(&self) -> bool {
        self.is_recording
    }

    pub fn is_describing(&self) -> bool {
        self.is_describing
    }

    pub fn nothing(&self) -> &Entries {
        &self.nothing
    }

    /// How many mistakes have been found so far.
    pub fn len(&self) -> usize {
        self.found.borrow().len()
    }

    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    pub fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    pub fn error(&self, place: &Place, message: impl Into<String>) {
        self.push(Diagnostic::error(place.clone(), message));
    }

    /// A mistake only if every table is where it was meant to be, and whole.
    pub fn push_unless_torn(&self, diagnostic: Diagnostic) {
        if !self.is_torn {
            self.push(diagnostic);
        }
    }

    pub fn record(&self, setting: Setting) {
        self.settings.borrow_mut().push(setting);
    }

    /// The text of this file. `None`: it was not read, and it is noted that it is wanted.
    pub fn secret(&self, path: &Written<String>) -> Option<String> {
        let file = self.secrets.iter().find(|file| file.path == path.value);
        if file.is_none() {
            self.wanted.borrow_mut().push(path.clone());
        }
        file.map(|file| file.text.clone())
    }

    pub fn into_found(self) -> Found {
        Found {
            diagnostics: self.found.into_inner(),
            settings: self.settings.into_inner(),
            wanted: self.wanted.into_inner(),
        }
    }
}

/// What a reading found.
pub struct Found {
    pub diagnostics: Vec<Diagnostic>,
    pub settings: Vec<Setting>,
    /// Paths of secrets that were not read yet.
    pub wanted: Vec<Written<String>>,
}
