//! What policies and middleware have in common: the files that they come from, and their stores.

use std::path::PathBuf;

use crate::config::{Config, Diagnostic, Place, Written};

#[cfg(feature = "wasm")]
pub use crate::wasm::hooks::inspect::{FILTER, Interface, POLICY};

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

/// The store of a guest: its own, unless it says otherwise.
pub fn store<'a>(name: &'a Written<String>, store: Option<&'a Written<String>>) -> &'a str {
    &store.unwrap_or(name).value
}

pub fn store_bytes(written: Option<u64>) -> usize {
    written.map_or(STORE_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// A guest, and the store that it uses.
struct User<'a> {
    kind: &'static str,
    name: &'a str,
    place: &'a Place,
    store: &'a str,
    bytes: usize,
}

/// Those that share a store have to agree on how large it is.
pub fn compare_stores(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let policies = config.wasm.policies.iter().map(|policy| User {
        kind: "policy",
        name: &policy.name.value,
        place: &policy.place,
        store: store(&policy.name, policy.store.as_ref()),
        bytes: store_bytes(policy.store_size),
    });
    let filters = config.wasm.filters.iter().map(|filter| User {
        kind: "middleware",
        name: &filter.name.value,
        place: &filter.place,
        store: store(&filter.name, filter.store.as_ref()),
        bytes: store_bytes(filter.store_size),
    });
    let users: Vec<User<'_>> = policies.chain(filters).collect();
    for (index, one) in users.iter().enumerate() {
        let differs = |other: &&User<'_>| other.store == one.store && other.bytes != one.bytes;
        let Some(other) = users[..index].iter().find(differs) else { continue };
        let message = format!(
            "{} `{}` and {} `{}` share the store `{}`, but not its size",
            other.kind, other.name, one.kind, one.name, one.store
        );
        let help = "give both the same store_size";
        diagnostics.push(Diagnostic::error(one.place.clone(), message).with_help(help));
    }
}
