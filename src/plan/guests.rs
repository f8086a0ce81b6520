//! What policies and middleware have in common: their settings, the files that they come from, and
//! their stores.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{self, Config, Diagnostic, Written};
use crate::wasm::hooks::settings::{Guest, Limits};

#[cfg(feature = "wasm")]
pub use crate::wasm::hooks::inspect::{FILTER, Interface, POLICY};

const MEMORY: u64 = 64 << 20;
const TIME: Duration = Duration::from_millis(2);
const STORE_BYTES: usize = 16 << 20;

/// A file that is not there is only warned of, with what then is done. What is there and does not
/// have this interface never will.
#[cfg(feature = "wasm")]
pub fn look_at(
    file: &Written<PathBuf>,
    interface: &Interface,
    without: &str,
    diagnostics: &mut Vec<Diagnostic>,
) {
    use crate::wasm::inspect;

    let path = file.value.display();
    let found = match inspect::read(&file.value) {
        Ok(bytes) => inspect::world(&bytes).and_then(|world| interface.check(&world)),
        Err(refusal) if !file.value.exists() => {
            let message = format!("{path}: {}", refusal.message);
            diagnostics.push(Diagnostic::warning(file.place.clone(), message).with_help(without));
            return;
        }
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = found {
        let message = format!("{path}: {}", refusal.message);
        let wrong = Diagnostic::error(file.place.clone(), message);
        diagnostics.push(Diagnostic { help: refusal.help, ..wrong });
    }
}

#[cfg(not(feature = "wasm"))]
pub struct Interface;
#[cfg(not(feature = "wasm"))]
pub const POLICY: Interface = Interface;
#[cfg(not(feature = "wasm"))]
pub const FILTER: Interface = Interface;

#[cfg(not(feature = "wasm"))]
pub fn look_at(_: &Written<PathBuf>, _: &Interface, _: &str, _: &mut Vec<Diagnostic>) {}

/// With every default filled in.
pub fn settings(written: &config::Guest) -> Guest {
    Guest {
        name: written.name.value.clone(),
        place: written.place.file_and_line(),
        file: written.file.as_ref().map_or_else(PathBuf::new, |file| file.value.clone()),
        config: written.config.clone(),
        limits: Limits {
            memory: written.max_memory.unwrap_or(MEMORY),
            time: written.max_execution_time.unwrap_or(TIME),
        },
        store: store(written).to_owned(),
        store_bytes: store_bytes(written),
    }
}

/// Its own, unless it says otherwise.
fn store(written: &config::Guest) -> &str {
    &written.store.as_ref().unwrap_or(&written.name).value
}

fn store_bytes(written: &config::Guest) -> usize {
    written.store_size.map_or(STORE_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Those that share a store have to agree on how large it is.
pub fn compare_stores(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let policies = config.wasm.policies.iter().map(|policy| ("policy", policy));
    let filters = config.wasm.filters.iter().map(|filter| ("middleware", &filter.guest));
    let guests: Vec<(&str, &config::Guest)> = policies.chain(filters).collect();
    for (index, (kind, one)) in guests.iter().enumerate() {
        let differs = |(_, other): &&(&str, &config::Guest)| {
            store(other) == store(one) && store_bytes(other) != store_bytes(one)
        };
        let Some((other_kind, other)) = guests[..index].iter().find(differs) else { continue };
        let message = format!(
            "{other_kind} `{}` and {kind} `{}` share the store `{}`, but not its size",
            other.name.value,
            one.name.value,
            store(one)
        );
        let help = "give both the same store_size";
        diagnostics.push(Diagnostic::error(one.place.clone(), message).with_help(help));
    }
}
