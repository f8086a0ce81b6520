use std::cell::Cell;

use exports::warpdrive::guest::about;
use exports::warpdrive::policy::load_balancer::{Context, Endpoint, Guest, Subscription};

wit_bindgen::generate!({
    path: ["../../guest", "../../policy"],
    inline: "
        package example:least-loaded;
        world least-loaded {
            include warpdrive:policy/policy@0.1.0;
            export warpdrive:guest/about@0.1.0;
        }
    ",
    generate_all,
});

// Also where the next one starts among equals.
thread_local!(static PICKED: Cell<u32> = const { Cell::new(0) });

struct LeastLoaded;
export!(LeastLoaded);

impl Guest for LeastLoaded {
    fn configure(_: String) -> Result<Subscription, String> {
        Ok(Subscription { head: false, text_max: 0 })
    }

    fn select(_: Context, endpoints: Vec<Endpoint>) -> Option<u32> {
        let endpoints: Vec<_> = endpoints
            .into_iter()
            .map(|Endpoint { active, ewma_us, weight, healthy, .. }| crate::Endpoint {
                active,
                ewma_us,
                weight,
                healthy,
            })
            .collect();
        let turn = PICKED.get();
        PICKED.set(turn.wrapping_add(1));
        crate::pick(&endpoints, turn)
    }
}

impl about::Guest for LeastLoaded {
    fn name() -> String {
        "least-loaded".into()
    }

    fn version() -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    fn statistics() -> String {
        format!("{{\"picked\":{}}}", PICKED.get())
    }
}
