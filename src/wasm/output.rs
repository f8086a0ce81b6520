//! What a guest writes to its standard output and error: lines in our log, under the name of the
//! component and the number of the instance. Bounded: bytes of a line, bytes of a request, lines and
//! bytes of a second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamResult};

use super::throttle::{LINE_MAX, Throttle};

/// What a guest may write at once.
const WRITE_MAX: usize = 64 << 10;

/// One of the two streams of an instance, whoever holds it.
#[derive(Clone)]
pub struct Output(Arc<Mutex<Lines>>);

struct Lines {
    /// `component/core.number`.
    name: Arc<str>,
    /// That of all instances of the component on the core.
    throttle: Arc<Throttle>,
    /// The beginning of a line, as much of it as is told.
    begun: Vec<u8>,
    /// Bytes of it that are not.
    cut: usize,
    /// Bytes that the request at hand may still write.
    left: u64,
    is_silenced: bool,
}

impl Output {
    pub fn new(name: Arc<str>, throttle: Arc<Throttle>) -> Output {
        let lines = Lines { name, throttle, begun: Vec::new(), cut: 0, left: 0, is_silenced: false };
        Output(Arc::new(Mutex::new(lines)))
    }

    /// What the next request may write.
    pub fn refill(&self, bytes: u64) {
        let mut lines = self.lines();
        lines.left = bytes;
        lines.is_silenced = false;
    }

    /// Tells what has no end yet: the request is over.
    pub fn finish(&self) {
        let mut lines = self.lines();
        if !lines.begun.is_empty() || lines.cut > 0 {
            lines.tell();
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // What a panic left behind is text, and still as good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= kept as u64;
        for piece in bytes[..kept].split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let told = text.len().min(LINE_MAX - self.begun.len());
            self.begun.extend_from_slice(&text[..told]);
            self.cut += text.len() - told;
            if is_whole {
                self.tell();
            }
        }
        if kept < bytes.len() {
            self.throttle.note_dropped(bytes.len() - kept);
            // There may be many such requests.
            if !std::mem::replace(&mut self.is_silenced, true) && self.throttle.permit(0, Instant::now()) {
                let name = &self.name;
                tracing::warn!("{name} writes too much: the rest of this request's output is left out");
            }
        }
    }

    /// An empty line says nothing.
    fn tell(&mut self) {
        let is_empty = self.begun.trim_ascii_end().is_empty() && self.cut == 0;
        if !is_empty && self.throttle.permit(self.begun.len() + self.cut, Instant::now()) {
            let mut line = visible(&self.begun);
            if self.cut > 0 {
                line += &format!(" (and {} bytes more)", self.cut);
            }
            tracing::info!("{}: {line}", self.name);
        }
        self.begun.clear();
        self.cut = 0;
    }
}

/// A line as it can be told without doing anything to a terminal or to other lines.
pub fn visible(bytes: &[u8]) -> String {
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

/// The standard output and error of a store.
pub struct Stdio<'a> {
    pub table: &'a mut ResourceTable,
    pub output: &'a Output,
}

/// [`Stdio`], as a linker names it.
struct HasStdio;

impl HasData for HasStdio {
    type Data<'a> = Stdio<'a>;
}

/// # Errors
/// They are linked already, and that may not be shadowed.
pub fn link<T: 'static>(linker: &mut Linker<T>, of: fn(&mut T) -> Stdio<'_>) -> Result<()> {
    stdout::add_to_linker::<T, HasStdio>(linker, of)?;
    stderr::add_to_linker::<T, HasStdio>(linker, of)
}

impl Stdio<'_> {
    fn stream(&mut self) -> Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(self.output.clone());
        Ok(self.table.push(stream)?)
    }
}

impl stdout::Host for Stdio<'_> {
    fn get_stdout(&mut self) -> Result<Resource<DynOutputStream>> {
        self.stream()
    }
}

impl stderr::Host for Stdio<'_> {
    fn get_stderr(&mut self) -> Result<Resource<DynOutputStream>> {
        self.stream()
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lines().take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::throttle::{Bounds, Dropped};

    fn output(bounds: Bounds) -> Output {
        Output::new("c/0.0".into(), Arc::new(Throttle::new(bounds)))
    }

    #[test]
    fn lines_can_do_nothing_to_a_terminal() {
        assert_eq!(visible(b"a\x1b[31mb\tc\r"), "a\\u{1b}[31mb\tc");
        assert_eq!(visible(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn a_request_may_write_so_much_and_the_next_one_again() {
        let output = output(Bounds { lines: 100, bytes: 1 << 20 });
        output.refill(10);
        let mut stream = output.clone();
        stream.write(Bytes::from_static(b"0123456789abc")).unwrap();
        assert_eq!(output.lines().begun, b"0123456789");
        assert!(output.lines().is_silenced);
        output.finish();
        assert!(output.lines().begun.is_empty());
        output.refill(10);
        stream.write(Bytes::from_static(b"more\n")).unwrap();
        let lines = output.lines();
        assert_eq!((lines.left, lines.is_silenced), (5, false));
    }

    #[test]
    fn what_is_not_told_is_counted_whatever_the_reason() {
        let output = output(Bounds { lines: 0, bytes: 1 << 20 });
        output.refill(12);
        output.clone().write(Bytes::from_static(b"one\n\n \ntwo\nthree\n")).unwrap();
        output.finish();
        // "one", "two" and the beginning of "three"; of the request's own bound, the rest of that, and
        // the word that there was more.
        let dropped = output.lines().throttle.dropped();
        assert_eq!(dropped, Dropped { lines: 4, bytes: 3 + 3 + 1 + 5 });
    }

    #[test]
    fn a_line_is_told_in_part() {
        let output = output(Bounds { lines: 100, bytes: 1 << 20 });
        output.refill(1 << 20);
        output.clone().write(Bytes::from(vec![b'x'; LINE_MAX + 7])).unwrap();
        let lines = output.lines();
        assert_eq!((lines.begun.len(), lines.cut), (LINE_MAX, 7));
    }
}
