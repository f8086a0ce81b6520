//! Tasks of one core. A panic ends its own task and nothing else.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

/// Runs `future` on this core; `panicked` is called if it panics. What it held is dropped.
pub fn spawn(future: impl Future<Output = ()> + 'static, panicked: impl FnOnce() + 'static) {
    // Nobody waits for it: the task goes on without its handle.
    let _detached = monoio::spawn(async move {
        let caught = {
            let mut future = std::pin::pin!(future);
            poll_fn(move |cx| {
                // The future is never polled again after a panic, so what it may have left
                // half changed is only dropped.
                match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(())) => Poll::Ready(false),
                    Err(_) => Poll::Ready(true),
                }
            })
            .await
        };
        if caught {
            panicked();
        }
    });
}
