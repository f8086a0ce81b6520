//! Each strategy, from the configuration to the instance that answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::harness::client::{Client, request};
use crate::harness::origin::ok;
use crate::harness::{Builder, Latch, Origin, Proxy, eventually, holds};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Origins that answer with their names.
fn named() -> Vec<Origin> {
    NAMES.into_iter().map(Origin::ok).collect()
}

/// A proxy with an instance for each origin, and more lines for each and for the upstream.
fn proxy(upstream: &str, origins: &[Origin], more: &[&str], workers: usize) -> Proxy {
    let instance = |(number, origin): (usize, &Origin)| {
        let more = more.get(number).copied().unwrap_or_default();
        format!("[[upstreams.app.instances]]\n{}{more}\n", origin.toml())
    };
    let instances: String = origins.iter().enumerate().map(instance).collect();
    Builder::new()
        .toml(&format!("[upstreams.app]\n{upstream}\n{instances}"))
        .route("app", "path_prefix = \"/\"")
        .workers(workers)
        .start()
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.requests().len()).collect()
}

fn ask(client: &mut Client, field: &str) -> String {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
    client.response().text()
}

#[test]
fn turns_are_taken_by_weight() {
    let origins = named();
    let proxy = proxy("", &origins, &["weight = 4", "weight = 3", "weight = 2"], 1);
    let mut client = proxy.client();
    (0..50).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(counts(&origins), [20, 15, 10, 5]);
}

#[test]
fn a_random_instance_answers_by_weight() {
    let origins = named();
    let proxy = proxy("strategy = \"random\"", &origins[..2], &["weight = 9"], 1);
    let mut client = proxy.client();
    (0..400).for_each(|_| assert_eq!(client.get("/").status, 200));
    let counts = counts(&origins[..2]);
    assert_eq!(counts.iter().sum::<usize>(), 400);
    // Six standard deviations around 40.
    assert!((4..=76).contains(&counts[1]), "{counts:?}");
}

#[test]
fn the_instance_with_the_fewest_requests_in_flight_answers() {
    let latch = Latch::default();
    let theirs = latch.clone();
    let held = Origin::scripted(move |c| {
        c.expect_request()?;
        theirs.wait()?;
        c.send(ok("held"))
    });
    let free = Origin::ok("free");
    let origins = [held, free];
    let proxy = proxy("strategy = \"least_conn\"", &origins, &[], 1);
    // One of two that come one after the other hangs in the first.
    let mut waiting = proxy.client();
    let mut others = proxy.client();
    waiting.send(request("/"));
    eventually("a request in flight", || {
        let seen = counts(&origins);
        holds(seen.iter().sum::<usize>() >= 1, seen)
    });
    if counts(&origins)[0] == 0 {
        assert_eq!(waiting.response().text(), "free");
        waiting.send(request("/"));
        eventually("a request that hangs", || holds(counts(&origins)[0] == 1, ()));
    }
    for _ in 0..20 {
        assert_eq!(others.get("/").text(), "free");
    }
    latch.open();
    assert_eq!(waiting.response().text(), "held");
}

#[test]
fn the_instance_that_answers_sooner_gets_most_requests() {
    let slow = Origin::scripted(|c| {
        while c.next_request()?.is_some() {
            // Nothing comes meanwhile: it only takes its time.
            c.is_closed_within(Duration::from_millis(20))?;
            c.send(ok("slow"))?;
        }
        Ok(())
    });
    let origins = [slow, Origin::ok("quick")];
    let proxy = proxy("strategy = \"p2c\"", &origins, &[], 1);
    let mut client = proxy.client();
    (0..60).for_each(|_| assert_eq!(client.get("/").status, 200));
    let counts = counts(&origins);
    assert!(counts[0] >= 1 && counts[1] > 3 * counts[0], "{counts:?}");
}

#[test]
fn a_client_address_has_its_instance_on_every_core() {
    let origins = named();
    let proxy = proxy("strategy = \"ip_hash\"", &origins, &[], 2);
    let mut seen = std::collections::BTreeSet::new();
    for number in 1..=24 {
        let own = Ipv4Addr::new(127, 0, 7, number);
        let mut answers: Vec<String> =
            (0..4).map(|_| Client::connect_from(own, proxy.address()).get("/").text()).collect();
        answers.dedup();
        assert_eq!(answers.len(), 1, "{own}: {answers:?}");
        seen.extend(answers);
    }
    assert!(seen.len() > 1, "not everyone goes to the same: {seen:?}");
}

#[test]
fn a_client_behind_a_trusted_proxy_has_its_instance() {
    let origins = named();
    let instances: String =
        origins.iter().map(|origin| format!("[[upstreams.app.instances]]\n{}", origin.toml())).collect();
    let proxy = Builder::new()
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .middleware("forward_headers = true")
        .toml(&format!("[upstreams.app]\nstrategy = \"ip_hash\"\n{instances}"))
        .route("app", "path_prefix = \"/\"")
        .start();
    let mut seen = std::collections::BTreeSet::new();
    let mut client = proxy.client();
    for number in 1..=24 {
        let field = format!("X-Forwarded-For: 203.0.113.{number}\r\n");
        let first = ask(&mut client, &field);
        assert_eq!(ask(&mut proxy.client(), &field), first);
        seen.insert(first);
    }
    assert!(seen.len() > 1, "{seen:?}");
}

#[test]
fn each_kind_of_key_has_its_instance() {
    type Ask = fn(usize) -> String;
    let kinds: [(&str, Ask); 6] = [
        ("header:X-Tenant", |number| format!("GET / HTTP/1.1\r\nHost: a\r\nx-tenant: t{number}\r\n\r\n")),
        ("header:Host", |number| format!("GET / HTTP/1.1\r\nHost: h{number}:81\r\n\r\n")),
        ("cookie:sid", |number| format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; sid={number}\r\n\r\n")),
        ("query:id", |number| format!("GET /?x=1&id={number} HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("path", |number| format!("GET /users/{number} HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("client", |_| "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
    ];
    for (key, text) in kinds {
        let origins = named();
        let upstream = format!("strategy = \"consistent_hash\"\nhash_key = \"{key}\"");
        let proxy = proxy(&upstream, &origins, &[], 2);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..24 {
            let ask = || proxy.client().send(text(number)).response().text();
            let first = ask();
            assert_eq!((ask(), ask()), (first.clone(), first.clone()), "{key} {number}");
            seen.insert(first);
        }
        assert_eq!(seen.len() > 1, key != "client", "{key}: {seen:?}");
        // Without the key it is the client's address that counts.
        let without = || ask(&mut proxy.client(), "");
        if key.starts_with("cookie") || key.starts_with("query") {
            assert_eq!(without(), without(), "{key}");
        }
    }
}

#[test]
fn one_key_does_not_overload_an_instance() {
    let latch = Latch::default();
    let origin = || {
        let latch = latch.clone();
        Origin::scripted(move |c| {
            c.expect_request()?;
            latch.wait()?;
            c.send(ok("done"))
        })
    };
    let origins: Vec<Origin> = (0..4).map(|_| origin()).collect();
    let upstream = "strategy = \"consistent_hash\"\nhash_key = \"path\"";
    let proxy = proxy(upstream, &origins, &[], 1);
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(request("/hot"));
    }
    let counts = eventually("all requests in flight", || {
        let counts = counts(&origins);
        if counts.iter().sum::<usize>() == 40 { Ok(counts) } else { Err(counts) }
    });
    // 5/4 of 40 / 4, rounded up.
    assert!(counts.iter().all(|count| *count <= 13), "{counts:?}");
    assert!(counts.contains(&13), "the key has an instance of its own: {counts:?}");
    latch.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "done");
    }
}

#[test]
fn a_backup_answers_nothing_while_another_instance_is_there() {
    let origins = named();
    for strategy in ["round_robin", "least_conn", "random", "ip_hash", "p2c"] {
        let upstream = format!("strategy = \"{strategy}\"\nslow_start = \"10s\"");
        let proxy = proxy(&upstream, &origins, &["backup = true", "", "", "backup = true"], 2);
        let mut client = proxy.client();
        (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    }
    let counts = counts(&origins);
    assert_eq!((counts[0], counts[3]), (0, 0), "{counts:?}");
    assert_eq!(counts[1] + counts[2], 100);
}
