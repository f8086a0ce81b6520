//! `warpdrive demo`: a whole running example. Its configuration is run as any other.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, Parser};

use super::check::{self, Colour};
use super::{folder, settings, toml_text};
use crate::config::{self, Sources};
use crate::process::readiness::Address;
use crate::process::settings::{Name, Program, Settings};
use crate::{demo, master, plan};

/// The word that leads here.
pub const VERB: &str = "demo";

/// The word that makes this process one of the servers.
pub const ORIGIN: &str = demo::ARGUMENT;

const HELP: &str = "\
A running example: three small servers behind one port, and a page that shows them at work

Usage: warpdrive demo [--port N]        on 127.0.0.1, port 8080 or WARPDRIVE_HTTP_PORT
       warpdrive demo --print-config    show what it runs by
       warpdrive demo --write DIR       write that there, with the components that belong to it";

/// What one of the servers may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The variable that has its say here; the others are about other configurations.
const HTTP_PORT: &str = "WARPDRIVE_HTTP_PORT";

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Run { port: Option<String> },
    PrintConfiguration,
    Write { directory: PathBuf },
    Help,
}

/// Does what the arguments after `demo` say.
pub fn main(arguments: Parser) -> ExitCode {
    match parse(arguments) {
        Ok(Request::Run { port }) => run(port),
        Ok(Request::PrintConfiguration) => {
            print!("{}", demo::configuration());
            ExitCode::SUCCESS
        }
        Ok(Request::Write { directory }) => match write(&directory) {
            Ok(file) => {
                println!("warpdrive -c {}", file.display());
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: cannot write to {}: {error}", directory.display());
                ExitCode::FAILURE
            }
        },
        Ok(Request::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{HELP}");
            ExitCode::FAILURE
        }
    }
}

/// One of the servers of `warpdrive demo`.
pub fn origin(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    match (words.next(), words.next()) {
        (Some(name), Some(path)) => demo::run(name.to_string_lossy().into_owned(), Path::new(&path)),
        _ => {
            eprintln!("error: this server is started by `warpdrive demo` only");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: Parser) -> Result<Request, lexopt::Error> {
    let mut request = Request::Run { port: None };
    while let Some(argument) = arguments.next()? {
        request = match (argument, request) {
            (Arg::Short('h') | Arg::Long("help"), _) => return Ok(Request::Help),
            (Arg::Long("port"), Request::Run { port: None }) => {
                let port = arguments.value()?.to_string_lossy().into_owned();
                if port.parse::<u16>().is_err() {
                    return Err(format!("--port must be a port from 0 to 65535, not `{port}`").into());
                }
                Request::Run { port: Some(port) }
            }
            (Arg::Long("print-config"), Request::Run { port: None }) => Request::PrintConfiguration,
            (Arg::Long("write"), Request::Run { port: None }) => {
                Request::Write { directory: arguments.value()?.into() }
            }
            (other, _) => return Err(other.unexpected()),
        };
    }
    Ok(request)
}

/// Writes the configuration into `directory`, over nothing that is there. Returns its path.
fn write(directory: &Path) -> io::Result<PathBuf> {
    let file = directory.join("demo.toml");
    let components = directory.join(demo::COMPONENTS_DIRECTORY);
    std::fs::create_dir_all(&components)?;
    File::create_new(&file)?.write_all(demo::configuration().as_bytes())?;
    write_components(&components)?;
    Ok(file)
}

fn write_components(directory: &Path) -> io::Result<()> {
    for (name, bytes) in demo::COMPONENTS {
        File::create_new(directory.join(name))?.write_all(bytes)?;
    }
    Ok(())
}

fn run(port: Option<String>) -> ExitCode {
    let directory = match folder::private(demo::DIRECTORY_NAME) {
        Ok(directory) => directory,
        Err(error) => {
            eprintln!("error: cannot make a directory in {}: {error}", std::env::temp_dir().display());
            return ExitCode::FAILURE;
        }
    };
    let code = run_in(&directory, port);
    // Most often, the servers have already taken it away.
    if let Err(error) = std::fs::remove_dir_all(&directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("error: cannot remove {}: {error}", directory.display());
    }
    code
}

fn run_in(directory: &Path, port: Option<String>) -> ExitCode {
    if let Err(error) = write_components(directory) {
        eprintln!("error: cannot write to {}: {error}", directory.display());
        return ExitCode::FAILURE;
    }
    let sources = sources(directory, port.or_else(|| std::env::var(HTTP_PORT).ok()));
    let loaded = match plan::load(&sources) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return check::refuse(&diagnostics, Colour::Auto.choose()),
    };
    // `master` binds it, and says what is wrong; here it can be said what helps.
    let taken = loaded.plan.server.listen.iter().find(|address| is_taken(**address));
    if let Some(address) = taken {
        eprintln!(
            "error: port {} is in use; another one: warpdrive demo --port {}",
            address.port(),
            if address.port() == 8081 { 8082 } else { 8081 }
        );
        return ExitCode::FAILURE;
    }
    let children = demo::ORIGINS.map(|name| child(name, directory)).into();
    master::run(master::Settings { announce: Some(announce), ..settings(&sources, &loaded, children) })
}

/// The configuration, with the sockets and the components in `directory`. Lines stay where they are.
fn sources(directory: &Path, port: Option<String>) -> Sources {
    let directory = toml_text(directory);
    let text = demo::configuration()
        .replace(demo::DIRECTORY, &directory)
        .replace(&format!("file = \"{}/", demo::COMPONENTS_DIRECTORY), &format!("file = \"{directory}/"));
    Sources {
        file: Some(config::File { path: PathBuf::from("config/demo.toml"), text }),
        environment: port.map(|port| (HTTP_PORT.to_owned(), port)).into_iter().collect(),
        ..Sources::default()
    }
}

fn child(name: &str, directory: &Path) -> Settings {
    let socket = directory.join(format!("{name}.sock"));
    let arguments = vec![demo::ARGUMENT.into(), name.into(), socket.clone().into()];
    let name = Name { upstream: format!("demo server {name}"), instance: None };
    Settings {
        addresses: vec![vec![Address::Unix(socket)]],
        stop_timeout: STOP_TIMEOUT,
        ..Settings::new(name, Program { path: "/proc/self/exe".into(), arguments })
    }
}

fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Says what there is to try.
fn announce(address: SocketAddr) {
    let at = format!("http://{address}");
    let components = if demo::COMPONENTS.is_empty() {
        String::new()
    } else {
        format!(
            "    curl {at}/wasm/user/42       a component of WebAssembly, told by its path
    curl -d hello {at}/wasm/shout    another one: the body in capitals, as it comes
"
        )
    };
    println!(
        "
  WarpDrive is running at {at}/ – open it in a browser, or try:

    curl {at}/hello              two servers take turns
    curl -i {at}/hello           Server-Timing tells which worker, route and endpoint
    curl {at}/live/headers       a third one, its prefix stripped, and what it is told
    curl -N {at}/live/events     server-sent events, each as it happens
    curl -d hello {at}/echo      a body, there and back
{components}
  What it runs by:  warpdrive demo --print-config
  The end:          Ctrl-C
"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_requests() {
        let run = |port: Option<&str>| Some(Request::Run { port: port.map(str::to_owned) });
        let cases = [
            ("", run(None)),
            ("--port 9000", run(Some("9000"))),
            ("--port=0", run(Some("0"))),
            ("--print-config", Some(Request::PrintConfiguration)),
            ("--write x/y", Some(Request::Write { directory: "x/y".into() })),
            ("--help", Some(Request::Help)),
            ("--port", None),
            ("--write", None),
            ("--write x --port 1", None),
            ("--port many", None),
            ("--port 65536", None),
            ("--print-config --port 1", None),
            ("-c x.toml", None),
            ("now", None),
        ];
        for (line, expected) in cases {
            let parser = Parser::from_args(line.split_whitespace());
            assert_eq!(parse(parser).ok(), expected, "{line}");
        }
    }

    #[test]
    fn the_configuration_loads_wherever_its_sockets_are() {
        let own = folder::private("warpdrive-test").unwrap();
        for directory in ["x", "a \"b\" \\c"].map(|name| own.join(name)) {
            std::fs::create_dir(&directory).unwrap();
            write_components(&directory).unwrap();
            let sources = sources(&directory, Some("0".to_owned()));
            let loaded = plan::load(&sources).unwrap_or_else(|wrong| panic!("{}", wrong[0]));
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings[0]);
            let text = format!("{:?}", loaded.plan.upstreams);
            for name in demo::ORIGINS {
                let path = directory.join(format!("{name}.sock"));
                assert!(text.contains(&format!("{path:?}")), "{path:?} in {text}");
            }
        }
        std::fs::remove_dir_all(own).unwrap();
    }
}
