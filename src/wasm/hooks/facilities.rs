//! What every guest may call: the log, numbers, its settings, the clock, chance, the store and the
//! endpoints. For policies and middleware alike, on whatever engine they run.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};
use wasmtime::Result;
use wasmtime::component::{HasData, Linker};

use super::account::Account;
use super::asked;
use super::bindings::guest::warpdrive::guest::{clock, endpoints, log, metrics, random, settings, store};
use super::store::Store;
use crate::wasm::output::visible;
use crate::wasm::throttle::LINE_MAX;

/// One instance's part of them.
pub struct Facilities {
    pub component: Arc<Component>,
    pub core: usize,
    random: StdRng,
}

/// What they are of one component.
pub struct Component {
    pub name: String,
    pub config: Map<String, Value>,
    pub store: Arc<Store>,
    pub account: Arc<Account>,
}

impl Component {
    /// Its configuration as it is told at first.
    pub fn json(&self) -> String {
        Value::Object(self.config.clone()).to_string()
    }
}

impl Facilities {
    /// # Errors
    /// The operating system has no random numbers.
    pub fn new(component: &Arc<Component>, core: usize) -> Result<Facilities> {
        let random = StdRng::try_from_rng(&mut SysRng)?;
        Ok(Facilities { component: Arc::clone(component), core, random })
    }
}

/// [`Facilities`], as a linker names them.
pub struct HasFacilities;

impl HasData for HasFacilities {
    type Data<'a> = &'a mut Facilities;
}

/// Links all of them.
///
/// # Errors
/// One of them is linked already.
pub fn link<T: AsMut<Facilities> + 'static>(linker: &mut Linker<T>) -> Result<()> {
    log::add_to_linker::<T, HasFacilities>(linker, T::as_mut)?;
    metrics::add_to_linker::<T, HasFacilities>(linker, T::as_mut)?;
    settings::add_to_linker::<T, HasFacilities>(linker, T::as_mut)?;
    clock::add_to_linker::<T, HasFacilities>(linker, T::as_mut)?;
    random::add_to_linker::<T, HasFacilities>(linker, T::as_mut)?;
    store::add_to_linker::<T, HasFacilities>(linker, T::as_mut)?;
    endpoints::add_to_linker::<T, HasFacilities>(linker, T::as_mut)
}

impl log::Host for Facilities {
    fn log(&mut self, level: log::Level, message: String) {
        let name = &self.component.name;
        if !self.component.account.cores[self.core].log.permit(message.len(), Instant::now()) {
            return;
        }
        let (kept, cut) = message.split_at(message.floor_char_boundary(LINE_MAX));
        let line = visible(kept.as_bytes());
        let rest = if cut.is_empty() { String::new() } else { format!(" (and {} bytes more)", cut.len()) };
        match level {
            log::Level::Debug => tracing::debug!("{name}: {line}{rest}"),
            log::Level::Info => tracing::info!("{name}: {line}{rest}"),
            log::Level::Warn => tracing::warn!("{name}: {line}{rest}"),
            log::Level::Error => tracing::error!("{name}: {line}{rest}"),
        }
    }
}

impl metrics::Host for Facilities {
    fn record_metric(&mut self, name: String, value: f64) {
        self.component.account.observe(self.core, &name, value);
    }
}

impl settings::Host for Facilities {
    fn config(&mut self, key: String) -> Option<String> {
        match self.component.config.get(&key)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

impl clock::Host for Facilities {
    fn unix_seconds(&mut self) -> f64 {
        // A clock before 1970 is a clock that was not set.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

impl random::Host for Facilities {
    fn number(&mut self) -> u32 {
        self.random.next_u32()
    }
}

impl store::Host for Facilities {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        self.component.store.get(&key)
    }

    fn number(&mut self, key: String) -> Option<f64> {
        self.component.store.number(&key)
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: u32) -> Result<(), store::Error> {
        self.component.store.set(&key, &value, ttl_ms)
    }

    fn delete(&mut self, key: String) {
        self.component.store.delete(&key);
    }

    fn increment(&mut self, key: String, by: f64, ttl_ms: u32) -> Result<f64, store::Error> {
        self.component.store.increment(&key, by, ttl_ms)
    }

    fn advance(
        &mut self,
        key: String,
        floor: f64,
        by: f64,
        ceiling: f64,
        ttl_ms: u32,
    ) -> Result<Option<f64>, store::Error> {
        self.component.store.advance(&key, floor, by, ceiling, ttl_ms)
    }
}

impl endpoints::Host for Facilities {
    fn count(&mut self, upstream: String) -> u32 {
        asked::of_endpoints(|endpoints| u32::try_from(endpoints.count(&upstream)).ok()).unwrap_or(0)
    }

    fn url(&mut self, upstream: String, index: u32) -> Option<String> {
        asked::of_endpoints(|endpoints| Some(endpoints.endpoint(&upstream, index as usize)?.url))
    }

    fn load(&mut self, upstream: String, index: u32) -> u32 {
        asked::of_endpoints(|endpoints| Some(endpoints.endpoint(&upstream, index as usize)?.load))
            .unwrap_or(0)
    }

    fn health(&mut self, upstream: String, index: u32) -> bool {
        asked::of_endpoints(|endpoints| Some(endpoints.endpoint(&upstream, index as usize)?.is_healthy))
            .unwrap_or(false)
    }
}
