//! `wasi:clocks/monotonic-clock` on the alarms of the core: the library's own is tokio's.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use wasmtime::Result;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::net::Alarms;
use crate::net::alarm::Alarm;

/// What the clock needs of a store.
pub struct Clock<'a> {
    pub alarms: &'a Alarms,
    pub table: &'a mut ResourceTable,
}

/// [`Clock`], as a linker names it.
pub struct HasClock;

impl HasData for HasClock {
    type Data<'a> = Clock<'a>;
}

/// What a guest waits for.
struct Sleep(Option<Alarm>);

#[async_trait]
impl Pollable for Sleep {
    async fn ready(&mut self) {
        if let Some(alarm) = &mut self.0 {
            alarm.await;
            self.0 = None;
        }
    }
}

impl Clock<'_> {
    fn sleep(&mut self, nanos: u64) -> Result<Resource<DynPollable>> {
        let sleep = Sleep(Some(self.alarms.after(Duration::from_nanos(nanos))));
        let sleep = self.table.push(sleep)?;
        subscribe(self.table, sleep)
    }
}

impl monotonic_clock::Host for Clock<'_> {
    fn now(&mut self) -> Result<u64> {
        Ok(now())
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<DynPollable>> {
        self.sleep(when.saturating_sub(now()))
    }

    fn subscribe_duration(&mut self, nanos: u64) -> Result<Resource<DynPollable>> {
        self.sleep(nanos)
    }
}

/// Since somebody first asked. Enough for 500 years.
pub(super) fn now() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
