//! `warpdrive wasm`: what a component is, and what its calls cost, before it is deployed.
//!
//! Exit code 0: it is one that can be run. 1: it is not, or a call has failed. 2: the arguments are
//! wrong.

use std::process::ExitCode;

use lexopt::Parser;

use self::arguments::Request;
use super::check::{self, Colour};

mod arguments;
#[cfg(feature = "wasm")]
mod bench;
#[cfg(feature = "wasm")]
mod inspect;

/// The word that leads here.
pub const VERB: &str = "wasm";

const HELP: &str = "\
What a component of WebAssembly is, and what its calls cost.

Usage: warpdrive wasm inspect FILE    what it is for, what it imports and exports, what must be granted
       warpdrive wasm bench FILE [METHOD URL] [-H 'NAME: VALUE']… [--data TEXT]

inspect does not run it. bench compiles it and calls it in this process, as one core would: a
component that answers requests gets this one (GET / by default), a policy chooses among 8
endpoints for it, middleware sees it. Nothing is listened on, and it can ask nobody.

--config JSON      what its `config` table would have, such as '{\"greeting\": \"hello\"}'
--seconds N        how long each kind of call is made (2)
--format json      the same as JSON";

/// Does what the arguments after `wasm` say.
pub fn main(arguments: Parser) -> ExitCode {
    match arguments::parse(arguments) {
        Ok(Request::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(request) => answer(&request),
        Err(mistake) => {
            check::print(&[mistake], Colour::Auto.choose());
            eprintln!("`warpdrive wasm --help` shows how it is used");
            ExitCode::from(2)
        }
    }
}

#[cfg(feature = "wasm")]
fn answer(request: &Request) -> ExitCode {
    match request {
        Request::Inspect { file, format } => inspect::show(file, *format),
        Request::Bench(bench) => bench::show(bench),
        Request::Help => ExitCode::SUCCESS,
    }
}

#[cfg(not(feature = "wasm"))]
fn answer(_: &Request) -> ExitCode {
    let absent = super::arguments::mistake("this build has no Wasm: it was built without the feature `wasm`");
    check::print(&[absent.with_help("build it with the default features")], Colour::Auto.choose());
    ExitCode::FAILURE
}
