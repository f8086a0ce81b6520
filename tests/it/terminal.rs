//! `warpdrive -- COMMAND` at a terminal: who may read from it, and whom its keys reach.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::harness::proxy::{BINARY, Lines, collect};
use crate::harness::{Directory, ended, eventually, free_port, holds};

/// A program on a terminal of its own, by `script`.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    output: Lines,
    directory: Directory,
}

impl Terminal {
    fn start(line: &str) -> Terminal {
        let directory = Directory::fresh();
        let mut command = Command::new("script");
        command.args(["-qfec", line, "/dev/null"]);
        command.current_dir(directory.path()).env("WARPDRIVE", BINARY).env("WARPDRIVE_HTTP_PORT", "0");
        command.env("WARPDRIVE_TARGET_PORT", free_port().to_string()).env("SHELL", "/bin/sh");
        command.env_remove("WARPDRIVE_CONFIG").env("HOME", directory.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("script, of the Debian package bsdutils");
        let keys = child.stdin.take().expect("a pipe was asked for");
        let output = collect(child.stdout.take());
        Terminal { child, keys, output, directory }
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal that takes keys");
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.directory.path().join(name);
        eventually(&format!("{content:?} in {name}"), || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            holds(text == content, (text, self.output.lock().unwrap().clone()))
        });
    }

    fn shows(&self, text: &str) {
        eventually(&format!("{text:?} on the terminal"), || {
            let lines = self.output.lock().unwrap().clone();
            holds(lines.iter().any(|line| line.contains(text)), lines)
        });
    }

    fn end(&mut self) -> i32 {
        let status = eventually("the end", || {
            let lines = || self.output.lock().unwrap().clone();
            self.child.try_wait().expect("our own child").ok_or_else(lines)
        });
        status.code().expect("an exit, not a signal")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The end of `script` is the end of the terminal, and with it of its session.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_command_that_reads_is_lent_the_terminal() {
    let line = "$WARPDRIVE -- sh -c 'read word; echo $word >got; exit 6'; echo $? >code; read word; echo $word >last";
    let mut terminal = Terminal::start(line);
    terminal.type_in("first\n");
    terminal.file("got", "first\n");
    terminal.file("code", "6\n");
    terminal.type_in("second\n");
    terminal.file("last", "second\n");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    // One that never reads; and one that has the terminal, where the key is its own.
    for reads in ["", "read word; echo $word >got;"] {
        let trap = "trap \"echo INT >>signals; exit 4\" INT";
        let script = format!("{trap}; echo >ready; {reads} while :; do sleep 0.01; done");
        let mut terminal = Terminal::start(&format!("exec $WARPDRIVE -- sh -c '{script}'"));
        terminal.file("ready", "\n");
        if !reads.is_empty() {
            terminal.type_in("word\n");
            terminal.file("got", "word\n");
        }
        terminal.type_in("\x03");
        assert_eq!(terminal.end(), 4);
        terminal.file("signals", "INT\n");
    }
}

#[test]
fn a_terminal_that_is_closed_ends_everything() {
    let line = "exec $WARPDRIVE -- sh -c 'echo $$ >pid; while :; do sleep 0.01; done'";
    let mut terminal = Terminal::start(line);
    let path = terminal.directory.path().join("pid");
    let pid = eventually("the pid of the command", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.strip_suffix('\n').and_then(|digits| digits.parse().ok()).ok_or(text)
    });
    terminal.child.kill().expect("script runs");
    ended(pid);
}

#[test]
fn ctrl_z_stops_a_command_that_has_the_terminal_and_fg_goes_on() {
    let mut terminal = Terminal::start("bash --norc --noprofile -i");
    terminal.type_in("$WARPDRIVE -- sh -c 'read a; echo $a >got; read b; echo $b >>got'\n");
    terminal.shows("started `sh`");
    terminal.type_in("one\n");
    terminal.file("got", "one\n");
    terminal.type_in("\x1a");
    terminal.shows("Stopped");
    terminal.type_in("fg\n");
    terminal.type_in("two\n");
    terminal.file("got", "one\ntwo\n");
    terminal.type_in("exit 3\n");
    assert_eq!(terminal.end(), 3);
}
