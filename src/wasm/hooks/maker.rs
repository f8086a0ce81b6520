//! The thread that makes instances in place of those that have failed, so that no core waits for
//! that, and that gets rid of those.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::instance::{Instance, back_off};
use super::policy::Policy;

/// As long as nothing is to be done.
const IDLE: Duration = Duration::from_secs(3600);

/// It ends when nobody can order any more.
#[derive(Clone)]
pub struct Maker(Sender<Order>);

/// An instance that is wanted.
pub struct Order {
    /// One that nothing uses any more needs none.
    policy: Weak<Policy>,
    core: usize,
    /// How often in a row it could not be made.
    failures: u32,
    due: Instant,
    failed: Option<Instance>,
}

impl Order {
    pub fn new(policy: &Arc<Policy>, core: usize, failed: Option<Instance>) -> Order {
        Order { policy: Arc::downgrade(policy), core, failures: 0, due: Instant::now(), failed }
    }

    /// Makes the instance; an order for another try if that fails.
    fn fulfil(self) -> Option<Order> {
        let policy = self.policy.upgrade()?;
        let reason = policy.make(self.core).err()?;
        let (name, core) = (&policy.settings.name, self.core);
        tracing::error!("policy `{name}`: no instance for core {core}: {reason}");
        let failures = self.failures + 1;
        Some(Order { failures, due: back_off(failures, Instant::now()), ..self })
    }
}

impl Maker {
    /// # Errors
    /// There is no thread for it.
    pub fn start() -> io::Result<Maker> {
        let (sender, orders) = channel();
        thread::Builder::new().name("wasm-maker".to_owned()).spawn(move || run(&orders))?;
        Ok(Maker(sender))
    }

    pub fn order(&self, order: Order) {
        // The thread ends after everybody who could order.
        let _unmade = self.0.send(order);
    }
}

fn run(orders: &Receiver<Order>) {
    let mut waiting: BTreeMap<(Instant, u64), Order> = BTreeMap::new();
    let mut number = 0;
    loop {
        let now = Instant::now();
        let until = waiting.first_key_value().map(|((due, _), _)| due.saturating_duration_since(now));
        let order = match until {
            Some(Duration::ZERO) => waiting.pop_first().map(|(_, order)| order),
            until => match orders.recv_timeout(until.unwrap_or(IDLE)) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            },
        };
        let Some(mut order) = order else { continue };
        order.failed = None;
        let later = if order.due <= now { order.fulfil() } else { Some(order) };
        if let Some(order) = later {
            number += 1;
            waiting.insert((order.due, number), order);
        }
    }
}
