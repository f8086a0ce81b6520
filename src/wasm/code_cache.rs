//! Compiled code on disk, so that a component is compiled once and not at every start.
//!
//! To load compiled code is to run it: the library trusts it. So an entry is used only if nobody
//! else can have written it: the directory and the file belong to the user as whom we run, nobody
//! else may write to either, and no link leads there. A digest over the name and the code says that
//! it is whole, and that it is the code of this component for this engine. What is not so is passed
//! over and written anew.

#![allow(unsafe_code, reason = "loading compiled code is unsafe by nature")]

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Of the file's form: changes with it.
const MAGIC: &[u8; 16] = b"warpdrive code 1";
const DIGEST_BYTES: usize = 32;

/// Nobody else may read what the operator's programs are, either.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Others than the owner may write.
const WRITABLE: u32 = 0o022;

/// No component's code is larger.
const BYTES_MAX: u64 = 1 << 30;

/// What an entry is of: a component, compiled by one version of one engine with its settings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; DIGEST_BYTES]);

impl Key {
    pub fn new(engine: &Engine, component: &[u8]) -> Key {
        let mut engine_hash = Hasher(Sha256::new());
        std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut engine_hash);
        let mut digest = engine_hash.0;
        digest.update(component);
        Key(digest.finalize().into())
    }

    fn file_name(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        digits + ".code"
    }
}

/// All that is hashed goes into the digest.
struct Hasher(Sha256);

impl std::hash::Hasher for Hasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// A directory that is ours alone.
pub struct Cache {
    path: PathBuf,
    directory: OwnedFd,
}

impl Cache {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or others could write to it.
    pub fn open(path: &Path) -> io::Result<Cache> {
        std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let opened = File::from(directory);
        refuse_foreign(&opened)?;
        if opened.metadata()?.mode() & 0o077 != 0 {
            opened.set_permissions(Permissions::from_mode(DIRECTORY_MODE))?;
        }
        Ok(Cache { path: path.to_owned(), directory: opened.into() })
    }

    /// The code of a component, if it is there, whole and ours.
    pub fn load(&self, engine: &Engine, key: &Key) -> Option<Component> {
        let file = self.path.join(key.file_name());
        let code = match self.read(key) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("{} is not used, and will be written anew: {error}", file.display());
                return None;
            }
        };
        // SAFETY: the bytes are what `store` wrote, which had them from `Engine::precompile_component`:
        // only our own user can have changed the file, and the digest says that they are whole.
        let component = unsafe { Component::deserialize(engine, code) };
        let wrong =
            |error| tracing::warn!("{} is not used, and will be written anew: {error:#}", file.display());
        component.map_err(wrong).ok()
    }

    /// Keeps the code of a component. What is read meanwhile is the old entry or the new one.
    ///
    /// # Errors
    /// The disk is full, for example.
    pub fn store(&self, key: &Key, code: &[u8]) -> io::Result<()> {
        let (name, fresh) = (key.file_name(), format!("{}.{}.new", key.file_name(), std::process::id()));
        // One that a process of this number left behind.
        let _absent = rustix::fs::unlinkat(&self.directory, &fresh, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.directory, &fresh, flags, FILE_MODE)?);
        let written = write(&mut file, key, code);
        let kept =
            written.and_then(|()| Ok(rustix::fs::renameat(&self.directory, &fresh, &self.directory, &name)?));
        if kept.is_err() {
            let _gone = rustix::fs::unlinkat(&self.directory, &fresh, AtFlags::empty());
        }
        kept
    }

    fn read(&self, key: &Key) -> io::Result<Vec<u8>> {
        // A named pipe would keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.directory, key.file_name(), flags, Mode::empty())?;
        let mut file = File::from(file);
        refuse_foreign(&file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other("it is not a file of its own"));
        }
        if metadata.len() > BYTES_MAX {
            return Err(io::Error::other("it is too large"));
        }
        let mut header = [0; MAGIC.len() + DIGEST_BYTES];
        file.read_exact(&mut header)?;
        let mut code = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
        file.take(BYTES_MAX).read_to_end(&mut code)?;
        let (magic, digest) = header.split_at(MAGIC.len());
        if magic != MAGIC || digest != digest_of(key, &code) {
            return Err(io::Error::other("it is damaged"));
        }
        Ok(code)
    }
}

fn write(file: &mut File, key: &Key, code: &[u8]) -> io::Result<()> {
    file.write_all(MAGIC)?;
    file.write_all(&digest_of(key, code))?;
    file.write_all(code)
}

fn digest_of(key: &Key, code: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(MAGIC).chain_update(key.0).chain_update(code).finalize().into()
}

/// What belongs to somebody else, or what somebody else can write to, is not ours.
fn refuse_foreign(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if metadata.mode() & WRITABLE != 0 {
        return Err(io::Error::other("others may write to it"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "code_cache_tests.rs"]
mod tests;
