//! Writes the access log: a thread of its own, since a file, a pipe or a socket may block.
//!
//! Workers hand over whole buffers of whole lines; each is written as it is. What was handed
//! over before [`LogWriter::finish`] is written before the end, so nothing is lost at a drain.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};
use rustix::fs::OFlags;

use super::journal::Journal;
use crate::telemetry::access_log::Destination;

/// Buffers that may wait; a worker decides what it does when that many do.
const BUFFERS_MAX: usize = 64;

/// A failure that lasts is told this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// The log mode of a new file: others learn nothing of who asks for what.
const FILE_MODE: u32 = 0o640;

type Output = Box<dyn Write + Send>;

/// The running writer.
#[derive(Debug)]
pub struct LogWriter {
    sender: Sender<Vec<u8>>,
    outputs: Sender<NewOutput>,
    destination: Destination,
    /// Dropped to end the thread: a worker's sender may outlive the worker.
    open: Sender<()>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// What is written to from now on.
struct NewOutput(Output);

/// Opens the file anew; goes to whoever hears that it was moved.
#[derive(Clone, Debug)]
pub struct Reopener {
    outputs: Sender<NewOutput>,
    destination: Destination,
}

impl LogWriter {
    /// # Errors
    /// What the log goes to cannot be opened; named in the message.
    pub fn start(destination: &Destination) -> io::Result<LogWriter> {
        LogWriter::spawn(open(destination)?, destination.clone())
    }

    fn spawn(output: Output, destination: Destination) -> io::Result<LogWriter> {
        let (sender, buffers) = crossbeam_channel::bounded(BUFFERS_MAX);
        let (outputs, new_outputs) = crossbeam_channel::bounded(1);
        let (open, closed) = crossbeam_channel::bounded(0);
        let (alive, ended) = crossbeam_channel::bounded(0);
        let writer =
            Writer { output, name: name(&destination), is_torn: false, lines_lost: 0, complained: None };
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            writer.run(&buffers, &new_outputs, &closed);
            drop(alive);
        })?;
        Ok(LogWriter { sender, outputs, destination, open, ended })
    }

    /// For one worker.
    pub fn sender(&self) -> Sender<Vec<u8>> {
        self.sender.clone()
    }

    pub fn reopener(&self) -> Reopener {
        Reopener { outputs: self.outputs.clone(), destination: self.destination.clone() }
    }

    /// Waits until everything is written that was handed over, but not longer than this.
    /// `false`: it was not.
    pub fn finish(self, patience: Duration) -> bool {
        drop(self.open);
        self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Reopener {
    /// Lines that were handed over before go to the file that there was, all others to the one
    /// that has its name now, which is made if there is none. What is no file stays open.
    pub fn reopen(&self) {
        let Destination::File(path) = &self.destination else {
            return;
        };
        match open(&self.destination) {
            // A writer that has not taken the last one up yet has one that is as good.
            Ok(output) => match self.outputs.try_send(NewOutput(output)) {
                Ok(()) => tracing::info!("the access log {} is opened anew", path.display()),
                Err(_) => tracing::warn!("the access log {} is still being opened anew", path.display()),
            },
            Err(error) => tracing::error!("{error}; the file that was open stays in use"),
        }
    }
}

fn name(destination: &Destination) -> String {
    match destination {
        Destination::Stdout => "standard output".to_owned(),
        Destination::Stderr => "standard error".to_owned(),
        Destination::File(path) | Destination::Journald(path) => path.display().to_string(),
    }
}

fn open(destination: &Destination) -> io::Result<Output> {
    let opened: io::Result<Output> = match destination {
        // Without the buffer of `std::io::Stdout`, which would split ours.
        Destination::Stdout => copy(&io::stdout()),
        Destination::Stderr => copy(&io::stderr()),
        Destination::File(path) => open_file(path).map(|file| Box::new(file) as Output),
        Destination::Journald(path) => Journal::open(path).map(|journal| Box::new(journal) as Output),
    };
    opened.map_err(|error| {
        let name = name(destination);
        io::Error::other(format!("cannot open the access log {name}: {error}"))
    })
}

fn copy(stream: &impl AsFd) -> io::Result<Output> {
    Ok(Box::new(File::from(stream.as_fd().try_clone_to_owned()?)))
}

fn open_file(path: &Path) -> io::Result<File> {
    // A named pipe that nobody reads from is an error, not a wait.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).custom_flags(flags).open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

struct Writer {
    output: Output,
    name: String,
    /// The last line was not written to its end.
    is_torn: bool,
    lines_lost: usize,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self, buffers: &Receiver<Vec<u8>>, outputs: &Receiver<NewOutput>, closed: &Receiver<()>) {
        loop {
            select! {
                recv(buffers) -> buffer => match buffer {
                    Ok(buffer) => self.write(&buffer),
                    Err(_) => return,
                },
                recv(outputs) -> output => if let Ok(NewOutput(output)) = output {
                    for buffer in buffers.try_iter() {
                        self.write(&buffer);
                    }
                    self.output = output;
                    self.is_torn = false;
                },
                recv(closed) -> _ => {
                    for buffer in buffers.try_iter() {
                        self.write(&buffer);
                    }
                    return;
                }
            }
        }
    }

    fn write(&mut self, buffer: &[u8]) {
        // Whatever is written next begins on a line of its own.
        if self.is_torn && self.output.write_all(b"\n").is_ok() {
            self.is_torn = false;
        }
        let mut rest = buffer;
        while !rest.is_empty() {
            match self.output.write(rest) {
                Ok(0) => return self.lose(buffer, rest, &io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose(buffer, rest, &error),
            }
        }
    }

    /// `rest` is what could not be written of the buffer.
    fn lose(&mut self, buffer: &[u8], rest: &[u8], error: &io::Error) {
        let written = &buffer[..buffer.len() - rest.len()];
        self.is_torn |= written.last().is_some_and(|last| *last != b'\n');
        self.lines_lost += memchr::memchr_iter(b'\n', rest).count();
        if self.complained.is_none_or(|then| then.elapsed() >= COMPLAINT_INTERVAL) {
            tracing::error!(lines_lost = self.lines_lost, "cannot write to {}: {error}", self.name);
            self.complained = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Keeps what is written, but for what is refused.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.starts_with(b"refuse") {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.windows(6).position(|six| six == b"refuse").unwrap_or(bytes.len());
            self.0.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn spawn(output: impl Write + Send + 'static) -> LogWriter {
        LogWriter::spawn(Box::new(output), Destination::Stdout).unwrap()
    }

    #[test]
    fn everything_is_written_before_the_end() {
        let output = Kept::default();
        let writer = spawn(output.clone());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let sender = writer.sender();
                thread::spawn(move || {
                    for _ in 0..3 * BUFFERS_MAX {
                        sender.send(b"line\n".to_vec()).unwrap();
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        // A sender that stays changes nothing.
        let _leaked = writer.sender();
        assert!(writer.finish(PATIENCE));
        let expected = "line\n".repeat(6 * BUFFERS_MAX);
        assert_eq!(*output.0.lock().unwrap(), expected.as_bytes());
    }

    #[test]
    fn a_failure_loses_one_buffer_only() {
        let output = Kept::default();
        let writer = spawn(output.clone());
        for buffer in ["first\n", "refused\n", "torn refused\n", "last\n"] {
            writer.sender().send(buffer.into()).unwrap();
        }
        assert!(writer.finish(PATIENCE));
        let written = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written, "first\ntorn \nlast\n");
    }

    /// Takes nothing until it is let.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_takes_nothing_is_not_waited_for() {
        let (_hold, held) = crossbeam_channel::bounded(0);
        let writer = spawn(Stuck(held));
        writer.sender().send(b"line\n".to_vec()).unwrap();
        assert!(!writer.finish(Duration::ZERO));
    }

    #[test]
    fn a_file_is_appended_to_and_private() {
        let path = std::env::temp_dir().join(format!("warpdrive-log-{}", std::process::id()));
        for line in ["first\n", "second\n"] {
            let writer = LogWriter::start(&Destination::File(path.clone())).unwrap();
            writer.sender().send(line.into()).unwrap();
            assert!(writer.finish(PATIENCE));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "first\nsecond\n");
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        let error = LogWriter::start(&Destination::File("/nowhere/log".into())).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("cannot open the access log /nowhere/log: "));
    }
}
