//! BIND as an ordinary process on the loopback, with one zone that a test may change.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::proxy::{Lines, collect};
use super::{Directory, eventually, free_port, holds};

/// The only zone. Everything in it is below this name.
pub const ZONE: &str = "example.test";

pub struct NameServer {
    process: Child,
    port: u16,
    serial: u32,
    output: Lines,
    directory: Directory,
}

impl NameServer {
    /// Serves these lines of a zone, each with a TTL of one second if it says no other.
    pub fn start(records: &str) -> NameServer {
        NameServer::start_at(free_port(), records)
    }

    pub fn start_at(port: u16, records: &str) -> NameServer {
        let directory = Directory::fresh();
        let at = directory.path().display();
        let configuration = format!(
            "options {{ directory \"{at}\"; managed-keys-directory \"{at}\";\n\
             session-keyfile \"{at}/session.key\"; pid-file none; lock-file none;\n\
             listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             recursion no; dnssec-validation no; notify no; allow-query {{ any; }}; }};\n\
             controls {{ }};\n\
             zone \"{ZONE}\" {{ type primary; file \"{at}/zone\"; }};\n"
        );
        std::fs::write(directory.path().join("named.conf"), configuration).expect("its configuration");
        write_zone(&directory, 1, records);
        let mut command = Command::new("named");
        command.args(["-g", "-n", "1", "-c"]).arg(directory.path().join("named.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process =
            command.spawn().expect("named: install the Debian package bind9, as tests/run does");
        let output = collect(process.stderr.take());
        let mut server = NameServer { process, port, serial: 1, output, directory };
        server.wait_serial();
        server
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// `[dns]` that asks it.
    pub fn toml(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.address())
    }

    /// Serves these lines from now on.
    pub fn change(&mut self, records: &str) {
        self.serial += 1;
        write_zone(&self.directory, self.serial, records);
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::HUP).expect("named runs");
        self.wait_serial();
    }

    /// It has said that it serves what was written last.
    fn wait_serial(&mut self) {
        let loaded = format!("zone {ZONE}/IN: loaded serial {}", self.serial);
        let is_last = if self.serial == 1 { "running" } else { &loaded };
        eventually("the zone to be served", || {
            let lines: Vec<String> = self.output.lock().unwrap().iter().cloned().collect();
            let ended = self.process.try_wait().ok().flatten();
            assert!(ended.is_none(), "named ended: {lines:#?}");
            let has = |text: &str| lines.iter().any(|line| line.ends_with(text));
            holds(has(&loaded) && has(is_last), lines)
        });
    }
}

fn write_zone(directory: &Directory, serial: u32, records: &str) {
    let zone = format!(
        "$TTL 1\n@ IN SOA ns hostmaster {serial} 3600 600 86400 1\n@ IN NS ns\nns IN A 127.0.0.1\n{records}\n"
    );
    let path: PathBuf = directory.path().join("zone");
    std::fs::write(path, zone).expect("its zone");
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
