//! The thread that makes instances in place of those that have failed, so that no core waits for
//! that, and that gets rid of those.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::running::back_off;

/// As long as nothing is to be done.
const IDLE: Duration = Duration::from_secs(3600);

/// What there are instances of.
pub trait Model: Send + Sync {
    /// Such as "policy `sticky`".
    fn title(&self) -> String;

    /// Makes an instance for a core, where the core will find it. Takes its time.
    ///
    /// # Errors
    /// It cannot be made.
    fn make(&self, core: usize) -> Result<(), String>;
}

/// It ends when nobody can order any more.
#[derive(Clone)]
pub struct Maker(Sender<Order>);

/// An instance that is wanted.
pub struct Order {
    /// One that nothing uses any more needs none.
    model: Weak<dyn Model>,
    core: usize,
    /// How often in a row it could not be made.
    failures: u32,
    due: Instant,
    /// The one in whose place it will be, to be thrown away.
    failed: Option<Box<dyn Send>>,
}

impl Order {
    pub fn new(model: Weak<dyn Model>, core: usize, failed: Option<Box<dyn Send>>) -> Order {
        Order { model, core, failures: 0, due: Instant::now(), failed }
    }

    /// Makes the instance; an order for another try if that fails.
    fn fulfil(self) -> Option<Order> {
        let model = self.model.upgrade()?;
        let reason = model.make(self.core).err()?;
        tracing::error!("{}: no instance for core {}: {reason}", model.title(), self.core);
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

    /// Another instance for a core.
    pub fn order<M: Model + 'static>(
        &self,
        model: &Arc<M>,
        core: usize,
        failed: Option<impl Send + 'static>,
    ) {
        let model: Weak<dyn Model> = Arc::<M>::downgrade(model);
        let failed = failed.map(|failed| Box::new(failed) as Box<dyn Send>);
        // The thread ends after everybody who could order.
        let _unmade = self.0.send(Order::new(model, core, failed));
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
