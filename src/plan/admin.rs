//! `[admin]`, compiled: who may reach the running process, and where.

use std::path::PathBuf;

use super::Admin;
use super::compile::HTTP_PORT;
use crate::config::{self, Config, Diagnostic, Sources};
use crate::middleware::auth;

const RUNTIME_DIRECTORY: &str = "/run";

pub fn admin(config: &Config, has_children: bool, diagnostics: &mut Vec<Diagnostic>) -> Admin {
    let written = &config.admin;
    if let Some(listen) = &written.listen
        && !listen.value.ip().to_canonical().is_loopback()
        && written.token.is_none()
        && !written.is_wrong
    {
        let message = "other machines could look at this process without a token";
        let help =
            "set token or token_file in [admin], or listen on the loopback only, such as \"127.0.0.1:9180\"";
        diagnostics.push(Diagnostic::error(listen.place.clone(), message).with_help(help));
    }
    Admin {
        socket: socket(config, has_children),
        listen: written.listen.as_ref().map(|listen| listen.value),
        token: written.token.as_ref().map(|token| auth::Settings::new(token.value.reveal())),
    }
}

/// Where the process that runs by these sources can be asked, whatever else is wrong with them: it
/// may run by what they were before.
///
/// # Errors
/// Everything that is wrong, if that is not to be found out.
pub fn admin_socket(sources: &Sources) -> Result<Option<PathBuf>, Vec<Diagnostic>> {
    let (config, mistakes) = config::read(sources);
    let has_children = config.upstreams.iter().any(|upstream| upstream.process.is_some());
    match socket(&config, has_children) {
        None if mistakes.iter().any(Diagnostic::is_error) => Err(mistakes),
        socket => Ok(socket),
    }
}

/// As configured; otherwise, where there are commands, one for each port, so that several processes
/// have several. Of a port that is not known before there is none.
fn socket(config: &Config, has_children: bool) -> Option<PathBuf> {
    if config.admin.socket.is_some() || !has_children {
        return config.admin.socket.clone();
    }
    let port = config.server.http_port.unwrap_or(HTTP_PORT);
    let directory =
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| RUNTIME_DIRECTORY.into(), PathBuf::from);
    (port != 0).then(|| directory.join(format!("warpdrive-{port}.sock")))
}
