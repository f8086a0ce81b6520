//! A line in the operator's own form: `${client} ${method} "${uri}" ${status}`.

use std::fmt;

/// A text with parts of a record in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(Box<str>),
    Part(Part),
}

/// What a record says of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Time,
    TimeCombined,
    Client,
    Method,
    Host,
    Path,
    Query,
    Uri,
    Protocol,
    Status,
    Reason,
    Route,
    Upstream,
    Endpoint,
    Attempts,
    RequestId,
    TraceId,
    SpanId,
    Referer,
    UserAgent,
    BytesIn,
    BytesOut,
    ConnectMs,
    UpstreamMs,
    DurationMs,
}

const NAMES: [(&str, Part); 25] = [
    ("time", Part::Time),
    ("time_combined", Part::TimeCombined),
    ("client", Part::Client),
    ("method", Part::Method),
    ("host", Part::Host),
    ("path", Part::Path),
    ("query", Part::Query),
    ("uri", Part::Uri),
    ("protocol", Part::Protocol),
    ("status", Part::Status),
    ("reason", Part::Reason),
    ("route", Part::Route),
    ("upstream", Part::Upstream),
    ("endpoint", Part::Endpoint),
    ("attempts", Part::Attempts),
    ("request_id", Part::RequestId),
    ("trace_id", Part::TraceId),
    ("span_id", Part::SpanId),
    ("referer", Part::Referer),
    ("user_agent", Part::UserAgent),
    ("bytes_in", Part::BytesIn),
    ("bytes_out", Part::BytesOut),
    ("connect_ms", Part::ConnectMs),
    ("upstream_ms", Part::UpstreamMs),
    ("duration_ms", Part::DurationMs),
];

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A dollar sign that begins no name.
    Dollar,
    /// More than one line.
    Control,
    Unknown(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Dollar => f.write_str("names stand in `${…}`; a dollar sign is written `$$`"),
            Fault::Control => f.write_str("it is one line: there can be no control characters in it"),
            Fault::Unknown(name) => {
                let names: Vec<&str> = names().collect();
                write!(f, "there is no `{name}`; there is `{}`", names.join("`, `"))
            }
        }
    }
}

/// Everything that a template may name.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

impl Template {
    /// # Errors
    /// A name that there is not, or text that is not of one line.
    pub fn parse(text: &str) -> Result<Template, Fault> {
        if text.chars().any(|character| character.is_control() && character != '\t') {
            return Err(Fault::Control);
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let inner = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, after) = inner.ok_or(Fault::Dollar)?;
            let known = NAMES.iter().find(|(known, _)| *known == name);
            let (_, part) = known.ok_or_else(|| Fault::Unknown(name.to_owned()))?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
            }
            pieces.push(Piece::Part(*part));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into()));
        }
        Ok(Template { pieces: pieces.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_names() {
        let text = |text: &str| Piece::Text(text.into());
        let cases = [
            ("", vec![]),
            ("a $$ b", vec![text("a $ b")]),
            ("${client}${status}", vec![Piece::Part(Part::Client), Piece::Part(Part::Status)]),
            ("$$${uri}\t\"ü\"", vec![text("$"), Piece::Part(Part::Uri), text("\t\"ü\"")]),
        ];
        for (written, pieces) in cases {
            assert_eq!(Template::parse(written), Ok(Template { pieces: pieces.into() }), "{written}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let unknown = |name: &str| Fault::Unknown(name.to_owned());
        let cases = [
            ("$status", Fault::Dollar),
            ("${status", Fault::Dollar),
            ("a $", Fault::Dollar),
            ("${}", unknown("")),
            ("${Status}", unknown("Status")),
            ("a\n", Fault::Control),
            ("\u{1b}[31m", Fault::Control),
        ];
        for (written, fault) in cases {
            assert_eq!(Template::parse(written), Err(fault), "{written}");
        }
        let said = unknown("statsu").to_string();
        assert!(
            said.starts_with("there is no `statsu`; there is `time`, `time_combined`, `client`"),
            "{said}"
        );
    }
}
