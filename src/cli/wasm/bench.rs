//! What the calls of a component cost.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::arguments::Bench;
use super::inspect::size;
use crate::cli::check::{self, Colour, Format};
use crate::cli::{env, folder, json as shown, toml_text};
use crate::config::{File, Sources, visible};
use crate::process::events;
use crate::wasm::inspect;
use crate::wasm::kind::Kind;
use crate::wasm::trial::{Report, Row, Trial};
use crate::{plan, wasm, worker};

/// Tells it.
pub fn show(bench: &Bench) -> ExitCode {
    let report = folder::private("warpdrive-bench")
        .map_err(|error| format!("cannot make a directory in {}: {error}", std::env::temp_dir().display()))
        .and_then(|folder| {
            let report = measure(bench, &folder);
            std::fs::remove_dir_all(&folder)
                .map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
            report
        });
    let (kind, report) = match report {
        Ok(measured) => measured,
        Err(reason) => {
            let reason = format!("{}: {reason}", bench.file.display());
            check::print(&[crate::cli::arguments::mistake(reason)], Colour::Auto.choose());
            return ExitCode::FAILURE;
        }
    };
    env::print(&match bench.format {
        Format::Human => text(&bench.file, kind, &report),
        Format::Json => shown::visible(&format!("{:#}\n", value(&bench.file, kind, &report))),
    })
}

fn measure(bench: &Bench, folder: &Path) -> Result<(Kind, Report), String> {
    let refused = |refusal: inspect::Refusal| match refusal.help {
        Some(help) => format!("{} ({help})", refusal.message),
        None => refusal.message,
    };
    let world = inspect::read(&bench.file).and_then(|bytes| inspect::world(&bytes)).map_err(refused)?;
    let kind = Kind::of(&world);
    kind.check(&world).map_err(refused)?;
    let settings = settings(bench, kind, folder)?;
    let Bench { head, body, time, .. } = bench;
    let trial = Trial { kind, settings: &settings, head, body, time: *time };
    let prepared = trial.prepare()?;
    // What a call says, and why one fails. Why it cannot be compiled is said by us.
    events::init(events::Settings { level: tracing::Level::WARN, form: events::Form::Text });
    let report = worker::run_alone(trial.run(&prepared))??;
    Ok((kind, report))
}

/// As a configuration would have it, with every default.
fn settings(bench: &Bench, kind: Kind, folder: &Path) -> Result<wasm::Settings, String> {
    let file = toml_text(&std::path::absolute(&bench.file).map_err(|error| error.to_string())?);
    let table = kind.table();
    let text = match kind {
        Kind::Component => format!(
            "[wasm.{table}.fresh]\nfile = \"{file}\"\n\n[wasm.{table}.kept]\nfile = \"{file}\"\nlimits.reuse = {}\n",
            u32::MAX
        ),
        Kind::Policy | Kind::Middleware => format!("[wasm.{table}.tried]\nfile = \"{file}\"\n"),
    };
    let file = File { path: PathBuf::from("bench.toml"), text };
    let loaded = plan::load(&Sources { file: Some(file), ..Sources::default() });
    let loaded = loaded.map_err(|wrong| wrong.first().map(ToString::to_string).unwrap_or_default())?;
    let mut settings = loaded.plan.wasm;
    settings.cores = 1;
    settings.cache_dir = folder.to_owned();
    let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for component in &mut settings.components {
        component.config = bench.config.iter().map(|(name, value)| (name.clone(), text_of(value))).collect();
    }
    let filters = settings.filters.iter_mut().map(|filter| &mut filter.guest);
    for guest in settings.policies.iter_mut().chain(filters) {
        guest.config = bench.config.clone();
    }
    Ok(settings)
}

fn text(file: &Path, kind: Kind, report: &Report) -> String {
    let Report { compiled, said, rows, memory } = report;
    let mut out = format!("{:9}{}\n", "file", visible(&file.display().to_string()));
    out += &format!(
        "{:9}in {}, {} of code; loaded from the cache in {}\n",
        "compiled",
        shown_time(compiled.time),
        size(compiled.code_bytes),
        shown_time(compiled.load)
    );
    let verb = match kind {
        Kind::Component => "answers",
        Kind::Policy => "chooses",
        Kind::Middleware => "says",
    };
    out += &format!("{verb:9}{}\n", visible(said));
    if let Some(memory) = memory {
        out += &format!("{:9}{} for an instance\n", "memory", size(*memory as usize));
    }
    let widest = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
    out += &format!(
        "\n{:widest$}  {:>10}  {:>10}  {:>10}  {:>10}\n",
        "CALL", "PROCESSOR", "MEDIAN", "P99", "CALLS"
    );
    for Row { what, calls, cpu, median, p99 } in rows {
        let [cpu, median, p99] = [cpu, median, p99].map(|time| shown_time(*time));
        out += &format!("{what:widest$}  {cpu:>10}  {median:>10}  {p99:>10}  {calls:>10}\n");
    }
    out
}

/// Three digits that count, and the unit that fits.
fn shown_time(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = match value {
        _ if unit == "ns" => 0,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// Names are stable: a key may be added, none changes its meaning or goes. Times are in nanoseconds.
fn value(file: &Path, kind: Kind, report: &Report) -> Value {
    let nanos = |time: Duration| time.as_nanos() as u64;
    let row = |row: &Row| {
        let Row { what, calls, cpu, median, p99 } = row;
        let [cpu, median, p99] = [cpu, median, p99].map(|time| nanos(*time));
        json!({ "call": what, "calls": calls, "cpu_ns": cpu, "median_ns": median, "p99_ns": p99 })
    };
    json!({
        "file": file.display().to_string(),
        "kind": kind.word(),
        "compile_ns": nanos(report.compiled.time),
        "code_bytes": report.compiled.code_bytes,
        "load_ns": nanos(report.compiled.load),
        "said": report.said,
        "memory_bytes": report.memory,
        "rows": report.rows.iter().map(row).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let times = [7, 999, 1234, 45_678, 345_678, 4_567_890, 2_000_000_000].map(Duration::from_nanos);
        let shown = times.map(shown_time);
        assert_eq!(shown, ["7 ns", "999 ns", "1.23 µs", "45.7 µs", "346 µs", "4.57 ms", "2.00 s"]);
    }
}
