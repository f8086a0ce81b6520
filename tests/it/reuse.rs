//! Bytes that an origin sends beyond its response: they answer no other request, however soon that
//! comes on the same connection.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};

use crate::harness::client::request;
use crate::harness::origin::{Connection, ok};
use crate::harness::{BOUND, Client, Origin, Proxy};

const FORGED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
const ROUNDS: usize = 100;

/// Lets an origin send its forged responses when the test says so, and tells the test that they are
/// in the proxy's socket: on the loopback a write that has returned was delivered.
struct Forger {
    go: Sender<()>,
    sent: Receiver<()>,
    origin: Origin,
}

impl Forger {
    /// Answers `/poison` with `answer`, followed by what is forged; everything else with its path.
    fn new(answer: &'static str, is_unix: bool) -> Forger {
        let (go, wait) = channel();
        let (tell, sent) = channel();
        let (wait, tell) = (Mutex::new(wait), Mutex::new(tell));
        let script = move |c: &mut Connection| {
            while let Some(request) = c.next_request()? {
                if request.target() != "/poison" {
                    c.send(ok(request.target()))?;
                    continue;
                }
                c.send(answer)?;
                wait.lock().unwrap().recv_timeout(BOUND).expect("the test to say so");
                c.send(FORGED)?;
                tell.lock().unwrap().send(()).expect("the test to listen");
            }
            Ok(())
        };
        let origin = if is_unix { Origin::scripted_unix(script) } else { Origin::scripted(script) };
        Forger { go, sent, origin }
    }

    fn forge(&self) {
        self.go.send(()).expect("an origin that waits");
        self.sent.recv_timeout(BOUND).expect("an origin that forges");
    }

    /// How many requests of another client get what is forged.
    fn misplaced(&self, poison: &str, victim: &str) -> usize {
        let proxy = Proxy::with(&self.origin).workers(1).start();
        let (mut first, mut other) = (proxy.client(), proxy.client());
        let round = |number: usize| {
            let method = poison.split(' ').next().unwrap_or_default();
            first.send(format!("{poison} /poison HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(first.response_to(method).status, 200);
            self.forge();
            let path = format!("/{number}");
            other.send(format!("{victim} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            usize::from(other.response_to(victim).text() != path)
        };
        (0..ROUNDS).map(round).sum()
    }
}

#[test]
fn a_response_longer_than_its_length_answers_nobody_else() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
    for is_unix in [false, true] {
        for victim in ["GET", "POST"] {
            let forger = Forger::new(answer, is_unix);
            assert_eq!(forger.misplaced("GET", victim), 0, "{victim}, over a Unix socket: {is_unix}");
        }
    }
}

#[test]
fn a_body_where_none_belongs_answers_nobody_else() {
    let forger = Forger::new("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", false);
    assert_eq!(forger.misplaced("HEAD", "GET"), 0);
}

/// Many idle connections are looked at together.
#[test]
fn of_many_idle_connections_none_that_has_spoken_is_used() {
    const MANY: usize = 20;
    let (go, wait) = channel::<usize>();
    let (tell, sent) = channel();
    let (wait, tell) = (Mutex::new(wait), Mutex::new(tell));
    let together = Barrier::new(MANY);
    let origin = Origin::scripted(move |c| {
        while let Some(request) = c.next_request()? {
            if request.target() == "/together" {
                together.wait();
            }
            c.send(ok(request.target()))?;
            if request.target() == "/together" {
                let number = wait.lock().unwrap().recv_timeout(BOUND).expect("the test to say so");
                if number % 2 == 0 {
                    c.send(FORGED)?;
                }
                tell.lock().unwrap().send(()).expect("the test to listen");
            }
        }
        Ok(())
    });
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut clients: Vec<Client> = (0..MANY).map(|_| proxy.client()).collect();
    for _ in 0..10 {
        for client in &mut clients {
            client.send(request("/together"));
        }
        clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "/together"));
        (0..MANY).for_each(|number| go.send(number).expect("an origin that waits"));
        (0..MANY).for_each(|_| sent.recv_timeout(BOUND).expect("an origin that is done"));
        // All at once, so that they are served in one turn.
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(request(&format!("/{number}")));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.response().text(), format!("/{number}"));
        }
    }
    let rest = clients.len() * 10 / 2;
    assert!(origin.connections() <= MANY + rest, "{} connections", origin.connections());
}
