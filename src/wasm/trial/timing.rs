//! How long calls take, on the clock and on the processor.

use std::time::{Duration, Instant};

use crate::wasm::meter::thread_cpu;

/// What takes less is timed several times in one go: to look at the clock takes time, too.
const TIMED: Duration = Duration::from_micros(5);

/// Calls that are made before any counts.
const WARM_UP: u32 = 50;

/// Times that are kept of one kind of call.
const KEPT_MAX: usize = 1 << 20;

/// What one kind of call takes.
#[derive(Clone, Debug)]
pub struct Row {
    pub what: String,
    pub calls: u64,
    /// On the processor, on average.
    pub cpu: Duration,
    /// Half of them, and 99 of 100, are not slower. Short ones are timed in groups: then this is
    /// of the mean of a group.
    pub median: Duration,
    pub p99: Duration,
}

/// Makes calls for about `time`.
///
/// # Errors
/// That of the first call which fails.
pub async fn measure(
    what: &str,
    time: Duration,
    mut call: impl AsyncFnMut() -> Result<(), String>,
) -> Result<Row, String> {
    let begun = Instant::now();
    let mut warm = 0;
    while warm < WARM_UP && begun.elapsed() < time {
        call().await?;
        warm += 1;
    }
    let each = (begun.elapsed() / warm.max(1)).max(Duration::from_nanos(1));
    let group = TIMED.div_duration_f64(each).ceil().max(1.0) as u32;
    let mut times = Vec::new();
    let (begun, begun_cpu) = (Instant::now(), thread_cpu());
    while times.is_empty() || (begun.elapsed() < time && times.len() < KEPT_MAX) {
        let since = Instant::now();
        for _ in 0..group {
            call().await?;
        }
        times.push(since.elapsed() / group);
    }
    let cpu = thread_cpu().saturating_sub(begun_cpu);
    let calls = times.len() as u64 * u64::from(group);
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    Ok(Row {
        what: what.to_owned(),
        calls,
        cpu: Duration::from_nanos(cpu / calls),
        median: at(0.5),
        p99: at(0.99),
    })
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn at_once<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn every_call_is_counted_and_an_error_is_told() {
        let mut made = 0;
        let row = at_once(measure("x", Duration::from_millis(5), async || {
            made += 1;
            Ok(())
        }));
        let row = row.expect("no call failed");
        assert_eq!(row.calls + u64::from(WARM_UP), made);
        assert!(row.median <= row.p99);
        let failed = at_once(measure("x", Duration::from_millis(5), async || Err("trapped".to_owned())));
        assert_eq!(failed.err().as_deref(), Some("trapped"));
    }

    #[test]
    fn what_takes_longer_than_there_is_time_is_called_all_the_same() {
        let row = at_once(measure("x", Duration::ZERO, async || Ok(()))).expect("no call failed");
        assert!(row.calls > 0);
    }
}
