//! The applications of `warpdrive demo`: small HTTP/1.1 servers on Unix sockets, each a process
//! of its own, and the page that they serve.
//!
//! `origin` moves bytes, `answer` decides what is said.
//! Must not know: that there is a proxy in front.

mod answer;
mod origin;

pub use origin::run;

/// The first argument that makes this binary one of these servers; a name and a path follow.
pub const ARGUMENT: &str = "demo-origin";

const CONFIGURATION: &str = include_str!("../../config/demo.toml");

/// Where in it the part begins that needs Wasm, and what comes after that.
const COMPONENTS_FROM: &str = "# Two components of WebAssembly";
const COMPONENTS_TO: &str = "# All else.";

/// The configuration, for the sockets in [`DIRECTORY`] and the components in [`COMPONENTS_DIRECTORY`]
/// beside it. A build without Wasm has none.
pub fn configuration() -> String {
    if cfg!(feature = "wasm") {
        return CONFIGURATION.to_owned();
    }
    let (before, rest) = CONFIGURATION.split_once(COMPONENTS_FROM).expect("it has components");
    let (_, after) = rest.split_once(COMPONENTS_TO).expect("something comes after them");
    format!("{before}{COMPONENTS_TO}{after}")
}

/// The components, and the names of their files. wit/examples has their sources.
#[cfg(feature = "wasm")]
pub const COMPONENTS: &[(&str, &[u8])] = &[
    ("user.wasm", include_bytes!("../../config/demo/user.wasm")),
    ("shout.wasm", include_bytes!("../../config/demo/shout.wasm")),
];
#[cfg(not(feature = "wasm"))]
pub const COMPONENTS: &[(&str, &[u8])] = &[];

/// What [`configuration`] calls the directory of [`COMPONENTS`].
pub const COMPONENTS_DIRECTORY: &str = "demo";

/// What [`configuration`] calls the directory of the sockets.
pub const DIRECTORY: &str = "/run/warpdrive-demo";

/// What the name of a directory begins with that only holds a demo: its last server takes it away.
pub const DIRECTORY_NAME: &str = "warpdrive-demo";

/// The servers. The socket of each has its name, and `.sock`.
pub const ORIGINS: [&str; 3] = ["amber", "violet", "teal"];
