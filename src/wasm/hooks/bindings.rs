//! What wasmtime makes of the interfaces in `wit/`, all of it: types, what we have to answer, and what
//! we may call.

/// What every guest may import.
pub mod guest {
    wasmtime::component::bindgen!({
        path: "wit/guest",
        inline: "
            package warpdrive:host;

            world every-guest {
                import warpdrive:guest/log@0.1.0;
                import warpdrive:guest/metrics@0.1.0;
                import warpdrive:guest/settings@0.1.0;
                import warpdrive:guest/clock@0.1.0;
                import warpdrive:guest/random@0.1.0;
                import warpdrive:guest/store@0.1.0;
                import warpdrive:guest/endpoints@0.1.0;
            }
        ",
        world: "warpdrive:host/every-guest",
    });
}

/// What middleware may import that waits.
pub mod asking {
    wasmtime::component::bindgen!({
        path: "wit/guest",
        inline: "
            package warpdrive:host;

            world asking {
                import warpdrive:guest/http@0.1.0;
            }
        ",
        world: "warpdrive:host/asking",
        imports: { default: async },
    });
}

/// Middleware of another gateway, which is called as it is.
pub mod smg {
    wasmtime::component::bindgen!({
        path: "wit/smg",
        inline: "
            package warpdrive:host;

            world smg-types {
                import smg:gateway/middleware-types;
            }
        ",
        world: "warpdrive:host/smg-types",
    });
}

pub mod policy {
    wasmtime::component::bindgen!({
        path: ["wit/guest", "wit/policy"],
        world: "warpdrive:policy/policy",
        with: {
            "warpdrive:guest": super::guest::warpdrive::guest,
            "warpdrive:policy/requests.context": crate::wasm::hooks::asked::RequestHandle,
        },
    });
}

pub mod middleware {
    wasmtime::component::bindgen!({
        path: ["wit/guest", "wit/middleware"],
        world: "warpdrive:middleware/middleware",
        with: {
            "warpdrive:guest": super::guest::warpdrive::guest,
            "warpdrive:middleware/messages.request": crate::wasm::hooks::filter::passing::RequestHandle,
            "warpdrive:middleware/messages.response": crate::wasm::hooks::filter::passing::ResponseHandle,
        },
    });
}

/// What guests need not export.
pub mod optional {
    wasmtime::component::bindgen!({
        path: ["wit/guest", "wit/policy", "wit/middleware"],
        inline: "
            package warpdrive:host;

            world all-there-is {
                export warpdrive:policy/feedback@0.1.0;
                export warpdrive:guest/about@0.1.0;
                export warpdrive:middleware/request-stream@0.1.0;
                export warpdrive:middleware/response-stream@0.1.0;
            }
        ",
        world: "warpdrive:host/all-there-is",
        with: {
            "warpdrive:middleware/messages": super::middleware::warpdrive::middleware::messages,
        },
    });
}
