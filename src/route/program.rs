//! Regular expressions, compiled: searched unanchored, on bytes, in linear time.
//!
//! The program is shared by all cores; what a search writes to is the caller's.

use std::fmt;

use regex_automata::hybrid::dfa::{DFA, OverlappingState};
use regex_automata::meta::{self, Cache, Regex};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind, PatternID, PatternSet, hybrid};

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
        let regex = builder().build(text).map_err(|error| ProgramFault::of(&error))?;
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
            return ProgramFault::too_large(limit);
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

    fn too_large(limit: usize) -> ProgramFault {
        let message = format!("the expression takes more than {} KiB when compiled", limit >> 10);
        ProgramFault { message, span: None }
    }
}

/// Many expressions, all asked in one pass.
#[derive(Clone, Debug)]
pub(super) struct ProgramSet(DFA);

/// What a search among them writes to.
#[derive(Debug)]
pub(super) struct SetScratch {
    cache: hybrid::dfa::Cache,
    found: PatternSet,
}

impl SetScratch {
    /// Bytes that it has come to take.
    pub fn bytes(&self) -> usize {
        size_of::<SetScratch>() + self.cache.memory_usage() + self.found.capacity()
    }
}

impl ProgramSet {
    /// # Errors
    /// Together they take more than 64 MiB when compiled.
    pub fn compile(programs: &[&Program]) -> Result<ProgramSet, ProgramFault> {
        let texts: Vec<&str> = programs.iter().map(|program| program.text()).collect();
        let nfa = NFA::compiler()
            .syntax(syntax_rules())
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(SET_BYTES_MAX))
                    .which_captures(WhichCaptures::None),
            )
            .build_many(&texts)
            .map_err(|error| match error.size_limit() {
                Some(limit) => ProgramFault::too_large(limit),
                None => ProgramFault { message: error.to_string(), span: None },
            })?;
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .cache_capacity(CACHE_BYTES_MAX)
            // Very many expressions get as much as it takes to go on at all.
            .skip_cache_capacity_check(true)
            .unicode_word_boundary(true);
        let dfa = DFA::builder().configure(config).build_from_nfa(nfa);
        Ok(ProgramSet(dfa.map_err(|error| ProgramFault { message: error.to_string(), span: None })?))
    }

    pub fn scratch(&self) -> SetScratch {
        SetScratch { cache: self.0.create_cache(), found: PatternSet::new(self.0.pattern_len()) }
    }

    /// Calls with the index of each that holds, once, in no order; what it costs does not depend
    /// on how many do not.
    pub fn each_found(&self, scratch: &mut SetScratch, text: &[u8], mut found: impl FnMut(usize)) {
        let input = Input::new(text);
        let mut state = OverlappingState::start();
        scratch.found.clear();
        // Only a Unicode word boundary beside a byte beyond ASCII fails: no path has one.
        while self.0.try_search_overlapping_fwd(&mut scratch.cache, &input, &mut state).is_ok()
            && let Some(end) = state.get_match()
        {
            // An expression is met again wherever a longer match of it ends.
            if scratch.found.insert(end.pattern()) {
                found(end.pattern().as_usize());
            }
            if scratch.found.is_full() {
                return;
            }
        }
    }
}

fn builder() -> meta::Builder {
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(NFA_BYTES_MAX))
        .hybrid_cache_capacity(CACHE_BYTES_MAX);
    let mut builder = meta::Builder::new();
    builder.configure(config).syntax(syntax_rules());
    builder
}

fn syntax_rules() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(texts: &[&str], path: &str, expected: &[usize]) {
        let programs: Vec<Program> = texts.iter().map(|text| Program::parse(text).unwrap()).collect();
        let set = ProgramSet::compile(&programs.iter().collect::<Vec<_>>()).unwrap();
        let mut scratch = set.scratch();
        for _ in 0..2 {
            let mut found = Vec::new();
            set.each_found(&mut scratch, path.as_bytes(), |index| found.push(index));
            found.sort_unstable();
            assert_eq!(found, expected, "{texts:?} {path}");
        }
    }

    #[test]
    fn each_expression_that_holds_is_found_once() {
        check(&["^/a.*", "x", "b$", ".*", "b"], "/aaab", &[0, 2, 3, 4]);
        check(&["^/a.*"], "/b", &[]);
        check(&["", "^$"], "/", &[0]);
        check(&["^/users-1/[0-9]+/x", "^/users-[0-9]+/1/"], "/users-1/1/x", &[0, 1]);
    }

    #[test]
    fn expressions_may_ask_for_boundaries_of_words() {
        check(&[r"\bb\b", r"(?u)\bb\b", r"(?u)\bc"], "/a/b/bc", &[0, 1]);
    }

    #[test]
    fn expressions_that_are_too_large_together_are_refused() {
        let large = Program::parse("[a-z]{2000}").unwrap();
        let fault = ProgramSet::compile(&vec![&large; 1_000]).unwrap_err();
        assert_eq!(fault.message, "the expression takes more than 65536 KiB when compiled");
    }
}
