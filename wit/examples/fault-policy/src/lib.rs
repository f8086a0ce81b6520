//! A policy that fails as the request field `x-fault` says, for tests of its host: `none`, `range` (an index
//! beyond the list), `unhealthy` (one that is not), `trap`, `loop`. Otherwise it picks the first that is healthy.
//! Config: `fault` = `configure` fails the load.
#![cfg(target_family = "wasm")]

use exports::warpdrive::policy::load_balancer::{Context, Endpoint, Guest, Subscription};
use warpdrive::guest::settings;

wit_bindgen::generate!({
    path: ["../../guest", "../../policy"],
    world: "warpdrive:policy/policy",
    generate_all,
});

struct Fault;
export!(Fault);

impl Guest for Fault {
    fn configure(_: String) -> Result<Subscription, String> {
        if settings::config("fault").as_deref() == Some("configure") {
            return Err("told to fail".into());
        }
        Ok(Subscription { head: true, text_max: 0 })
    }

    fn select(ctx: Context, endpoints: Vec<Endpoint>) -> Option<u32> {
        let first = |healthy| endpoints.iter().position(|endpoint| endpoint.healthy == healthy);
        match ctx.field("x-fault").as_deref() {
            Some("none") => None,
            Some("range") => Some(endpoints.len() as u32),
            Some("unhealthy") => first(false).map(|index| index as u32),
            Some("trap") => std::process::abort(),
            Some("loop") => spin(),
            _ => first(true).map(|index| index as u32),
        }
    }
}

fn spin() -> ! {
    let mut turns = 0_u32;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
