//! What `master` and the data process say to each other: one message a packet, descriptors
//! beside it.
//!
//! Both ends are the same binary, but after a replacement of the binary not the same version:
//! the text of a message is kept plain, and what is not understood is an error.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};

use super::readiness::Address;
use super::settings::{Name, Settings};

/// The longest text of a message, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// What somebody who does not read is waited for.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// What `master` tells the data process. `Fd` is borrowed when sent, owned when received.
#[derive(Debug)]
pub enum Order<Fd = OwnedFd> {
    /// A file in memory with the encoded sources.
    Configuration(Fd),
    /// A listening socket for one worker.
    Listener { address: SocketAddr, worker: usize, socket: Fd },
    /// That was everything.
    Start,
    /// What has become of a child.
    Child(Condition),
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

/// What can be sent.
pub trait Outgoing {
    fn text(&self) -> String;
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// What can be received.
pub trait Incoming: Sized {
    fn parse(text: &str, descriptor: Option<OwnedFd>) -> Option<Self>;
}

/// What came of a look for a message.
#[derive(Debug)]
pub enum Received<T> {
    Message(T),
    /// Nothing now.
    Nothing,
    /// The other end is closed.
    End,
}

/// One end of the socket pair.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Both ends. What is sent on one end fails after 5 s if the other does not read.
    ///
    /// # Errors
    /// Too many open files.
    pub fn pair() -> io::Result<(Socket, Socket)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for socket in [&ours, &theirs] {
            sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(SEND_TIMEOUT))?;
        }
        Ok((Socket(ours), Socket(theirs)))
    }

    /// Takes descriptor 0 over, and leaves `/dev/null` in its place.
    ///
    /// # Errors
    /// Descriptor 0 is not such a socket.
    pub fn take_stdin() -> io::Result<Socket> {
        let stdin = rustix::stdio::stdin();
        if sockopt::socket_type(stdin)? != SocketType::SEQPACKET {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let socket = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        Ok(Socket(socket))
    }

    /// # Errors
    /// The other end is closed, or has not read for 5 s.
    pub fn send(&self, message: &impl Outgoing) -> io::Result<()> {
        let text = message.text();
        let text = &text[..text.floor_char_boundary(TEXT_MAX)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let descriptor = message.descriptor();
        if let Some(descriptor) = &descriptor {
            beside.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        }
        let packet = [IoSlice::new(text.as_bytes())];
        loop {
            match rustix::net::sendmsg(&self.0, &packet, &mut beside, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result.map(|_| ())?),
            }
        }
    }

    /// Waits for a message; `None` when the other end is closed.
    ///
    /// # Errors
    /// What came is not a message.
    pub fn receive<T: Incoming>(&self) -> io::Result<Option<T>> {
        loop {
            match self.receive_with(RecvFlags::empty())? {
                Received::Message(message) => return Ok(Some(message)),
                Received::End => return Ok(None),
                Received::Nothing => {}
            }
        }
    }

    /// A message, if there is one.
    ///
    /// # Errors
    /// What came is not a message.
    pub fn try_receive<T: Incoming>(&self) -> io::Result<Received<T>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with<T: Incoming>(&self, flags: RecvFlags) -> io::Result<Received<T>> {
        let mut text = [0; TEXT_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut text)],
            &mut beside,
            flags | RecvFlags::CMSG_CLOEXEC,
        );
        let received = match received {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                return Ok(Received::Nothing);
            }
            // What was unread at the other end when it closed.
            Err(rustix::io::Errno::CONNRESET) => return Ok(Received::End),
            result => result?,
        };
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Ok(Received::End);
        }
        let is_cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        let text = std::str::from_utf8(&text[..received.bytes]).ok();
        text.filter(|_| !is_cut)
            .and_then(|text| T::parse(text, descriptors.pop()))
            .map(Received::Message)
            .ok_or_else(|| io::Error::other("a message that is not understood"))
    }

    /// For the standard input of a process to start.
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl<Fd: AsFd> Outgoing for Order<Fd> {
    fn text(&self) -> String {
        match self {
            Order::Configuration(_) => "configuration".to_owned(),
            Order::Listener { address, worker, .. } => format!("listener {address} {worker}"),
            Order::Start => "start".to_owned(),
            Order::Child(condition) => {
                let Condition { name, state, pid, elsewhere, restarts, last_end } = condition;
                let (pid, elsewhere) = (show_or_none(*pid), show_or_none(elsewhere.as_ref()));
                let first = format!("child {} {pid} {restarts} {}", state.word(), show(name));
                [first, elsewhere, last_end.clone()].join(SEPARATOR)
            }
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
            Order::Start | Order::Child(_) | Order::Done { .. } => None,
            Order::ReopenLogs | Order::Drain | Order::Stop => None,
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
            (["drain"], None) => Some(Order::Drain),
            (["stop"], None) => Some(Order::Stop),
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
            Report::Restart(settings) => format!("restart {}", settings.encode()),
            Report::Moved(name) => format!("moved {}", show(name)),
            Report::Abandon(name) => format!("abandon {}", show(name)),
            Report::StopChild(name) => format!("stop-child {}", show(name)),
            Report::StartChild(name) => format!("start-child {}", show(name)),
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
            ("restart", None) => Some(Report::Restart(Box::new(Settings::decode(rest)?))),
            ("moved", None) => Some(Report::Moved(parse_name(&words(rest))?)),
            ("abandon", None) => Some(Report::Abandon(parse_name(&words(rest))?)),
            ("stop-child", None) => Some(Report::StopChild(parse_name(&words(rest))?)),
            ("start-child", None) => Some(Report::StartChild(parse_name(&words(rest))?)),
            ("children", None) if rest.is_empty() => Some(Report::Children),
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
            (
                child("my app", Some(2)),
                "child ready 77 3 2 my app\0unix:/run/a b.sock\0killed; it wrote \"a  b\"",
                None,
            ),
            (child("app", None), "child ready 77 3 - app\0-\0killed; it wrote \"a  b\"", None),
            (done(None), "done 1 app\0", None),
            (done(Some("it is late")), "done 1 app\0it is late", None),
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
            Report::Restart(Box::new(settings::tests::full())),
            Report::Moved(settings::tests::full().name),
            Report::Abandon(settings::tests::full().name),
            Report::StopChild(settings::tests::full().name),
            Report::StartChild(Name { upstream: "app".to_owned(), instance: None }),
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
