//! Tasks of one core, and how they wait. A panic ends its own task and nothing else.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs `future` on this core; `panicked` is called if it panics. What it held is dropped.
pub fn spawn(future: impl Future<Output = ()> + 'static, panicked: impl FnOnce() + Unpin + 'static) {
    // Boxed, because a future that is moved into another takes its room twice.
    let contained = Contained { future: Box::pin(future), panicked: Some(panicked) };
    // Nobody waits for it: the task goes on without its handle.
    let _detached = monoio::spawn(contained);
}

/// What comes of `whole`, unless `end` is there before; at the same time, `whole` counts. Both are
/// pinned where they were made: they are large, and moved twice otherwise.
pub async fn unless<T>(
    mut whole: Pin<&mut impl Future<Output = T>>,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Option<T> {
    poll_fn(|cx| match whole.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Steps that a task takes before the others of its core have a turn.
const STEPS_MAX: u32 = 4;

/// Lets the other tasks of a core have their turn. With completions every read and write does
/// that; with readiness, one that is ready at once goes on at once, and a peer that always has
/// more would never let go.
#[derive(Default)]
pub struct Turn {
    steps: u32,
}

impl Turn {
    /// To be called once for each step of a loop.
    pub async fn step(&mut self) {
        self.steps += 1;
        if self.steps == STEPS_MAX {
            self.steps = 0;
            if monoio::utils::is_legacy() {
                pass().await;
            }
        }
    }
}

/// Pending once.
async fn pass() {
    let mut has_passed = false;
    poll_fn(|cx| {
        if has_passed {
            return Poll::Ready(());
        }
        has_passed = true;
        // monoio puts a task that wakes itself before all others, one that another wakes behind.
        let waker = cx.waker().clone();
        let _detached = monoio::spawn(async move { waker.wake() });
        Poll::Pending
    })
    .await;
}

struct Contained<F, P> {
    /// Never polled again after a panic, so what it may have left half changed is only dropped.
    future: Pin<Box<F>>,
    panicked: Option<P>,
}

impl<F: Future<Output = ()>, P: FnOnce() + Unpin> Future for Contained<F, P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let future = self.future.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled,
            Err(_) => {
                if let Some(panicked) = self.panicked.take() {
                    panicked();
                }
                Poll::Ready(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
    use monoio::net::UnixStream;
    use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

    use super::*;

    /// A task panics, at once or after an await; the loop and its other tasks go on.
    async fn panics_are_contained() {
        let panics = Rc::new(Cell::new(0));
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        for after_an_await in [false, true] {
            let panics = Rc::clone(&panics);
            let (mut a, b) = UnixStream::pair().unwrap();
            let held = Rc::new(());
            let holder = Rc::downgrade(&held);
            let broken = async move {
                let _held = (held, b);
                if after_an_await {
                    a.write_all(b"x".as_slice()).await.0.unwrap();
                }
                panic!("injected");
            };
            spawn(broken, move || {
                assert_eq!(holder.strong_count(), 0, "what the task held is dropped before it is counted");
                panics.set(panics.get() + 1);
            });
        }
        spawn(
            async move {
                let mut theirs = theirs;
                theirs.write_all(b"still here".as_slice()).await.0.unwrap();
            },
            || panic!("this one did not panic"),
        );
        let (read, bytes) = ours.read(Vec::with_capacity(16)).await;
        assert_eq!((read.unwrap(), &bytes[..]), (10, b"still here".as_slice()));
        assert_eq!(panics.get(), 2);
    }

    #[test]
    fn a_panic_ends_its_own_task_and_nothing_else() {
        RuntimeBuilder::<LegacyDriver>::new().build().unwrap().block_on(panics_are_contained());
        RuntimeBuilder::<IoUringDriver>::new().build().unwrap().block_on(panics_are_contained());
    }
}
