//! Lines for journald, by its native protocol: an entry each, with the line as its message.
//!
//! An entry is a datagram of fields; one that is too large for that is a file in memory, whose
//! descriptor is sent instead (systemd, "Native Journal Protocol").

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

/// The fields before the message: informational, and whose it is.
const FIELDS: &[u8] = b"PRIORITY=6\nSYSLOG_IDENTIFIER=warpdrive\nWARPDRIVE_LOG=access\nMESSAGE=";

/// Where journald listens.
pub struct Journal {
    socket: OwnedFd,
    /// Not connected: journald may be started again, and then has a new socket there.
    address: SocketAddrUnix,
    entry: Vec<u8>,
}

impl Journal {
    /// # Errors
    /// There is nothing at that path.
    pub fn open(path: &Path) -> io::Result<Journal> {
        let address = SocketAddrUnix::new(path)?;
        std::fs::metadata(path)?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Journal { socket, address, entry: Vec::new() })
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.entry.clear();
        self.entry.extend_from_slice(FIELDS);
        self.entry.extend_from_slice(line);
        self.entry.push(b'\n');
        loop {
            match rustix::net::sendto(&self.socket, &self.entry, SendFlags::NOSIGNAL, &self.address) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::MSGSIZE | Errno::NOBUFS) => return self.send_as_file(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send_as_file(&self) -> io::Result<()> {
        let file = rustix::fs::memfd_create("access-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = std::fs::File::from(file);
        file.write_all(&self.entry)?;
        // journald reads only what nobody can change any more.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
        let nothing = [IoSlice::new(&[])];
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg_addr(&self.socket, &self.address, &nothing, &mut beside, flags)?;
        Ok(())
    }
}

impl Write for Journal {
    /// Takes whole lines. If it fails, the first of them was not sent.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let end = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
        // An empty line would be an entry without a message.
        if end > 0 {
            self.send(&lines[..end])?;
        }
        Ok(lines.len().min(end + 1))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn every_line_is_an_entry() {
        let path = std::env::temp_dir().join(format!("warpdrive-journal-{}", std::process::id()));
        let _not_there = std::fs::remove_file(&path);
        assert!(Journal::open(&path).is_err());
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        journal.write_all(b"first\n\nsecond\n").unwrap();
        let mut buffer = [0; 1024];
        for line in ["first", "second"] {
            let count = socket.recv(&mut buffer).unwrap();
            let entry = std::str::from_utf8(&buffer[..count]).unwrap();
            let expected =
                format!("PRIORITY=6\nSYSLOG_IDENTIFIER=warpdrive\nWARPDRIVE_LOG=access\nMESSAGE={line}\n");
            assert_eq!(entry, expected);
        }
        drop(socket);
        std::fs::remove_file(&path).unwrap();
        let socket = UnixDatagram::bind(&path).unwrap();
        journal.write_all(b"after its return\n").unwrap();
        assert!(socket.recv(&mut buffer).unwrap() > 0);
        std::fs::remove_file(&path).unwrap();
    }
}
