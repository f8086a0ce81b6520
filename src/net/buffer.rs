//! Byte buffers that move into the kernel and come back, and a pool of them per core.
//!
//! Hot path: no allocation while the pool has one. Each buffer keeps headroom in front of its
//! data, so that a head or a chunk size can be put there and leave with the data in one send.

use std::cell::{Cell, RefCell};

/// Free bytes in front of the data of a cleared buffer.
pub const HEADROOM: usize = 512;

/// Room behind the data that reads leave alone, for what ends a chunk or a body.
pub const TAIL: usize = 16;

/// How much a buffer holds behind its headroom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// 16 KiB: what a head and a small body need.
    Small,
    /// 72 KiB: a body that filled a small one; 64 KiB and its head fit in.
    Medium,
    /// 256 KiB: a body that filled a medium one.
    Large,
}

impl Size {
    pub const fn bytes(self) -> usize {
        match self {
            Size::Small => 16 * 1024,
            Size::Medium => 72 * 1024,
            Size::Large => 256 * 1024,
        }
    }

    pub fn next(self) -> Size {
        match self {
            Size::Small => Size::Medium,
            Size::Medium | Size::Large => Size::Large,
        }
    }

    /// How many bodies on one core may use buffers of this size at once. Beyond that they make
    /// do with smaller ones: a peer that takes nothing keeps what was read for it.
    const fn in_use_max(self) -> usize {
        match self {
            Size::Small => usize::MAX,
            Size::Medium => 256,
            Size::Large => 64,
        }
    }

    /// How many free buffers of this size one core keeps.
    const fn kept_max(self) -> usize {
        match self {
            Size::Small => 512,
            Size::Medium => 64,
            Size::Large => 8,
        }
    }
}

/// `[free | data | spare | tail]`; the data starts after at least what was put in front of it.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub fn with_size(size: Size) -> Buffer {
        let mut bytes = Vec::with_capacity(HEADROOM + size.bytes() + TAIL);
        bytes.resize(HEADROOM, 0);
        Buffer { bytes, start: HEADROOM }
    }

    /// With these bytes, and room for what ends a chunk.
    pub fn of(data: &[u8]) -> Buffer {
        let mut bytes = Vec::with_capacity(HEADROOM + data.len() + TAIL);
        bytes.resize(HEADROOM, 0);
        bytes.extend_from_slice(data);
        Buffer { bytes, start: HEADROOM }
    }

    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// How much can still be read into it.
    pub fn spare(&self) -> usize {
        (self.bytes.capacity() - TAIL).saturating_sub(self.bytes.len())
    }

    /// Takes `count` bytes off the front.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len());
    }

    /// Gives back the last `count` bytes that were taken off the front.
    pub fn unconsume(&mut self, count: usize) {
        self.start -= count;
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }

    pub fn clear(&mut self) {
        self.bytes.truncate(HEADROOM);
        self.start = HEADROOM;
    }

    /// Puts bytes in front of the data, if there is room for them.
    #[must_use]
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.start {
            return false;
        }
        let start = self.start - bytes.len();
        self.bytes[start..self.start].copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// Appends as much of `bytes` as fits without growing; returns how much that is.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.spare());
        self.bytes.extend_from_slice(&bytes[..len]);
        len
    }

    /// Appends all of `bytes`, growing if it must.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Lets a writer of heads append to the data.
    pub fn as_vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The size that it was made with; `None` if it has grown beyond.
    pub fn size(&self) -> Option<Size> {
        let capacity = self.bytes.capacity().checked_sub(HEADROOM + TAIL)?;
        [Size::Small, Size::Medium, Size::Large].into_iter().find(|size| capacity == size.bytes())
    }

    /// Makes sure that something can be read into it: moves the data to the front and, if it
    /// fills the buffer even so, doubles that, to at most `most` bytes of data and a few more.
    pub fn make_room(&mut self, most: usize) {
        if self.spare() > 0 {
            return;
        }
        if self.start > HEADROOM {
            let len = self.len();
            self.bytes.copy_within(self.start.., HEADROOM);
            self.bytes.truncate(HEADROOM + len);
            self.start = HEADROOM;
        }
        if self.spare() == 0 {
            let wanted = (2 * self.len()).min(most).max(self.len() + 1024);
            self.bytes.reserve_exact(wanted - self.len() + TAIL);
        }
    }

    /// For an operation: the bytes, where the data starts and where it ends.
    pub(super) fn into_parts(self) -> (Vec<u8>, usize) {
        (self.bytes, self.start)
    }

    pub(super) fn from_parts(bytes: Vec<u8>, start: usize) -> Buffer {
        Buffer { bytes, start }
    }
}

/// The free buffers of one core, last in first out, so that the warmest is next.
#[derive(Default)]
pub struct Buffers {
    small: RefCell<Vec<Buffer>>,
    medium: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
    /// Held by [`Room`]s: medium, large.
    in_use: [Cell<usize>; 2],
}

/// How large the buffers of one body, or of one direction of a tunnel, may be.
pub struct Room<'a> {
    buffers: &'a Buffers,
    size: Size,
}

impl<'a> Room<'a> {
    pub fn size(&self) -> Size {
        self.size
    }

    /// The next size from now on, if there are still few that have it.
    pub fn grow(&mut self) {
        let next = self.size.next();
        if next != self.size
            && let Some(room) = self.buffers.room_of(next)
        {
            *self = room;
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(in_use) = self.buffers.in_use(self.size) {
            in_use.set(in_use.get() - 1);
        }
    }
}

impl Buffers {
    /// Room of this size, or of the small one if too many have it.
    pub fn room(&self, size: Size) -> Room<'_> {
        self.room_of(size).unwrap_or(Room { buffers: self, size: Size::Small })
    }

    fn room_of(&self, size: Size) -> Option<Room<'_>> {
        if let Some(in_use) = self.in_use(size) {
            if in_use.get() >= size.in_use_max() {
                return None;
            }
            in_use.set(in_use.get() + 1);
        }
        Some(Room { buffers: self, size })
    }

    fn in_use(&self, size: Size) -> Option<&Cell<usize>> {
        match size {
            Size::Small => None,
            Size::Medium => Some(&self.in_use[0]),
            Size::Large => Some(&self.in_use[1]),
        }
    }

    pub fn take(&self, size: Size) -> Buffer {
        self.list(size).borrow_mut().pop().unwrap_or_else(|| Buffer::with_size(size))
    }

    /// Takes a buffer back; one too many, or one that has grown to an odd size, is freed.
    pub fn put(&self, mut buffer: Buffer) {
        let Some(size) = buffer.size() else { return };
        let mut list = self.list(size).borrow_mut();
        if list.len() < size.kept_max() {
            buffer.clear();
            list.push(buffer);
        }
    }

    /// Frees the buffers that are kept.
    pub fn clear(&self) {
        for list in [&self.small, &self.medium, &self.large] {
            list.take();
        }
    }

    /// Free buffers kept now.
    #[cfg(test)]
    pub fn kept(&self, size: Size) -> usize {
        self.list(size).borrow().len()
    }

    fn list(&self, size: Size) -> &RefCell<Vec<Buffer>> {
        match size {
            Size::Small => &self.small,
            Size::Medium => &self.medium,
            Size::Large => &self.large,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headroom_takes_what_is_put_in_front() {
        let mut buffer = Buffer::with_size(Size::Small);
        buffer.extend(b"body");
        assert!(buffer.prepend(b"head "));
        assert_eq!(buffer.data(), b"head body");
        assert!(!buffer.prepend(&[0; HEADROOM]));
        buffer.consume(5);
        assert!(buffer.prepend(&[b'x'; HEADROOM]));
        assert_eq!(buffer.len(), HEADROOM + 4);
    }

    #[test]
    fn room_is_made_at_the_front_before_the_buffer_grows() {
        let mut buffer = Buffer::with_size(Size::Small);
        buffer.extend(&[b'x'; Size::Small.bytes()]);
        buffer.consume(Size::Small.bytes() - 3);
        buffer.make_room(1 << 20);
        assert_eq!((buffer.data(), buffer.size()), (&b"xxx"[..], Some(Size::Small)));
        buffer.extend(&[b'y'; Size::Small.bytes() - 3]);
        buffer.make_room(1 << 20);
        assert_eq!(buffer.spare(), Size::Small.bytes());
        assert_eq!(&buffer.data()[..4], b"xxxy");
    }

    #[test]
    fn large_buffers_are_for_few_at_once() {
        let buffers = Buffers::default();
        let grown = || {
            let mut room = buffers.room(Size::Small);
            room.grow();
            room.grow();
            room
        };
        let mut rooms: Vec<Room<'_>> = (0..1000).map(|_| grown()).collect();
        let count = |rooms: &[Room<'_>], size| rooms.iter().filter(|room| room.size() == size).count();
        assert_eq!(count(&rooms, Size::Large), Size::Large.in_use_max());
        assert_eq!(count(&rooms, Size::Medium), Size::Medium.in_use_max());
        assert_eq!(buffers.room(Size::Medium).size(), Size::Small);
        rooms.truncate(1);
        assert_eq!(rooms[0].size(), Size::Large);
        assert_eq!(grown().size(), Size::Large);
        assert_eq!(buffers.room(Size::Medium).size(), Size::Medium);
        rooms.clear();
        assert_eq!(buffers.in_use.each_ref().map(Cell::get), [0, 0]);
    }

    #[test]
    fn the_pool_takes_back_only_its_own_sizes() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(Size::Small);
        buffer.extend(b"x");
        buffers.put(buffer);
        assert!(buffers.take(Size::Small).is_empty());
        let mut grown = buffers.take(Size::Small);
        grown.extend(&[0; Size::Small.bytes()]);
        grown.make_room(40_000);
        buffers.put(grown);
        assert!(buffers.small.borrow().is_empty());
    }
}
