//! `warpdrive -- COMMAND ARGS…`: the command as a child, told by `PORT` where to listen.

use std::ffi::OsString;

use crate::config::Sources;
use crate::plan::{self, Plan};
use crate::process::settings::{Name, Program, Settings};

/// The child that `command` is, for the one application of the mode without a file.
///
/// # Errors
/// There is a file, the application is on another host, or its port is ours.
pub fn child(command: &[OsString], sources: &Sources, plan: &Plan) -> Result<Settings, String> {
    let [program, arguments @ ..] = command else {
        return Err("a command is missing after `--`".to_owned());
    };
    if let Some(file) = &sources.file {
        return Err(format!(
            "`-- {}` belongs to the mode without a file, and there is {}; commands in a file, \
             [upstreams.NAME.process], are started with it",
            program.display(),
            file.path.display()
        ));
    }
    let (host, port) = plan.only_target().ok_or("there is no application to run the command for")?;
    if plan.server.listen.iter().any(|address| address.port() == port) {
        return Err(format!("port {port} cannot be both that of the command and that of WarpDrive"));
    }
    let name = Name { upstream: program.to_string_lossy().into_owned(), instance: None };
    let program = Program { path: program.clone(), arguments: arguments.to_vec() };
    Ok(Settings {
        environment: vec![("PORT".into(), port.to_string().into())],
        addresses: vec![plan::local_addresses(host, port).ok_or_else(|| elsewhere(host))?],
        stop_timeout: plan.server.shutdown_timeout,
        ..Settings::new(name, program)
    })
}

fn elsewhere(host: &str) -> String {
    format!(
        "with a command, WARPDRIVE_TARGET_HOST must be an IP address of this machine or `localhost`, \
         not `{host}`"
    )
}
