//! Everything that is kept of each target, and changes of it for a few seconds, with the plain
//! test harness: no coverage, no C++.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use warpdrive_fuzz::split::Choice;
use warpdrive_fuzz::{TARGETS, corpus, mutate, shown};

/// How long one target's inputs are changed, unless `FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 3;

/// Inputs grow no further than this, in bytes.
const INPUT_MAX: usize = 8 * 1024;

fn seconds() -> u64 {
    std::env::var("FUZZ_SECONDS").map_or(SECONDS, |text| text.parse().expect("FUZZ_SECONDS is a number"))
}

/// Runs one input; what it was is told if it fails.
fn run(target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("the input was b\"{}\"", shown(input));
        std::panic::resume_unwind(panic);
    }
}

fn check(name: &str) {
    let (_, target) = TARGETS.iter().find(|(own, _)| *own == name).expect("a target");
    let seeds = corpus::seeds(name).expect("seeds");
    let mut inputs = corpus::found(name).expect("a corpus");
    assert!(!seeds.is_empty(), "{name} has seeds");
    inputs.extend(seeds);
    inputs.iter().for_each(|input| run(*target, input));
    let (began, mut count) = (Instant::now(), 0);
    let mut choice = Choice::of(name.as_bytes());
    while began.elapsed() < Duration::from_secs(seconds()) {
        let mut input = mutate::mutated(&inputs, &mut choice);
        input.truncate(INPUT_MAX);
        run(*target, &input);
        count += 1;
    }
    println!("{name}: {} kept inputs, {count} changed ones", inputs.len());
}

macro_rules! replay {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            check(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($target)),*];
            assert!(TARGETS.iter().all(|(name, _)| replayed.contains(name)));
        }
    };
}

replay! { request_head response_head chunked target configuration route connection }
