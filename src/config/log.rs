//! `[log]`: the access log, and what the process says of itself.
//!
//! Must not know: which names a template may have; who compiles it says that.

use std::path::PathBuf;

use super::diagnostic::Diagnostic;
use super::table::Table;
use super::upstream::socket_path;
use super::value::{self, Wanted, wanted};
use super::{Events, Level, Log, LogFormat, LogOutput};

/// Where journald listens, unless it is told otherwise.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Longest name of a parameter.
const NAME_MAX: usize = 100;

/// What `output` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Stdout,
    Stderr,
    Journald,
}

pub fn read(mut table: Table<'_>) -> Log {
    let formats =
        [("json", LogFormat::Json), ("combined", LogFormat::Combined), ("custom", LogFormat::Custom)];
    let levels =
        [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];
    let format = table.choice("format", &formats, &[]);
    let template = table.template("template", |text| match text {
        "" => Err(wanted("a text with names such as `${client}`")),
        text => Ok(text.to_owned()),
    });
    refuse_lonely(&table, format);
    let log = Log {
        format,
        template,
        output: read_output(&mut table),
        sample: table.fraction("sample"),
        redact_query: table
            .list("redact_query", parameter)
            .map(|names| names.into_iter().map(|name| name.value).collect()),
        level: table.choice("level", &levels, &[]),
        events: table.choice("events", &[("text", Events::Text), ("json", Events::Json)], &[]),
    };
    table.finish(&[]);
    log
}

/// A template goes with its format, and the format with a template.
fn refuse_lonely(table: &Table<'_>, format: Option<LogFormat>) {
    let (place, message, help) = match (format, table.key_place("format"), table.key_place("template")) {
        (Some(LogFormat::Custom), Some(place), None) => (
            place,
            "format `custom` needs a template",
            "write template = '${client} \"${method} ${uri}\" ${status}'",
        ),
        (None, None, Some(place)) | (Some(LogFormat::Json | LogFormat::Combined), _, Some(place)) => {
            (place, "a template is for the format `custom`", "write format = \"custom\", or leave it out")
        }
        _ => return,
    };
    table.report().push(Diagnostic::error(place, message).with_help(help));
}

fn read_output(table: &mut Table<'_>) -> Option<LogOutput> {
    let words = [("stdout", Output::Stdout), ("stderr", Output::Stderr), ("journald", Output::Journald)];
    let word = table.choice("output", &words, &[]);
    let file = table.parsed("file", |text| match text {
        "" => Err(value::wanted("a path")),
        path => Ok(PathBuf::from(path)),
    });
    let socket = table.parsed("journal_socket", socket_path);
    if let (Some(file), Some(output)) = (&file, table.key_place("output")) {
        let both =
            Diagnostic::error(file.place.clone(), "the access log goes to one place: a file, or output");
        table.report().push(both.with_related(output, "output is here").with_help("keep one of them"));
    }
    if let (Some(socket), false) = (&socket, word == Some(Output::Journald)) {
        let unused = Diagnostic::error(socket.place.clone(), "journal_socket is for the output `journald`");
        table.report().push(unused.with_help("write output = \"journald\", or leave it out"));
    }
    if let Some(file) = file {
        return Some(LogOutput::File(file.value));
    }
    Some(match word? {
        Output::Stdout => LogOutput::Stdout,
        Output::Stderr => LogOutput::Stderr,
        Output::Journald => {
            LogOutput::Journald(socket.map_or_else(|| JOURNAL_SOCKET.into(), |socket| socket.value))
        }
    })
}

fn parameter(text: &str) -> Result<String, Wanted> {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic() && !b"&;=%".contains(&byte));
    match text.len() {
        1..=NAME_MAX if is_name(text) => Ok(text.to_owned()),
        _ => Err(wanted(format!("the name of a parameter, of 1 to {NAME_MAX} visible characters"))),
    }
}
