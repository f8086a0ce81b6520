//! What operators have done with the commands of upstreams, and what clients notice of it: nothing.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::client::{get, request};
use crate::harness::proxy::{BINARY, Run, run};
use crate::harness::{Builder, Proxy, ended, eventually, free_port, holds, make_pipe, reach_reader};
use crate::supervision::{app, builder, pid, told};

pub fn with_socket(builder: Builder) -> Builder {
    builder.toml("[admin]\nsocket = \"admin.sock\"\n")
}

/// `warpdrive WORDS` with the configuration of the proxy.
pub fn ask(proxy: &Proxy, words: &[&str]) -> Run {
    let file = proxy.directory().join("warpdrive.toml");
    let mut command = Command::new(BINARY);
    run(command.args(words).arg("-c").arg(file).current_dir(proxy.directory()))
}

pub fn done(proxy: &Proxy, words: &[&str]) -> String {
    let answer = ask(proxy, words);
    assert_eq!(answer.code, Some(0), "{words:?}: {answer:?} {:#?}", proxy.stderr());
    answer.stdout + "\n"
}

pub fn refused(proxy: &Proxy, words: &[&str]) -> String {
    let answer = ask(proxy, words);
    assert_eq!(answer.code, Some(1), "{words:?}: {answer:?} {:#?}", proxy.stderr());
    answer.stderr
}

/// What `status` says of one of the commands.
pub fn child(proxy: &Proxy, name: &str) -> Value {
    let status: Value = serde_json::from_str(&done(proxy, &["status", "--json"])).unwrap();
    let children = status["children"].as_array().unwrap();
    children.iter().find(|child| child["child"] == name).unwrap_or_else(|| panic!("{status}")).clone()
}

/// Requests one after the other on several connections while something is done; all must succeed.
pub fn under_load(proxy: &Proxy, request: &[u8], mut act: impl FnMut()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = || {
            let mut client = proxy.client();
            let mut statuses = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                statuses.push(client.send(request).response().status);
            }
            statuses
        };
        let loads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        // Or a failure would leave the others at it for ever.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut act));
        is_over.store(true, Ordering::Relaxed);
        for load in loads {
            let statuses = load.join().unwrap();
            assert!(!statuses.is_empty());
            assert!(statuses.iter().all(|status| *status == 200), "{statuses:?} {:#?}", proxy.stderr());
        }
        acted.unwrap();
    });
}

#[test]
fn a_restart_is_noticed_by_nobody() {
    let instances = "[[upstreams.web.instances]]\nsocket = \"0.sock\"\n[[upstreams.web.instances]]\nsocket = \"1.sock\"\n";
    let table = format!(
        "[upstreams.web]\nretries = 0\nhold_requests = 0\n{instances}[upstreams.web.process]\n\
         command = \"python3\"\nargs = [\"app.py\", \"{{socket}}\"]\n"
    );
    let mut proxy = with_socket(builder().toml(&table).route("web", "")).start();
    for name in ["`web.0` is ready", "`web.1` is ready"] {
        proxy.stderr_contains(name);
    }
    let mut pids = vec![pid(&proxy, "/")];
    under_load(&proxy, &request("/"), || {
        for round in 1..=6 {
            done(&proxy, &["restart", "web"]);
            assert!(proxy.directory().join(if round % 2 == 1 { "0.sock~" } else { "0.sock" }).exists());
            pids.push(pid(&proxy, "/"));
        }
    });
    pids.dedup();
    assert_eq!(pids.len(), 7);
    ended(pids[0]);
    assert_eq!(proxy.terminate(), 0);
    assert_eq!(told(&proxy).iter().filter(|line| line.starts_with("starts")).count(), 2 + 12);
    assert_eq!(told(&proxy).iter().filter(|line| line.starts_with("stops")).count(), 2 + 12);
}

#[test]
fn a_restart_of_one_on_a_port_moves_to_another_port() {
    let port = free_port();
    let table = format!(
        "[upstreams.web]\nhost = \"127.0.0.1\"\nport = {port}\nretries = 0\n[upstreams.web.process]\n\
         command = \"python3\"\nargs = [\"app.py\", \"{{port}}\"]\n"
    );
    let mut proxy = with_socket(builder().toml(&table).route("web", "")).start();
    let first = pid(&proxy, "/");
    under_load(&proxy, &request("/"), || drop(done(&proxy, &["restart", "web"])));
    let second = pid(&proxy, "/");
    assert_ne!(first, second);
    ended(first);
    let web = child(&proxy, "web");
    assert_eq!((&web["state"], &web["pid"]), (&json!("ready"), &json!(second)), "{web}");
    assert!(web["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{web}");
    assert_ne!(web["address"], format!("127.0.0.1:{port}"));
    // The next data process knows where it is.
    let data = proxy.data_pid();
    proxy.signal_data_process(Signal::KILL);
    ended(data);
    assert_eq!(pid(&proxy, "/"), second);
    done(&proxy, &["restart", "web"]);
    assert_eq!(child(&proxy, "web")["address"], format!("127.0.0.1:{port}"), "back where it was");
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn one_that_cannot_run_beside_itself_is_waited_for() {
    let table = "[upstreams.web]\nsocket = \"web.sock\"\n[upstreams.web.process]\ncommand = \"python3\"\n\
                 args = [\"app.py\", \"web.sock\"]\nbefore = [[\"sh\", \"-c\", \"echo migrated >>told\"]]\n";
    let proxy = with_socket(builder().toml(table).route("web", "")).start();
    let first = pid(&proxy, "/");
    under_load(&proxy, &request("/"), || drop(done(&proxy, &["restart", "web"])));
    assert_ne!(pid(&proxy, "/"), first);
    assert_eq!(told(&proxy), ["migrated", "starts ", "migrated", "stops ", "starts "]);
}

#[test]
fn what_runs_stays_if_the_next_one_does_not_become_ready() {
    let before = "before = [[\"sh\", \"-c\", \"test ! -e locked || { echo is locked; exit 4; }\"]]\nstart_timeout = \"5s\"";
    let builder = with_socket(app(builder(), "web", before));
    let proxy = builder.toml("[upstreams.web.health]\npath = \"/health\"\ninterval = \"100ms\"\n").start();
    let first = pid(&proxy, "/web/");
    let cases = [
        ("broken", "it ended before it was ready (exit code 1); last it wrote: \"broken\""),
        ("locked", "before it failed (exit code 4); last it wrote: \"is locked\""),
        ("sick", "its health check fails"),
    ];
    for (file, why) in cases {
        let path = proxy.directory().join(file);
        std::fs::write(&path, "").unwrap();
        let said = refused(&proxy, &["restart", "web"]);
        assert!(said.contains("error: `web`: ") && said.contains(why), "{said}");
        assert_eq!(pid(&proxy, "/web/"), first, "{file}");
        std::fs::remove_file(path).unwrap();
    }
    done(&proxy, &["restart", "web"]);
    assert_ne!(pid(&proxy, "/web/"), first);
    ended(first);
}

#[test]
fn one_can_be_stopped_and_started() {
    let proxy = with_socket(app(app(builder(), "web", ""), "cable", "")).start();
    let first = pid(&proxy, "/web/");
    let cable = pid(&proxy, "/cable/");
    done(&proxy, &["stop", "web"]);
    ended(first);
    assert_eq!(get(proxy.address(), "/web/").status, 503);
    let web = child(&proxy, "web");
    assert_eq!((&web["state"], &web["address"]), (&json!("stopped"), &json!("unix:web.sock")), "{web}");
    let other = child(&proxy, "cable");
    assert_eq!((&other["state"], &other["pid"]), (&json!("ready"), &json!(cable)), "{other}");
    // The next data process leaves it so.
    let data = proxy.data_pid();
    proxy.signal_data_process(Signal::KILL);
    ended(data);
    assert_eq!(pid(&proxy, "/cable/"), cable);
    assert_eq!(get(proxy.address(), "/web/").status, 503);
    let said = refused(&proxy, &["restart", "web"]);
    assert!(said.contains("it does not run: start it instead"), "{said}");
    done(&proxy, &["start", "web"]);
    assert_eq!(get(proxy.address(), "/web/").status, 200);
    assert_ne!(pid(&proxy, "/web/"), first);
    done(&proxy, &["start", "web"]);
}

#[test]
fn what_is_in_flight_is_answered_before_a_stop() {
    // It would be cut: this one ends at once when it is told to.
    let proxy = with_socket(app(builder(), "web", "")).start();
    make_pipe(&proxy.directory().join("go"));
    let first = pid(&proxy, "/web/");
    let mut busy = proxy.client();
    busy.send(request("/web/wait"));
    eventually("the request in the application", || {
        let told = told(&proxy);
        holds(told.iter().any(|line| line == "waits web"), told)
    });
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| done(&proxy, &["stop", "web"]));
        eventually("no more requests", || {
            let status = get(proxy.address(), "/web/").status;
            holds(status == 503, status)
        });
        assert!(!stop.is_finished());
        drop(reach_reader(&proxy.directory().join("go")));
        assert!(busy.response().text().starts_with(&format!("{first} ")));
    });
    ended(first);
    assert_eq!(told(&proxy).last().unwrap(), "stops web");
    done(&proxy, &["start", "web"]);
    assert_eq!(get(proxy.address(), "/web/").status, 200);
}

#[test]
fn status_tells_of_crashes_and_what_was_written_before() {
    let proxy = with_socket(app(builder(), "web", "")).start();
    pid(&proxy, "/web/write");
    crate::supervision::kill(pid(&proxy, "/web/"), Signal::KILL);
    proxy.stderr_contains("starting it again");
    pid(&proxy, "/web/");
    let status = done(&proxy, &["status"]);
    let words = ["web.sock  1\n", "killed by SIGKILL", "\"to standard output\""];
    assert!(words.iter().all(|word| status.contains(word)), "{status}");
}

#[test]
fn mistakes_of_operators_are_named() {
    let proxy = with_socket(app(builder(), "web", "")).start();
    let socket = proxy.directory().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let said = refused(&proxy, &["restart", "wbe"]);
    assert!(said.contains("`wbe` has no command; there are `web`"), "{said}");
    let said = refused(&proxy, &["stop"]);
    assert!(said.contains("stop needs the name of an upstream"), "{said}");
    let nobody = app(builder(), "web", "");
    nobody.written();
    let said =
        run(Command::new(BINARY).args(["status", "-c", "warpdrive.toml"]).current_dir(nobody.directory()));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("set socket of [admin]"), "{said:?}");
}
