//! `warpdrive env`: every setting with its value and where that comes from, and what of it the
//! environment and the arguments override.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::check::{self, Format};
use crate::config::{self, Colours, Kind, Override, Place, Setting, Sources, reference};
use crate::plan;

/// One line of the answer.
struct Line {
    key: String,
    /// `None`: it is not set, and what then holds is said in the reference.
    value: Option<Value>,
    is_secret: bool,
    source: String,
}

/// Prints all settings of a configuration that can be run; of another one, what is wrong.
pub fn show(file: Option<&Path>, set: &[String], format: Format, colours: Colours) -> ExitCode {
    let sources = match Sources::load(file, set) {
        Ok(sources) => sources,
        Err(unreadable) => return check::refuse(&[unreadable], colours),
    };
    let workers = match plan::load(&sources) {
        Ok(loaded) => loaded.plan.server.worker_threads,
        Err(mistakes) => return check::refuse(&mistakes, colours),
    };
    let told = reference::entries();
    let default = |shape: &str| match shape {
        // It depends on the machine.
        "server.worker_threads" => Some(json!(workers)),
        _ => told.iter().find(|entry| entry.shape == shape).and_then(|entry| entry.default.clone()),
    };
    let settings = config::settings(&sources).into_iter();
    let lines: Vec<Line> = settings.map(|setting| line(setting, default)).collect();
    print(&match format {
        Format::Human => for_readers(&lines),
        Format::Json => {
            format!("{:#}\n", json!({ "settings": lines.iter().map(as_json).collect::<Value>() }))
        }
    })
}

/// Writes to standard output, whose reader may have seen enough before the end.
pub fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// What the environment and the arguments set, one a line; nothing if they set nothing.
pub fn print_overrides(overrides: &[Override]) {
    for Override { key, place, replaced } in overrides {
        match replaced {
            Some(replaced) => println!("{key} is set by {place}, not by {}", replaced.file_and_line()),
            None => println!("{key} is set by {place}"),
        }
    }
}

fn line(setting: Setting, default: impl Fn(&str) -> Option<Value>) -> Line {
    let is_secret = matches!(setting.kind, Kind::Secret | Kind::Variables | Kind::Object);
    let (value, source) = match setting.value {
        Some(written) if written.place == Place::Default => (Some(written.value), "default".to_owned()),
        Some(written) => (Some(written.value), written.place.file_and_line()),
        None => (default(&setting.shape), "default".to_owned()),
    };
    Line { key: setting.key, value, is_secret, source }
}

fn for_readers(lines: &[Line]) -> String {
    let text = |line: &Line| match &line.value {
        Some(_) if line.is_secret => format!("{} = (secret, set by {})", line.key, line.source),
        Some(value) => format!("{} = {}", line.key, as_toml(value)),
        None => format!("{} is not set", line.key),
    };
    let width = lines.iter().map(|line| text(line).chars().count()).filter(|width| *width <= 60).max();
    let width = width.unwrap_or_default();
    let whole = lines.iter().map(|line| match &line.value {
        Some(_) if !line.is_secret => format!("{:width$}  # {}\n", text(line), line.source),
        _ => text(line) + "\n",
    });
    whole.collect()
}

/// Strings, numbers, booleans and lists of them are written alike in JSON and TOML.
fn as_toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(as_toml).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

fn as_json(line: &Line) -> Value {
    match line.is_secret && line.value.is_some() {
        true => json!({ "key": line.key, "secret": true, "source": line.source }),
        false => json!({ "key": line.key, "value": line.value, "source": line.source }),
    }
}
