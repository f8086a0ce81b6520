//! `warpdrive -- COMMAND ARGS…`: the command as a child, told by `PORT` where to listen.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Sources;
use crate::plan::Plan;
use crate::process::child;
use crate::process::readiness::Address;

/// The child that `command` is, for the one application of the mode without a file.
///
/// # Errors
/// There is a file, the application is on another host, or its port is ours.
pub fn child(command: &[OsString], sources: &Sources, plan: &Plan) -> Result<child::Settings, String> {
    let [program, arguments @ ..] = command else {
        return Err("a command is missing after `--`".to_owned());
    };
    if let Some(file) = &sources.file {
        return Err(format!(
            "`-- {}` belongs to the mode without a file, and there is {}; commands in a file, \
             [upstreams.NAME.process], do not work yet in this version",
            program.display(),
            file.path.display()
        ));
    }
    let (host, port) = plan.only_target().ok_or("there is no application to run the command for")?;
    if plan.server.listen.iter().any(|address| address.port() == port) {
        return Err(format!("port {port} cannot be both that of the command and that of WarpDrive"));
    }
    Ok(child::Settings {
        name: program.to_string_lossy().into_owned(),
        program: program.clone(),
        arguments: arguments.to_vec(),
        environment: vec![("PORT".into(), port.to_string().into())],
        addresses: addresses(host, port)?,
    })
}

/// Names are not looked up: what was started here listens here.
fn addresses(host: &str, port: u16) -> Result<Vec<Address>, String> {
    let addresses: Vec<IpAddr> = match (host, host.parse()) {
        ("localhost", _) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        (_, Ok(address)) => vec![address],
        (name, Err(_)) => {
            return Err(format!(
                "with a command, WARPDRIVE_TARGET_HOST must be an IP address of this machine or \
                 `localhost`, not `{name}`"
            ));
        }
    };
    Ok(addresses.into_iter().map(|address| Address::Tcp(SocketAddr::new(address, port))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_listens_on_this_machine() {
        let cases = [
            ("127.0.0.1", Some("127.0.0.1:3000")),
            ("::1", Some("[::1]:3000")),
            ("localhost", Some("127.0.0.1:3000 [::1]:3000")),
            ("app.example.com", None),
        ];
        for (host, expected) in cases {
            let found = addresses(host, 3000).map(|all| {
                let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
                texts.join(" ")
            });
            assert_eq!(found.ok().as_deref(), expected, "{host}");
        }
    }
}
