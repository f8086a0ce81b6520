//! One running copy of a component.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{PoolConcurrencyLimitError, Result, Store};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::call::Slot;
use super::host::{self, Host};
use super::limits::Memory;
use super::message::Request;
use super::meter::Meter;
use super::outgoing::Outbox;
use super::output::Output;
use super::pool::{Counted, Pool};

/// Why an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has served as many requests as it may.
    Spent,
    /// Nobody has needed it for long.
    Idle,
    /// Another one needed its place, or its memory.
    MadeWay,
    /// Its component was replaced or is not served any more.
    Replaced,
    /// A call failed.
    Failed,
    /// The client went away, or the call took too long.
    Abandoned,
}

impl End {
    fn reason(self) -> &'static str {
        match self {
            End::Spent => "has served its requests",
            End::Idle => "was idle",
            End::MadeWay => "made way",
            End::Replaced => "was replaced",
            End::Failed => "failed",
            End::Abandoned => "was abandoned",
        }
    }
}

pub struct Instance {
    store: Store<Host>,
    proxy: Proxy,
    /// `component/core.number`.
    name: Arc<str>,
    calls: u32,
    idle_since: Instant,
    /// What is told of it when it is dropped.
    end: End,
    _counted: Counted,
}

/// No instance could be made.
#[derive(Debug)]
pub enum NotMade {
    /// There is no room for another one.
    NoRoom,
    /// It failed while it started.
    Failed(wasmtime::Error, Arc<str>),
}

impl Instance {
    /// Makes one; `meter` counts what that costs, too. Where there is no room, one that waits
    /// makes way.
    pub async fn make(pool: &Rc<Pool>, meter: Arc<Meter>, outbox: Outbox) -> Result<Instance, NotMade> {
        loop {
            let counted = pool.room.count().ok_or(NotMade::NoRoom)?;
            let name: Arc<str> =
                format!("{}/{}.{}", pool.guest.settings.name, pool.room.core, pool.room.number()).into();
            let mut store = store(pool, &name, Arc::clone(&meter), outbox.clone());
            match pool.guest.pre.instantiate_async(&mut store).await {
                Ok(proxy) => {
                    pool.counters().made.add(1);
                    let idle_since = Instant::now();
                    let end = End::Abandoned;
                    return Ok(Instance { store, proxy, name, calls: 0, idle_since, end, _counted: counted });
                }
                Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                    drop((store, counted));
                    if !pool.room.reclaim() {
                        return Err(NotMade::NoRoom);
                    }
                }
                Err(error) => return Err(NotMade::Failed(error, name)),
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.store.data().meter)
    }

    /// Where it puts the requests that it sends.
    pub fn outbox(&self) -> Outbox {
        self.store.data().outbox.clone()
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        self.store.data().memory.used()
    }

    /// Requests that it has served.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    pub fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// It waits for its next request from now on.
    pub fn rest(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// Whether it was refused memory in its life.
    pub fn was_refused_memory(&self) -> bool {
        self.store.data().memory.was_refused()
    }

    /// Serves one request. The answer is put into `slot` as soon as it has begun.
    pub async fn serve(&mut self, request: Request, output_bytes: u64, slot: &Slot) -> Result<()> {
        self.calls += 1;
        self.store.set_epoch_deadline(1);
        self.store.data().output.refill(output_bytes);
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let slot = slot.clone();
        let out = http.new_response_outparam_from_callback(move |answer| slot.put(answer))?;
        let served = self.proxy.wasi_http_incoming_handler().call_handle(&mut self.store, request, out).await;
        self.store.data().output.finish();
        served
    }

    pub fn end(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let host = self.store.data();
        host.output.finish();
        let (cpu, memory): (Duration, u64) = (host.meter.total(), host.memory.used());
        let (name, why, calls) = (&self.name, self.end.reason(), self.calls);
        tracing::debug!("{name} {why}: {calls} requests, {cpu:?} on the processor, {memory} bytes of memory");
    }
}

fn store(pool: &Pool, name: &Arc<str>, meter: Arc<Meter>, outbox: Outbox) -> Store<Host> {
    let settings = &pool.guest.settings;
    let mut wasi = WasiCtxBuilder::new();
    wasi.envs(&settings.env);
    let memory = Memory::new(&settings.limits, pool.room.quota());
    let config = Arc::clone(&pool.guest.config);
    let (alarms, output) = (pool.room.alarms.clone(), Output::new(Arc::clone(name), pool.output()));
    output.refill(settings.limits.output);
    let host = Host::new(wasi.build(), config, memory, meter, alarms, output, outbox);
    let mut store = Store::new(&pool.guest.engine.wasmtime, host);
    store.limiter(|host| &mut host.memory);
    store.epoch_deadline_callback(host::tick);
    store.set_epoch_deadline(1);
    store
}
