//! Real application servers as wrapped commands, started as their operators start them.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::client::{get, request};
use crate::harness::proxy::{BINARY, children};
use crate::harness::{Directory, Proxy, QUIET, ended, free_port, make_pipe, reach_reader};

/// Answers with its name and the path; to `/wait` when somebody writes to the pipe `go`.
const RACKUP: &str = "
run lambda { |env|
  File.read('go') if env['PATH_INFO'] == '/wait'
  [200, { 'content-type' => 'text/plain' }, [\"puma #{env['PATH_INFO']}\"]]
}
";

/// As Rails has it.
const PUMA: &str = "
threads 1, 3
workers 2
port ENV.fetch('PORT', 3000)
";

const WSGI: &str = "
def app(environ, start):
    if environ['PATH_INFO'] == '/wait': open('go').read()
    start('200 OK', [('Content-Type', 'text/plain')])
    return [b'gunicorn ' + environ['PATH_INFO'].encode()]
";

const NODE: &str = "
const server = require('http').createServer((request, response) => {
  const answer = () => response.end(`node ${request.url}`);
  if (request.url === '/wait') require('fs').readFile('go', answer); else answer();
});
server.listen(process.env.PORT, '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
";

struct Application {
    name: &'static str,
    /// What is installed to have it.
    package: &'static str,
    command: &'static [&'static str],
    /// How it ends when it is told to stop.
    code: i32,
}

const APPLICATIONS: [Application; 4] = [
    Application {
        name: "puma",
        package: "puma",
        command: &["puma", "-C", "config/puma.rb", "config.ru"],
        // It dies of the signal that it was told by.
        code: 128 + 15,
    },
    Application {
        name: "puma",
        package: "puma",
        command: &["sh", "-c", "puma -p $PORT config.ru"],
        code: 128 + 15,
    },
    Application {
        name: "gunicorn",
        package: "gunicorn",
        command: &["gunicorn", "--workers", "2", "--threads", "2", "app:app"],
        code: 0,
    },
    Application { name: "node", package: "nodejs", command: &["node", "server.js"], code: 0 },
];

fn write(directory: &Path) {
    std::fs::create_dir(directory.join("config")).expect("a directory of our own");
    let files = [("config.ru", RACKUP), ("config/puma.rb", PUMA), ("app.py", WSGI), ("server.js", NODE)];
    for (name, text) in files {
        std::fs::write(directory.join(name), text).expect("a file of our own");
    }
    make_pipe(&directory.join("go"));
}

fn start(application: &Application) -> Proxy {
    let directory = Directory::fresh();
    write(directory.path());
    let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", application.name]).status();
    let package = application.package;
    assert!(found.expect("sh runs").success(), "install the Debian package {package}, as tests/run does");
    let mut command = Command::new(BINARY);
    command.arg("--").args(application.command);
    command.env("WARPDRIVE_TARGET_PORT", free_port().to_string()).env("WARPDRIVE_HTTP_PORT", "0");
    let log = directory.path().join("none");
    Proxy::spawn(command, log, directory)
}

/// A process with everything below it.
fn family(pid: u32) -> Vec<u32> {
    let below = children(pid).into_iter().flat_map(family);
    below.chain([pid]).collect()
}

#[test]
fn application_servers_answer_to_the_last_and_leave_nothing() {
    for application in &APPLICATIONS {
        let name = application.name;
        let mut proxy = start(application);
        assert_eq!(get(proxy.address(), "/first").text(), format!("{name} /first"));
        let all = family(proxy.pid());
        let mut busy = proxy.client();
        busy.send(request("/wait"));
        let go = reach_reader(&proxy.directory().join("go"));
        proxy.signal(Signal::TERM);
        busy.is_quiet_for(QUIET);
        drop(go);
        assert_eq!(busy.response().text(), format!("{name} /wait"));
        assert_eq!(proxy.wait_end(), application.code, "{:?}", application.command);
        all.into_iter().for_each(ended);
    }
}
