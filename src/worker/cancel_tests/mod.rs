//! The work of a connection may end at any await, by being dropped or by a panic: nothing leaks,
//! and no connection to an upstream is used again that was in the middle of something.

mod client;
mod origin;
mod stage;
mod told;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use self::client::{Client, SCRIPTS, Script};
use self::stage::{Ending, Stage, memory, until};
use crate::net::buffer::Size;
use crate::proxy::connection;
use crate::telemetry::panics::log_panics;

/// More polls than any exchange has.
const POLLS_MAX: usize = 2000;

/// What the process may reserve more after hundreds of rounds: the largest buffers, if their
/// turn had not come yet, but not what each round would leave.
const GROWTH_KIB_MAX: usize = 1024;

/// More threads than a stage has.
const THREADS: usize = 12;

/// Set in the process that a test has for itself.
const ALONE: &str = "WARPDRIVE_TEST_ALONE";

/// Runs a test in a process where nobody else opens descriptors, on both drivers.
fn check(test: &str, run: impl AsyncFn()) {
    if std::env::var_os(ALONE).is_some() {
        keep_stacks();
        RuntimeBuilder::<IoUringDriver>::new().build().unwrap().block_on(run());
        RuntimeBuilder::<LegacyDriver>::new().build().unwrap().block_on(run());
        return;
    }
    let name = format!("worker::cancel_tests::{test}");
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&alone.stdout);
    let is_passed = alone.status.success() && told.contains("1 passed");
    assert!(is_passed, "{told}{}", String::from_utf8_lossy(&alone.stderr));
}

/// Lets as many threads have been here at once as there will ever be: their stacks are kept, so
/// that only a leak takes more memory.
fn keep_stacks() {
    let barrier = Arc::new(Barrier::new(THREADS));
    let meet = |_| {
        let barrier = Arc::clone(&barrier);
        std::thread::spawn(move || barrier.wait())
    };
    let threads: Vec<_> = (0..THREADS).map(meet).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Cuts an exchange after each of its polls, until it is not cut any more; returns how many
/// rounds that took. With `is_warm`, a connection to the origin is there to be used again.
async fn cut_at_each_poll(stage: &Stage, script: Script, ending: Ending, is_warm: bool) -> usize {
    for nth in 1..POLLS_MAX {
        if is_warm {
            stage.ask_fresh(0).await;
        }
        let panics = stage.core.counters.panics.value();
        let (connection, stream) = stage.connect();
        let (steps, go_on) = crossbeam_channel::unbounded();
        stage.origin.follow(go_on);
        let work = connection::serve(Rc::clone(&stage.core), connection);
        let (polls, is_cut) = stage.start(work, nth, ending);
        let client = Client { stream, polls, steps, whole: 0 };
        let client = std::thread::spawn(move || client.run(script));
        until("the client ends", || client.is_finished()).await;
        let (ended, whole) = client.join().unwrap();
        let waited = ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(!waited && (is_cut.get() || ended.is_ok()), "cut at {nth}: {ended:?}, {whole} whole");
        until("the connection ends", || stage.core.open() == 0).await;
        assert_eq!(stage.core.admission.open(), 0);
        if !stage.core.upstreams.pools.is_empty() {
            let seen = stage.origin.seen().iter().filter(|(target, _)| target != "/broken").count();
            assert_eq!(seen, whole, "a kept connection is one whose exchanges were whole");
        }
        let has_panicked = is_cut.get() && ending == Ending::Panicked;
        assert_eq!(stage.core.counters.panics.value(), panics + u64::from(has_panicked));
        expect_told(has_panicked);
        if let (false, Some((target, is_first))) = (is_cut.get(), stage.origin.seen().first()) {
            assert_eq!(*is_first, !is_warm, "{target} goes over a kept connection if there is one");
        }
        stage.ask_fresh(nth).await;
        stage.expect_nothing_left().await;
        if !is_cut.get() {
            return nth;
        }
    }
    panic!("an exchange without end");
}

/// A panic is one line which names its place; nothing else is an error.
fn expect_told(has_panicked: bool) {
    let errors = told::errors();
    assert_eq!(errors.len(), usize::from(has_panicked), "{errors:?}");
    for line in errors {
        let (place, message) = stage::PANIC;
        assert!(line.contains(place) && line.ends_with(message), "{line}");
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        assert!(line.starts_with(&name) && !line.contains('\n'), "{line}");
    }
}

/// Every kind of exchange, again and again on one core.
async fn cut_everything(ending: Ending, passes: usize) {
    let stage = Stage::new();
    let mut first = None;
    for pass in 1..=passes {
        for (name, script) in SCRIPTS {
            println!("{name}");
            let cold = cut_at_each_poll(&stage, *script, ending, false).await;
            let warm = cut_at_each_poll(&stage, *script, ending, true).await;
            println!("{name}: {cold} rounds with a new connection, {warm} with a kept one");
        }
        let log = stage.log();
        assert!(log.contains("/fresh/"), "the log was on");
        let is_told = log.contains(r#""reason":"panicked","protocol":"HTTP/1.1","status":500"#);
        assert_eq!(is_told, ending == Ending::Panicked, "an exchange has its line when it panics");
        let reserved = (memory(), stage.core.buffers.kept(Size::Small));
        println!("pass {pass}: {reserved:?}");
        let (memory, buffers) = *first.get_or_insert(reserved);
        assert!(reserved.0 < memory + GROWTH_KIB_MAX, "{} KiB more", reserved.0 - memory);
        assert!(reserved.1 <= buffers + 4, "{} buffers", reserved.1);
    }
}

#[test]
fn an_exchange_may_be_dropped_at_any_await() {
    check("an_exchange_may_be_dropped_at_any_await", async || {
        cut_everything(Ending::Dropped, 3).await;
    });
}

#[test]
fn a_panic_at_any_await_ends_one_connection_and_is_told_with_its_place() {
    check("a_panic_at_any_await_ends_one_connection_and_is_told_with_its_place", async || {
        told::keep();
        log_panics();
        cut_everything(Ending::Panicked, 2).await;
    });
}

/// A connection that was served and is parked, and its client.
async fn parked(stage: &Stage) -> TcpStream {
    let (connection, mut client) = stage.connect();
    client.set_nonblocking(true).unwrap();
    connection::spawn(&stage.core, connection::serve(Rc::clone(&stage.core), connection));
    ask(&mut client, 1).await;
    stage.turn().await;
    let buffers = stage.core.buffers.kept(Size::Small);
    stage.pass(Duration::from_millis(900));
    stage.turn().await;
    assert_eq!(stage.core.buffers.kept(Size::Small), buffers, "it still reads");
    stage.pass(Duration::from_millis(300));
    until("the buffer is given back", || stage.core.buffers.kept(Size::Small) == buffers + 1).await;
    stage.turn().await;
    assert_eq!((stage.core.open(), stage.core.admission.open()), (1, 1));
    client
}

/// One exchange of a connection that is kept.
async fn ask(client: &mut TcpStream, number: usize) {
    let target = format!("/fresh/{number}");
    client.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    until("a kept connection answers", || {
        let mut piece = [0; 4096];
        if let Ok(count) = client.read(&mut piece) {
            assert_ne!(count, 0, "it is closed");
            answer.extend(&piece[..count]);
        }
        answer.ends_with(target.as_bytes())
    })
    .await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

async fn expect_closed(stage: &Stage, client: &mut TcpStream) {
    until("it is closed", || matches!(client.read(&mut [0; 16]), Ok(0))).await;
    until("it is counted out", || stage.core.open() == 0).await;
    stage.expect_nothing_left_but(1).await;
}

#[test]
fn a_quiet_connection_is_parked_without_a_buffer_and_wakes_for_its_next_request() {
    check("a_quiet_connection_is_parked_without_a_buffer_and_wakes_for_its_next_request", async || {
        let stage = Stage::new();
        let mut client = parked(&stage).await;
        ask(&mut client, 2).await;
        client.shutdown(Shutdown::Write).unwrap();
        expect_closed(&stage, &mut client).await;
    });
}

#[test]
fn a_parked_connection_ends_with_a_drain_with_its_timeout_and_with_its_client() {
    check("a_parked_connection_ends_with_a_drain_with_its_timeout_and_with_its_client", async || {
        let stage = Stage::new();
        let mut client = parked(&stage).await;
        stage.pass(Duration::from_secs(24 * 60 * 60));
        expect_closed(&stage, &mut client).await;
        drop(client);
        let mut client = parked(&stage).await;
        client.shutdown(Shutdown::Write).unwrap();
        expect_closed(&stage, &mut client).await;
        drop(client);
        let mut client = parked(&stage).await;
        stage.core.drain();
        assert_eq!(stage.core.wheel.retire_idle(10), 1);
        expect_closed(&stage, &mut client).await;
    });
}

#[test]
fn a_parked_connection_may_be_dropped() {
    check("a_parked_connection_may_be_dropped", async || {
        let stage = Stage::new();
        for ending in [Ending::Dropped, Ending::Panicked] {
            let (connection, mut client) = stage.connect();
            client.set_nonblocking(true).unwrap();
            let work = connection::park(Rc::clone(&stage.core), connection);
            let (_polls, is_cut) = stage.start(work, 1, ending);
            expect_closed(&stage, &mut client).await;
            assert!(is_cut.get());
        }
        assert_eq!(stage.core.counters.panics.value(), 1);
    });
}
