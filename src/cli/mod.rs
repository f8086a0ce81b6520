//! The command line: reads the arguments, calls, says what went wrong, chooses the exit code.
//!
//! 0: done. 1: the arguments or the configuration are wrong; starting again will not help. Only
//! `route` and `wasm` tell the two apart: there, 2 is the arguments.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use lexopt::Parser;

use self::arguments::{Command, Options};
use self::check::Colour;
use crate::config::{self, Sources};
use crate::process;
use crate::{master, plan, server};

mod arguments;
mod ask;
mod check;
mod demo;
mod env;
mod folder;
mod json;
mod reread;
mod route;
mod status;
mod wasm;
mod wrap;

const HELP: &str = "\
WarpDrive, a reverse proxy

Usage: warpdrive [run] [-c FILE]    run
       warpdrive [run] -- COMMAND…  run in front of a command, which listens on $PORT
       warpdrive check [-c FILE]    report everything that is wrong with a configuration
       warpdrive -t [-c FILE]       the same
       warpdrive env [-c FILE]      every setting, and where it comes from
       warpdrive route METHOD URL   what becomes of a request, and why; route --help shows more
       warpdrive reload             run by the configuration as it is now, without disturbing anyone
       warpdrive status [-c FILE]   what runs, and how it does; --json for programs
       warpdrive restart|start|stop NAME  the commands of an upstream; restart --help shows more
       warpdrive wasm inspect|bench FILE  what a component is, and what its calls cost
       warpdrive schema             the JSON Schema of a configuration, for editors
       warpdrive demo [--port N]    a running example, with a page that shows it
       warpdrive version
       warpdrive help

run, check and env also take --set KEY=VALUE, as in --set server.http_port=8081, any number of
times; it beats the environment, which beats the file.

check --format json    the report as JSON, on standard output; env has it, too
--color auto|always|never

Without -c the file is $WARPDRIVE_CONFIG, ./warpdrive.toml or /etc/warpdrive/warpdrive.toml.
Without any of them everything goes to WARPDRIVE_TARGET_HOST (127.0.0.1) and
WARPDRIVE_TARGET_PORT (3000), from WARPDRIVE_HTTP_PORT (8080).";

/// Does what the arguments of this process say.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let first = words.next();
    if let Some(verb) = first.as_ref().and_then(|word| ask::VERBS.into_iter().find(|verb| *verb == word)) {
        return ask::main(verb, Parser::from_args(words));
    }
    match first {
        Some(word) if word == master::ARGUMENT => return server::run(),
        Some(word) if word == demo::ORIGIN => return demo::origin(words),
        Some(word) if word == route::VERB => return route::main(Parser::from_args(words)),
        Some(word) if word == wasm::VERB => return wasm::main(Parser::from_args(words)),
        Some(word) if word == demo::VERB => return demo::main(Parser::from_args(words)),
        _ => {}
    }
    match arguments::parse(Parser::from_env()) {
        Ok(Command::Run(options, command)) => run(&options, command.as_deref()),
        Ok(Command::Check(options, format)) => {
            check::check(options.file.as_deref(), &options.set, format, options.colour.choose())
        }
        Ok(Command::Env(options, format)) => {
            env::show(options.file.as_deref(), &options.set, format, options.colour.choose())
        }
        Ok(Command::Schema) => env::print(&config::schema()),
        Ok(Command::Version) => {
            println!("warpdrive {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(mistake) => {
            check::print(&[mistake], Colour::Auto.choose());
            eprintln!("`warpdrive help` shows all commands and options");
            ExitCode::FAILURE
        }
    }
}

/// Checks the configuration as `check` does, then runs it, with the command in front of which it
/// is to run.
fn run(options: &Options, command: Option<&[OsString]>) -> ExitCode {
    let colours = options.colour.choose();
    let sources = match Sources::load(options.file.as_deref(), &options.set) {
        Ok(sources) => sources,
        Err(unreadable) => return check::refuse(&[unreadable], colours),
    };
    let loaded = match plan::load(&sources) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return check::refuse(&diagnostics, colours),
    };
    check::print(&loaded.warnings, colours);
    match command.map(|command| wrap::child(command, &sources, &loaded.plan)).transpose() {
        Ok(child) => master::run(settings(&sources, &loaded, child.into_iter().collect())),
        Err(message) => {
            check::print(&[arguments::mistake(message)], colours);
            ExitCode::FAILURE
        }
    }
}

/// What `master` has to know of a configuration that can be run.
fn settings(
    sources: &Sources,
    loaded: &plan::Loaded,
    wrapped: Vec<process::settings::Settings>,
) -> master::Settings {
    let server = &loaded.plan.server;
    master::Settings {
        listen: server.listen.clone(),
        workers: server.worker_threads,
        shutdown_timeout: server.shutdown_timeout,
        events: loaded.events,
        wrapped,
        announce: None,
        sources: sources.encode(),
        origin: Box::new(reread::Files::new(sources.clone())),
        watch: server.watch,
    }
}

/// A path within a TOML string. One that is no text ends up as another, which is refused.
fn toml_text(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")
}
