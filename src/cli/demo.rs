//! `warpdrive demo`: a whole running example. Its configuration is run as any other.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, Parser};

use super::check::{self, Colour};
use super::settings;
use crate::config::{File, Sources};
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
       warpdrive demo --print-config    show what it runs by";

/// What one of the servers may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The variable that has its say here; the others are about other configurations.
const HTTP_PORT: &str = "WARPDRIVE_HTTP_PORT";

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Run { port: Option<String> },
    PrintConfiguration,
    Help,
}

/// Does what the arguments after `demo` say.
pub fn main(arguments: Parser) -> ExitCode {
    match parse(arguments) {
        Ok(Request::Run { port }) => run(port),
        Ok(Request::PrintConfiguration) => {
            print!("{}", demo::CONFIGURATION);
            ExitCode::SUCCESS
        }
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
            (other, _) => return Err(other.unexpected()),
        };
    }
    Ok(request)
}

fn run(port: Option<String>) -> ExitCode {
    let directory = match private_directory() {
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

/// The configuration, with the sockets in `directory`. Lines stay where they are.
fn sources(directory: &Path, port: Option<String>) -> Sources {
    let text = demo::CONFIGURATION.replace(demo::DIRECTORY, &toml_text(directory));
    Sources {
        file: Some(File { path: PathBuf::from("config/demo.toml"), text }),
        environment: port.map(|port| (HTTP_PORT.to_owned(), port)).into_iter().collect(),
        ..Sources::default()
    }
}

/// A path within a TOML string. One that is no text ends up as another, which is refused.
fn toml_text(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")
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

/// A new directory into which nobody else can look.
fn private_directory() -> io::Result<PathBuf> {
    let parent = std::env::temp_dir();
    let mut last = io::ErrorKind::AlreadyExists.into();
    for number in 0..100 {
        // One with our number may be left from a process that had it before.
        let suffix = if number == 0 { String::new() } else { format!("-{number}") };
        let path = parent.join(format!("warpdrive-demo-{}{suffix}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Says what there is to try.
fn announce(address: SocketAddr) {
    let at = format!("http://{address}");
    println!(
        "
  WarpDrive is running at {at}/ – open it in a browser, or try:

    curl {at}/hello              two servers take turns
    curl -i {at}/hello           Server-Timing tells which worker, route and endpoint
    curl {at}/live/headers       a third one, its prefix stripped, and what it is told
    curl -N {at}/live/events     server-sent events, each as it happens
    curl -d hello {at}/echo      a body, there and back

  What it runs by:  warpdrive demo --print-config
  The end:          Ctrl-C
"
    );
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn arguments_become_requests() {
        let run = |port: Option<&str>| Some(Request::Run { port: port.map(str::to_owned) });
        let cases = [
            ("", run(None)),
            ("--port 9000", run(Some("9000"))),
            ("--port=0", run(Some("0"))),
            ("--print-config", Some(Request::PrintConfiguration)),
            ("--help", Some(Request::Help)),
            ("--port", None),
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
        for directory in ["/tmp/x", "/tmp/a \"b\" \\c"] {
            let sources = sources(Path::new(directory), Some("0".to_owned()));
            let loaded = plan::load(&sources).unwrap_or_else(|wrong| panic!("{}", wrong[0]));
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings[0]);
            let text = format!("{:?}", loaded.plan.upstreams);
            for name in demo::ORIGINS {
                let path = Path::new(directory).join(format!("{name}.sock"));
                assert!(text.contains(&format!("{path:?}")), "{path:?} in {text}");
            }
        }
    }

    #[test]
    fn the_directory_is_private_and_new() {
        let (first, second) = (private_directory().unwrap(), private_directory().unwrap());
        assert_ne!(first, second);
        for directory in [first, second] {
            let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            std::fs::remove_dir(directory).unwrap();
        }
    }
}
