//! What the calls of one component cost, measured without a client, a socket or an upstream: for its
//! author, who wants to know that before it is deployed.
//!
//! `components` are those that answer requests, `hooks` policies and middleware, `timing` is how any of
//! them is measured. All of it runs in an event loop, as it would on a core.

mod components;
pub mod hooks;
mod timing;

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::code_cache::{Cache, Key};
use super::kind::Kind;
use super::outgoing::{Outbox, Refusal};
use super::{Compiler, Guests, Settings, inspect};
use crate::net::ticker::Ticker;
use crate::net::{Wheel, task};

pub use timing::Row;

/// What is tried.
pub struct Trial<'a> {
    pub kind: Kind,
    /// One of this kind, and nothing else; of components, one that makes an instance for each
    /// request, and the same again with one that it keeps.
    pub settings: &'a Settings,
    /// A request, as it would come to it.
    pub head: &'a [u8],
    pub body: &'a [u8],
    /// How long each kind of call is made.
    pub time: Duration,
}

#[derive(Debug)]
pub struct Report {
    pub compiled: Compiled,
    /// What it said to the request.
    pub said: String,
    pub rows: Vec<Row>,
    /// Bytes of linear memory of one instance after all of these calls, if that is known.
    pub memory: Option<u64>,
}

/// What compiling it took.
#[derive(Clone, Copy, Debug)]
pub struct Compiled {
    pub time: Duration,
    pub code_bytes: usize,
    /// To load what was compiled.
    pub load: Duration,
}

/// What has been compiled, and can be called.
pub struct Prepared {
    compiled: Compiled,
    guests: Guests,
}

impl Trial<'_> {
    /// # Errors
    /// It cannot be compiled.
    pub fn prepare(&self) -> Result<Prepared, String> {
        let compiled = self.compile()?;
        let guests = Compiler::default().compile(self.settings)?;
        Ok(Prepared { compiled, guests })
    }

    /// Takes as long as it was told to, for each row.
    ///
    /// # Errors
    /// It cannot be made, or a call fails.
    pub async fn run(&self, prepared: &Prepared) -> Result<Report, String> {
        let Prepared { compiled, guests } = prepared;
        let (said, rows, memory) = match self.kind {
            Kind::Component => components::measure(self, guests).await?,
            Kind::Policy => hooks::measure_policy(self, guests).await?,
            Kind::Middleware => hooks::measure_middleware(self, guests).await?,
        };
        Ok(Report { compiled: *compiled, said, rows, memory })
    }

    /// Compiles it for the cache, from which it is loaded then.
    fn compile(&self) -> Result<Compiled, String> {
        let Settings { components, policies, filters, cache_dir, .. } = self.settings;
        let (file, engine) = match self.kind {
            Kind::Component => (&components[0].file, super::engine::Engine::new(1, 1)?.wasmtime),
            Kind::Policy => (&policies[0].file, super::hooks::engine(1)?),
            Kind::Middleware => (&filters[0].guest.file, super::hooks::engine(1)?),
        };
        measure_compiler(&engine, file, cache_dir)
    }
}

fn measure_compiler(engine: &wasmtime::Engine, file: &Path, cache_dir: &Path) -> Result<Compiled, String> {
    let bytes = inspect::read(file).map_err(|refusal| refusal.message)?;
    let cache = Cache::open(cache_dir).map_err(|error| format!("{}: {error}", cache_dir.display()))?;
    let begun = Instant::now();
    let code = engine.precompile_component(&bytes).map_err(|error| format!("{error:#}"))?;
    let time = begun.elapsed();
    let key = Key::new(engine, &bytes);
    cache.store(&key, &code).map_err(|error| format!("{}: {error}", cache_dir.display()))?;
    let begun = Instant::now();
    let loaded = cache.load(engine, &key);
    let load = begun.elapsed();
    loaded.ok_or("what was compiled cannot be loaded")?;
    Ok(Compiled { time, code_bytes: code.len(), load })
}

/// What a kind of component measures: what it said, what that cost, and its memory.
type Measured = Result<(String, Vec<Row>, Option<u64>), String>;

/// The only one of them.
fn only<T>(all: &[T]) -> &T {
    all.first().expect("settings have one of the kind that is tried")
}

/// Why the only policy or middleware of `guests` is not there.
fn loaded(failure: Option<&str>) -> Result<(), String> {
    failure.map_or(Ok(()), |reason| Err(reason.to_owned()))
}

/// A wheel for timeouts.
fn turning() -> Result<Rc<Wheel>, String> {
    let ticker = Ticker::start().map_err(|error| format!("there is no clock: {error}"))?;
    let wheel = Wheel::new(Instant::now());
    let turned = Rc::clone(&wheel);
    let turn = async move {
        while ticker.tick().await.is_ok() {
            turned.advance(Instant::now());
        }
    };
    task::spawn(turn, || tracing::error!("the clock ended with a panic"));
    Ok(wheel)
}

/// Nobody is there whom a guest could ask.
fn refuse(outbox: &Outbox) {
    for ask in outbox.take() {
        ask.reply.put(Err(Refusal::Denied));
    }
}
