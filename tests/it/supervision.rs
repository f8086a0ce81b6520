//! Commands of upstreams: started, kept running, stopped, and what becomes of their requests.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::harness::client::{get, request};
use crate::harness::proxy::{BINARY, children, run};
use crate::harness::{
    Builder, Client, Proxy, QUIET, ended, eventually, free_port, holds, make_pipe, reach_reader,
};

/// An application on the socket or port that it is given: answers with its pid and its variables
/// `NAME` and `USER`, appends what happens to the file `told`; `/exit/N` ends it with this code,
/// `/wait` waits until somebody writes to the pipe `go`, as the application does with `later`. With a
/// file `broken` it ends at once, and with one called `sick` it answers `/health` with 500.
pub const APP: &str = r#"
import http.server, os, signal, socket, socketserver, sys
name = os.environ.get('NAME', '')
def tell(word):
    with open('told', 'a') as file: file.write(f'{word} {name}\n')
def stop(*_):
    tell('stops')
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
if os.path.exists('broken'): sys.exit('broken')
is_sick = os.path.exists('sick')
if 'later' in sys.argv: open('go').read()
tell('starts')
class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *words): pass
    def address_string(self): return 'nobody'
    def do_POST(self): self.do_GET()
    def do_GET(self):
        if self.path.startswith('/exit/'): os._exit(int(self.path.split('/')[-1]))
        if self.path == '/wait':
            tell('waits')
            open('go').read()
        if self.path == '/write':
            print('to standard output', flush=True)
            print('to standard \x1b[1merror', file=sys.stderr, flush=True)
        text = f"{os.getpid()} {name} {os.environ.get('USER', '')} {os.getuid()}".encode()
        status = 500 if self.path == '/health' and is_sick else 200
        # In one piece, so that it comes whole or not at all.
        self.wfile.write(b'HTTP/1.1 %d So\r\nContent-Length: %d\r\n\r\n%s' % (status, len(text), text))
class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    address_family = socket.AF_INET if sys.argv[1].isdigit() else socket.AF_UNIX
Server(('127.0.0.1', int(sys.argv[1])) if sys.argv[1].isdigit() else sys.argv[1], Answers).serve_forever()
"#;

/// An application behind a socket, with more lines in the table of its process.
pub fn app(builder: Builder, name: &str, more: &str) -> Builder {
    let table = format!(
        "[upstreams.{name}]\nsocket = \"{name}.sock\"\n[upstreams.{name}.process]\ncommand = \"python3\"\n\
         args = [\"app.py\", \"{{socket}}\"]\nenv = {{ NAME = \"{name}\" }}\n{more}\n"
    );
    builder.toml(&table).route(name, &format!("path_prefix = \"/{name}\"\nstrip_prefix = true"))
}

pub fn builder() -> Builder {
    Builder::new().file("app.py", APP)
}

/// The words of the first answer that is one.
pub fn words(proxy: &Proxy, path: &str) -> Vec<String> {
    eventually(&format!("an answer to {path}"), || {
        let answer = get(proxy.address(), path);
        let text = answer.text();
        match answer.status {
            200 => Ok(text.split(' ').map(str::to_owned).collect()),
            status => Err((status, proxy.stderr())),
        }
    })
}

pub fn pid(proxy: &Proxy, path: &str) -> u32 {
    words(proxy, path)[0].parse().unwrap()
}

pub fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
}

/// What the applications have told, in order.
pub fn told(proxy: &Proxy) -> Vec<String> {
    let text = std::fs::read_to_string(proxy.directory().join("told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn commands_are_started_in_order_and_stopped_in_reverse() {
    let builder = app(builder(), "web", "depends_on = [\"queue\", \"cable\"]");
    let builder = app(app(builder, "cable", "depends_on = [\"queue\"]"), "queue", "");
    let mut proxy = builder.start();
    let pids = ["/web/", "/cable/", "/queue/"].map(|path| pid(&proxy, path));
    assert_eq!(told(&proxy), ["starts queue", "starts cable", "starts web"]);
    assert_eq!(proxy.terminate(), 0);
    pids.into_iter().for_each(ended);
    assert_eq!(told(&proxy)[3..], ["stops web", "stops cable", "stops queue"]);
    let log = proxy.stderr().join("\n");
    assert!(log.contains("`queue` is ready"), "{log}");
}

#[test]
fn one_that_ends_is_started_again_and_says_why() {
    let proxy = app(builder(), "web", "").start();
    let first = pid(&proxy, "/web/");
    kill(first, Signal::KILL);
    ended(first);
    let line = proxy.stderr_contains("starting it again");
    assert!(line.contains("`web` ended (killed by SIGKILL)"), "{line}");
    let second = pid(&proxy, "/web/");
    assert_ne!(first, second);
    assert_eq!(told(&proxy), ["starts web", "starts web"]);
}

#[test]
fn one_that_ends_again_and_again_is_slowed_down() {
    let script = "echo first words; echo last words >&2; exit 3";
    let table = format!(
        "[upstreams.web]\nsocket = \"web.sock\"\n\
         process = {{ command = \"sh\", args = [\"-c\", \"{script}\"] }}"
    );
    let proxy = builder().toml(&format!("{table}\nhold = \"100ms\"")).route("web", "").start();
    let line = proxy.stderr_contains("starting it again in 400ms");
    assert!(line.contains("`web` ended (exit code 3)"), "{line}");
    let words = ["last it wrote:", "\"first words\"", "\"last words\""];
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    assert_eq!(get(proxy.address(), "/").status, 503);
}

#[test]
fn a_restart_is_as_it_is_asked_for() {
    let cases = [("always", 0, true), ("on_failure", 0, false), ("on_failure", 7, true), ("never", 7, false)];
    for (restart, code, is_started_again) in cases {
        let proxy = app(builder(), "web", &format!("restart = \"{restart}\"")).start();
        let first = pid(&proxy, "/web/");
        let _ = proxy.client().send(post(&format!("/web/exit/{code}"))).try_response_to("POST");
        let line = proxy.stderr_contains("`web` ended");
        assert_eq!(line.contains("starting it again"), is_started_again, "{restart} {code}: {line}");
        if is_started_again {
            assert_ne!(pid(&proxy, "/web/"), first);
        } else {
            assert_eq!(get(proxy.address(), "/web/").status, 503);
        }
    }
}

#[test]
fn what_a_command_writes_is_told_under_its_name() {
    let proxy = app(builder(), "web", "").start();
    words(&proxy, "/web/write");
    proxy.stderr_contains("INFO web: to standard output");
    proxy.stderr_contains("INFO web: to standard \\u{1b}[1merror");
}

#[test]
fn every_instance_has_a_process_of_its_own_if_its_place_is_an_argument() {
    let ports = [free_port(), free_port()];
    let instances =
        ports.map(|port| format!("[[upstreams.web.instances]]\nhost = \"127.0.0.1\"\nport = {port}\n"));
    let table = format!(
        "[upstreams.web.process]\ncommand = \"python3\"\nargs = [\"app.py\", \"{{port}}\"]\n\
         env = {{ NAME = \"number-{{index}}\" }}\n{}",
        instances.concat()
    );
    let mut proxy = builder().workers(1).toml(&table).route("web", "").start();
    let mut names = Vec::new();
    eventually("both to answer", || {
        names.push(words(&proxy, "/")[1].clone());
        holds(["number-0", "number-1"].iter().all(|name| names.iter().any(|one| one == name)), names.clone())
    });
    let log = proxy.stderr().join("\n");
    assert!(log.contains("`web.0` is ready") && log.contains("`web.1` is ready"), "{log}");
    assert_eq!(proxy.terminate(), 0);
    assert_eq!(told(&proxy).len(), 4);
}

#[test]
fn one_process_can_be_behind_all_instances() {
    let ports = [free_port(), free_port()];
    let instances =
        ports.map(|port| format!("[[upstreams.web.instances]]\nhost = \"127.0.0.1\"\nport = {port}\n"));
    // It listens on both.
    let script = format!(
        "import os, threading, http.server\nclass A(http.server.BaseHTTPRequestHandler):\n \
         def log_message(self, *w): pass\n def do_GET(self):\n  self.send_response(200); \
         self.send_header('Content-Length', '0'); self.send_header('X-Port', str(self.server.server_port)); \
         self.end_headers()\nfor port in {ports:?}: \
         threading.Thread(target=http.server.HTTPServer(('127.0.0.1', port), A).serve_forever).start()"
    );
    let table = format!(
        "[upstreams.web.process]\ncommand = \"python3\"\nargs = [\"both.py\"]\n{}",
        instances.concat()
    );
    let proxy = builder().file("both.py", &script).workers(1).toml(&table).route("web", "").start();
    let mut seen = Vec::new();
    eventually("both to answer", || {
        let answer = get(proxy.address(), "/");
        seen.extend(answer.head.value("X-Port").map(str::to_owned));
        let wanted = ports.map(|port| port.to_string());
        holds(wanted.iter().all(|port| seen.contains(port)), (seen.clone(), proxy.stderr()))
    });
    assert_eq!(proxy.stderr().iter().filter(|line| line.contains("started `web`")).count(), 1);
}

#[test]
fn commands_keep_their_pids_when_the_data_process_dies() {
    let mut proxy = app(app(builder(), "web", ""), "cable", "").start();
    let pids = || (pid(&proxy, "/web/"), pid(&proxy, "/cable/"));
    let before = pids();
    for _ in 0..2 {
        let data = proxy.data_pid();
        proxy.signal_data_process(Signal::KILL);
        ended(data);
        // The first answers of the next one are theirs: nobody is told that they start.
        assert_eq!(get(proxy.address(), "/web/").status, 200);
        assert_eq!(pids(), before);
    }
    assert_eq!(proxy.terminate(), 0);
    assert_eq!(told(&proxy).len(), 4);
}

#[test]
fn nothing_is_left_when_master_is_killed() {
    // The shell knows nothing of what it has started in the background, and that stays.
    let script = "trap '' TERM; python3 app.py web.sock & echo $! >below; wait; sleep 1000";
    let table = format!(
        "[upstreams.web]\nsocket = \"web.sock\"\n[upstreams.web.process]\ncommand = \"sh\"\n\
         args = [\"-c\", \"{script}\"]\nstop_timeout = \"100ms\"\n"
    );
    let proxy = builder().toml(&table).route("web", "").start();
    let below = pid(&proxy, "/");
    let data = proxy.data_pid();
    let first = children(proxy.pid()).into_iter().find(|pid| *pid != data).unwrap();
    proxy.signal(Signal::KILL);
    for pid in [data, below, first] {
        ended(pid);
    }
}

#[test]
fn what_does_not_stop_is_killed() {
    let script = "trap '' TERM; exec python3 -c \\\"import socket,signal,time; signal.signal(15, signal.SIG_IGN); \
                  s = socket.socket(socket.AF_UNIX); s.bind('web.sock'); s.listen(); time.sleep(1000)\\\"";
    let table = format!(
        "[upstreams.web]\nsocket = \"web.sock\"\n[upstreams.web.process]\ncommand = \"sh\"\n\
         args = [\"-c\", \"{script}\"]\nstop_timeout = \"100ms\"\n"
    );
    let mut proxy = builder().toml(&table).route("web", "").start();
    proxy.stderr_contains("`web` is ready");
    let data = proxy.data_pid();
    let first = children(proxy.pid()).into_iter().find(|pid| *pid != data).unwrap();
    assert_eq!(proxy.terminate(), 2);
    ended(first);
    proxy.stderr_contains("`web` did not end in time: killing what is left of it");
}

#[test]
fn one_that_is_never_ready_is_started_again() {
    let table = "[upstreams.web]\nsocket = \"web.sock\"\n[upstreams.web.process]\ncommand = \"sleep\"\n\
                 args = [\"1000\"]\nstart_timeout = \"200ms\"\n";
    let mut proxy = builder().toml(table).route("web", "").start();
    proxy.stderr_contains("`web`: it was not ready within 200ms");
    eventually("another start", || {
        let log = proxy.stderr();
        holds(log.iter().filter(|line| line.contains("started `web`")).count() >= 3, log)
    });
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn a_socket_that_was_left_behind_is_in_nobodys_way() {
    let proxy = app(builder(), "web", "");
    let path = proxy.directory().join("web.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let proxy = proxy.start();
    pid(&proxy, "/web/");
}

#[test]
fn a_command_does_not_start_where_another_listens() {
    let stranger = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let table = format!(
        "[upstreams.web]\nhost = \"127.0.0.1\"\nport = {port}\nhold = \"100ms\"\n[upstreams.web.process]\n\
         command = \"python3\"\nargs = [\"app.py\", \"{{port}}\"]\n"
    );
    let proxy = builder().toml(&table).route("web", "").start();
    proxy.stderr_contains(&format!("another process listens on 127.0.0.1:{port}, where `web` is to listen"));
    assert_eq!(get(proxy.address(), "/").status, 503, "nothing goes to a stranger");
    drop(stranger);
    pid(&proxy, "/");
}

#[test]
fn a_command_runs_as_another_user_and_elsewhere() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let builder = app(builder(), "web", "user = \"nobody\"\ndirectory = \"below\"");
    let builder = builder.file("below/app.py", APP).file("below/told", "");
    let below = builder.directory().join("below");
    assert!(Command::new("chmod").arg("777").arg(&below).status().unwrap().success());
    assert!(Command::new("chmod").arg("666").arg(below.join("told")).status().unwrap().success());
    // Where the socket is as we see it and as the command does.
    std::os::unix::fs::symlink("below/web.sock", builder.directory().join("web.sock")).unwrap();
    let mut proxy = builder.start();
    let words = words(&proxy, "/web/");
    assert_eq!(words[2], "nobody");
    assert_ne!(words[3], "0");
    assert_eq!(proxy.terminate(), 0, "it is still in our hands");
}

#[test]
fn what_is_left_of_one_that_ended_is_ended_before_the_next_starts() {
    let script = "sleep 1000 & echo $! >>sleepers; exec python3 app.py web.sock";
    let table = format!(
        "[upstreams.web]\nsocket = \"web.sock\"\n[upstreams.web.process]\ncommand = \"sh\"\n\
         args = [\"-c\", \"{script}\"]\n"
    );
    let proxy = builder().toml(&table).route("web", "").start();
    let first = pid(&proxy, "/");
    kill(first, Signal::KILL);
    ended(first);
    assert_ne!(pid(&proxy, "/"), first);
    let sleepers = std::fs::read_to_string(proxy.directory().join("sleepers")).unwrap();
    let sleepers: Vec<u32> = sleepers.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(sleepers.len(), 2);
    ended(sleepers[0]);
    let group = Pid::from_raw(first.cast_signed()).unwrap();
    assert!(kill_process_group(group, Signal::CONT).is_err());
}

#[test]
fn process_1_supervises_too() {
    let namespace = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    let works = Command::new("unshare").args(namespace).arg("true").output();
    // Without namespaces on this machine there is nothing to see.
    if !works.is_ok_and(|output| output.status.success()) {
        return;
    }
    // It leaves an orphan to process 1, sees that it is reaped, and ends everything.
    let script = "(setsid sleep 0.03 &); while grep -qs '(sleep)' /proc/[0-9]*/stat; do :; done; \
                  echo reaped; kill -TERM 1; trap 'echo told; exit 0' TERM; while :; do sleep 0.01; done";
    let table = format!(
        "[upstreams.web]\nsocket = \"web.sock\"\n[upstreams.web.process]\ncommand = \"sh\"\n\
         args = [\"-c\", \"{}\"]\n",
        script.replace('\\', "\\\\")
    );
    let builder = builder().toml(&table).route("web", "");
    let mut command = Command::new("unshare");
    command.args(namespace).args([BINARY, "run", "-c"]).arg(builder.written());
    let ended = run(command.current_dir(builder.directory()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("web: reaped"), "{ended:?}");
}

#[test]
fn a_request_waits_while_its_process_starts() {
    let table = "[upstreams.web]\nsocket = \"web.sock\"\n[upstreams.web.process]\ncommand = \"python3\"\n\
                 args = [\"app.py\", \"{socket}\", \"later\"]\n";
    let builder = builder().toml(table).route("web", "");
    make_pipe(&builder.directory().join("go"));
    let proxy = builder.start();
    let go = || drop(reach_reader(&proxy.directory().join("go")));
    let mut early: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut early {
        client.send(request("/"));
    }
    early[0].is_quiet_for(QUIET);
    go();
    let pids: Vec<String> = early.iter_mut().map(|client| client.response().text()).collect();
    let first: u32 = pids[0].split(' ').next().unwrap().parse().unwrap();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    // One that was sent and is lost with the process waits for the next one, too.
    let mut lost = proxy.client();
    lost.send(request("/"));
    assert_eq!(lost.response().status, 200);
    kill(first, Signal::KILL);
    ended(first);
    lost.send(request("/"));
    lost.is_quiet_for(QUIET);
    go();
    assert_ne!(lost.response().text(), pids[0]);
}

#[test]
fn what_was_lost_with_a_process_is_sent_again_if_that_is_safe() {
    let builder = app(builder(), "web", "");
    make_pipe(&builder.directory().join("go"));
    let proxy = builder.start();
    let first = pid(&proxy, "/web/");
    let (mut safe, mut unsafe_) = (proxy.client(), proxy.client());
    safe.send(request("/web/wait"));
    unsafe_.send(post("/web/wait"));
    eventually("both to be there", || {
        let told = told(&proxy);
        holds(told.iter().filter(|line| *line == "waits web").count() == 2, told)
    });
    kill(first, Signal::KILL);
    assert_eq!(unsafe_.response_to("POST").status, 502);
    drop(reach_reader(&proxy.directory().join("go")));
    let again = safe.response();
    assert_eq!(again.status, 200);
    assert_ne!(again.text().split(' ').next(), Some(first.to_string().as_str()));
}

#[test]
fn a_request_that_ends_its_process_is_not_sent_for_ever() {
    let proxy = app(builder(), "web", "").start();
    pid(&proxy, "/web/");
    assert_eq!(get(proxy.address(), "/web/exit/1").status, 502);
    pid(&proxy, "/web/");
    // Once more if it went over a connection that had been idle, which may have closed by itself.
    let starts = told(&proxy).len();
    assert!(matches!(starts, 4 | 5), "{:?}", told(&proxy));
}

#[test]
fn only_so_many_requests_wait_and_only_so_long() {
    let table = "[upstreams.web]\nsocket = \"web.sock\"\nhold = \"1s\"\nhold_requests = 2\n\
                 process = { command = \"sleep\", args = [\"1000\"] }";
    let proxy = builder().workers(1).toml(table).route("web", "").start();
    let mut held = [proxy.client(), proxy.client()];
    for client in &mut held {
        client.send(request("/"));
    }
    eventually("one too many", || {
        let refused = get(proxy.address(), "/");
        holds(refused.status == 503 && refused.text().contains("too many requests wait"), refused.text())
    });
    for client in &mut held {
        let waited = client.response();
        assert_eq!(waited.status, 503);
        assert!(waited.text().contains("waited too long for the upstream to start"), "{}", waited.text());
    }
}

#[test]
fn whoever_goes_away_waits_no_more() {
    for leave in [Client::reset, drop::<Client>] {
        check_leaving(leave);
    }
}

fn check_leaving(leave: fn(Client)) {
    let table = "[upstreams.web]\nsocket = \"web.sock\"\nhold = \"600s\"\nhold_requests = 1\n\
                 process = { command = \"sleep\", args = [\"1000\"] }";
    let proxy = builder().workers(1).toml(table).route("web", "").start();
    let mut clients = [proxy.client(), proxy.client()];
    clients[0].send(request("/0"));
    clients[1].send(request("/1"));
    // Either may come first.
    let is_first = proxy.log_line(503).text("path") == "/1";
    let [zero, one] = clients;
    leave(if is_first { zero } else { one });
    proxy.log_line(499);
    let mut third = proxy.client();
    third.send(request("/third"));
    assert!(third.is_quiet_for(QUIET));
}

#[test]
fn no_request_fails_while_processes_are_killed() {
    for instances in [1, 2] {
        let instance = |index| format!("[[upstreams.web.instances]]\nsocket = \"{index}.sock\"\n");
        let instances: String = (0..instances).map(instance).collect();
        let table = format!(
            "[upstreams.web]\nretries = 0\n{instances}[upstreams.web.process]\ncommand = \"python3\"\n\
             args = [\"app.py\", \"{{socket}}\"]\n"
        );
        let proxy = builder().toml(&table).route("web", "").start();
        pid(&proxy, "/");
        let is_over = AtomicBool::new(false);
        let answered: [AtomicUsize; 6] = Default::default();
        let counts = || answered.each_ref().map(|count| count.load(Ordering::Relaxed));
        std::thread::scope(|scope| {
            let load = |answered: &AtomicUsize| {
                let mut client = proxy.client();
                let mut statuses = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    statuses.push(client.get("/").status);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                statuses
            };
            let loads: Vec<_> = answered.iter().map(|answered| scope.spawn(move || load(answered))).collect();
            for _ in 0..4 {
                // A request that is lost with a third process fails: each may see two at most.
                let before = counts();
                eventually("an answer to everybody", || {
                    let now = counts();
                    holds(now.iter().zip(before).all(|(now, before)| *now > before), now)
                });
                let victim = pid(&proxy, "/");
                kill(victim, Signal::KILL);
                ended(victim);
            }
            pid(&proxy, "/");
            is_over.store(true, Ordering::Relaxed);
            for load in loads {
                let statuses = load.join().unwrap();
                assert!(statuses.iter().all(|status| *status == 200), "{statuses:?} {:#?}", proxy.stderr());
            }
        });
    }
}

#[test]
fn jobs_run_before_a_command_and_not_after_a_crash() {
    let before =
        "before = [[\"sh\", \"-c\", \"echo job $NAME; echo migrated $NAME >>told\"], [\"mkdir\", \"made\"]]";
    let proxy = app(builder(), "web", before).start();
    let first = pid(&proxy, "/web/");
    assert_eq!(told(&proxy), ["migrated web", "starts web"]);
    assert!(proxy.directory().join("made").is_dir());
    proxy.stderr_contains("INFO web: job web");
    kill(first, Signal::KILL);
    ended(first);
    assert_ne!(pid(&proxy, "/web/"), first);
    assert_eq!(told(&proxy), ["migrated web", "starts web", "starts web"]);
}

#[test]
fn a_job_that_fails_keeps_its_command_from_starting() {
    let before = "before = [[\"sh\", \"-c\", \"test -e allowed || { echo not yet; exit 3; }\"]]";
    let proxy = app(builder(), "web", before).start();
    let line = proxy.stderr_contains("before it failed (exit code 3); last it wrote: \"not yet\"");
    assert!(line.contains("ERROR `web`: `sh -c"), "{line}");
    proxy.stderr_contains("`web` is started again in");
    assert_eq!(told(&proxy), [""; 0]);
    std::fs::write(proxy.directory().join("allowed"), "").unwrap();
    pid(&proxy, "/web/");
}

#[test]
fn the_jobs_of_an_upstream_run_once_for_all_instances() {
    let table = "[[upstreams.web.instances]]\nsocket = \"0.sock\"\n[[upstreams.web.instances]]\nsocket = \"1.sock\"\n\
                 [upstreams.web.process]\ncommand = \"python3\"\nargs = [\"app.py\", \"{socket}\"]\n\
                 before = [[\"sh\", \"-c\", \"echo migrated >>told\"]]";
    let proxy = builder().toml(table).route("web", "").start();
    for name in ["`web.0` is ready", "`web.1` is ready"] {
        proxy.stderr_contains(name);
    }
    assert_eq!(told(&proxy), ["migrated", "starts ", "starts "]);
}
