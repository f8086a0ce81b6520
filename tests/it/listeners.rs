//! Addresses that come and go while it runs.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::client::get;
use crate::harness::{Client, Origin, Proxy, ended, eventually, free_port, holds};
use crate::operators::{done, refused, with_socket};
use crate::reload::{change, configuration, reload, reloadable, write};

const ONE: &str = "bind = [\"127.0.0.1\"]";
const TWO: &str = "bind = [\"127.0.0.1\", \"127.0.0.2\"]";

/// The same port on another address of the loopback.
fn beside(proxy: &Proxy) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 2], proxy.address().port()))
}

/// Nobody can connect, neither at once nor a little later.
fn is_closed(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

#[test]
fn one_that_is_added_is_listened_on_and_one_that_is_removed_is_not() {
    let origin = Origin::ok("a");
    let mut proxy = reloadable(Proxy::with(&origin));
    assert!(is_closed(beside(&proxy)));
    change(&proxy, ONE, TWO);
    reload(&proxy);
    proxy.stderr_contains(&format!("listening on http://{}", beside(&proxy)));
    let mut old = Client::connect(beside(&proxy));
    assert_eq!(old.get("/").text(), "a");
    // The next data process gets it, too.
    let data = proxy.data_pid();
    proxy.signal_data_process(Signal::KILL);
    ended(data);
    let mut old = Client::connect(beside(&proxy));
    assert_eq!(old.get("/").text(), "a");
    change(&proxy, TWO, ONE);
    reload(&proxy);
    proxy.stderr_contains(&format!("listening no longer on http://{}", beside(&proxy)));
    assert!(is_closed(beside(&proxy)));
    // Who was connected stays so.
    assert_eq!(old.get("/").text(), "a");
    assert_eq!(proxy.answering(), ["a"]);
    // At once again: it waits until the address is free.
    change(&proxy, ONE, TWO);
    reload(&proxy);
    assert_eq!(get(beside(&proxy), "/").text(), "a");
    change(&proxy, TWO, ONE);
    reload(&proxy);
    change(&proxy, ONE, TWO);
    reload(&proxy);
    assert_eq!(get(beside(&proxy), "/").text(), "a");
    drop(old);
    assert_eq!(proxy.terminate(), 0);
    assert!(is_closed(beside(&proxy)));
}

#[test]
fn whoever_could_connect_to_an_address_that_is_left_is_served() {
    let origin = Origin::ok("a");
    let proxy = reloadable(Proxy::with(&origin));
    let both = configuration(&proxy).replace(ONE, TWO);
    for _ in 0..3 {
        write(&proxy, &both);
        reload(&proxy);
        let served = AtomicUsize::new(0);
        let address = beside(&proxy);
        let connect_until_closed = || {
            while let Ok(client) = Client::try_connect(address) {
                let mut client = client;
                assert_eq!(client.get("/").status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            (0..6).for_each(|_| drop(scope.spawn(connect_until_closed)));
            eventually("some to be served", || {
                let served = served.load(Ordering::Relaxed);
                holds(served > 50, served)
            });
            // They queue up while it is told.
            proxy.signal_data_process(Signal::STOP);
            write(&proxy, &both.replace(TWO, ONE));
            proxy.signal(Signal::HUP);
            proxy.signal_data_process(Signal::CONT);
        });
    }
}

#[test]
fn an_address_that_another_process_has_changes_nothing() {
    let origin = Origin::ok("a");
    let proxy = reloadable(Proxy::with(&origin));
    let taken = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = configuration(&proxy);
    let text = text
        .replace("http_port = 0", &format!("http_port = {port}"))
        .replace("127.0.0.1\"]", "127.0.0.4\", \"127.0.0.3\"]");
    write(&proxy, &text);
    let said = refused(&proxy, &["reload"]);
    assert!(said.contains(&format!("cannot listen on 127.0.0.3:{port}: address already in use")), "{said}");
    assert_eq!(proxy.answering(), ["a"]);
    assert!(is_closed(SocketAddr::from(([127, 0, 0, 4], port))));
    drop(taken);
    reload(&proxy);
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 3], port)), "/").text(), "a");
    assert!(is_closed(proxy.address()));
}

#[test]
fn one_address_may_take_the_place_of_all() {
    let origin = Origin::ok("a");
    let builder = with_socket(Proxy::with(&origin).port(free_port()));
    let proxy = Proxy::from_text(
        &builder
            .text()
            .replace("127.0.0.1\"]", "0.0.0.0\"]")
            .replace("admin.sock", &format!("{}/admin.sock", builder.directory().display())),
    );
    for (from, to) in [("0.0.0.0\"]", "127.0.0.1\"]"), ("127.0.0.1\"]", "0.0.0.0\"]")] {
        change(&proxy, from, to);
        done(&proxy, &["reload"]);
        assert_eq!(proxy.answering(), ["a"]);
        assert_eq!(is_closed(beside(&proxy)), to.starts_with("127"));
    }
}
