//! Requests that wait until an endpoint may have one more connection: per core, in the order in
//! which they came, bounded.
//!
//! Must not know: what is waited for. Whoever gives a connection back calls the first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Wheel;

#[derive(Default)]
pub struct Queue {
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Default)]
struct Waiter {
    waker: RefCell<Option<Waker>>,
    is_called: Cell<bool>,
}

/// A place in the queue; given up on drop.
pub struct Place<'a> {
    queue: &'a Queue,
    waiter: Rc<Waiter>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// The last place, unless there are `most` already.
    pub fn enter(&self, most: usize) -> Option<Place<'_>> {
        let mut waiting = self.waiting.borrow_mut();
        (waiting.len() < most).then(|| {
            let waiter = Rc::new(Waiter::default());
            waiting.push_back(Rc::clone(&waiter));
            Place { queue: self, waiter }
        })
    }

    /// Has all look again.
    pub fn call_all(&self) {
        let all: Vec<Rc<Waiter>> = self.waiting.borrow().iter().cloned().collect();
        all.iter().for_each(|waiter| waiter.call());
    }

    /// Has the first look again.
    pub fn call(&self) {
        let first = self.waiting.borrow().front().cloned();
        first.iter().for_each(|first| first.call());
    }
}

impl Waiter {
    fn call(&self) {
        self.is_called.set(true);
        let waker = self.waker.take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Place<'_> {
    pub fn is_first(&self) -> bool {
        self.queue.waiting.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.waiter))
    }

    /// Until it is called, or `most` has passed: other cores call nobody.
    pub async fn wait(&self, wheel: &Rc<Wheel>, most: Duration) {
        let mut pause = pin!(wheel.sleep(most));
        poll_fn(|cx| match self.poll_called(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => pause.as_mut().poll(cx),
        })
        .await;
    }

    fn poll_called(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiter.is_called.take() {
            return Poll::Ready(());
        }
        *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let was_first = self.is_first();
        self.queue.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.waiter));
        // There may be room for the next one, too, and nobody else will say so.
        if was_first {
            self.queue.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(place: &Place<'_>) -> bool {
        place.poll_called(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_first_is_called_and_then_the_next() {
        let queue = Queue::default();
        queue.call();
        let places: Vec<_> = (0..3).map(|_| queue.enter(3).unwrap()).collect();
        assert!(queue.enter(3).is_none());
        assert!(places.iter().all(|place| !is_called(place)));
        queue.call();
        assert!(places[0].is_first() && is_called(&places[0]));
        assert!(!is_called(&places[0]) && !is_called(&places[1]));
        let mut places = places.into_iter();
        drop(places.next());
        let (second, third) = (places.next().unwrap(), places.next().unwrap());
        assert!(second.is_first() && is_called(&second));
        assert!(!third.is_first() && !is_called(&third));
    }

    #[test]
    fn all_can_be_called_at_once() {
        let queue = Queue::default();
        let places: Vec<_> = (0..3).map(|_| queue.enter(3).unwrap()).collect();
        queue.call_all();
        assert!(places.iter().all(is_called));
        assert!(!places.iter().any(is_called));
    }

    #[test]
    fn who_leaves_from_the_middle_calls_nobody() {
        let queue = Queue::default();
        let (first, second, third) =
            (queue.enter(9).unwrap(), queue.enter(9).unwrap(), queue.enter(9).unwrap());
        drop(second);
        assert!(!is_called(&first) && !is_called(&third));
        drop(first);
        assert!(third.is_first() && is_called(&third));
        drop(third);
        assert!(queue.is_empty());
    }
}
