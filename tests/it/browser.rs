//! A real browser without a window, driven by the WebDriver protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Directory;
use crate::servers::Server;

/// A browser's start is slow where others are at work.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One window of a browser; closed when dropped.
pub struct Browser {
    driver: Server,
    session: String,
    _profile: Directory,
}

impl Browser {
    pub fn start() -> Browser {
        let profile = Directory::fresh();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0");
        let driver = Server::start(&mut command, "chromium-driver", "successfully on port ");
        let own = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1080,1300",
            &own,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut browser = Browser { driver, session: String::new(), _profile: profile };
        let begun = browser.call("POST", "", &wanted);
        browser.session = format!("/{}", begun["sessionId"].as_str().expect("a session"));
        browser
    }

    pub fn open(&self, address: &str) {
        self.call("POST", "/url", &json!({ "url": address }));
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What its console has said since this was last asked.
    pub fn console(&self) -> Value {
        self.call("POST", "/se/log", &json!({"type": "browser"}))
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.exchange(method, path, &body.to_string());
        let (status, value) = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(status.contains(" 200 "), "{method} {path}: {status} {value}");
        value["value"].clone()
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<(String, Value)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.driver.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (session, length) = (&self.session, body.len());
        write!(
            stream,
            "{method} /session{session}{path} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        // It keeps its connections, whatever it is told.
        let mut reader = BufReader::new(stream);
        let (mut status, mut line, mut length) = (String::new(), String::new(), 0);
        reader.read_line(&mut status)?;
        while reader.read_line(&mut line)? > 2 {
            let field = line.trim_end().to_ascii_lowercase();
            if let Some(digits) = field.strip_prefix("content-length:") {
                length = digits.trim().parse().map_err(std::io::Error::other)?;
            }
            line.clear();
        }
        let mut json = vec![0; length];
        reader.read_exact(&mut json)?;
        Ok((status, serde_json::from_slice(&json)?))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Or its processes would outlive the driver.
        let _ = self.exchange("DELETE", "", "");
    }
}
