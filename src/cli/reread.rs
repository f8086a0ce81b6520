//! The files of a configuration while it runs: read again, and looked at.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;

use crate::config::{Colours, Diagnostic, Sources, refusal};
use crate::{master, plan};

/// What was read last, which says where to look.
pub struct Files(Sources);

impl Files {
    pub fn new(sources: Sources) -> Files {
        Files(sources)
    }
}

impl master::Origin for Files {
    fn read(&mut self) -> Result<Vec<u8>, String> {
        self.0 = self.0.reread().map_err(|unreadable| refusal(&[unreadable], Colours::Off))?;
        let found = &self.0.found;
        // What is wrong with files is not part of what is handed on: it is told here, with the rest.
        if found.iter().any(Diagnostic::is_error) {
            let mistakes = plan::load(&self.0).err().unwrap_or_default();
            return Err(refusal(&mistakes, Colours::Off));
        }
        found.iter().for_each(|doubt| tracing::warn!("{doubt}"));
        Ok(self.0.encode())
    }

    /// Whatever replaces a file, or a link on the way to it, has another number or time.
    fn stamp(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for place in self.0.places() {
            let found = std::fs::metadata(place).ok();
            let facts = found.map(|one| (one.dev(), one.ino(), one.size(), one.mtime(), one.mtime_nsec()));
            facts.hash(&mut hasher);
        }
        hasher.finish()
    }
}
