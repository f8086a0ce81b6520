//! Another configuration while it runs: taken over whole or not at all, and noticed by nobody.

use std::process::Command;

use rustix::process::Signal;

use crate::harness::client::request;
use crate::harness::name_server::{NameServer, ZONE};
use crate::harness::origin::{Connection, ok};
use crate::harness::proxy::{BINARY, run};
use crate::harness::{Builder, Client, Latch, Origin, Proxy, ended, eventually, holds};
use crate::operators::{ask, done, refused, under_load, with_socket};
use crate::tunnels::{agree, tunnel};

/// With a socket to ask at.
pub fn reloadable(builder: Builder) -> Proxy {
    with_socket(builder).start()
}

pub fn configuration(proxy: &Proxy) -> String {
    std::fs::read_to_string(proxy.directory().join("warpdrive.toml")).unwrap()
}

/// Writes the configuration as deployments do: whole, in the other one's place.
pub fn write(proxy: &Proxy, text: &str) {
    let path = proxy.directory().join("warpdrive.toml");
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// Another text in the place of the one that is there.
pub fn change(proxy: &Proxy, from: &str, to: &str) {
    let text = configuration(proxy);
    assert!(text.contains(from), "{from} in {text}");
    write(proxy, &text.replace(from, to));
}

pub fn reload(proxy: &Proxy) -> String {
    done(proxy, &["reload"])
}

/// Waits until nothing is run by the plans before the one in force.
pub fn only_one_plan_is_left(proxy: &Proxy) {
    eventually("the end of the first plan", || {
        let status = done(proxy, &["status"]);
        holds(!status.contains("still run by"), status)
    });
}

/// Several origins as upstreams of these names.
fn upstreams(builder: Builder, origins: &[(&str, &Origin)]) -> Builder {
    origins.iter().fold(builder, |builder, (name, origin)| builder.upstream(name, origin, ""))
}

#[test]
fn an_idle_connection_takes_the_new_plan_at_its_next_request() {
    let (a, b) = (Origin::ok("a"), Origin::ok("b"));
    let builder = upstreams(Builder::new(), &[("a", &a), ("b", &b)]);
    let proxy = reloadable(builder.route("a", "path_prefix = \"/x\"").route("b", ""));
    let mut clients = [proxy.client(), proxy.client(), proxy.client(), proxy.client()];
    for client in &mut clients {
        assert_eq!(client.get("/x").text(), "a");
    }
    change(&proxy, "path_prefix = \"/x\"", "path_prefix = \"/y\"");
    assert_eq!(clients[0].get("/x").text(), "a", "nothing happens by itself");
    assert_eq!(reload(&proxy), "generation 2 is in force on 2 workers\n");
    for client in &mut clients {
        assert_eq!(client.get("/x").text(), "b");
        assert_eq!(client.get("/y").text(), "a");
    }
    // And so by a signal.
    change(&proxy, "path_prefix = \"/y\"", "path_prefix = \"/z\"");
    proxy.signal(Signal::HUP);
    proxy.stderr_contains("reloaded: generation 3 is in force on 2 workers");
    for client in &mut clients {
        assert_eq!(client.get("/y").text(), "b");
    }
    let status = done(&proxy, &["status"]);
    assert!(status.contains("generation   3, for "), "{status}");
}

#[test]
fn what_an_idle_connection_may_send_is_what_the_new_plan_says() {
    let origin = Origin::echo();
    let builder = Proxy::with(&origin).limit("uri_bytes = 100").server("trusted_proxies = [\"127.0.0.1\"]");
    let proxy = reloadable(builder.middleware("forward_headers = true"));
    let mut client = proxy.client();
    let long = format!("/{}", "x".repeat(200));
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    let is_believed = |client: &mut Client| client.send(asked).response().text().contains("192.0.2.7");
    assert!(is_believed(&mut client));
    change(&proxy, "uri_bytes = 100", "uri_bytes = 300");
    change(&proxy, "trusted_proxies = [\"127.0.0.1\"]", "trusted_proxies = [\"127.0.0.2\"]");
    reload(&proxy);
    assert!(!is_believed(&mut client));
    assert_eq!(client.get(&long).status, 200);
}

#[test]
fn what_runs_ends_by_the_plan_that_it_began_with() {
    let go = Latch::default();
    let theirs = go.clone();
    let slow = Origin::scripted(move |c: &mut Connection| {
        while c.next_request()?.is_some() {
            c.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi")?;
            theirs.wait()?;
            c.send("rs")?;
        }
        Ok(())
    });
    let (other, third) = (Origin::ok("second"), Origin::ok("third"));
    let builder = upstreams(Builder::new(), &[("slow", &slow), ("third", &third)]);
    let proxy = reloadable(builder.route("third", "path_prefix = \"/third\"").route("slow", ""));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").until("fi");
    // Its upstream, its route and its number are another's now.
    let text = configuration(&proxy).replace(&slow.toml(), &other.toml()).replace("slow", "other");
    write(&proxy, &text);
    reload(&proxy);
    assert_eq!(proxy.answering(), ["second"]);
    let status = done(&proxy, &["status"]);
    assert!(status.contains("generation   2, for ") && status.contains("; 1 still run by 1\n"), "{status}");
    go.open();
    client.until("rs");
    let line = proxy.log_line(200);
    assert!(proxy.log_lines(1, |line| line.text("upstream") == "slow").len() == 1, "{line:?}");
    assert_eq!(client.get("/").text(), "second");
    only_one_plan_is_left(&proxy);
    // Nobody needs a connection there any more.
    slow.wait_idle();
}

#[test]
fn a_tunnel_keeps_nothing_of_its_plan_but_its_timeout() {
    let origin = Origin::scripted(|c: &mut Connection| {
        agree(c, "")?;
        let got = c.read_until(".")?;
        c.send(got)?;
        c.expect_close()
    });
    let other = Origin::ok("other");
    let builder = upstreams(Builder::new(), &[("tunnels", &origin)]);
    let proxy = reloadable(builder.route("tunnels", "description = \"before\""));
    let mut client = tunnel(&proxy, "");
    let text = configuration(&proxy).replace(&origin.toml(), &other.toml());
    let text = text.replace("tunnels", "others").replace("before", "after");
    write(&proxy, &text);
    assert!(reload(&proxy).contains("generation 2"));
    assert_eq!(proxy.answering(), ["other"]);
    only_one_plan_is_left(&proxy);
    assert_eq!(client.send("still here.").until("."), b"still here.");
    drop(client);
    // It is told by the names that it had.
    let line = proxy.log_line(101);
    assert_eq!((line.text("upstream"), line.number("bytes_out")), ("tunnels", 11), "{line:?}");
}

#[test]
fn nobody_notices_reloads_under_load() {
    let echo = |c: &mut Connection| {
        c.expect_head()?;
        c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")?;
        loop {
            let got = c.read_until("\n")?;
            c.send(got)?;
        }
    };
    let (a, b, tunnels) = (Origin::ok("a"), Origin::ok("b"), Origin::scripted(echo));
    let builder = upstreams(Builder::new(), &[("a", &a), ("b", &b), ("tunnels", &tunnels)]);
    let builder = builder.route("tunnels", "path_prefix = \"/t\"").route("a", "path_prefix = \"/a\"");
    let proxy = reloadable(builder.route("b", ""));
    let mut open: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = proxy.client();
            client.send("GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
            assert_eq!(client.head().word(1), "101");
            client
        })
        .collect();
    let first = configuration(&proxy);
    // The upstreams stand in another order, have other endpoints, and one is there no more.
    let second = first.replace(&a.toml(), "AT").replace(&b.toml(), &a.toml()).replace("AT", &b.toml());
    let third =
        first.replace("[upstreams.a]", "[upstreams.c]").replace("upstream = \"a\"", "upstream = \"c\"");
    under_load(&proxy, &request("/a"), || {
        for round in 0..30 {
            write(&proxy, [&second, &third, &first][round % 3]);
            assert!(reload(&proxy).contains(&format!("generation {} is in force", round + 2)));
            for client in &mut open {
                client.send(format!("round {round}\n"));
                assert_eq!(client.until("\n"), format!("round {round}\n").as_bytes());
            }
        }
    });
}

#[test]
fn what_both_plans_have_is_kept() {
    let origin = Origin::ok("a");
    let health = "[upstreams.app.health]\npath = \"/health\"\ninterval = \"1h\"\n";
    let proxy = reloadable(Proxy::with(&origin).workers(1).toml(health));
    assert_eq!(proxy.client().get("/").status, 200);
    let before = origin.connections();
    change(&proxy, "path_prefix = \"/\"", "path_prefix = \"/\"\ndescription = \"all\"");
    reload(&proxy);
    change(&proxy, "[upstreams.app]\n", "[upstreams.app]\nretries = 2\n");
    reload(&proxy);
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(origin.connections(), before, "the same connection, and no other check");
}

#[test]
fn a_check_that_is_new_or_gone_decides_at_once() {
    let sick = Origin::answering(|request| match request.target() {
        "/health" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("a"),
    });
    let proxy = reloadable(Proxy::with(&sick));
    assert_eq!(proxy.answering(), ["a"]);
    let without = configuration(&proxy);
    write(&proxy, &format!("{without}[upstreams.app.health]\npath = \"/health\"\ninterval = \"1h\"\n"));
    reload(&proxy);
    proxy.until_answering(&["503"]);
    write(&proxy, &without);
    reload(&proxy);
    assert_eq!(proxy.answering(), ["a"]);
}

#[test]
fn an_upstream_with_a_name_has_addresses_before_it_gets_requests() {
    let (first, second) = (Origin::ok("a"), Origin::ok("b"));
    let server = NameServer::start("app IN A 127.0.0.1");
    let proxy = reloadable(Proxy::with(&first).toml(&server.toml()));
    let at = format!("host = \"app.{ZONE}\"\nport = {}\n", second.address().port());
    under_load(&proxy, &request("/"), || {
        change(&proxy, &first.toml(), &at);
        reload(&proxy);
        assert_eq!(proxy.answering(), ["b"]);
    });
}

#[test]
fn a_bad_file_changes_nothing_and_says_what_is_wrong() {
    let origin = Origin::ok("a");
    let proxy = reloadable(Proxy::with(&origin));
    let good = configuration(&proxy);
    write(&proxy, &good.replace("upstream = \"app\"", "upstream = \"ap\"\nread_timeout = \"x\""));
    let file = proxy.directory().join("warpdrive.toml");
    let check = run(Command::new(BINARY).arg("check").arg("-c").arg(&file));
    assert_eq!(check.code, Some(1));
    // The same, and what the process runs by.
    let last = "error: nothing was reloaded: generation 1 stays in force";
    assert_eq!(refused(&proxy, &["reload"]), format!("{}\n{last}", check.stderr));
    let socket = proxy.directory().join("admin.sock");
    let answer = run(Command::new(BINARY).args(["reload", "--socket"]).arg(socket));
    assert_eq!((answer.code, answer.stderr), (Some(1), format!("{}\n{last}", check.stderr)));
    // It can be asked all the same.
    assert!(ask(&proxy, &["status"]).stdout.contains("generation"));
    proxy.signal(Signal::HUP);
    proxy.stderr_contains("nothing was reloaded, generation 1 stays in force:");
    proxy.stderr_contains("upstream `ap` is not defined");
    assert_eq!(proxy.answering(), ["a"]);
    // Nor does one that is not there.
    std::fs::remove_file(&file).unwrap();
    proxy.signal(Signal::HUP);
    proxy.stderr_contains("cannot read the file");
    assert_eq!(proxy.answering(), ["a"]);
    write(
        &proxy,
        &good
            .replace("path_prefix = \"/\"", "path_prefix = \"/\"\nrespond = { body = \"b\" }")
            .replace("upstream = \"app\"", ""),
    );
    reload(&proxy);
    assert_eq!(proxy.answering(), ["b"]);
}

#[test]
fn what_cannot_change_is_refused_by_name() {
    let origin = Origin::ok("a");
    let proxy = reloadable(Proxy::with(&origin));
    let good = configuration(&proxy);
    let cases = [
        ("worker_threads = 2", "worker_threads = 3", "server.worker_threads cannot be changed"),
        ("worker_threads = 2", "worker_threads = 2\nio = \"epoll\"", "server.io cannot be changed"),
        ("worker_threads = 2", "worker_threads = 2\npin_cores = false", "server.pin_cores cannot be changed"),
        ("log_requests = true", "log_requests = false", "middleware.log_requests cannot be changed"),
        ("file = \"", "file = \"/elsewhere", "log.file cannot be changed"),
        ("format = \"json\"", "format = \"json\"\nevents = \"json\"", "log.events cannot be changed"),
        ("format = \"json\"", "format = \"json\"\nlevel = \"debug\"", "log.level cannot be changed"),
        ("[log]", "[tracing]\nexport = \"http://127.0.0.1:1\"\n[log]", "tracing.export cannot be changed"),
    ];
    for (from, to, why) in cases {
        write(&proxy, &good.replace(from, to));
        let said = refused(&proxy, &["reload"]);
        assert!(said.contains(why) && said.contains("warpdrive.toml:"), "{said}");
        assert!(said.contains("or restart WarpDrive: nothing was reloaded"), "{said}");
    }
    write(&proxy, &good);
    reload(&proxy);
}

#[test]
fn everything_that_a_configuration_leads_to_is_read_again() {
    let builder = Builder::new().before("include = [\"more/*.toml\"]");
    let route = |text: &str| format!("[[routes]]\nrequire_auth = true\nrespond = {{ body = \"{text}\" }}\n");
    let token = builder.directory().join("token");
    let builder =
        builder.file("token", "the-first-token-of-all-the-tokens\n").file("more/a.toml", &route("a"));
    let proxy = reloadable(builder.toml(&format!("[auth]\nadmin_token_file = \"{}\"", token.display())));
    let ask = |token: &str| {
        let asked = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Admin-Token: {token}\r\n\r\n");
        let answer = proxy.client().send(asked).response();
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    };
    assert_eq!(ask("the-first-token-of-all-the-tokens"), "a");
    std::fs::write(&token, "the-second-token-of-all-the-tokens\n").unwrap();
    reload(&proxy);
    assert_eq!(ask("the-first-token-of-all-the-tokens"), "403");
    assert_eq!(ask("the-second-token-of-all-the-tokens"), "a");
    std::fs::write(
        proxy.directory().join("more/0.toml"),
        route("b").replace("require", "path_exact = \"/\"\nrequire"),
    )
    .unwrap();
    reload(&proxy);
    assert_eq!(ask("the-second-token-of-all-the-tokens"), "b");
}

#[test]
fn a_change_of_a_file_is_a_reload_where_files_are_watched() {
    let route = |text: &str| format!("[[routes]]\nhost = \"{text}\"\nrespond = {{ body = \"{text}\" }}\n");
    let builder = Builder::new().server("watch = true").before("include = [\"more/*.toml\"]");
    let proxy = reloadable(builder.file("more/a.toml", &route("a")));
    let answers = |host: &str| {
        eventually("an answer by the changed file", || {
            let asked = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = proxy.client().send(asked).response();
            holds(answer.text() == host, (answer.status, proxy.stderr()))
        });
    };
    answers("a");
    std::fs::write(proxy.directory().join("more/a.toml"), route("b")).unwrap();
    answers("b");
    // One more file, one that is replaced, and one with a mistake, which is told once.
    std::fs::write(proxy.directory().join("more/b.toml"), route("c")).unwrap();
    answers("c");
    let good = configuration(&proxy);
    change(&proxy, "watch = true", "watch = maybe");
    proxy.stderr_contains("nothing was reloaded, generation 3 stays in force");
    write(&proxy, &good.replace("watch = true", ""));
    proxy.stderr_contains("generation 4 is in force");
    std::fs::write(proxy.directory().join("more/b.toml"), route("d")).unwrap();
    assert_eq!(reload(&proxy), "generation 5 is in force on 2 workers\n");
    let told = proxy.stderr().iter().filter(|line| line.contains("have changed")).count();
    assert_eq!(told, 4, "{:#?}", proxy.stderr());
}

#[test]
fn a_flag_still_beats_the_file() {
    let (a, b) = (Origin::ok("a"), Origin::ok("b"));
    let builder = with_socket(Proxy::with(&a));
    let flag = format!("upstreams.app.port={}", b.address().port());
    let proxy = builder.start_with(&["--set", &flag]);
    assert_eq!(proxy.answering(), ["b"]);
    change(&proxy, "path_prefix = \"/\"", "path_prefix = \"/\"\ndescription = \"all\"");
    reload(&proxy);
    assert_eq!(proxy.answering(), ["b"]);
}

#[test]
fn operators_follow_the_socket() {
    let proxy = reloadable(Proxy::with(&Origin::ok("a")));
    let before = proxy.directory().join("admin.sock");
    change(&proxy, "socket = \"admin.sock\"", "socket = \"other.sock\"");
    assert!(refused(&proxy, &["reload"]).contains("cannot ask at other.sock"));
    let answer = run(Command::new(BINARY).args(["reload", "--socket"]).arg(&before));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(done(&proxy, &["status"]).contains("generation   2, for "));
    assert!(!before.exists());
}

#[test]
fn several_signals_and_askers_at_once_end_with_the_last_word() {
    let origin = Origin::ok("a");
    let proxy = reloadable(Proxy::with(&origin));
    let answer = |text: &str| {
        format!("path_prefix = \"/\"\nresponse_headers = [{{ name = \"X-Text\", value = \"{text}\" }}]")
    };
    let good = configuration(&proxy);
    for round in 0..20 {
        write(&proxy, &good.replace("path_prefix = \"/\"", &answer(&format!("{round}"))));
        proxy.signal(Signal::HUP);
        proxy.signal(Signal::HUP);
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| reload(&proxy));
        }
    });
    let answered = proxy.client().get("/");
    assert_eq!(answered.head.value("x-text"), Some("19"));
}

#[test]
fn the_next_data_process_runs_by_what_was_reloaded() {
    let (a, b) = (Origin::ok("a"), Origin::ok("b"));
    let builder = upstreams(Builder::new(), &[("a", &a), ("b", &b)]);
    let proxy = reloadable(builder.route("b", "path_prefix = \"/b\"").route("a", ""));
    change(&proxy, "path_prefix = \"/b\"", "host = \"nowhere\"");
    change(&proxy, "[[routes]]\n\nupstream = \"a\"", "[[routes]]\nupstream = \"b\"");
    reload(&proxy);
    assert_eq!(proxy.answering(), ["b"]);
    // What is in the file now is not yet in force.
    change(&proxy, "[[routes]]\nupstream = \"b\"", "[[routes]]\nupstream = \"a\"");
    let data = proxy.data_pid();
    proxy.signal_data_process(Signal::KILL);
    ended(data);
    assert_eq!(proxy.answering(), ["b"]);
    // A signal while there is none is for the next one.
    let data = proxy.data_pid();
    proxy.signal_data_process(Signal::KILL);
    proxy.signal(Signal::HUP);
    ended(data);
    proxy.until_answering(&["a"]);
}

#[test]
fn a_reload_that_comes_with_the_end_is_for_nobody() {
    let origin = Origin::ok("a");
    let mut proxy = reloadable(Proxy::with(&origin));
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.terminate(), 0);
    let answer = ask(&proxy, &["reload"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
}
