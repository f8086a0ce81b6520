//! What a child writes, told line by line under its name; the last lines are kept for when it
//! ends. Bounded: the length of a line, the lines of a second, the bytes of one turn.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

/// Bytes of one line that are told.
const LINE_MAX: usize = 4096;

/// Lines that may come at once, and after that in a second.
const BURST: u32 = 1000;
const RATE: u32 = 500;

/// Lines that are kept, and characters of each.
const LAST_MAX: usize = 5;
const LAST_LINE_MAX: usize = 200;

/// Read of one pipe before others have their turn.
const TURN_BYTES: usize = 64 << 10;

/// Our ends of the pipes that a child writes to.
#[derive(Debug)]
pub struct Output {
    name: String,
    pipes: Vec<Pipe>,
    allowance: Allowance,
    last: VecDeque<String>,
}

#[derive(Debug)]
struct Pipe {
    end: OwnedFd,
    lines: Lines,
}

impl Output {
    /// What is read is told under `name`; the child's standard output and error.
    ///
    /// # Errors
    /// Too many open files.
    pub fn pipes(name: String) -> io::Result<(Output, [Stdio; 2])> {
        let pipe = || -> io::Result<(Pipe, Stdio)> {
            let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            // Ours alone: programs do not expect theirs to be so.
            rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
            Ok((Pipe { end: ours, lines: Lines::default() }, Stdio::from(theirs)))
        };
        let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
        let allowance = Allowance::new(Instant::now());
        let output = Output { name, pipes: vec![stdout, stderr], allowance, last: VecDeque::new() };
        Ok((output, [out, err]))
    }

    /// What is read from now on is told under this name.
    pub fn rename(&mut self, name: String) {
        self.name = name;
    }

    /// Readable when there is something to tell.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|pipe| pipe.end.as_fd())
    }

    /// Tells what was written since.
    pub fn read(&mut self) {
        let mut pipes = std::mem::take(&mut self.pipes);
        pipes.retain_mut(|pipe| self.read_pipe(pipe));
        self.pipes = pipes;
    }

    /// Whether more may come.
    fn read_pipe(&mut self, pipe: &mut Pipe) -> bool {
        let mut bytes = [0; 8 << 10];
        for _ in 0..TURN_BYTES / bytes.len() {
            match rustix::io::read(&pipe.end, &mut bytes) {
                Ok(count @ 1..) => pipe.lines.take(&bytes[..count], |line| self.tell(line)),
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => {
                    pipe.lines.finish(|line| self.tell(line));
                    return false;
                }
            }
        }
        true
    }

    fn tell(&mut self, line: String) {
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(LAST_LINE_MAX).collect());
        let name = &self.name;
        match self.allowance.take(Instant::now()) {
            Verdict::Tell { left_out: 0 } => tracing::info!("{name}: {line}"),
            Verdict::Tell { left_out } => {
                tracing::warn!("{name} writes too much: left out {left_out} lines");
                tracing::info!("{name}: {line}");
            }
            Verdict::LeaveOut => {}
        }
    }

    /// The last lines, oldest first.
    pub fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}

/// Bytes as they come, and lines as they are told.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line, as much of it as is told.
    begun: Vec<u8>,
    /// Bytes of it that are not.
    cut: usize,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], mut tell: impl FnMut(String)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let kept = text.len().min(LINE_MAX - self.begun.len());
            self.begun.extend_from_slice(&text[..kept]);
            self.cut += text.len() - kept;
            if is_whole {
                self.end_line(&mut tell);
            }
        }
    }

    /// What there is of a line that has no end.
    fn finish(&mut self, mut tell: impl FnMut(String)) {
        if !self.begun.is_empty() {
            self.end_line(&mut tell);
        }
    }

    /// An empty line says nothing.
    fn end_line(&mut self, tell: &mut impl FnMut(String)) {
        let mut line = visible(&self.begun);
        if self.cut > 0 {
            line += &format!(" (and {} bytes more)", self.cut);
        }
        if !line.is_empty() {
            tell(line);
        }
        self.begun.clear();
        self.cut = 0;
    }
}

/// A line as it can be told without doing anything to a terminal or to other lines.
fn visible(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\t' => line.push('\t'),
            control if control.is_control() => line.extend(control.escape_default()),
            other => line.push(other),
        }
    }
    line
}

/// How many lines may be told: so many at once, and so many a second. Pure: no clock.
#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
    left_out: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// After so many that were not.
    Tell {
        left_out: u64,
    },
    LeaveOut,
}

impl Allowance {
    fn new(now: Instant) -> Allowance {
        Allowance { left: BURST, since: now, left_out: 0 }
    }

    fn take(&mut self, now: Instant) -> Verdict {
        // Once a second, so that what is left out is told once a second, too.
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            self.left = self.left.saturating_add(RATE).min(BURST);
            self.since = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Verdict::Tell { left_out: std::mem::take(&mut self.left_out) }
            }
            None => {
                self.left_out += 1;
                Verdict::LeaveOut
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        pieces.iter().for_each(|piece| lines.take(piece, |line| told.push(line)));
        lines.finish(|line| told.push(line));
        told
    }

    #[test]
    fn lines_are_told_whole_however_they_come() {
        let cases: [(&[&[u8]], &[&str]); 6] = [
            (&[b"one\ntwo\n"], &["one", "two"]),
            (&[b"o", b"ne\nt", b"wo"], &["one", "two"]),
            (&[b"\r\n\n \n", b""], &[]),
            (&[b"\ttab \r\n"], &["\ttab"]),
            (&[b"\x1b[31mred\x07\n"], &["\\u{1b}[31mred\\u{7}"]),
            (&[b"\xff\xc3", b"\xbc\n"], &["\u{fffd}ü"]),
        ];
        for (pieces, expected) in cases {
            assert_eq!(lines(pieces), expected);
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        let long = vec![b'x'; LINE_MAX + 5];
        let told = lines(&[&long, b"yz\nnext\n"]);
        assert_eq!(told, [format!("{} (and 7 bytes more)", "x".repeat(LINE_MAX)), "next".to_owned()]);
    }

    #[test]
    fn too_many_lines_are_counted() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut told = 0;
        for _ in 0..BURST + 7 {
            told += u32::from(allowance.take(start) != Verdict::LeaveOut);
        }
        assert_eq!(told, BURST);
        let later = start + Duration::from_secs(1);
        assert_eq!(allowance.take(later), Verdict::Tell { left_out: 7 });
        let more = (0..BURST).filter(|_| allowance.take(later) != Verdict::LeaveOut).count();
        assert_eq!(more, RATE as usize - 1);
    }

    #[test]
    fn what_is_written_to_the_pipes_is_kept() {
        use std::io::Write;
        let (mut output, [stdout, stderr]) = Output::pipes("app".to_owned()).unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "for i in 1 2 3 4 5 6; do echo line $i; done; printf problem >&2"])
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        child.wait().unwrap();
        output.read();
        // The pipes end when nobody has them any more, and the command above is still ours.
        output.read();
        assert!(output.last().count() <= LAST_MAX);
        assert!(output.last().any(|line| line == "line 6"), "{output:?}");
        std::io::stdout().flush().unwrap();
    }
}
