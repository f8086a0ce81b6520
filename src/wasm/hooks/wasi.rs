//! What foreign middleware brings along of WASI because its language does: as for components, and
//! nothing to wait for.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::facilities::Facilities;
use super::running::State;
use crate::wasm::clock;
use crate::wasm::host;
use crate::wasm::limits::RESOURCES_MAX;
use crate::wasm::output::{self, Output, Stdio};

/// Bytes that one call may write to the log.
const OUTPUT_MAX: u64 = 64 << 10;

/// One instance's part of it.
pub struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    output: Output,
}

impl Wasi {
    fn new(facilities: &Facilities) -> Wasi {
        let component = &facilities.component;
        let throttle = Arc::clone(&component.account.cores[facilities.core].log);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Wasi {
            ctx: WasiCtx::builder().build(),
            table,
            output: Output::new(component.name.as_str().into(), throttle),
        }
    }
}

impl State {
    fn wasi(&mut self) -> &mut Wasi {
        let State { wasi, facilities, .. } = self;
        wasi.get_or_insert_with(|| Box::new(Wasi::new(facilities)))
    }

    /// Another call may write so much again.
    pub fn begin_output(&mut self) {
        self.wasi().output.refill(OUTPUT_MAX);
    }

    /// Tells what the call has written and not ended.
    pub fn end_output(&mut self) {
        self.wasi().output.finish();
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { ctx, table, .. } = self.wasi();
        WasiCtxView { ctx, table }
    }
}

/// A clock by which nobody can sleep.
struct NoSleep;

impl HasData for NoSleep {
    type Data<'a> = NoSleep;
}

/// # Errors
/// It is linked already.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    host::add_wasi(linker)?;
    linker.allow_shadowing(true);
    output::link(linker, |state| {
        let Wasi { table, output, .. } = state.wasi();
        Stdio { table, output }
    })?;
    monotonic_clock::add_to_linker::<State, NoSleep>(linker, |_| NoSleep)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl monotonic_clock::Host for NoSleep {
    fn now(&mut self) -> Result<u64> {
        Ok(clock::now())
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, _: u64) -> Result<Resource<DynPollable>> {
        bail!("middleware cannot sleep")
    }

    fn subscribe_duration(&mut self, _: u64) -> Result<Resource<DynPollable>> {
        bail!("middleware cannot sleep")
    }
}
