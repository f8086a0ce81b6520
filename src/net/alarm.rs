//! Alarms of one core: for what the coarse [`Wheel`](super::Wheel) is too coarse, and for whoever
//! must not hold anything of a core. One kernel timer for all of them, set to the earliest.
//!
//! An alarm comes back through the event loop, even one that is due at once. Who wants nothing but a
//! later turn, so that every other task of its core can have one, has one of those, too: of several
//! that want that, one each time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use monoio::net::UnixStream;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

/// What may be told of an alarm that is due: 0 would stop the timer.
const AT_ONCE: Duration = Duration::from_nanos(1);

/// The queue of a core's alarms. A `Send` handle, although only its own core uses it: the lock is
/// never contended.
#[derive(Clone, Default)]
pub struct Alarms(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    /// By their time; those that were dropped stay until then, or until they are too many.
    set: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Those that want a turn, in their order, and since when.
    turns: VecDeque<(Instant, u64)>,
    /// Those that somebody waits for, by number.
    waiting: HashMap<u64, Option<Waker>>,
    next: u64,
    /// What [`Alarms::run`] waits with.
    runner: Option<Waker>,
}

/// What the alarms of a core wait for.
#[derive(PartialEq, Eq)]
enum News {
    Fired,
    /// There is an alarm before the one that the timer is set to.
    Earlier,
}

/// Resolves at its time. Dropped, it never does.
pub struct Alarm {
    alarms: Alarms,
    /// None for a turn.
    at: Option<Instant>,
    /// Once it was waited for.
    number: Option<u64>,
}

impl Alarms {
    /// Resolves once `after` has passed, and not before the event loop was asked for what is new.
    pub fn after(&self, after: Duration) -> Alarm {
        let now = Instant::now();
        // A time beyond the clock is one that nobody lives to see.
        let at = now.checked_add(after).unwrap_or(now + Duration::from_secs(u64::from(u32::MAX)));
        Alarm { alarms: self.clone(), at: Some(at), number: None }
    }

    /// Resolves once the event loop was asked for what is new, and those before it have had theirs.
    pub fn turn(&self) -> Alarm {
        Alarm { alarms: self.clone(), at: None, number: None }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds it can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the alarms, as long as their core runs.
    ///
    /// # Errors
    /// There is no timer.
    pub async fn run(&self) -> io::Result<()> {
        let timer = Timer::new()?;
        loop {
            timer.set(self.queue().earliest())?;
            // One that is due by now still waits for the timer: without it the event loop would not be
            // asked, and who lets others have a turn would be the next again.
            if self.until_news(&timer).await? == News::Fired {
                let due = self.queue().take_due(Instant::now());
                due.into_iter().for_each(Waker::wake);
            }
        }
    }

    async fn until_news(&self, timer: &Timer) -> io::Result<News> {
        let set_for = self.queue().earliest();
        let mut fires = pin!(timer.fires());
        poll_fn(|cx| {
            let mut queue = self.queue();
            if queue.earliest() != set_for {
                return Poll::Ready(Ok(News::Earlier));
            }
            queue.runner = Some(cx.waker().clone());
            drop(queue);
            fires.as_mut().poll(cx).map_ok(|()| News::Fired)
        })
        .await
    }
}

impl Queue {
    fn earliest(&self) -> Option<Instant> {
        let set = self.set.peek().map(|Reverse((at, _))| *at);
        set.into_iter().chain(self.turns.front().map(|(since, _)| *since)).min()
    }

    fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(Reverse((at, number))) = self.set.peek().copied()
            && (at <= now || !self.waiting.contains_key(&number))
        {
            self.set.pop();
            due.extend(self.waiting.remove(&number).flatten());
        }
        while let Some((_, number)) = self.turns.pop_front() {
            if let Some(waker) = self.waiting.remove(&number) {
                due.extend(waker);
                break;
            }
        }
        due
    }

    fn add(&mut self, at: Option<Instant>, waker: &Waker) -> u64 {
        let number = self.next;
        self.next += 1;
        if self.set.len() > 2 * self.waiting.len() + 64 {
            let waiting = &self.waiting;
            self.set.retain(|Reverse((_, number))| waiting.contains_key(number));
        }
        let before = self.earliest();
        match at {
            Some(at) => self.set.push(Reverse((at, number))),
            None => self.turns.push_back((Instant::now(), number)),
        }
        self.waiting.insert(number, Some(waker.clone()));
        if self.earliest() != before {
            self.runner.take().into_iter().for_each(Waker::wake);
        }
        number
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Alarm { alarms, at, number } = &mut *self;
        let mut queue = alarms.queue();
        match number {
            None => *number = Some(queue.add(*at, cx.waker())),
            Some(number) => match queue.waiting.get_mut(number) {
                Some(waker) => *waker = Some(cx.waker().clone()),
                None => return Poll::Ready(()),
            },
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.alarms.queue().waiting.remove(&number);
            drop(waker);
        }
    }
}

/// A timer of the kernel that the event loop polls like a socket.
struct Timer {
    /// Only polled: a timer descriptor knows neither send nor receive.
    poll: UnixStream,
    timer: OwnedFd,
}

impl Timer {
    fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let poll = UnixStream::from_std(timer.try_clone()?.into())?;
        Ok(Timer { poll, timer })
    }

    fn set(&self, at: Option<Instant>) -> io::Result<()> {
        let left = at.map(|at| at.saturating_duration_since(Instant::now()).max(AT_ONCE));
        let left = left.unwrap_or(Duration::ZERO);
        let it_value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    async fn fires(&self) -> io::Result<()> {
        self.poll.readable(false).await?;
        let mut count = [0u8; 8];
        match rustix::io::read(&self.timer, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use monoio::io::{AsyncReadRentExt, AsyncWriteRentExt};
    use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

    use super::*;

    async fn alarms_go_off_in_their_order() {
        let alarms = Alarms::default();
        let runner = alarms.clone();
        let _served = monoio::spawn(async move { runner.run().await });
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks = [30, 0, 10, 20].map(|ms| {
            let (alarm, order) = (alarms.after(Duration::from_millis(ms)), Rc::clone(&order));
            monoio::spawn(async move {
                alarm.await;
                order.borrow_mut().push(ms);
            })
        });
        drop(alarms.after(Duration::from_millis(5)));
        for task in tasks {
            task.await;
        }
        assert_eq!(*order.borrow(), [0, 10, 20, 30]);
        assert!(alarms.queue().waiting.is_empty());
    }

    #[test]
    fn alarms_go_off_in_their_order_on_every_driver() {
        RuntimeBuilder::<LegacyDriver>::new().build().unwrap().block_on(alarms_go_off_in_their_order());
        RuntimeBuilder::<IoUringDriver>::new().build().unwrap().block_on(alarms_go_off_in_their_order());
    }

    /// So often back and forth on one of many pairs of sockets.
    async fn echo(round_trips: usize) {
        let (mut here, mut there) = UnixStream::pair().expect("two sockets");
        let echo = monoio::spawn(async move {
            for _ in 0..round_trips {
                let (read, byte) = there.read_exact(vec![0]).await;
                read.expect("a byte");
                there.write_all(byte).await.0.expect("it is read");
            }
        });
        for _ in 0..round_trips {
            here.write_all(vec![1]).await.0.expect("it is read");
            here.read_exact(vec![0]).await.0.expect("its echo");
        }
        echo.await;
    }

    /// One that lets all others have a turn, again and again, has about as many as each of them, however
    /// many they are.
    async fn a_turn_lets_sockets_have_theirs() {
        const ROUND_TRIPS: usize = 50;
        let alarms = Alarms::default();
        let (runner, turns) = (alarms.clone(), Rc::new(Cell::new(0)));
        let _served = monoio::spawn(async move { runner.run().await });
        let counted = Rc::clone(&turns);
        let _busy = monoio::spawn(async move {
            loop {
                alarms.turn().await;
                counted.set(counted.get() + 1);
            }
        });
        let all: Vec<_> = (0..64).map(|_| monoio::spawn(echo(ROUND_TRIPS))).collect();
        for one in all {
            one.await;
        }
        assert!(turns.get() <= 8 * ROUND_TRIPS, "{} turns for {ROUND_TRIPS} round trips", turns.get());
    }

    #[test]
    fn a_turn_lets_sockets_have_theirs_on_every_driver() {
        let (legacy, ring) = (RuntimeBuilder::<LegacyDriver>::new(), RuntimeBuilder::<IoUringDriver>::new());
        { legacy }.build().unwrap().block_on(a_turn_lets_sockets_have_theirs());
        { ring }.build().unwrap().block_on(a_turn_lets_sockets_have_theirs());
    }

    #[test]
    fn of_several_that_want_a_turn_one_has_it_each_time() {
        let alarms = Alarms::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut all: Vec<Alarm> = (0..4).map(|_| alarms.turn()).collect();
        assert!(all.iter_mut().all(|turn| Pin::new(turn).poll(&mut cx).is_pending()));
        // One that was dropped is nobody's turn.
        all.remove(1);
        for left in (0..3).rev() {
            assert!(alarms.queue().earliest().is_some());
            assert_eq!(alarms.queue().take_due(Instant::now()).len(), 1);
            assert_eq!(alarms.queue().waiting.len(), left);
        }
        assert!(all.iter_mut().all(|turn| Pin::new(turn).poll(&mut cx).is_ready()));
        assert!(alarms.queue().earliest().is_none());
    }

    #[test]
    fn alarms_that_were_dropped_do_not_pile_up() {
        let alarms = Alarms::default();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..1000 {
            let mut alarm = alarms.after(Duration::from_secs(60));
            assert!(Pin::new(&mut alarm).poll(&mut cx).is_pending());
        }
        assert!(alarms.queue().set.len() < 100);
    }
}
