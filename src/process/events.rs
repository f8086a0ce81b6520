//! What happens in a process, told on standard error: one line each, without colours.
//!
//! `2026-11-21T02:16:00.123Z WARN message key=value`, or as JSON
//! `{"time":"2026-11-21T02:16:00.123Z","level":"WARN","message":"message","key":"value"}`

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use super::stderr::Impatient;

/// What one line may wait for a reader that others did not have to wait for: he may have to be
/// woken first. All that a core ever waits for him.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub level: Level,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
}

/// Tells events of this level and worse from now on, also if nobody takes them. The first call of
/// a process counts.
pub fn init(settings: Settings) {
    let line = Line(settings.form);
    let missing = move |count| missing(settings.form, count);
    let output = Arc::new(Impatient::new(std::io::stderr(), PATIENCE, missing));
    let lines = tracing_subscriber::fmt::layer().with_writer(output).event_format(line);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(ours(settings.level)));
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// What a library has to say is said in our words, if it matters.
fn ours(level: Level) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level)
}

/// A line that stands for so many others.
fn missing(form: Form, count: u64) -> String {
    let message = "lines are missing here, which nobody took";
    // Without a time it still says what it has to.
    let time = now().unwrap_or_default();
    match form {
        Form::Text => format!("{time} WARN {message} lines_lost={count}\n"),
        Form::Json => {
            format!("{}\n", json!({ "time": time, "level": "WARN", "message": message, "lines_lost": count }))
        }
    }
}

struct Line(Form);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level();
        match self.0 {
            Form::Text => {
                write!(writer, "{} {level} ", now()?)?;
                context.format_fields(writer.by_ref(), event)?;
                writeln!(writer)
            }
            Form::Json => {
                let mut members = Members(Map::new());
                members.0.insert("time".to_owned(), json!(now()?));
                members.0.insert("level".to_owned(), json!(level.as_str()));
                event.record(&mut members);
                writeln!(writer, "{}", Value::Object(members.0))
            }
        }
    }
}

/// The fields of an event as members of an object; `message` is one of them.
struct Members(Map<String, Value>);

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), json!(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), json!(value));
    }
}

/// In UTC, to the millisecond.
fn now() -> Result<String, fmt::Error> {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    // The library writes microseconds and `Z`.
    time.truncate("2026-11-21T02:16:00.123".len());
    time.push('Z');
    Ok(time)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Mutex;

    use super::*;

    /// What is told of three events, with all digits of the time made zeros.
    fn told(form: Form) -> String {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = Arc::new(Mutex::new(Some(writer)));
        let theirs = Arc::clone(&writer);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || theirs.lock().unwrap().as_ref().unwrap().try_clone().unwrap())
            .event_format(Line(form))
            .with_filter(ours(Level::INFO));
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(workers = 4, name = "a b", "it happened {}", "\"so\"");
            tracing::debug!("not told");
            tracing::error!(target: "hickory_net::udp", "not told either");
        });
        writer.lock().unwrap().take();
        let mut line = String::new();
        reader.read_to_string(&mut line).unwrap();
        let end = line.find('Z').unwrap();
        let time = line[..end].replace(|character: char| character.is_ascii_digit(), "0");
        time + &line[end..]
    }

    #[test]
    fn an_event_is_one_plain_line() {
        assert_eq!(
            told(Form::Text),
            "0000-00-00T00:00:00.000Z WARN it happened \"so\" workers=4 name=\"a b\"\n"
        );
        assert_eq!(
            told(Form::Json),
            concat!(
                r#"{"time":"0000-00-00T00:00:00.000Z","level":"WARN","message":"it happened \"so\"","#,
                r#""workers":4,"name":"a b"}"#,
                "\n"
            )
        );
    }
}
