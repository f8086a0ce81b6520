//! `warpdrive -- COMMAND`: the command as a child, from its start to the last of its group.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::client::{get, request};
use crate::harness::proxy::{BINARY, Run, run};
use crate::harness::{
    BOUND, Client, Directory, Proxy, QUIET, ended, eventually, eventually_within, free_port, holds,
    make_pipe, reach_reader,
};
use crate::supervision::kill;

/// An application: says its pid; answers `/wait` when somebody writes to the pipe `go`; writes
/// the signals that it gets to `signals`, and ends in a way that its arguments say.
const APP: &str = r#"
import http.server, os, signal, sys
ends, listens = 'ends' in sys.argv[1], 'later' not in sys.argv[1]
def told(number, frame):
    with open('signals', 'a') as file: file.write(signal.Signals(number).name + '\n')
    if ends: os._exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP): signal.signal(number, told)
class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *words): pass
    def do_GET(self):
        if self.path == '/wait': open('go').read()
        text = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
if not listens: open('go').read()
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Answers).serve_forever()
"#;

/// `warpdrive -- COMMAND` with free ports.
fn wrap(words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--").args(words);
    command.env("WARPDRIVE_TARGET_PORT", free_port().to_string());
    command.env("WARPDRIVE_HTTP_PORT", "0");
    command
}

fn wrap_app(how: &str) -> Command {
    wrap(&["python3", "-c", APP, how])
}

/// In a directory with the pipe, once it listens.
fn start(command: Command) -> Proxy {
    let directory = with_pipe();
    let log = directory.path().join("none");
    Proxy::spawn(command, log, directory)
}

/// The same, not waited for.
fn launch(mut command: Command) -> Proxy {
    let directory = with_pipe();
    let log = directory.path().join("none");
    let port = free_port();
    command.env("WARPDRIVE_HTTP_PORT", port.to_string());
    Proxy::launch(command, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), log, directory)
}

fn with_pipe() -> Directory {
    let directory = Directory::fresh();
    make_pipe(&directory.path().join("go"));
    directory
}

/// Lets the application go on.
fn go(proxy: &Proxy) {
    drop(reach_reader(&proxy.directory().join("go")));
}

fn signals(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("signals")).unwrap_or_default()
}

fn to_the_end(words: &[&str]) -> Run {
    let directory = Directory::fresh();
    run(wrap(words).current_dir(directory.path()))
}

/// The pid that a child has written to a file.
fn pid_in(proxy: &Proxy, name: &str) -> u32 {
    eventually(&format!("a pid in {name}"), || {
        let text = std::fs::read_to_string(proxy.directory().join(name)).unwrap_or_default();
        text.strip_suffix('\n').and_then(|digits| digits.parse().ok()).ok_or(text)
    })
}

#[test]
fn warpdrive_ends_with_what_its_command_ended_with() {
    let cases = [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 128 + 9),
        ("kill -TERM $$", 128 + 15),
        // What it leaves behind is told to stop, and does.
        ("sleep 1000 & exit 3", 3),
    ];
    for (script, code) in cases {
        let ended = to_the_end(&["sh", "-c", script]);
        assert_eq!(ended.code, Some(code), "{script}: {ended:?}");
        assert!(ended.stderr.contains("`sh` ended"), "{script}: {ended:?}");
    }
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    for (program, code) in [("no-such-command-anywhere", 127), ("/etc/passwd", 126), ("/", 126)] {
        let refused = to_the_end(&[program]);
        assert_eq!(refused.code, Some(code), "{refused:?}");
        assert!(refused.stderr.contains(&format!("cannot start `{program}`")), "{refused:?}");
    }
}

#[test]
fn a_command_and_a_file_are_refused_together() {
    let directory = Directory::fresh();
    let file = directory.path().join("warpdrive.toml");
    std::fs::write(&file, "[server]\nhttp_port = 0\n").unwrap();
    let mut found = Command::new(BINARY);
    found.current_dir(directory.path());
    let mut named = Command::new(BINARY);
    named.arg("-c").arg(&file);
    for mut command in [found, named] {
        let refused = run(command.args(["--", "touch", "started"]));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("[upstreams.NAME.process]"), "{refused:?}");
        assert!(refused.stderr.contains("warpdrive.toml"), "{refused:?}");
        assert!(!directory.path().join("started").exists());
    }
    let refused = run(Command::new(BINARY).env("WARPDRIVE_TARGET_HOST", "app.test").args(["--", "true"]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("WARPDRIVE_TARGET_HOST"), "{refused:?}");
}

#[test]
fn a_command_cannot_have_our_own_port() {
    let directory = Directory::fresh();
    let mut command = wrap(&["touch", "started"]);
    command.env("WARPDRIVE_TARGET_PORT", "4321").env("WARPDRIVE_HTTP_PORT", "4321");
    let refused = run(command.current_dir(directory.path()));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("port 4321 cannot be both"), "{refused:?}");
    assert!(!directory.path().join("started").exists());
}

#[test]
fn a_command_gets_its_port_and_nothing_of_ours() {
    let mut command =
        wrap(&["sh", "-c", "echo port $PORT; readlink /proc/$$/fd/*; exec cat /proc/self/status"]);
    command.env("WARPDRIVE_TARGET_PORT", "4321").env("GREETING", "hello");
    let directory = Directory::fresh();
    let ended = run(command.current_dir(directory.path()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("port 4321"), "{ended:?}");
    // A shell has a descriptor above 9 for itself; ours would be sockets.
    assert!(!ended.stdout.contains("socket:"), "{ended:?}");
    assert_eq!(mask("SigBlk", &ended.stdout), 0);
    // What we were started with is ignored still, but Rust's own SIGPIPE is not.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let pipe = 1 << (Signal::PIPE.as_raw() - 1);
    assert_eq!(mask("SigIgn", &ended.stdout), mask("SigIgn", &own) & !pipe);
}

/// A set of signals in `/proc/PID/status`, without those that the C library keeps for itself.
fn mask(field: &str, status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let digits = line.and_then(|line| line.strip_prefix(':')).unwrap_or_default();
    let mask = u64::from_str_radix(digits.trim(), 16).unwrap_or_else(|_| panic!("no {field} in {status}"));
    mask & ((1 << 31) - 1)
}

#[test]
fn a_request_that_comes_early_waits() {
    let proxy = launch(wrap_app("later ends"));
    proxy.stderr_contains("started `python3`");
    let mut early = eventually("the sockets to be bound", || Client::try_connect(proxy.address()));
    early.send(request("/"));
    early.is_quiet_for(QUIET);
    go(&proxy);
    let pid: u32 = early.response().text().parse().unwrap();
    drop(proxy);
    ended(pid);
}

/// A command that never listens at `PORT`, and a request waits only so long for it; USR1 ends it.
fn never_listens(hold: &str) -> Proxy {
    let mut command = wrap(&["sh", "-c", "trap 'exit 7' USR1; echo $$ >pid; while :; do sleep 0.01; done"]);
    command.env("WARPDRIVE_UPSTREAMS__DEFAULT__HOLD", hold);
    launch(command)
}

#[test]
fn a_command_that_never_listens_holds_requests_only_so_long() {
    let proxy = never_listens("1s");
    let mut early = eventually("the sockets to be bound", || Client::try_connect(proxy.address()));
    for response in [early.send(request("/")).response(), get(proxy.address(), "/")] {
        assert_eq!((response.status, response.head.value("retry-after")), (503, Some("1")));
        assert_eq!(response.text(), "waited too long for the upstream to start\n");
    }
}

#[test]
fn a_command_that_ends_before_it_listens_lets_go_of_requests() {
    let mut proxy = never_listens("10m");
    let pid = pid_in(&proxy, "pid");
    proxy.stderr_contains("listening on");
    let mut early = proxy.client();
    early.send(request("/"));
    assert!(early.is_quiet_for(QUIET));
    kill(pid, Signal::USR1);
    assert_eq!(early.response().status, 503);
    assert_eq!(proxy.wait_end(), 7);
}

#[test]
fn a_command_that_listens_elsewhere_is_told_where() {
    let port = free_port();
    let listen =
        format!("import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(1000)");
    // Not the command itself, but what it has started.
    let proxy = launch(wrap(&["sh", "-c", "python3 -c \"$0\" & wait", &listen]));
    let line = eventually_within(BOUND * 3, "a word on where it listens", || {
        let log = proxy.stderr();
        log.iter().find(|line| line.contains("does not listen on")).cloned().ok_or(log)
    });
    assert!(line.contains(&format!("; it listens on 127.0.0.1:{port} instead")), "{line}");
}

#[test]
fn a_command_that_never_listens_can_be_stopped() {
    for (signal, code) in [(Signal::TERM, 9), (Signal::INT, 8)] {
        let script = "trap 'exit 9' TERM; trap 'exit 8' INT; echo $$ >pid; while :; do sleep 0.01; done";
        let mut proxy = launch(wrap(&["sh", "-c", script]));
        pid_in(&proxy, "pid");
        proxy.signal(signal);
        assert_eq!(proxy.wait_end(), code);
    }
}

#[test]
fn a_signal_reaches_the_command_once_and_after_the_last_response() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT"), (Signal::QUIT, "SIGQUIT")] {
        let mut proxy = start(wrap_app("ends"));
        let (mut idle, mut busy) = (proxy.client(), proxy.client());
        let pid: u32 = idle.get("/").text().parse().unwrap();
        busy.send(request("/wait"));
        proxy.signal(Signal::HUP);
        proxy.stderr_contains("reloaded: generation 2");
        proxy.signal(signal);
        idle.expect_end();
        busy.is_quiet_for(QUIET);
        assert_eq!(signals(proxy.directory()), "");
        go(&proxy);
        assert_eq!(busy.response().text(), pid.to_string());
        assert_eq!(proxy.wait_end(), 0);
        assert_eq!(signals(proxy.directory()), format!("{name}\n"));
        ended(pid);
    }
}

#[test]
fn a_second_signal_ends_a_command_that_does_not_stop() {
    let script =
        "sh -c 'trap : TERM; echo $$ >below; while :; do sleep 1; done' & exec python3 -c \"$0\" stays";
    let mut proxy = start(wrap(&["sh", "-c", script, APP]));
    let below = pid_in(&proxy, "below");
    let pid: u32 = get(proxy.address(), "/").text().parse().unwrap();
    proxy.signal(Signal::TERM);
    eventually("the command to be told", || {
        let seen = signals(proxy.directory());
        holds(seen == "SIGTERM\n", seen)
    });
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_end(), 2);
    ended(pid);
    ended(below);
    assert_eq!(signals(proxy.directory()), "SIGTERM\n");
}

#[test]
fn what_a_command_left_behind_is_told_to_stop_and_waited_for() {
    let script = "(trap 'echo late; exit' TERM; sh -c 'echo $PPID' >below; while :; do sleep 0.01; done) & \
                  while ! [ -s below ]; do sleep 0.01; done; exit 5";
    let mut proxy = launch(wrap(&["sh", "-c", script]));
    let below = pid_in(&proxy, "below");
    assert_eq!(proxy.wait_end(), 5);
    ended(below);
    eventually("its last words", || holds(proxy.stdout().contains(&"late".to_owned()), proxy.stdout()));
}

#[test]
fn a_command_survives_the_data_process() {
    let mut proxy = start(wrap_app("ends"));
    let pid = get(proxy.address(), "/").text();
    for _ in 0..2 {
        let before = proxy.data_pid();
        proxy.signal_data_process(Signal::KILL);
        ended(before);
        assert_eq!(get(proxy.address(), "/").text(), pid);
    }
    assert_eq!(proxy.terminate(), 0);
    assert_eq!(signals(proxy.directory()), "SIGTERM\n");
}

#[test]
fn a_command_that_ends_ends_everything() {
    let mut proxy = start(wrap_app("stays"));
    let pid: u32 = get(proxy.address(), "/").text().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(proxy.wait_end(), 128 + 9);
}

#[test]
fn a_command_does_not_outlive_warpdrive() {
    let proxy = start(wrap_app("ends"));
    let pid: u32 = get(proxy.address(), "/").text().parse().unwrap();
    proxy.signal(Signal::KILL);
    ended(pid);
    assert_eq!(signals(proxy.directory()), "SIGTERM\n");
}

#[test]
fn a_port_where_another_listens_is_not_proxied_to() {
    let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let directory = Directory::fresh();
    let mut command = wrap(&["touch", "started"]);
    command.current_dir(directory.path()).env("WARPDRIVE_TARGET_PORT", port.to_string());
    let refused = run(&mut command);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let told = format!("another process listens on 127.0.0.1:{port}");
    assert!(refused.stderr.contains(&told), "{refused:?}");
    assert!(!directory.path().join("started").exists());
}

#[test]
fn process_1_reaps_orphans_and_passes_a_signal_on() {
    let namespace = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let works = Command::new("unshare").args(namespace).arg("true").output();
    // Without namespaces on this machine there is nothing to see.
    if !works.is_ok_and(|output| output.status.success()) {
        return;
    }
    // Orphans that nobody reaps stay in the list of processes.
    let script = "trap 'exit 4' TERM; (sleep 0.02 &); (setsid sleep 0.03 &); \
                  while grep -qs '(sleep)' /proc/[0-9]*/stat; do :; done; \
                  kill -TERM 1; while :; do sleep 0.01; done";
    let directory = Directory::fresh();
    let mut command = Command::new("unshare");
    command.args(namespace).args([BINARY, "--", "sh", "-c", script]).current_dir(directory.path());
    command.env("WARPDRIVE_TARGET_PORT", free_port().to_string()).env("WARPDRIVE_HTTP_PORT", "0");
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(4), "{ended:?}");
}
