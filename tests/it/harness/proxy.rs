//! The real binary as a process of its own, in a directory of its own, on a free port.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::client::get;
use super::{BOUND, Client, Directory, Origin, eventually, eventually_within, holds};

pub const BINARY: &str = env!("CARGO_BIN_EXE_warpdrive");

/// A configuration and a way to start it, line by line.
pub struct Builder {
    /// Before the first table.
    top: String,
    server: String,
    limits: String,
    middleware: String,
    /// Instead of JSON in a file, if there is any.
    log: String,
    /// Everything after the tables above: upstreams and routes.
    rest: String,
    workers: usize,
    port: u16,
    descriptors: Option<u32>,
    variables: Vec<(String, String)>,
    directory: Directory,
}

/// How a run that ended by itself ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Builder {
    pub fn new() -> Builder {
        Builder {
            top: String::new(),
            server: String::new(),
            limits: String::new(),
            middleware: String::new(),
            log: String::new(),
            rest: String::new(),
            workers: 2,
            port: 0,
            descriptors: None,
            variables: Vec::new(),
            directory: Directory::fresh(),
        }
    }

    /// A line before all tables.
    pub fn before(mut self, line: &str) -> Builder {
        writeln!(self.top, "{line}").expect("a String takes it");
        self
    }

    /// A line of `[server]`.
    pub fn server(mut self, line: &str) -> Builder {
        writeln!(self.server, "{line}").expect("a String takes it");
        self
    }

    /// A line of `[server.limits]`.
    pub fn limit(mut self, line: &str) -> Builder {
        writeln!(self.limits, "{line}").expect("a String takes it");
        self
    }

    /// A line of `[middleware]`.
    pub fn middleware(mut self, line: &str) -> Builder {
        writeln!(self.middleware, "{line}").expect("a String takes it");
        self
    }

    /// A line of `[log]`, which then has no others.
    pub fn log(mut self, line: &str) -> Builder {
        writeln!(self.log, "{line}").expect("a String takes it");
        self
    }

    /// An upstream with one instance, and more lines for its table.
    pub fn upstream(self, name: &str, origin: &Origin, more: &str) -> Builder {
        let at = origin.toml();
        self.toml(&format!("[upstreams.{name}]\n{at}{more}\n"))
    }

    /// A route to an upstream on some conditions.
    pub fn route(self, upstream: &str, conditions: &str) -> Builder {
        self.toml(&format!("[[routes]]\n{conditions}\nupstream = \"{upstream}\"\n"))
    }

    /// Whatever else; a table of its own.
    pub fn toml(mut self, text: &str) -> Builder {
        writeln!(self.rest, "{text}").expect("a String takes it");
        self
    }

    pub fn workers(mut self, count: usize) -> Builder {
        self.workers = count;
        self
    }

    pub fn port(mut self, port: u16) -> Builder {
        self.port = port;
        self
    }

    /// How many descriptors each of its processes may have.
    pub fn descriptors(mut self, count: u32) -> Builder {
        self.descriptors = Some(count);
        self
    }

    /// A variable of its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Builder {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file beside the configuration, where it runs.
    pub fn file(self, name: &str, text: &str) -> Builder {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder for it");
        std::fs::write(path, text).expect("the file written");
        self
    }

    /// Where it will run.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// The configuration file as text.
    pub fn text(&self) -> String {
        let log = match self.log.as_str() {
            "" => format!("format = \"json\"\nfile = \"{}\"\n", self.log_file().display()),
            lines => lines.to_owned(),
        };
        format!(
            "{}[server]\nhttp_port = {}\nbind = [\"127.0.0.1\"]\nworker_threads = {}\n{}\n\
             [server.limits]\n{}\n\
             [middleware]\nlog_requests = true\n{}\n\
             [log]\n{log}\n{}",
            self.top, self.port, self.workers, self.server, self.limits, self.middleware, self.rest
        )
    }

    /// The configuration file.
    pub fn written(&self) -> PathBuf {
        let path = self.directory.path().join("warpdrive.toml");
        std::fs::write(&path, self.text()).expect("the configuration written");
        path
    }

    fn command(&self, file: &Path) -> Command {
        let mut command = match self.descriptors {
            None => Command::new(BINARY),
            Some(count) => {
                let mut command = Command::new("sh");
                let script = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
                command.arg("-c").arg(script).arg(BINARY);
                command
            }
        };
        command.arg("run").arg("-c").arg(file);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Proxy {
        self.start_with(&[])
    }

    /// The same, with more arguments.
    pub fn start_with(self, arguments: &[&str]) -> Proxy {
        let file = self.written();
        let mut command = self.command(&file);
        command.args(arguments);
        let log = self.log_file();
        Proxy::spawn(command, log, self.directory)
    }

    /// Starts it where it says nothing of that it listens: at this address.
    pub fn launch(self, address: SocketAddr) -> Proxy {
        let file = self.written();
        let (command, log) = (self.command(&file), self.log_file());
        Proxy::launch(command, address, log, self.directory)
    }

    /// The same, with both streams of its output in this file.
    pub fn launch_into(self, output: &Path, address: SocketAddr) -> Proxy {
        let file = self.written();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" run -c \"$1\" >\"$2\" 2>&1"]).arg(BINARY).arg(file).arg(output);
        let log = self.log_file();
        Proxy::launch(command, address, log, self.directory)
    }

    /// Runs it to its end.
    pub fn run(&self) -> Run {
        run(&mut self.command(&self.written()))
    }

    /// `warpdrive check` on it.
    pub fn check(&self) -> Run {
        run(Command::new(BINARY).arg("check").arg("-c").arg(self.written()))
    }
}

/// Runs a command to its end, which must come.
pub fn run(command: &mut Command) -> Run {
    without_settings(command);
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a command that starts");
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let read = |lines: &Lines| Vec::from(lines.lock().unwrap().clone()).join("\n");
    let status = wait(&mut child, BOUND);
    if status.is_none() {
        end(&mut child);
    }
    // What it wrote last is read a little after its end.
    eventually("the end of its output", || {
        holds(Arc::strong_count(&stdout) + Arc::strong_count(&stderr) == 2, ())
    });
    Run { code: status.and_then(|status| status.code()), stdout: read(&stdout), stderr: read(&stderr) }
}

pub type Lines = Arc<Mutex<VecDeque<String>>>;

/// Lines of output as they come, the last thousand. The reader lets go of them at the end.
pub fn collect(output: Option<impl Read + Send + 'static>) -> Lines {
    let lines = Lines::default();
    let theirs = Arc::clone(&lines);
    let output = output.expect("a pipe was asked for");
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut lines = theirs.lock().unwrap();
            if lines.len() == 1000 {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
    lines
}

/// Of the proxy's variables only those that the test gave.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let given = command.get_envs().any(|(other, _)| other == name);
        if name.to_string_lossy().starts_with("WARPDRIVE_") && !given {
            command.env_remove(name);
        }
    }
}

fn wait(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let start = std::time::Instant::now();
    eventually_within(bound * 2, "an answer about the child", || {
        match child.try_wait().expect("our own child") {
            Some(status) => Ok(Some(status)),
            None if start.elapsed() > bound => Ok(None),
            None => Err("still running"),
        }
    })
}

/// Kills a child with its own children, and reaps it.
fn end(child: &mut Child) {
    let below = children(child.id());
    let _ = child.kill();
    let _ = child.wait();
    for pid in below {
        send(pid, Signal::KILL);
    }
}

pub fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// A line of the access log.
#[derive(Clone, Debug)]
pub struct LogLine(Value);

impl LogLine {
    pub fn status(&self) -> u64 {
        self.number("status")
    }

    /// Empty if it is not there.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    pub fn is_there(&self, field: &str) -> bool {
        !self.0[field].is_null()
    }

    pub fn number(&self, field: &str) -> u64 {
        let number = &self.0[field];
        let whole = number.as_u64().or(number.as_f64().map(|number| number as u64));
        whole.unwrap_or_else(|| panic!("{field} is no number in {}", self.0))
    }
}

/// A running proxy; killed when dropped, and then it must not have panicked.
pub struct Proxy {
    master: Child,
    address: SocketAddr,
    stderr: Lines,
    stdout: Lines,
    log: PathBuf,
    /// Data processes that a test asked for: one may outlive a master that the test killed.
    seen: Mutex<Vec<u32>>,
    directory: Directory,
}

impl Proxy {
    /// Everything goes to this origin.
    pub fn to(origin: &Origin) -> Proxy {
        Proxy::with(origin).start()
    }

    /// The same, to be changed before it starts.
    pub fn with(origin: &Origin) -> Builder {
        Proxy::with_upstream(origin, "")
    }

    /// The same, with more lines in the upstream's table.
    pub fn with_upstream(origin: &Origin, more: &str) -> Builder {
        let builder = Builder::new().upstream("app", origin, more);
        builder.route("app", "path_prefix = \"/\"")
    }

    /// Runs a configuration as it is.
    pub fn from_text(text: &str) -> Proxy {
        let directory = Directory::fresh();
        let path = directory.path().join("warpdrive.toml");
        std::fs::write(&path, text).expect("the configuration written");
        let mut command = Command::new(BINARY);
        command.arg("run").arg("-c").arg(&path);
        Proxy::spawn(command, directory.path().join("access.log"), directory)
    }

    /// Any command that runs the proxy, once it listens.
    pub fn spawn(command: Command, log: PathBuf, directory: Directory) -> Proxy {
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Proxy::launch(command, unknown, log, directory);
        // Before it an application may have to start, or a component in JavaScript to be compiled, on a
        // machine that does much else.
        proxy.address = eventually_within(BOUND * 12, "the proxy to listen", || {
            let lines = proxy.stderr();
            if let Ok(Some(status)) = proxy.master.try_wait() {
                panic!("the proxy ended with {status}; it said: {lines:#?}");
            }
            // The demo says it with other words, on its standard output.
            let all = lines.iter().cloned().chain(proxy.stdout()).find_map(|line| address_in(&line));
            all.ok_or(lines)
        });
        proxy
    }

    /// The same, not waited for; `address` is where it will listen.
    pub fn launch(mut command: Command, address: SocketAddr, log: PathBuf, directory: Directory) -> Proxy {
        without_settings(&mut command);
        command.current_dir(directory.path());
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut master = command.spawn().expect("the proxy starts");
        let stderr = collect(master.stderr.take());
        let stdout = collect(master.stdout.take());
        Proxy { master, address, stderr, stdout, log, seen: Mutex::default(), directory }
    }

    /// Where it runs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who answers the next requests, sorted and each once: bodies, or the status of a failure.
    pub fn answering(&self) -> Vec<String> {
        let mut names: Vec<String> = (0..9)
            .map(|_| {
                let response = get(self.address(), "/");
                if response.status == 200 { response.text() } else { response.status.to_string() }
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Waits until these answer, and no others.
    pub fn until_answering(&self, expected: &[&str]) {
        eventually(&format!("{expected:?} to answer"), || {
            let names = self.answering();
            holds(names == expected, (names, self.stderr()))
        });
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The pid of `master`.
    pub fn pid(&self) -> u32 {
        self.master.id()
    }

    /// The pid of the data process.
    pub fn data_pid(&self) -> u32 {
        let pid = eventually("the data process", || {
            let is_one = |pid: &u32| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).nth(1) == Some(b"data-process")
            };
            let all = children(self.pid());
            all.iter().copied().find(is_one).ok_or(all)
        });
        self.seen.lock().unwrap().push(pid);
        pid
    }

    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone().into()
    }

    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone().into()
    }

    /// Waits for a line on stderr that contains this.
    pub fn stderr_contains(&self, text: &str) -> String {
        eventually(&format!("{text:?} on stderr"), || {
            let lines = self.stderr();
            lines.iter().find(|line| line.contains(text)).cloned().ok_or(lines)
        })
    }

    /// What is in the access log now.
    pub fn log(&self) -> Vec<LogLine> {
        let text = self.log_text();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line: &str| match serde_json::from_str(line) {
            Ok(value) => LogLine(value),
            Err(error) => panic!("a log line that is no JSON: {line}: {error}"),
        };
        whole.lines().map(parse).collect()
    }

    /// The access log as it is.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until so many lines of the access log are wanted ones.
    pub fn log_lines(&self, count: usize, wanted: impl Fn(&LogLine) -> bool) -> Vec<LogLine> {
        eventually(&format!("{count} such lines in the access log"), || {
            let all = self.log();
            let found: Vec<LogLine> = all.iter().filter(|line| wanted(line)).cloned().collect();
            if found.len() < count {
                return Err((all, self.stderr()));
            }
            Ok(found)
        })
    }

    /// Waits for the line of the first exchange with this status.
    pub fn log_line(&self, status: u64) -> LogLine {
        self.log_lines(1, |line| line.status() == status).remove(0)
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Whether the data process has an io_uring.
    pub fn has_ring(&self) -> bool {
        let path = format!("/proc/{}/fd", self.data_pid());
        let entries = std::fs::read_dir(path).expect("a running data process");
        let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.into_iter().any(|link| link.to_string_lossy().contains("[io_uring]"))
    }

    pub fn signal_data_process(&self, signal: Signal) {
        send(self.data_pid(), signal);
    }

    /// Waits for its end; the exit code.
    pub fn wait_end(&mut self) -> i32 {
        match wait(&mut self.master, BOUND) {
            Some(status) => status.code().expect("an exit, not a signal"),
            None => panic!("the proxy does not end; it said: {:#?}", self.stderr()),
        }
    }

    /// Ends it as an operator does; the exit code.
    pub fn terminate(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait_end()
    }

    /// Resident memory of the data process.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.data_pid());
        let status = std::fs::read_to_string(path).expect("a running data process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|n| n.parse().ok()).expect("VmRSS in kB")
    }

    /// Open descriptors of the data process.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.data_pid());
        std::fs::read_dir(path).expect("a running data process").count()
    }

    /// Processor time of the data process so far.
    pub fn processor_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.data_pid());
        let stat = std::fs::read_to_string(path).expect("a running data process");
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = after_name.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|n| n.parse::<u64>().ok()).sum();
        // The kernel counts in hundredths of a second for user space, whatever its own tick.
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if matches!(self.master.try_wait(), Ok(None)) {
            end(&mut self.master);
        }
        for pid in self.seen.lock().unwrap().drain(..) {
            let program = std::fs::read_link(format!("/proc/{pid}/exe"));
            if program.is_ok_and(|program| program == Path::new(BINARY)) {
                send(pid, Signal::KILL);
            }
        }
        let lines = self.stderr();
        if std::thread::panicking() {
            eprintln!("the proxy said: {lines:#?}");
        } else {
            let panicked = lines.iter().any(|line| line.contains("panicked at"));
            assert!(!panicked, "the proxy panicked: {lines:#?}");
        }
    }
}

/// Where to connect, from the line that says where it listens.
fn address_in(line: &str) -> Option<SocketAddr> {
    let said = ["listening on http://", "running at http://"];
    let (_, address) = said.iter().find_map(|said| line.split_once(said))?;
    let end = address.find(|c: char| c.is_whitespace() || c == '/' || c == '"');
    let mut address: SocketAddr = address[..end.unwrap_or(address.len())].parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(address)
}
