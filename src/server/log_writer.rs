//! Writes the access log: a thread of its own, since a file or a pipe may block.
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

use crate::telemetry::access_log::Destination;

/// Buffers that may wait; a worker decides what it does when that many do.
const BUFFERS_MAX: usize = 64;

/// A failure that lasts is told this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// The log mode of a new file: others learn nothing of who asks for what.
const FILE_MODE: u32 = 0o640;

/// The running writer.
#[derive(Debug)]
pub struct LogWriter {
    sender: Sender<Vec<u8>>,
    /// Dropped to end the thread: a worker's sender may outlive the worker.
    open: Sender<()>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl LogWriter {
    /// # Errors
    /// The file cannot be opened for appending; named in the message.
    pub fn start(destination: &Destination) -> io::Result<LogWriter> {
        match destination {
            Destination::Stdout => {
                // Without the buffer of `std::io::Stdout`, which would split ours.
                let stdout = io::stdout().as_fd().try_clone_to_owned()?;
                LogWriter::spawn(File::from(stdout), "standard output".to_owned())
            }
            Destination::File(path) => {
                let name = path.display().to_string();
                let file = open(path).map_err(|error| {
                    io::Error::other(format!("cannot open the access log {name}: {error}"))
                })?;
                LogWriter::spawn(file, name)
            }
        }
    }

    fn spawn(output: impl Write + Send + 'static, name: String) -> io::Result<LogWriter> {
        let (sender, buffers) = crossbeam_channel::bounded(BUFFERS_MAX);
        let (open, closed) = crossbeam_channel::bounded(0);
        let (alive, ended) = crossbeam_channel::bounded(0);
        let writer = Writer { output, name, lost: 0, complained: None };
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            writer.run(&buffers, &closed);
            drop(alive);
        })?;
        Ok(LogWriter { sender, open, ended })
    }

    /// For one worker.
    pub fn sender(&self) -> Sender<Vec<u8>> {
        self.sender.clone()
    }

    /// Waits until everything is written that was handed over, but not longer than this.
    /// `false`: it was not.
    pub fn finish(self, patience: Duration) -> bool {
        drop(self.open);
        self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

struct Writer<W> {
    output: W,
    name: String,
    lost: u64,
    complained: Option<Instant>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, buffers: &Receiver<Vec<u8>>, closed: &Receiver<()>) {
        loop {
            select! {
                recv(buffers) -> buffer => match buffer {
                    Ok(buffer) => self.write(&buffer),
                    Err(_) => return,
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
        let Err(error) = self.output.write_all(buffer) else {
            return;
        };
        self.lost += 1;
        if self.complained.is_none_or(|then| then.elapsed() >= COMPLAINT_INTERVAL) {
            tracing::error!(buffers_lost = self.lost, "cannot write to {}: {error}", self.name);
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
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.starts_with(b"refuse") {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_written_before_the_end() {
        let output = Output::default();
        let writer = LogWriter::spawn(output.clone(), "test".to_owned()).unwrap();
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
        let output = Output::default();
        let writer = LogWriter::spawn(output.clone(), "test".to_owned()).unwrap();
        for buffer in ["first\n", "refused\n", "last\n"] {
            writer.sender().send(buffer.into()).unwrap();
        }
        assert!(writer.finish(PATIENCE));
        assert_eq!(*output.0.lock().unwrap(), b"first\nlast\n");
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
        let writer = LogWriter::spawn(Stuck(held), "test".to_owned()).unwrap();
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
