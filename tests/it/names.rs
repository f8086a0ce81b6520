//! Upstreams that are named: real DNS, its changes, and its absence.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Instant;

use crate::harness::client::get;
use crate::harness::name_server::{NameServer, ZONE};
use crate::harness::origin::{Connection, ok};
use crate::harness::{BOUND, Builder, Origin, eventually, holds};

/// Origins on one port of several loopback addresses, `127.0.0.first` and on, each of which
/// answers with its last number.
fn origins(first: u8, count: u8) -> (u16, Vec<Origin>) {
    let listen = |last: u8, port: u16| TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port));
    let all = eventually("a port that is free on all addresses", || {
        let first_one = listen(first, 0)?;
        let port = first_one.local_addr()?.port();
        let mut all = vec![first_one];
        for last in first + 1..first + count {
            all.push(listen(last, port)?);
        }
        std::io::Result::Ok(all)
    });
    let port = all[0].local_addr().unwrap().port();
    let origin = |(last, listener): (u8, TcpListener)| {
        let name = last.to_string();
        Origin::on(listener, move |c: &mut Connection| {
            while c.next_request()?.is_some() {
                c.send(ok(&name))?;
            }
            Ok(())
        })
    };
    (port, (first..).zip(all).map(origin).collect())
}

fn named(server: &NameServer, host: &str, port: u16) -> Builder {
    let upstream = format!("[upstreams.app]\nhost = \"{host}\"\nport = {port}\n");
    Builder::new().workers(1).toml(&server.toml()).toml(&upstream).route("app", "path_prefix = \"/\"")
}

#[test]
fn a_change_of_addresses_moves_requests() {
    let (port, origins) = origins(11, 3);
    let mut server = NameServer::start("app IN A 127.0.0.11");
    let proxy = named(&server, &format!("app.{ZONE}"), port).start();
    assert_eq!(proxy.answering(), ["11"]);
    server.change("app IN A 127.0.0.12\napp IN A 127.0.0.13");
    proxy.until_answering(&["12", "13"]);
    // Nobody asks there again, so its connections, idle for less than a minute, are not kept.
    origins[0].wait_idle();
    server.change("app IN A 127.0.0.13");
    proxy.until_answering(&["13"]);
    origins[1].wait_idle();
}

#[test]
fn every_address_of_a_name_gets_its_share() {
    let (port, origins) = origins(21, 3);
    let server = NameServer::start("app IN A 127.0.0.21\napp IN A 127.0.0.22\napp IN A 127.0.0.23");
    let proxy = named(&server, &format!("app.{ZONE}."), port).start();
    let mut client = proxy.client();
    for _ in 0..30 {
        assert_eq!(client.get("/").status, 200);
    }
    let shares: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
    assert_eq!(shares, [10, 10, 10]);
}

#[test]
fn both_families_and_names_of_names_are_found() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let _six = Origin::on(listener, |c| {
        while c.next_request()?.is_some() {
            c.send(ok("six"))?;
        }
        Ok(())
    });
    let four = eventually("the port in the other family", || {
        TcpListener::bind(SocketAddr::from(([127, 0, 0, 31], port)))
    });
    let _four = Origin::on(four, |c| {
        while c.next_request()?.is_some() {
            c.send(ok("four"))?;
        }
        Ok(())
    });
    let server = NameServer::start("app IN CNAME other\nother IN A 127.0.0.31\nother IN AAAA ::1");
    let proxy = named(&server, &format!("app.{ZONE}"), port).start();
    assert_eq!(proxy.answering(), ["four", "six"]);
}

#[test]
fn what_was_known_stays_when_the_server_fails_or_forgets() {
    let (port, _origins) = origins(41, 2);
    let mut server = NameServer::start("app IN A 127.0.0.41");
    let name = format!("app.{ZONE}");
    let proxy = named(&server, &name, port).start();
    assert_eq!(proxy.answering(), ["41"]);
    // The name is gone.
    server.change("");
    proxy.stderr_contains(&format!("cannot resolve {name}: it has no address"));
    assert_eq!(proxy.answering(), ["41"]);
    server.change("app IN A 127.0.0.42");
    proxy.until_answering(&["42"]);
    proxy.stderr_contains(&format!("{name} is resolved again"));
    // The server is gone.
    let address = server.address();
    drop(server);
    eventually("a second failure", || {
        let lines = proxy.stderr();
        let told = lines.iter().filter(|line| line.contains("cannot resolve")).count();
        holds(told == 2, lines)
    });
    assert_eq!(proxy.answering(), ["42"]);
    let _server = NameServer::start_at(address.port(), "app IN A 127.0.0.41");
    proxy.until_answering(&["41"]);
    let told = proxy.stderr();
    let count = |text: &str| told.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("cannot resolve"), count("is resolved again")), (2, 2), "{told:#?}");
}

#[test]
fn an_answer_is_used_as_long_as_it_says() {
    let (port, _origins) = origins(51, 2);
    let mut server = NameServer::start("app 3600 IN A 127.0.0.51\nshort 1 IN A 127.0.0.51");
    let both = format!(
        "[upstreams.app]\nhost = \"app.{ZONE}\"\nport = {port}\n\
         [upstreams.short]\nhost = \"short.{ZONE}\"\nport = {port}\n"
    );
    let proxy = Builder::new()
        .toml(&server.toml())
        .toml(&both)
        .route("short", "path_prefix = \"/short\"")
        .route("app", "path_prefix = \"/\"")
        .start();
    server.change("app 3600 IN A 127.0.0.52\nshort 1 IN A 127.0.0.52");
    eventually("the short answer to change", || {
        let text = get(proxy.address(), "/short").text();
        holds(text == "52", text)
    });
    assert_eq!(get(proxy.address(), "/").text(), "51");
}

#[test]
fn a_long_answer_is_asked_for_again_after_the_limit() {
    let (port, _origins) = origins(61, 2);
    let mut server = NameServer::start("app 3600 IN A 127.0.0.61");
    let upstream = format!("[upstreams.app]\nhost = \"app.{ZONE}\"\nport = {port}\n");
    let dns = format!("{}min_ttl = \"100ms\"\nmax_ttl = \"200ms\"\n", server.toml());
    let proxy = Builder::new().toml(&dns).toml(&upstream).route("app", "path_prefix = \"/\"").start();
    assert_eq!(proxy.answering(), ["61"]);
    server.change("app 3600 IN A 127.0.0.62");
    proxy.until_answering(&["62"]);
}

#[test]
fn new_addresses_are_checked_at_once_and_old_ones_no_more() {
    let (port, origins) = origins(71, 2);
    let mut server = NameServer::start("app IN A 127.0.0.71");
    let health = "[upstreams.app.health]\npath = \"/health\"\ninterval = \"50ms\"\ninitial = \"down\"\n";
    let proxy = named(&server, &format!("app.{ZONE}"), port).toml(health).start();
    proxy.until_answering(&["71"]);
    server.change("app IN A 127.0.0.72");
    proxy.until_answering(&["72"]);
    let before = origins[0].requests().len();
    let other = origins[1].requests().len();
    eventually("more checks of the new address", || {
        let now = origins[1].requests().len();
        holds(now > other + 5, now)
    });
    // One was perhaps on its way.
    assert!(origins[0].requests().len() <= before + 1);
}

#[test]
fn names_in_the_file_of_hosts_need_no_server() {
    let server = NameServer::start("");
    let origin = Origin::ok("here");
    for host in ["localhost", "localhost.", "LocalHost"] {
        let proxy = named(&server, host, origin.address().port()).start();
        let start = Instant::now();
        assert_eq!(proxy.answering(), ["here"], "{host}");
        assert!(start.elapsed() < BOUND / 2);
    }
}

#[test]
fn a_name_that_is_not_there_is_503_until_it_is() {
    let (port, _origins) = origins(81, 1);
    let mut server = NameServer::start("");
    let proxy = named(&server, &format!("app.{ZONE}"), port).start();
    assert_eq!(proxy.answering(), ["503"]);
    server.change("app IN A 127.0.0.81");
    proxy.until_answering(&["81"]);
}
