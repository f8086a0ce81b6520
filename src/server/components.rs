//! Components are compiled here: aside, on a thread that gets what processor time nobody else wants.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::plan::Plan;
use crate::wasm::Compiler;

/// The lowest there is. Threads that the compiler starts inherit it.
const NICENESS: i32 = 19;

/// What compiles components, for the life of the process: what stays the same is not compiled again.
#[derive(Clone, Default)]
pub struct Components(Arc<Mutex<Compiler>>);

impl Components {
    /// Makes code of the components of a plan, which then can be run. Blocks until that is done.
    ///
    /// # Errors
    /// A component cannot be compiled, or there is no room for its instances.
    pub fn compile(&self, plan: &mut Plan) -> Result<(), String> {
        let begun = Instant::now();
        // Not known before who runs it is: the number of threads does not follow that of processors.
        plan.wasm.cores = plan.server.worker_threads;
        let settings = &plan.wasm;
        let guests = thread::scope(|scope| {
            let compiling = thread::Builder::new().name("wasm-compiler".to_owned());
            let spawned = compiling.spawn_scoped(scope, || {
                // Without it, other threads may have to wait a little.
                let _unchanged = rustix::process::setpriority_process(None, NICENESS);
                self.0.lock().unwrap_or_else(PoisonError::into_inner).compile(settings)
            });
            let thread = spawned.map_err(|error| format!("cannot start the compiler: {error}"))?;
            thread.join().unwrap_or_else(|_| Err("the compiler of components panicked".to_owned()))
        })?;
        match settings.count() {
            0 => {}
            1 => tracing::info!("1 component ready after {:?}", begun.elapsed()),
            count => tracing::info!("{count} components ready after {:?}", begun.elapsed()),
        }
        plan.guests = guests;
        Ok(())
    }
}
