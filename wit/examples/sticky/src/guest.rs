use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;

use crate::Key;
use exports::warpdrive::policy::load_balancer::{Context, Endpoint, Guest, Subscription};

wit_bindgen::generate!({
    path: ["../../guest", "../../policy"],
    world: "warpdrive:policy/policy",
    generate_all,
});

/// Endpoints come and go; when there are more than this, their hashes are made anew.
const KNOWN_MAX: usize = 4096;

thread_local! {
    static KEY: OnceCell<Key> = const { OnceCell::new() };
    /// Hash of the URL, by id.
    static KNOWN: RefCell<BTreeMap<u32, u64>> = const { RefCell::new(BTreeMap::new()) };
}

struct Sticky;
export!(Sticky);

impl Guest for Sticky {
    fn configure(json: String) -> Result<Subscription, String> {
        let key = Key::parse(&json)?;
        KEY.with(|cell| cell.set(key).map_err(|_| "configured twice"))?;
        Ok(Subscription { head: true, text_max: 0 })
    }

    fn select(ctx: Context, endpoints: Vec<Endpoint>) -> Option<u32> {
        let key = KEY.with(|cell| match cell.get().expect("configure comes first") {
            Key::Cookie(name) => ctx.cookie(name),
            Key::Field(name) => ctx.field(name),
        })?;
        KNOWN.with_borrow_mut(|known| {
            if known.len() > KNOWN_MAX {
                known.clear();
            }
            let endpoints = endpoints.iter().enumerate().map(|(index, endpoint)| crate::Endpoint {
                hash: *known
                    .entry(endpoint.id)
                    .or_insert_with(|| crate::hash(&ctx.url(index as u32).unwrap_or_default())),
                weight: endpoint.weight,
                healthy: endpoint.healthy,
            });
            crate::pick(crate::hash(&key), endpoints)
        })
    }
}
