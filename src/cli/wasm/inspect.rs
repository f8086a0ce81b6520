//! What a file is, told by its world; it is neither compiled nor run.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::check::Format;
use crate::cli::toml_text;
use crate::cli::{env, json as shown};
use crate::config::visible;
use crate::wasm::inspect::{self, Refusal, World};
use crate::wasm::kind::{Kind, grant};

/// What there is to tell.
struct Told<'a> {
    file: &'a Path,
    bytes: usize,
    world: World,
    kind: Kind,
    verdict: Result<(), Refusal>,
}

/// Tells it.
pub fn show(file: &Path, format: Format) -> ExitCode {
    let told = match look(file) {
        Ok(told) => told,
        Err(refusal) => return refuse(file, &refusal, format),
    };
    let printed = env::print(&match format {
        Format::Human => text(&told),
        Format::Json => shown::visible(&format!("{:#}\n", value(&told))),
    });
    if told.verdict.is_ok() { printed } else { ExitCode::FAILURE }
}

fn look(file: &Path) -> Result<Told<'_>, Refusal> {
    let bytes = inspect::read(file)?;
    let world = inspect::world(&bytes)?;
    let kind = Kind::of(&world);
    let verdict = kind.check(&world);
    Ok(Told { file, bytes: bytes.len(), world, kind, verdict })
}

/// It is nothing like a component.
fn refuse(file: &Path, refusal: &Refusal, format: Format) -> ExitCode {
    let Refusal { message, help } = refusal;
    let file = file.display().to_string();
    match format {
        Format::Json => {
            let value = json!({ "file": file, "works": false, "reason": message, "help": help });
            // The exit code says the same.
            let _printed = env::print(&shown::visible(&format!("{value:#}\n")));
        }
        Format::Human => {
            eprintln!("error: {}: {}", visible(&file), visible(message));
            if let Some(help) = help {
                eprintln!("help: {}", visible(help));
            }
        }
    }
    ExitCode::FAILURE
}

fn text(told: &Told<'_>) -> String {
    let Told { file, bytes, world, kind, verdict } = told;
    let mut out = format!("{:9}{}, {}\n", "file", visible(&file.display().to_string()), size(*bytes));
    out += &format!("{:9}{}\n", "kind", describe(*kind, verdict.is_ok()));
    match verdict {
        Ok(()) => out += &format!("{:9}yes\n", "works"),
        Err(Refusal { message, help }) => {
            out += &format!("{:9}no: {}\n", "works", visible(message));
            if let Some(help) = help {
                out += &format!("{:9}{}\n", "help", visible(help));
            }
        }
    }
    for (title, names) in [("EXPORTS", &world.exports), ("IMPORTS", &world.imports)] {
        let widest = names.iter().map(|name| name.chars().count()).max();
        if let Some(widest) = widest {
            out += &format!("\n{title}\n");
            for name in names {
                let says = if title == "IMPORTS" { grant(name).unwrap_or("is not there") } else { "" };
                out += format!("  {:widest$}  {says}", visible(name)).trim_end();
                out.push('\n');
            }
        }
    }
    if verdict.is_ok() {
        out += "\nTO USE IT\n";
        out.extend(configuration(told).lines().map(|line| format!("  {line}").trim_end().to_owned() + "\n"));
    }
    out
}

fn describe(kind: Kind, works: bool) -> &'static str {
    match kind {
        Kind::Component if works => "answers requests",
        Kind::Component => "nothing that is known here",
        Kind::Policy => "a policy: chooses endpoints",
        Kind::Middleware => "middleware: sees requests and responses",
    }
}

/// What a configuration has to have, at the least.
fn configuration(told: &Told<'_>) -> String {
    let Told { file, world, kind, .. } = told;
    let name = name(file);
    let imports = |wanted: &str| world.imports.iter().any(|import| import.split('@').next() == Some(wanted));
    let mut out = format!("[wasm.{}.{name}]\nfile = \"{}\"\n", kind.table(), toml_text(file));
    match kind {
        Kind::Component => {
            if imports("wasi:config/store") {
                out += "config = {} # its settings\n";
            }
            if imports("wasi:cli/environment") {
                out += "env = {} # its variables\n";
            }
            if imports("wasi:http/outgoing-handler") {
                out += &format!("\n[wasm.components.{name}.outgoing]\nupstreams = [] # whom it may ask\n");
            }
            out += &format!("\n[wasm.workloads.{name}]\ncomponents = [\"{name}\"]\n");
            out += &format!("\n[[routes]]\nworkload = \"{name}\"\n");
        }
        Kind::Policy => {
            let settings =
                if imports("warpdrive:guest/settings") { "config = {} # its settings\n" } else { "" };
            out += settings;
            out += &format!("\n[upstreams.NAME]\nstrategy = \"wasm\"\npolicy = \"{name}\"\n");
        }
        Kind::Middleware => {
            if imports("warpdrive:guest/settings") {
                out += "config = {} # its settings\n";
            }
            if imports("warpdrive:guest/http") {
                out += "upstreams = [] # whom it may ask\n";
            }
            out += &format!("\n[[routes]]\nmiddleware = [\"{name}\"]\n");
        }
    }
    out
}

/// A name for it that needs no quotes.
fn name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let fit = |one: char| if one.is_ascii_alphanumeric() || one == '-' || one == '_' { one } else { '-' };
    match stem.chars().map(fit).collect::<String>() {
        name if name.is_empty() => "app".to_owned(),
        name => name,
    }
}

/// In the unit that fits.
pub fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Names are stable: a key may be added, none changes its meaning or goes.
fn value(told: &Told<'_>) -> Value {
    let Told { file, bytes, world, kind, verdict } = told;
    let import = |name: &String| json!({ "name": name, "grant": grant(name) });
    let (reason, help) = match verdict {
        Ok(()) => (None, None),
        Err(Refusal { message, help }) => (Some(message), help.as_ref()),
    };
    let has_kind = verdict.is_ok() || *kind != Kind::Component;
    json!({
        "file": file.display().to_string(),
        "bytes": bytes,
        "kind": has_kind.then(|| kind.word()),
        "works": verdict.is_ok(),
        "reason": reason,
        "help": help,
        "exports": world.exports,
        "imports": world.imports.iter().map(import).collect::<Value>(),
        "configuration": verdict.is_ok().then(|| configuration(told)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{File, Sources};
    use crate::plan;

    /// What is shown to be copied works, once it has the upstream that it speaks of.
    #[test]
    fn the_configuration_that_is_shown_is_one() {
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
        let files = ["probe.wasm", "policies/sticky.wasm", "middleware/auth.wasm"];
        for file in files.map(|file| guests.join(file)) {
            let told = look(&file).expect("a component");
            assert_eq!(told.verdict, Ok(()));
            let text = configuration(&told)
                .replace("NAME]", "app]\nhost = \"127.0.0.1\"\nport = 3000")
                .replace("[[routes]]\nmiddleware", "[[routes]]\nrespond = { status = 200 }\nmiddleware");
            let file = File { path: "w.toml".into(), text: text.clone() };
            let loaded = plan::load(&Sources { file: Some(file), ..Sources::default() });
            let wrong = loaded.err().map(|wrong| wrong[0].to_string());
            assert_eq!(wrong, None, "{text}");
        }
    }

    #[test]
    fn sizes_are_in_the_unit_that_fits() {
        let sizes = [0, 1023, 1024, 1_572_864].map(size);
        assert_eq!(sizes, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 MiB"]);
    }

    #[test]
    fn names_need_no_quotes() {
        let names = ["a b.wasm", "user-2.wasm", "/x/.wasm", "é.wasm"].map(|file| name(Path::new(file)));
        assert_eq!(names, ["a-b", "user-2", "-wasm", "-"]);
    }
}
