//! How the benchmarks measure: instructions under callgrind, allocations by counting, time by the clock.

use std::process::Command;
use std::time::Instant;

#[path = "../../tests/counting/mod.rs"]
mod counting;

/// A case, ready to be called any number of times.
pub type Case = Box<dyn FnMut()>;

/// Instructions of one call of the case that `this_program repeat NAME ROUNDS` runs: the
/// difference of two numbers of rounds, so that what comes before does not count. `None`
/// without valgrind.
pub fn instructions(name: &str, rounds: u64) -> Option<u64> {
    let few = run_under_callgrind(name, rounds)?;
    let many = run_under_callgrind(name, rounds * 3)?;
    Some(many.saturating_sub(few) / (rounds * 2))
}

fn run_under_callgrind(name: &str, rounds: u64) -> Option<u64> {
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["repeat", name, &rounds.to_string()])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok())
}

/// What `repeat NAME ROUNDS` asks for, if that is how this program was called.
pub fn asked_to_repeat() -> Option<(String, u64)> {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[..] {
        [_, command, name, rounds] if command == "repeat" => {
            Some((name.clone(), rounds.parse().expect("a number of rounds")))
        }
        _ => None,
    }
}

/// Only `cargo bench` measures; `cargo test` calls the same program to see that it works.
pub fn is_bench() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Allocations of one call in the steady state: what a case asks for in turn was asked for before.
pub fn allocations(case: &mut Case) -> f64 {
    const ROUNDS: u32 = 2_000;
    for _ in 0..ROUNDS {
        case();
    }
    let before = counting::allocations();
    for _ in 0..ROUNDS {
        case();
    }
    (counting::allocations() - before) as f64 / f64::from(ROUNDS)
}

/// Nanoseconds of one call: the median of many batches.
#[allow(dead_code, reason = "not every benchmark reads the clock")]
pub fn nanoseconds(case: &mut Case) -> f64 {
    const BATCHES: usize = 51;
    let started = Instant::now();
    let mut calls = 0_u32;
    while started.elapsed().as_millis() < 20 {
        case();
        calls += 1;
    }
    let batch = (calls / 10).max(1);
    let mut times: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..batch {
                case();
            }
            started.elapsed().as_nanos() as f64 / f64::from(batch)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[BATCHES / 2]
}
