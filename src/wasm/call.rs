//! One request to one instance, from the instance's side.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use wasmtime::Trap;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::Fault;
use super::instance::{End, Instance, NotMade};
use super::message::{Request, Response};
use super::meter::{Exhausted, Meter, Metered};
use super::outgoing::Outbox;
use super::pool::{Permit, Pool};

/// Where an instance puts its answer.
#[derive(Clone, Default)]
pub struct Slot(Arc<Mutex<Option<Result<Response, ErrorCode>>>>);

impl Slot {
    pub(super) fn put(&self, answer: Result<Response, ErrorCode>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// The answer, once.
    fn take(&self) -> Option<Result<Response, ErrorCode>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A call under way. It is done when the instance has returned, which may be long after its answer
/// is through. Dropped before that, the instance ends.
pub struct Call {
    slot: Slot,
    outbox: Outbox,
    running: Option<Metered<Result<(), Fault>>>,
    ended: Option<Result<(), Fault>>,
}

impl Call {
    /// Gives a request to an instance; nothing happens before the first [`Self::poll`].
    pub fn new(permit: Permit, request: Request) -> Call {
        let slot = Slot::default();
        let warm = permit.take_idle();
        let meter = warm.as_ref().map_or_else(Meter::new, Instance::meter);
        let outbox = warm.as_ref().map_or_else(Outbox::default, Instance::outbox);
        outbox.refill(permit.pool.guest.settings.limits.outgoing_requests);
        let (beat, core) = (Arc::clone(&permit.pool.guest.engine.beat), permit.pool.room.core);
        let fresh = Fresh { meter: Arc::clone(&meter), outbox: outbox.clone() };
        let serve = serve(permit, warm, fresh, request, slot.clone());
        Call { slot, outbox, running: Some(Metered::new(meter, beat, core, serve)), ended: None }
    }

    /// Where the instance puts the requests that it sends.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Lets the instance run, until it has to wait.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(running) = &mut self.running
            && let Poll::Ready(ended) = Pin::new(running).poll(cx)
        {
            self.running = None;
            self.ended = Some(ended);
        }
    }

    pub fn is_done(&self) -> bool {
        self.running.is_none()
    }

    /// The answer, once it has begun, or why there will be none.
    pub fn answer(&mut self) -> Option<Result<Response, Fault>> {
        match self.slot.take() {
            Some(Ok(response)) => Some(Ok(response)),
            Some(Err(_)) => Some(Err(Fault::Declined)),
            None => self.ended.map(|ended| Err(ended.err().unwrap_or(Fault::NoAnswer))),
        }
    }

    /// Why it failed, if it has.
    pub fn fault(&self) -> Option<Fault> {
        self.ended.and_then(Result::err)
    }
}

/// What a call and its instance have in common, if that has to be made first.
struct Fresh {
    meter: Arc<Meter>,
    outbox: Outbox,
}

async fn serve(
    permit: Permit,
    warm: Option<Instance>,
    fresh: Fresh,
    request: Request,
    slot: Slot,
) -> Result<(), Fault> {
    let Fresh { meter, outbox } = fresh;
    let pool = permit.pool();
    let (limits, counters) = (&pool.guest.settings.limits, pool.counters());
    counters.requests.add(1);
    meter.refill(limits.cpu);
    let before = meter.total();
    let mut instance = match warm {
        Some(instance) => {
            counters.reused.add(1);
            instance
        }
        None => Instance::make(pool, Arc::clone(&meter), outbox)
            .await
            .map_err(|not_made| tell(pool, &not_made))?,
    };
    let served = instance.serve(request, limits.output, &slot).await;
    counters.cpu_us.add(meter.total().saturating_sub(before).as_micros() as u64);
    match served {
        Ok(()) => {
            pool.has_succeeded();
            pool.put_back(instance);
            Ok(())
        }
        Err(error) => {
            let fault = fault_of(&error, instance.was_refused_memory());
            pool.complain(instance.name(), format_args!("{}", why(&error, fault)));
            instance.end(End::Failed);
            pool.has_failed();
            Err(fault)
        }
    }
}

fn tell(pool: &Pool, not_made: &NotMade) -> Fault {
    match not_made {
        NotMade::NoRoom => {
            pool.counters().failed.add(1);
            let name = &pool.guest.settings.name;
            pool.complain(name, format_args!("there is no room for another instance on this core"));
            Fault::NotMade
        }
        NotMade::Failed(error, name) => {
            let fault = fault_of(error, true);
            pool.complain(name, format_args!("it cannot start: {}", why(error, fault)));
            pool.has_failed();
            if fault == Fault::Memory { Fault::NotMade } else { fault }
        }
    }
}

/// `was_refused`: it was not given all of the memory that it wanted, so what it did next may well
/// be for that.
fn fault_of(error: &wasmtime::Error, was_refused: bool) -> Fault {
    if error.is::<Exhausted>() {
        Fault::Cpu
    } else if error.is::<I32Exit>() {
        Fault::Exit
    } else if was_refused {
        Fault::Memory
    } else {
        Fault::Trap
    }
}

/// In a line of the log.
fn why(error: &wasmtime::Error, fault: Fault) -> String {
    let cause = match (error.downcast_ref::<Trap>(), error.downcast_ref::<I32Exit>()) {
        (Some(trap), _) => trap.to_string(),
        (None, Some(exit)) => format!("exit with {}", exit.0),
        (None, None) => error.root_cause().to_string(),
    };
    match fault {
        Fault::Memory => format!("{cause}, after it was refused more memory"),
        _ => cause,
    }
}
