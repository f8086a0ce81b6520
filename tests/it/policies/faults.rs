//! Whatever a policy does, or cannot do: the fallback decides, and it is counted and told.

use super::{Guest, PLAIN, SETUP, Setup, ask, metric, named, policy_status, verdicts};
use crate::harness::{Origin, Proxy, eventually, holds};

#[test]
fn faults_of_all_kinds_fail_no_request() {
    let origins = named();
    let cases: [(&str, &'static str, &str); 6] = [
        ("out_of_range", "(call $pick (i32.const 3))", "picked endpoint 3 of 3"),
        ("out_of_range", "(call $pick (i32.const -1))", "picked endpoint 4294967295 of 3"),
        ("trap", "unreachable", "unreachable"),
        ("trap", "(drop (i32.load (i32.const -4))) (call $none)", "out of bounds"),
        ("timeout", "(loop $for-ever (br $for-ever)) (call $none)", "out of processor time"),
        (
            "memory",
            "(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)))) unreachable",
            "unreachable",
        ),
    ];
    for (verdict, select, told) in cases {
        let policy = "max_memory = \"4 MiB\"";
        let proxy = Setup { policy, ..SETUP }.start(&Guest::selecting(select), &origins);
        let mut client = proxy.client();
        let names: Vec<String> = (0..6).map(|_| ask(&mut client, "")).collect();
        assert_eq!(names, ["a", "b", "c", "a", "b", "c"], "{select}");
        assert!(verdicts(&proxy, verdict) >= 1.0, "{select}: {:?}", policy_status(&proxy));
        assert_eq!(metric(&proxy, "warpdrive_wasm_policy_calls_total"), 6.0, "{select}");
        let failed: f64 = ["trap", "memory", "timeout"].map(|verdict| verdicts(&proxy, verdict)).iter().sum();
        assert_eq!(failures(&proxy, "select"), failed, "{select}");
        let timed = metric(&proxy, "warpdrive_wasm_policy_call_seconds_count");
        assert_eq!(timed, 6.0 - verdicts(&proxy, "off"), "{select}");
        let line = proxy.stderr_contains(told);
        assert!(line.contains("policy `p`") && line.contains("fallback"), "{line}");
    }
}

#[test]
fn an_instance_that_fails_is_replaced() {
    let origins = named();
    let select =
        "(if (i32.eq (call $field (i32.const 100) (i32.const 6)) (i32.const 120)) (then unreachable))
        (call $pick (i32.const 1))";
    let proxy = SETUP.start(&Guest::selecting(select), &origins);
    let mut client = proxy.client();
    for failures in 1..4 {
        ask(&mut client, "X-Pick: x\r\n");
        eventually("another instance", || {
            let name = ask(&mut client, "X-Pick: 1\r\n");
            let picked = verdicts(&proxy, "picked");
            holds(name == "b" && picked >= f64::from(failures), picked)
        });
    }
    assert_eq!(verdicts(&proxy, "trap"), 3.0);
    assert_eq!(metric(&proxy, "warpdrive_wasm_instances_made_total"), 4.0);
}

#[test]
fn one_that_fails_again_and_again_is_switched_off_for_a_while() {
    let origins = named();
    let proxy = SETUP.start(&Guest::selecting("unreachable"), &origins);
    let mut client = proxy.client();
    eventually("three failures", || {
        ask(&mut client, "");
        let traps = verdicts(&proxy, "trap");
        holds(traps >= 3.0, traps)
    });
    let traps = verdicts(&proxy, "trap");
    (0..200).for_each(|_| drop(ask(&mut client, "")));
    // It comes back after a second, then after two: not with each request.
    assert!(verdicts(&proxy, "trap") <= traps + 3.0);
    assert!(verdicts(&proxy, "off") >= 100.0);
}

/// Calls that failed, of what they were for.
fn failures(proxy: &Proxy, call: &str) -> f64 {
    metric(proxy, &format!("warpdrive_wasm_policy_failures_total{{policy=\"p\",call=\"{call}\""))
}

#[test]
fn feedback_that_always_fails_switches_off_as_well_although_each_choice_succeeds() {
    let origins = named();
    let guest = Guest { report: "unreachable", ..Guest::selecting("(call $pick (i32.const 1))") };
    let proxy = SETUP.start(&guest, &origins);
    let mut client = proxy.client();
    eventually("three failures", || {
        ask(&mut client, "");
        let failed = failures(&proxy, "report");
        holds(failed >= 3.0, failed)
    });
    let failed = failures(&proxy, "report");
    (0..200).for_each(|_| drop(ask(&mut client, "")));
    assert!(failures(&proxy, "report") <= failed + 3.0);
    assert!(verdicts(&proxy, "off") >= 100.0);
    assert_eq!((failures(&proxy, "select"), verdicts(&proxy, "trap")), (0.0, 0.0));
    let picked = verdicts(&proxy, "picked");
    assert_eq!(picked, failures(&proxy, "report"), "each choice was reported");
    proxy.stderr_contains("policy `p`: feedback: ");
}

#[test]
fn the_log_takes_so_much_and_no_more() {
    let origins = named();
    let select = "(loop $again
            (call $log)
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 50))))
        (call $none)";
    let proxy = SETUP.start(&Guest::selecting(select), &origins);
    let mut client = proxy.client();
    (0..40).for_each(|_| drop(ask(&mut client, "")));
    proxy.stderr_contains("p: a line");
    proxy.stderr_contains("p writes too much");
    let lines = proxy.stderr().iter().filter(|line| line.contains("p: a line")).count();
    assert!(lines < 1000, "{lines}");
    assert!(metric(&proxy, "warpdrive_wasm_log_dropped_lines_total") > 100.0);
}

#[test]
fn an_endpoint_that_is_down_is_not_asked_for_by_a_policy_either() {
    let down = Origin::ok("down");
    let address = down.toml();
    drop(down);
    let origins = named();
    let health = "[upstreams.app.health]\npath = \"/\"\ninterval = \"100ms\"\nunhealthy_threshold = 1\n";
    let text = format!("[[upstreams.app.instances]]\n{address}{health}");
    let builder = SETUP
        .builder(&origins)
        .toml(&text)
        .file("p.wat", &Guest::selecting("(call $pick (i32.const 3))").text());
    let proxy = builder.start();
    let mut client = proxy.client();
    (0..6).for_each(|_| drop(ask(&mut client, "")));
    assert_eq!(verdicts(&proxy, "unhealthy"), 6.0);
    proxy.stderr_contains("which is not healthy");
}

#[test]
fn one_that_declines_its_configuration_leaves_a_start_to_the_fallback() {
    let origins = named();
    let proxy = SETUP.start(&Guest { configure: "(call $decline)", ..PLAIN }, &origins);
    let mut client = proxy.client();
    let names: Vec<String> = (0..3).map(|_| ask(&mut client, "")).collect();
    assert_eq!(names, ["a", "b", "c"]);
    proxy.stderr_contains("policy `p` is left to the fallback: configure: no thanks");
    let status = policy_status(&proxy);
    assert_eq!(
        (status["state"].as_str(), status["failure"].as_str()),
        (Some("absent"), Some("configure: no thanks"))
    );
    assert_eq!(verdicts(&proxy, "off"), 3.0);
}

#[test]
fn a_file_that_is_missing_leaves_a_start_to_the_fallback() {
    let origins = named();
    let builder = SETUP.builder(&origins);
    let check = builder.check();
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(check.stderr.contains("the fallback of its upstreams decides"), "{check:?}");
    let proxy = builder.start();
    assert_eq!(ask(&mut proxy.client(), "X-Pick: 2\r\n"), "a");
    proxy.stderr_contains("policy `p` is left to the fallback");
}

#[test]
fn what_is_no_policy_is_refused() {
    let origins = named();
    let cases = [
        ("(module)", "it is a core module, and no component"),
        ("(component)", "it is no policy: it exports nothing"),
        (
            "(component (instance $i) (export \"wasi:http/incoming-handler@0.2.0\" (instance $i)))",
            "it exports wasi:http/incoming-handler@0.2.0, and not warpdrive:policy/load-balancer@0.1.0",
        ),
        (
            "(component (import \"wasi:io/poll@0.2.0\" (instance)) (instance $i)
                (export \"warpdrive:policy/load-balancer@0.1.0\" (instance $i)))",
            "it imports wasi:io/poll@0.2.0, which a policy cannot have",
        ),
    ];
    for (text, told) in cases {
        let run = SETUP.builder(&origins).file("p.wat", text).run();
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains(told), "{run:?}");
    }
}

#[test]
fn a_hundredth_of_traps_disturbs_nobody() {
    let origins = named();
    // Every hundredth call, by the store.
    let select =
        "(if (i32.eqz (i32.rem_u (i32.trunc_f64_u (call $next)) (i32.const 100))) (then unreachable))
        (call $pick (i32.const 1))";
    let proxy = SETUP.start(&Guest::selecting(select), &origins);
    let mut client = proxy.client();
    (0..10_000).for_each(|_| drop(ask(&mut client, "")));
    assert!(verdicts(&proxy, "trap") >= 2.0);
    assert!(verdicts(&proxy, "picked") >= 200.0);
    assert_eq!(metric(&proxy, "warpdrive_wasm_policy_calls_total"), 10_000.0);
}
