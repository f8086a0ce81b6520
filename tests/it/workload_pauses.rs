//! A component that fails again and again is asked nothing for a while. What the component `probe`
//! does, its path says (tests/guests/probe).

use std::time::Duration;

use crate::harness::client::{Response, get, request};
use crate::harness::{Client, eventually, holds};
use crate::workloads::with_probe;

/// On the one core that there is: each judges for itself.
fn fail(client: &mut Client, times: usize) {
    for _ in 0..times {
        assert_eq!(client.get("/trap").status, 500);
    }
}

/// In seconds, rounded up.
fn retry_after(response: &Response) -> u32 {
    response.head.values("retry-after").concat().parse().expect("a number of seconds")
}

#[test]
fn a_component_that_fails_in_a_row_gets_a_pause_and_then_a_trial() {
    let proxy = with_probe("failures = 3\npause = \"2s\"\ntime = \"300ms\"").start();
    let mut client = proxy.client();
    for _ in 0..3 {
        fail(&mut client, 2);
        assert_eq!(client.get("/calls").status, 200, "a success begins a new row");
    }
    fail(&mut client, 2);
    assert_eq!(client.get("/never").status, 504, "that it takes too long is a failure, too");
    let response = client.get("/calls");
    assert_eq!(response.status, 503, "{}", response.text());
    assert!((1..=2).contains(&retry_after(&response)), "{}", response.text());
    let reason = "component has failed too often and gets no requests for a while";
    assert_eq!(proxy.log_line(503).text("reason"), reason);
    proxy.stderr_contains("component `probe` has failed too often and gets no requests on core 0 for 2s");
    // One tries it, and fails: the next pause is longer.
    eventually("a trial", || {
        let status = client.get("/trap").status;
        holds(status == 500, status)
    });
    let response = client.get("/calls");
    assert_eq!(response.status, 503);
    assert!((3..=4).contains(&retry_after(&response)), "{}", retry_after(&response));
    eventually("another trial", || {
        let status = client.get("/calls").status;
        holds(status == 200, status)
    });
    fail(&mut client, 2);
    assert_eq!(client.get("/calls").status, 200, "all is as before");
    proxy.stderr_contains("component `probe` gets requests again on core 0");
}

#[test]
fn a_trial_whose_client_goes_away_leaves_the_next_one_to_try() {
    let proxy = with_probe("failures = 1\npause = \"1ms\"").start();
    fail(&mut proxy.client(), 1);
    // It takes as long as it is let.
    let mut trial = proxy.client();
    eventually("a trial that waits", || {
        trial = proxy.client();
        trial.send(request("/never"));
        holds(trial.is_quiet_for(Duration::from_millis(200)), "answered")
    });
    assert_eq!(get(proxy.address(), "/calls").status, 503, "one at a time");
    trial.reset();
    eventually("another trial", || {
        let status = get(proxy.address(), "/calls").status;
        holds(status == 200, status)
    });
}

#[test]
fn those_who_wait_when_it_begins_are_told_at_once() {
    let limits = "failures = 1\npause = \"1h\"\npause_max = \"1h\"\ninstances = 1\nwaiting_timeout = \"1h\"";
    let proxy = with_probe(&format!("{limits}\ntime = \"2s\"")).start();
    let mut failing = proxy.client();
    failing.send(request("/never")).until_taken();
    let mut waiting: Vec<Client> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut waiting {
        client.send(request("/calls")).until_taken();
    }
    assert_eq!(failing.response().status, 504);
    for client in &mut waiting {
        let response = client.response();
        assert_eq!((response.status, response.head.values("retry-after")), (503, vec!["3600"]));
    }
}

#[test]
fn without_a_number_there_is_no_pause() {
    let proxy = with_probe("failures = 0").start();
    let mut client = proxy.client();
    fail(&mut client, 200);
    assert_eq!(client.get("/calls").text(), "1");
}
