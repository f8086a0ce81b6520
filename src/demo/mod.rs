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

/// The configuration, for the sockets in [`DIRECTORY`].
pub const CONFIGURATION: &str = include_str!("../../config/demo.toml");

/// What [`CONFIGURATION`] calls the directory of the sockets.
pub const DIRECTORY: &str = "/run/warpdrive-demo";

/// The servers. The socket of each has its name, and `.sock`.
pub const ORIGINS: [&str; 3] = ["amber", "violet", "teal"];
