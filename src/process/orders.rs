//! What `master` and the data process say to each other.
//!
//! Both ends are the same binary, but after a replacement of the binary not the same version:
//! the text of a message is kept plain, and what is not understood is an error.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::time::Duration;

use super::readiness::Address;
use super::settings::{Name, Settings};

pub use super::packets::{Incoming, Outgoing, Received, Socket, TEXT_MAX};

/// What `master` tells the data process. `Fd` is borrowed when sent, owned when received.
#[derive(Debug)]
pub enum Order<Fd = OwnedFd> {
    /// A file in memory with the encoded sources.
    Configuration(Fd),
    /// A listening socket for one worker.
    Listener { address: SocketAddr, worker: usize, socket: Fd },
    /// That was everything.
    Start,
    /// The configuration was read again: run by it if that is possible. It is what so many wanted
    /// who have sent [`Report::Reread`]; of none, `master` was told to by a signal.
    Reload { asked: usize, sources: Fd },
    /// It could not be read, and why.
    Unreadable { asked: usize, why: String },
    /// All sockets are there that [`Report::Listen`] wanted; of these addresses none is.
    Bound { left: Vec<SocketAddr> },
    /// They cannot be had, and why.
    Unbound { why: String },
    /// What has become of a child.
    Child(Condition),
    /// What has become of the command that we were started in front of.
    Wrapped(State),
    /// What was asked for one is done, or why it is not.
    Done { name: Name, failure: Option<String> },
    /// Files of logs were moved: open them anew.
    ReopenLogs,
    /// Take nothing new, finish what runs, end.
    Drain,
    /// End.
    Stop,
}

/// What the data process tells `master`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// All workers run, on this driver.
    Ready {
        workers: usize,
        driver: String,
    },
    /// It cannot start, and why.
    Failed {
        message: String,
    },
    /// One of the children that there are to be.
    Child(Box<Settings>),
    /// Those were all: what is none of them goes.
    Children,
    /// There is to be one more.
    Add(Box<Settings>),
    /// One is to run like this from its next start on.
    Reorder(Box<Settings>),
    /// One is to be stopped and started like this.
    Replace(Box<Settings>),
    /// One has another name.
    Rename {
        from: Name,
        to: Name,
    },
    /// One is not to run any more.
    Remove(Name),
    /// It is to be started anew like this: beside the one that runs if it is to listen elsewhere,
    /// otherwise after it.
    Restart(Box<Settings>),
    /// Nobody needs the one any more beside which another one was started.
    Moved(Name),
    /// The one that was started beside another one is not to take over: it goes.
    Abandon(Name),
    /// It is to stop, and not to be started until [`Report::StartChild`].
    StopChild(Name),
    StartChild(Name),
    /// One that is said to be ready refuses connections again and again.
    Refuses(Name),
    /// The configuration is to be read again.
    Reread,
    /// These are the addresses to listen on, if what was read again can be in force.
    Listen(Vec<SocketAddr>),
    /// The one that was read again is in force; a drain may now take so long, and its files are to be
    /// watched or not.
    Adopted {
        shutdown_timeout: Duration,
        watch: bool,
    },
    /// The one that was in force before it still is.
    Kept,
    /// Nothing runs any more.
    Drained,
}

/// What has become of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub name: Name,
    pub state: State,
    /// `None` while there is no process.
    pub pid: Option<i32>,
    /// Where it listens, if that is not where it was ordered to.
    pub elsewhere: Option<Address>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// How it ended last by itself, and what it wrote before.
    pub last_end: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It will accept connections, but does not yet or not now.
    Starting,
    /// It does.
    Ready,
    /// It will not until somebody says so.
    Stopped,
}

impl<Fd: AsFd> Outgoing for Order<Fd> {
    fn text(&self) -> String {
        match self {
            Order::Configuration(_) => "configuration".to_owned(),
            Order::Listener { address, worker, .. } => format!("listener {address} {worker}"),
            Order::Start => "start".to_owned(),
            Order::Reload { asked, .. } => format!("reload {asked}"),
            Order::Unreadable { asked, why } => [format!("unreadable {asked}"), why.clone()].join(SEPARATOR),
            Order::Bound { left } => format!("bound{}", show_addresses(left)),
            Order::Unbound { why } => format!("unbound {why}"),
            Order::Child(condition) => {
                let Condition { name, state, pid, elsewhere, restarts, last_end } = condition;
                let (pid, elsewhere) = (show_or_none(*pid), show_or_none(elsewhere.as_ref()));
                let first = format!("child {} {pid} {restarts} {}", state.word(), show(name));
                [first, elsewhere, last_end.clone()].join(SEPARATOR)
            }
            Order::Wrapped(state) => format!("wrapped {}", state.word()),
            Order::Done { name, failure } => {
                [format!("done {}", show(name)), failure.clone().unwrap_or_default()].join(SEPARATOR)
            }
            Order::ReopenLogs => "reopen-logs".to_owned(),
            Order::Drain => "drain".to_owned(),
            Order::Stop => "stop".to_owned(),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Order::Configuration(descriptor) => Some(descriptor.as_fd()),
            Order::Listener { socket, .. } => Some(socket.as_fd()),
            Order::Reload { sources, .. } => Some(sources.as_fd()),
            Order::Start
            | Order::Unreadable { .. }
            | Order::Bound { .. }
            | Order::Unbound { .. }
            | Order::Child(_)
            | Order::Wrapped(_)
            | Order::Done { .. }
            | Order::ReopenLogs
            | Order::Drain
            | Order::Stop => None,
        }
    }
}

impl Incoming for Order {
    fn parse(text: &str, descriptor: Option<OwnedFd>) -> Option<Order> {
        let mut parts = text.split(SEPARATOR);
        let words = words(parts.next()?);
        match (words.as_slice(), descriptor) {
            (["configuration"], Some(file)) => Some(Order::Configuration(file)),
            (["listener", address, worker], Some(socket)) => {
                Some(Order::Listener { address: address.parse().ok()?, worker: worker.parse().ok()?, socket })
            }
            (["start"], None) => Some(Order::Start),
            (["reopen-logs"], None) => Some(Order::ReopenLogs),
            (["reload", asked], Some(sources)) => Some(Order::Reload { asked: asked.parse().ok()?, sources }),
            (["unreadable", asked], None) => {
                Some(Order::Unreadable { asked: asked.parse().ok()?, why: parts.next()?.to_owned() })
            }
            (["drain"], None) => Some(Order::Drain),
            (["stop"], None) => Some(Order::Stop),
            (["bound", left @ ..], None) => Some(Order::Bound { left: parse_addresses(left)? }),
            (["unbound", why @ ..], None) => Some(Order::Unbound { why: why.join(" ") }),
            (["child", state, pid, restarts, name @ ..], None) => {
                let elsewhere = parts.next().filter(|address| *address != NONE);
                Some(Order::Child(Condition {
                    name: parse_name(name)?,
                    state: State::parse(state)?,
                    pid: parse_or_none(pid)?,
                    elsewhere: match elsewhere {
                        Some(address) => Some(Address::parse(address)?),
                        None => None,
                    },
                    restarts: restarts.parse().ok()?,
                    last_end: parts.next()?.to_owned(),
                }))
            }
            (["wrapped", state], None) => Some(Order::Wrapped(State::parse(state)?)),
            (["done", name @ ..], None) => {
                let failure = parts.next()?;
                let failure = (!failure.is_empty()).then(|| failure.to_owned());
                Some(Order::Done { name: parse_name(name)?, failure })
            }
            _ => None,
        }
    }
}

impl Outgoing for Report {
    fn text(&self) -> String {
        match self {
            Report::Ready { workers, driver } => format!("ready {workers} {driver}"),
            Report::Failed { message } => format!("failed {message}"),
            Report::Child(settings) => format!("child {}", settings.encode()),
            Report::Children => "children".to_owned(),
            Report::Add(settings) => format!("add {}", settings.encode()),
            Report::Reorder(settings) => format!("reorder {}", settings.encode()),
            Report::Replace(settings) => format!("replace {}", settings.encode()),
            Report::Rename { from, to } => [format!("rename {}", show(from)), show(to)].join(SEPARATOR),
            Report::Remove(name) => format!("remove {}", show(name)),
            Report::Restart(settings) => format!("restart {}", settings.encode()),
            Report::Moved(name) => format!("moved {}", show(name)),
            Report::Abandon(name) => format!("abandon {}", show(name)),
            Report::StopChild(name) => format!("stop-child {}", show(name)),
            Report::StartChild(name) => format!("start-child {}", show(name)),
            Report::Refuses(name) => format!("refuses {}", show(name)),
            Report::Reread => "reread".to_owned(),
            Report::Listen(addresses) => format!("listen{}", show_addresses(addresses)),
            Report::Adopted { shutdown_timeout, watch } => {
                format!("adopted {} {watch}", millis(*shutdown_timeout))
            }
            Report::Kept => "kept".to_owned(),
            Report::Drained => "drained".to_owned(),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Incoming for Report {
    fn parse(text: &str, descriptor: Option<OwnedFd>) -> Option<Report> {
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        match (kind, descriptor) {
            ("ready", None) => {
                let (workers, driver) = rest.split_once(' ')?;
                Some(Report::Ready { workers: workers.parse().ok()?, driver: driver.to_owned() })
            }
            ("failed", None) => Some(Report::Failed { message: rest.to_owned() }),
            ("child", None) => Some(Report::Child(Box::new(Settings::decode(rest)?))),
            ("add", None) => Some(Report::Add(Box::new(Settings::decode(rest)?))),
            ("reorder", None) => Some(Report::Reorder(Box::new(Settings::decode(rest)?))),
            ("replace", None) => Some(Report::Replace(Box::new(Settings::decode(rest)?))),
            ("rename", None) => {
                let (from, to) = rest.split_once(SEPARATOR)?;
                Some(Report::Rename { from: parse_name(&words(from))?, to: parse_name(&words(to))? })
            }
            ("remove", None) => Some(Report::Remove(parse_name(&words(rest))?)),
            ("restart", None) => Some(Report::Restart(Box::new(Settings::decode(rest)?))),
            ("moved", None) => Some(Report::Moved(parse_name(&words(rest))?)),
            ("abandon", None) => Some(Report::Abandon(parse_name(&words(rest))?)),
            ("stop-child", None) => Some(Report::StopChild(parse_name(&words(rest))?)),
            ("start-child", None) => Some(Report::StartChild(parse_name(&words(rest))?)),
            ("refuses", None) => Some(Report::Refuses(parse_name(&words(rest))?)),
            ("children", None) if rest.is_empty() => Some(Report::Children),
            ("reread", None) if rest.is_empty() => Some(Report::Reread),
            ("listen", None) => Some(Report::Listen(parse_addresses(&words(rest))?)),
            ("adopted", None) => {
                let (timeout, watch) = rest.split_once(' ')?;
                let shutdown_timeout = Duration::from_millis(timeout.parse().ok()?);
                Some(Report::Adopted { shutdown_timeout, watch: watch.parse().ok()? })
            }
            ("kept", None) if rest.is_empty() => Some(Report::Kept),
            ("drained", None) if rest.is_empty() => Some(Report::Drained),
            _ => None,
        }
    }
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Stopped => "stopped",
        }
    }

    fn parse(word: &str) -> Option<State> {
        [State::Starting, State::Ready, State::Stopped].into_iter().find(|one| one.word() == word)
    }
}

/// Between parts of a message that may have spaces.
const SEPARATOR: &str = "\0";

/// Each with a space before it.
fn show_addresses(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(|address| format!(" {address}")).collect()
}

fn parse_addresses(words: &[&str]) -> Option<Vec<SocketAddr>> {
    words.iter().map(|word| word.parse().ok()).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

fn show(name: &Name) -> String {
    format!("{} {}", show_or_none(name.instance), name.upstream)
}

/// The name of an upstream may have spaces.
fn parse_name(words: &[&str]) -> Option<Name> {
    let (instance, upstream) = words.split_first()?;
    let upstream = upstream.join(" ");
    (!upstream.is_empty()).then_some(Name { upstream, instance: parse_or_none(instance)? })
}

/// A number, or what stands for none.
const NONE: &str = "-";

fn show_or_none(number: Option<impl ToString>) -> String {
    number.map_or_else(|| NONE.to_owned(), |number| number.to_string())
}

fn parse_or_none<T: FromStr>(word: &str) -> Option<Option<T>> {
    match word {
        NONE => Some(None),
        word => word.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;
    use crate::process::settings;

    /// Sends over a real socket pair; the order as text, and what its descriptor yields.
    fn carry(order: &Order<BorrowedFd<'_>>) -> (String, Option<String>) {
        let (ours, theirs) = Socket::pair().unwrap();
        ours.send(order).unwrap();
        drop(ours);
        let received: Order = theirs.receive().unwrap().unwrap();
        let text = received.text();
        let descriptor = match received {
            Order::Configuration(descriptor) => Some(descriptor),
            Order::Listener { socket, .. } => Some(socket),
            Order::Reload { sources, .. } => Some(sources),
            _ => None,
        };
        let content = descriptor.map(|descriptor| {
            let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            let mut content = String::new();
            File::from(descriptor).read_to_string(&mut content).unwrap();
            content
        });
        assert!(theirs.receive::<Order>().unwrap().is_none());
        (text, content)
    }

    #[test]
    fn orders_arrive_with_their_descriptors() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"through the pipe").unwrap();
        drop(writer);
        let listener =
            Order::Listener { address: "[::1]:8080".parse().unwrap(), worker: 3, socket: reader.as_fd() };
        let content = Some("through the pipe".to_owned());
        let child = |upstream: &str, instance| {
            let name = Name { upstream: upstream.to_owned(), instance };
            let (restarts, last_end) = (3, "killed; it wrote \"a  b\"".to_owned());
            let elsewhere = instance.map(|_| Address::Unix("/run/a b.sock".into()));
            let (state, pid) = (State::Ready, Some(77));
            Order::Child(Condition { name, state, pid, elsewhere, restarts, last_end })
        };
        let done = |failure: Option<&str>| Order::Done {
            name: Name { upstream: "app".to_owned(), instance: Some(1) },
            failure: failure.map(str::to_owned),
        };
        let cases = [
            (listener, "listener [::1]:8080 3", content),
            (Order::Configuration(reader.as_fd()), "configuration", Some(String::new())),
            (Order::Start, "start", None),
            (Order::Reload { asked: 2, sources: reader.as_fd() }, "reload 2", Some(String::new())),
            (
                Order::Bound { left: vec!["127.0.0.1:80".parse().unwrap(), "[::1]:81".parse().unwrap()] },
                "bound 127.0.0.1:80 [::1]:81",
                None,
            ),
            (Order::Bound { left: Vec::new() }, "bound", None),
            (Order::Unbound { why: "in use".to_owned() }, "unbound in use", None),
            (
                Order::Unreadable { asked: 0, why: "line 1\n line 2".to_owned() },
                "unreadable 0\0line 1\n line 2",
                None,
            ),
            (
                child("my app", Some(2)),
                "child ready 77 3 2 my app\0unix:/run/a b.sock\0killed; it wrote \"a  b\"",
                None,
            ),
            (child("app", None), "child ready 77 3 - app\0-\0killed; it wrote \"a  b\"", None),
            (done(None), "done 1 app\0", None),
            (done(Some("it is late")), "done 1 app\0it is late", None),
            (Order::Wrapped(State::Starting), "wrapped starting", None),
            (Order::ReopenLogs, "reopen-logs", None),
            (Order::Drain, "drain", None),
            (Order::Stop, "stop", None),
        ];
        for (order, text, content) in cases {
            assert_eq!(carry(&order), (text.to_owned(), content));
        }
    }

    #[test]
    fn reports_arrive_whole_and_in_order() {
        let (ours, theirs) = Socket::pair().unwrap();
        let reports = [
            Report::Ready { workers: 4, driver: "io_uring (coop_taskrun, single_issuer)".to_owned() },
            Report::Failed { message: "first line\nsecond  line ".to_owned() },
            Report::Child(Box::new(settings::tests::full())),
            Report::Children,
            Report::Add(Box::new(settings::tests::full())),
            Report::Reorder(Box::new(settings::tests::full())),
            Report::Replace(Box::new(settings::tests::full())),
            Report::Rename {
                from: settings::tests::full().name,
                to: Name { upstream: "my app".to_owned(), instance: None },
            },
            Report::Remove(settings::tests::full().name),
            Report::Restart(Box::new(settings::tests::full())),
            Report::Moved(settings::tests::full().name),
            Report::Abandon(settings::tests::full().name),
            Report::StopChild(settings::tests::full().name),
            Report::StartChild(Name { upstream: "app".to_owned(), instance: None }),
            Report::Refuses(settings::tests::full().name),
            Report::Reread,
            Report::Listen(vec!["127.0.0.1:80".parse().unwrap(), "[::1]:0".parse().unwrap()]),
            Report::Adopted { shutdown_timeout: Duration::from_millis(2500), watch: true },
            Report::Kept,
            Report::Drained,
        ];
        for report in &reports {
            theirs.send(report).unwrap();
        }
        for report in reports {
            assert_eq!(ours.receive().unwrap(), Some(report));
        }
        assert!(matches!(ours.try_receive::<Report>().unwrap(), Received::Nothing));
        drop(theirs);
        // For a moment a process that another test is just starting may have it, too.
        assert_eq!(ours.receive::<Report>().unwrap(), None);
        assert!(matches!(ours.try_receive::<Report>().unwrap(), Received::End));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let (ours, theirs) = Socket::pair().unwrap();
        let message = "ü".repeat(TEXT_MAX);
        theirs.send(&Report::Failed { message }).unwrap();
        let Some(Report::Failed { message }) = ours.receive().unwrap() else {
            panic!("another report");
        };
        assert!(message.len() > TEXT_MAX - 10);
        assert!(message.chars().all(|character| character == 'ü'));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let (ours, theirs) = Socket::pair().unwrap();
        for text in ["", "start", "listener x 1", "ready x io_uring", "drained so"] {
            let message = Report::Failed { message: text.to_owned() };
            assert_eq!(Report::parse(text, None), None, "{text}");
            theirs.send(&message).unwrap();
            assert!(ours.receive::<Order>().is_err(), "{text}");
        }
        assert!(Order::parse("listener 127.0.0.1:80 0", None).is_none());
        assert!(Order::parse("configuration", None).is_none());
    }
}
