//! Regular expressions, compiled: searched unanchored, on bytes, in linear time.
//!
//! The program is shared by all cores; what a search writes to is the caller's.

use std::fmt;

use regex_automata::meta::{self, Cache, Regex};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind, PatternID, PatternSet};

/// What the compiled form of one expression, or of all paths together, may take.
const NFA_BYTES_MAX: usize = 1 << 20;
const SET_BYTES_MAX: usize = 64 << 20;
/// What one core may keep of the states that it met, for each program.
const CACHE_BYTES_MAX: usize = 2 << 20;

/// One expression. `\d`, `\w` and `.` are about bytes: paths are ASCII.
#[derive(Clone)]
pub struct Program {
    text: String,
    regex: Regex,
}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFault {
    pub message: String,
    /// The bytes of the expression that it is about, if they can be told.
    pub span: Option<std::ops::Range<usize>>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Program) -> bool {
        self.text == other.text
    }
}

impl Eq for Program {}

impl Program {
    /// # Errors
    /// The text is not an expression, or takes more than 1 MiB when compiled.
    pub fn parse(text: &str) -> Result<Program, ProgramFault> {
        let regex = build(NFA_BYTES_MAX, MatchKind::LeftmostFirst)
            .build(text)
            .map_err(|error| ProgramFault::of(&error))?;
        Ok(Program { text: text.to_owned(), regex })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn scratch(&self) -> Cache {
        self.regex.create_cache()
    }

    pub fn holds(&self, cache: &mut Cache, text: &[u8]) -> bool {
        self.regex.search_half_with(cache, &Input::new(text).earliest(true)).is_some()
    }

    /// As [`Program::holds`], for those who ask once.
    pub fn holds_once(&self, text: &[u8]) -> bool {
        self.holds(&mut self.scratch(), text)
    }

    /// Where the groups of the first match begin and end, by twos; the whole match comes first.
    pub(super) fn captures(&self, cache: &mut Cache, text: &[u8], slots: &mut Vec<Option<NonMaxUsize>>) {
        slots.clear();
        slots.resize(self.group_count() * 2, None);
        self.regex.search_slots_with(cache, &Input::new(text), slots);
    }

    /// The numbers and names of all groups.
    pub fn groups(&self) -> Vec<String> {
        let numbers = (0..self.group_count()).map(|number| number.to_string());
        let names = self.regex.group_info().pattern_names(PatternID::ZERO).flatten().map(str::to_owned);
        numbers.chain(names).collect()
    }

    /// The number of groups, the whole match as the first.
    pub fn group_count(&self) -> usize {
        self.regex.group_info().group_len(PatternID::ZERO)
    }

    /// The number of the group with this name.
    pub fn group(&self, name: &str) -> Option<usize> {
        self.regex.group_info().to_index(PatternID::ZERO, name)
    }
}

impl ProgramFault {
    fn of(error: &meta::BuildError) -> ProgramFault {
        if let Some(limit) = error.size_limit() {
            let message = format!("the expression takes more than {} KiB when compiled", limit >> 10);
            return ProgramFault { message, span: None };
        }
        let span = match error.syntax_error() {
            Some(regex_syntax::Error::Parse(fault)) => Some(fault.span()),
            Some(regex_syntax::Error::Translate(fault)) => Some(fault.span()),
            _ => None,
        };
        let message = match error.syntax_error() {
            Some(regex_syntax::Error::Parse(fault)) => fault.kind().to_string(),
            Some(regex_syntax::Error::Translate(fault)) => fault.kind().to_string(),
            _ => error.to_string(),
        };
        ProgramFault { message, span: span.map(|span| span.start.offset..span.end.offset) }
    }
}

/// Many expressions, all asked in one pass.
#[derive(Clone, Debug)]
pub(super) struct ProgramSet(Regex);

/// What a search among them writes to.
#[derive(Debug)]
pub(super) struct SetScratch {
    cache: Cache,
    found: PatternSet,
}

impl ProgramSet {
    /// # Errors
    /// Together they take more than 64 MiB when compiled.
    pub fn compile(programs: &[&Program]) -> Result<ProgramSet, ProgramFault> {
        let texts: Vec<&str> = programs.iter().map(|program| program.text()).collect();
        let regex = build(SET_BYTES_MAX, MatchKind::All)
            .build_many(&texts)
            .map_err(|error| ProgramFault::of(&error))?;
        Ok(ProgramSet(regex))
    }

    pub fn scratch(&self) -> SetScratch {
        SetScratch { cache: self.0.create_cache(), found: PatternSet::new(self.0.pattern_len()) }
    }

    /// The indices of those that hold, ascending.
    pub fn found<'s>(&self, scratch: &'s mut SetScratch, text: &[u8]) -> impl Iterator<Item = usize> + 's {
        let SetScratch { cache, found } = scratch;
        found.clear();
        self.0.which_overlapping_matches_with(cache, &Input::new(text), found);
        scratch.found.iter().map(|pattern| pattern.as_usize())
    }
}

fn build(size_limit: usize, kind: MatchKind) -> meta::Builder {
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(size_limit))
        .hybrid_cache_capacity(CACHE_BYTES_MAX)
        .match_kind(kind);
    let mut builder = meta::Builder::new();
    builder.configure(config).syntax(syntax::Config::new().unicode(false).utf8(false));
    builder
}
