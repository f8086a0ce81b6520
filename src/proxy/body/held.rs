//! Data of a body that was read before it can go on: the next to be given.
//!
//! Hot path: no allocation while nothing is held.

use super::{piece, put_back};
use crate::net::total::{Limit, Portion};
use crate::net::{Buffer, Buffers};

#[derive(Default)]
pub struct Held {
    pub data: Option<Buffer>,
    /// Of what all bodies that were waited for may have.
    portion: Option<Portion>,
}

impl Held {
    pub fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Buffer::len)
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_none()
    }

    /// The next piece of it, of which there may be much.
    pub fn piece(&mut self, buffers: &Buffers) -> Option<Buffer> {
        let piece = piece(&mut self.data, buffers)?;
        if self.data.is_none() {
            self.portion = None;
        }
        Some(piece)
    }

    /// Gives back the piece that was taken last.
    pub fn put_back(&mut self, piece: Buffer, buffers: &Buffers) {
        put_back(&mut self.data, piece, buffers);
    }

    /// Counts the data as it is now; false if it is too much.
    #[must_use]
    pub fn count(&mut self, limit: Limit<'_>) -> bool {
        let len = self.len();
        self.portion.get_or_insert_with(|| Portion::of(limit.total)).resize(len, limit.most)
    }

    /// Its part of the total, for who goes on holding what is given.
    pub fn take_portion(&mut self, limit: Limit<'_>) -> Portion {
        self.portion.take().unwrap_or_else(|| Portion::of(limit.total))
    }

    pub fn set_portion(&mut self, portion: Portion) {
        self.portion = Some(portion);
    }
}

impl From<Option<Buffer>> for Held {
    fn from(data: Option<Buffer>) -> Held {
        Held { data, portion: None }
    }
}
