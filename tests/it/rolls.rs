//! The commands of upstreams when the configuration changes: only those that are to run otherwise
//! are touched.

use rustix::process::Signal;

use crate::harness::client::{get, request};
use crate::harness::{Builder, Proxy, ended, eventually, holds};
use crate::operators::{child, under_load};
use crate::reload::{change, configuration, reload, reloadable, write};
use crate::supervision::{app, builder, pid, told, words};

/// Waits until another process answers; its pid.
fn until_another(proxy: &Proxy, path: &str, before: u32) -> u32 {
    eventually("another process", || {
        let now = pid(proxy, path);
        if now == before { Err((now, proxy.stderr())) } else { Ok(now) }
    })
}

fn starts(proxy: &Proxy) -> usize {
    told(proxy).iter().filter(|line| line.starts_with("starts")).count()
}

#[test]
fn only_commands_that_changed_are_touched() {
    let builder =
        ["same", "other", "gone"].into_iter().fold(builder(), |builder, name| app(builder, name, ""));
    let mut proxy = reloadable(builder);
    let [same, other, gone] = ["/same/", "/other/", "/gone/"].map(|path| pid(&proxy, path));
    let text = configuration(&proxy).replace("NAME = \"other\"", "NAME = \"changed\"");
    let text = text.replace("\"gone\"", "\"new\"").replace("gone", "new");
    under_load(&proxy, &request("/other/"), || {
        write(&proxy, &text);
        reload(&proxy);
        assert_ne!(until_another(&proxy, "/other/", other), other);
        ended(other);
    });
    assert_eq!(words(&proxy, "/other/")[1], "changed");
    assert_eq!(words(&proxy, "/new/")[1], "new");
    ended(gone);
    assert_eq!(get(proxy.address(), "/gone/").status, 404);
    assert_eq!(pid(&proxy, "/same/"), same);
    let changed = pid(&proxy, "/other/");
    // Nothing changed: nothing happens. And the next data process finds all as they are to be.
    reload(&proxy);
    let data = proxy.data_pid();
    proxy.signal_data_process(Signal::KILL);
    ended(data);
    assert_eq!([pid(&proxy, "/same/"), pid(&proxy, "/other/")], [same, changed]);
    assert_eq!(starts(&proxy), 3 + 2, "{:?}", told(&proxy));
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn a_command_moves_with_its_upstream_to_another_address() {
    let proxy = reloadable(app(builder(), "web", ""));
    let first = pid(&proxy, "/web/");
    under_load(&proxy, &request("/web/"), || {
        change(&proxy, "socket = \"web.sock\"", "socket = \"elsewhere.sock\"");
        reload(&proxy);
        until_another(&proxy, "/web/", first);
        ended(first);
        assert_eq!(child(&proxy, "web")["address"], "unix:elsewhere.sock");
        // The same command under another name.
        change(&proxy, "[upstreams.web", "[upstreams.site");
        change(&proxy, "upstream = \"web\"", "upstream = \"site\"");
        reload(&proxy);
    });
    assert_eq!(starts(&proxy), 2);
    assert_eq!(child(&proxy, "site")["state"], "ready");
}

/// One process for each instance.
fn instances(builder: Builder, count: usize) -> Builder {
    let instances: String =
        (0..count).map(|index| format!("[[upstreams.web.instances]]\nsocket = \"{index}.sock\"\n")).collect();
    let process = "[upstreams.web.process]\ncommand = \"python3\"\nargs = [\"app.py\", \"{socket}\"]\n";
    builder.toml(&format!("[upstreams.web]\n{instances}{process}")).route("web", "")
}

#[test]
fn instances_come_and_go_one_by_one() {
    let proxy = reloadable(instances(builder(), 2));
    let wanted = |count: usize| {
        eventually(&format!("{count} processes to answer"), || {
            let mut pids: Vec<u32> = (0..4 * count).map(|_| pid(&proxy, "/")).collect();
            pids.sort_unstable();
            pids.dedup();
            if pids.len() == count { Ok(pids) } else { Err((pids, proxy.stderr())) }
        })
    };
    let two = wanted(2);
    let third = "[[upstreams.web.instances]]\nsocket = \"2.sock\"\n";
    let text = configuration(&proxy);
    under_load(&proxy, &request("/"), || {
        write(&proxy, &text.replace("[upstreams.web.process]", &format!("{third}[upstreams.web.process]")));
        reload(&proxy);
        let three = wanted(3);
        assert!(two.iter().all(|pid| three.contains(pid)), "{two:?} {three:?}");
        write(&proxy, &text.replace("[[upstreams.web.instances]]\nsocket = \"1.sock\"\n", ""));
        reload(&proxy);
        assert!(two.contains(&wanted(1)[0]));
        eventually("the others to be stopped", || {
            let stops = told(&proxy).iter().filter(|line| line.starts_with("stops")).count();
            holds(stops == 2, told(&proxy))
        });
    });
}

#[test]
fn what_runs_stays_until_the_changed_one_can_run() {
    let proxy = reloadable(app(builder(), "web", "start_timeout = \"5s\""));
    let first = pid(&proxy, "/web/");
    let broken = proxy.directory().join("broken");
    std::fs::write(&broken, "").unwrap();
    change(&proxy, "NAME = \"web\"", "NAME = \"next\"");
    reload(&proxy);
    let said = proxy.stderr_contains("what runs is as before the reload");
    assert!(said.contains("`web`: it ended before it was ready (exit code 1)"), "{said}");
    assert_eq!(pid(&proxy, "/web/"), first);
    std::fs::remove_file(broken).unwrap();
    // It is not forgotten.
    reload(&proxy);
    until_another(&proxy, "/web/", first);
    assert_eq!(words(&proxy, "/web/")[1], "next");
    ended(first);
}

#[test]
fn one_that_does_not_start_is_mended_by_a_reload() {
    let proxy = reloadable(app(builder(), "web", ""));
    pid(&proxy, "/web/");
    change(&proxy, "\"app.py\"", "\"absent.py\"");
    std::fs::write(proxy.directory().join("broken"), "").unwrap();
    crate::supervision::kill(pid(&proxy, "/web/"), Signal::KILL);
    proxy.stderr_contains("starting it again in");
    std::fs::remove_file(proxy.directory().join("broken")).unwrap();
    reload(&proxy);
    proxy.stderr_contains("absent.py");
    change(&proxy, "\"absent.py\"", "\"app.py\"");
    reload(&proxy);
    pid(&proxy, "/web/");
}

#[test]
fn what_no_process_can_tell_changes_without_another_one() {
    let proxy = reloadable(app(app(builder(), "web", "restart = \"always\""), "cable", ""));
    pid(&proxy, "/cable/");
    let first = pid(&proxy, "/web/");
    change(
        &proxy,
        "restart = \"always\"",
        "restart = \"never\"\nstop_timeout = \"3s\"\ndepends_on = [\"cable\"]",
    );
    reload(&proxy);
    assert_eq!(pid(&proxy, "/web/"), first);
    crate::supervision::kill(first, Signal::KILL);
    ended(first);
    eventually("it to stay down", || {
        let web = child(&proxy, "web");
        holds(web["state"] == "stopped", web)
    });
    assert_eq!(starts(&proxy), 2);
}
