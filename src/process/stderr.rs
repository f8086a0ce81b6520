//! Standard error for threads that must not wait: it may be a pipe that nobody reads, and then a
//! core that has something to say would serve nobody any more.
//!
//! What it does not take at once, or within the patience that it has once, is dropped; how much
//! that was is said when it takes something again.

use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;
use rustix::io::{Errno, ReadWriteFlags};

/// Where the descriptor stands, as far as there is such a place.
const HERE: u64 = u64::MAX;

/// How many lines one process could not write, and in which state it left the last.
#[derive(Debug, Default)]
struct State {
    lost: u64,
    is_torn: bool,
}

/// Takes lines, each in one call.
pub struct Impatient<F, M> {
    output: F,
    patience: Duration,
    /// The line that stands for so many others.
    missing: M,
    state: Mutex<State>,
}

impl<F: AsFd, M: Fn(u64) -> String> Impatient<F, M> {
    /// `patience` is what one line may wait after others did not have to.
    pub fn new(output: F, patience: Duration, missing: M) -> Impatient<F, M> {
        Impatient { output, patience, missing, state: Mutex::default() }
    }

    fn put(&self, line: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lost > 0 {
            let end = if state.is_torn { "\n" } else { "" };
            let said = format!("{end}{}", (self.missing)(state.lost));
            if !self.write(said.as_bytes(), Duration::ZERO, &mut state) {
                state.lost += 1;
                return;
            }
            state.lost = 0;
        }
        if !self.write(line, self.patience, &mut state) {
            state.lost = 1;
        }
    }

    /// Whether all of it was taken.
    fn write(&self, mut rest: &[u8], patience: Duration, state: &mut State) -> bool {
        while !rest.is_empty() {
            match self.write_now(rest) {
                Ok(count) => {
                    state.is_torn = rest[..count].last().is_some_and(|last| *last != b'\n');
                    rest = &rest[count..];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.takes_more_within(patience) => {}
                // Nobody is left who could be told.
                Err(_) => return false,
            }
        }
        true
    }

    /// What can be written without waiting, by the kernel's word where it gives it.
    fn write_now(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match rustix::io::pwritev2(&self.output, &[IoSlice::new(bytes)], HERE, ReadWriteFlags::NOWAIT) {
            // A disk is waited for.
            Err(Errno::AGAIN) if self.is_file() => rustix::io::write(&self.output, bytes),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::SPIPE) => {
                match self.takes_more_within(Duration::ZERO) {
                    true => rustix::io::write(&self.output, bytes),
                    false => Err(Errno::AGAIN),
                }
            }
            written => written,
        }
    }

    fn is_file(&self) -> bool {
        let kind = rustix::fs::fstat(&self.output).map(|stat| FileType::from_raw_mode(stat.st_mode));
        kind.is_ok_and(FileType::is_file)
    }

    fn takes_more_within(&self, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).unwrap_or_default();
        let mut sources = [PollFd::new(&self.output, PollFlags::OUT)];
        let is_ready = rustix::event::poll(&mut sources, Some(&timeout)).is_ok_and(|count| count > 0);
        is_ready && !sources[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }
}

impl<F: AsFd, M: Fn(u64) -> String> Write for &Impatient<F, M> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};

    use super::*;

    fn missing(count: u64) -> String {
        format!("{count} are missing\n")
    }

    /// All that comes until the other end is closed.
    fn rest(mut reader: PipeReader) -> String {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let output = Impatient::new(writer, Duration::from_millis(1), missing);
        let line = format!("{}\n", "x".repeat(999));
        // More than a pipe holds.
        for _ in 0..200 {
            (&output).write_all(line.as_bytes()).unwrap();
        }
        let mut begun = vec![0; 32 << 10];
        reader.read_exact(&mut begun).unwrap();
        (&output).write_all(b"after\n").unwrap();
        drop(output);
        let text = String::from_utf8(begun).unwrap() + &rest(reader);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.last(), Some(&"after"), "{text}");
        let missing = lines.iter().filter_map(|line| line.strip_suffix(" are missing"));
        let missing: usize = missing.map(|count| count.parse::<usize>().unwrap()).sum();
        let whole = lines.iter().filter(|line| line.len() == 999).count();
        assert_eq!(missing + whole, 200, "{text}");
        assert!(missing > 100, "{missing}");
    }

    #[test]
    fn what_is_taken_in_time_is_not_dropped() {
        let (reader, writer) = std::io::pipe().unwrap();
        let output = Impatient::new(writer, Duration::from_secs(10), missing);
        let reading = std::thread::spawn(move || rest(reader));
        let line = format!("{}\n", "x".repeat(9_999));
        for _ in 0..100 {
            (&output).write_all(line.as_bytes()).unwrap();
        }
        drop(output);
        assert!(reading.join().unwrap() == line.repeat(100), "all of it");
    }

    #[test]
    fn a_file_takes_everything() {
        let path = std::env::temp_dir().join(format!("warpdrive-stderr-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        let output = Impatient::new(file, Duration::ZERO, missing);
        for _ in 0..1000 {
            (&output).write_all(b"line\n").unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\n".repeat(1000));
        std::fs::remove_file(path).unwrap();
    }
}
