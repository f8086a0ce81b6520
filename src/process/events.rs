//! What happens in a process, told on standard error: one line each, without colours.
//!
//! `2026-11-21T02:16:00.123Z WARN message key=value`

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// Tells events of this level and worse from now on. The first call of a process counts.
pub fn init(level: Level) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(Line);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(ours(level)));
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// What a library has to say is said in our words, if it matters.
fn ours(level: Level) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level)
}

struct Line;

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
        write!(writer, "{} {} ", now()?, event.metadata().level())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
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
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn an_event_is_one_plain_line() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = Arc::new(Mutex::new(Some(writer)));
        let theirs = Arc::clone(&writer);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || theirs.lock().unwrap().as_ref().unwrap().try_clone().unwrap())
            .event_format(Line)
            .with_filter(ours(Level::INFO));
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(workers = 4, name = "a b", "it happened");
            tracing::debug!("not told");
            tracing::error!(target: "hickory_net::udp", "not told either");
        });
        writer.lock().unwrap().take();
        let mut line = String::new();
        reader.read_to_string(&mut line).unwrap();
        let (time, rest) = line.split_once(' ').unwrap();
        let shape = time.replace(|character: char| character.is_ascii_digit(), "0");
        assert_eq!(shape, "0000-00-00T00:00:00.000Z");
        assert_eq!(rest, "WARN it happened workers=4 name=\"a b\"\n");
    }
}
