//! Where a command listens, as far as the kernel tells: for a word on one that does not listen
//! where it is to. Never on the way of a request.

use std::collections::HashSet;
use std::fs::{File, read_dir, read_link, read_to_string};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, getpgid};

use super::readiness::Address;

/// So much is looked at, whatever a command has started and opened.
const PROCESSES_MAX: usize = 256;
const DESCRIPTORS_MAX: usize = 4096;
const LINES_MAX: usize = 4096;

/// The addresses on which a process, what it has started and what is in its group accept
/// connections. What we may not look at is left out.
pub fn addresses(leader: Pid) -> Vec<Address> {
    let mut sockets = HashSet::new();
    for process in family(leader) {
        let entries = read_dir(of(process).join("fd")).into_iter().flatten().flatten();
        let links = entries.take(DESCRIPTORS_MAX).filter_map(|entry| read_link(entry.path()).ok());
        sockets.extend(links.filter_map(|link| inode(&link)));
    }
    let table = |name: &str| lines(of(leader).join("net").join(name));
    let mut found: Vec<Address> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|name| listeners(table(name), &sockets))
        .chain(unix_listeners(table("unix"), &sockets))
        .collect();
    found.sort_by_key(ToString::to_string);
    found.dedup();
    found
}

fn of(process: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()))
}

/// A process and all that descend from it. Orphans of its group are our own children.
fn family(leader: Pid) -> Vec<Pid> {
    let orphans = children(rustix::process::getpid());
    let mut family = vec![leader];
    family.extend(orphans.into_iter().filter(|one| *one != leader && getpgid(Some(*one)) == Ok(leader)));
    let mut next = 0;
    while next < family.len() && family.len() < PROCESSES_MAX {
        let below = children(family[next]);
        family.extend(below.into_iter().take(PROCESSES_MAX - family.len()));
        next += 1;
    }
    family
}

fn children(process: Pid) -> Vec<Pid> {
    let threads = read_dir(of(process).join("task")).into_iter().flatten().flatten();
    let lists = threads.take(PROCESSES_MAX).filter_map(|thread| {
        // It may have ended since.
        read_to_string(thread.path().join("children")).ok()
    });
    let pids = |list: String| -> Vec<Pid> {
        list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    };
    lists.flat_map(pids).collect()
}

/// The number of a socket, from the link of its descriptor.
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn lines(path: PathBuf) -> impl Iterator<Item = String> {
    let file = File::open(path).into_iter();
    file.flat_map(|file| BufReader::new(file).lines().skip(1).map_while(Result::ok).take(LINES_MAX))
}

/// Of a table of TCP sockets, in which those that listen come first, those that are ours.
fn listeners(table: impl Iterator<Item = String>, ours: &HashSet<u64>) -> Vec<Address> {
    const LISTEN: &str = "0A";
    const INODE_AT: usize = 9;
    let columns = |line: String| -> Option<(String, u64)> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let listens = *columns.get(3)? == LISTEN;
        listens.then_some(((*columns.get(1)?).to_owned(), columns.get(INODE_AT)?.parse().ok()?))
    };
    let listening = table.map_while(columns).filter(|(_, inode)| ours.contains(inode));
    listening.filter_map(|(local, _)| parse(&local)).map(Address::Tcp).collect()
}

/// `0100007F:0BB8`: words of 32 bits, each as this machine has it in memory.
fn parse(local: &str) -> Option<SocketAddr> {
    let (address, port) = local.split_once(':')?;
    let word = |at: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The same of Unix sockets that have a path.
fn unix_listeners(table: impl Iterator<Item = String>, ours: &HashSet<u64>) -> Vec<Address> {
    /// `__SO_ACCEPTCON`.
    const ACCEPTS: &str = "00010000";
    let path = |line: String| -> Option<PathBuf> {
        let mut columns = line.split_whitespace();
        let accepts = columns.nth(3)? == ACCEPTS;
        let inode: u64 = columns.nth(2)?.parse().ok()?;
        let path = columns.next()?;
        (accepts && ours.contains(&inode) && path.starts_with('/')).then(|| path.into())
    };
    table.filter_map(path).map(Address::Unix).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let cases = [
            ("0100007F:0BB8", Some("127.0.0.1:3000")),
            ("00000000:0050", Some("0.0.0.0:80")),
            ("00000000000000000000000000000000:1435", Some("[::]:5173")),
            ("00000000000000000000000001000000:1435", Some("[::1]:5173")),
            ("B80D0120000000000000000001000000:0001", Some("[2001:db8::1]:1")),
            ("0100007F", None),
            ("0100007:0BB8", None),
            ("0100007F:x", None),
            ("ü00007F:0BB8", None),
        ];
        // As it is written where the lowest byte comes first.
        for (local, expected) in cases.into_iter().filter(|_| cfg!(target_endian = "little")) {
            assert_eq!(parse(local).map(|one| one.to_string()).as_deref(), expected, "{local}");
        }
    }

    #[test]
    fn only_what_listens_and_is_ours_counts() {
        let rest = "00:00000000 00000000  1000        0";
        let line = |local: &str, state: &str, inode: u64| {
            format!("   0: {local} 00000000:0000 {state} 00000000:00000000 {rest} {inode} 1 0 100 0 0 10 0")
        };
        let table = [
            line("00000000:0BB8", "0A", 1),
            line("00000000:0BB9", "0A", 2),
            line("00000000:0BBA", "01", 3),
            // Not reached: those that listen come first.
            line("00000000:0BBB", "0A", 3),
        ];
        let found = listeners(table.into_iter(), &HashSet::from([2, 3]));
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:3001"]);
        let table = [
            "0000000000000000: 00000002 00000000 00010000 0001 01 7 /run/a.sock",
            "0000000000000000: 00000002 00000000 00000000 0001 03 8 /run/b.sock",
            "0000000000000000: 00000002 00000000 00010000 0001 01 9 @abstract",
            "0000000000000000: 00000002 00000000 00010000 0001 01 10",
            "0000000000000000: 00000002 00000000 00010000 0001 01 11 /run/c.sock",
            "",
        ];
        let found = unix_listeners(table.into_iter().map(str::to_owned), &HashSet::from([7, 8, 9, 10]));
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["unix:/run/a.sock"]);
    }

    #[test]
    fn this_process_listens_where_it_does() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = std::env::temp_dir().join(format!("warpdrive-listening-{}", std::process::id()));
        let _unix = UnixListener::bind(&path).unwrap();
        let found = addresses(rustix::process::getpid());
        std::fs::remove_file(&path).unwrap();
        for wanted in [Address::Tcp(tcp.local_addr().unwrap()), Address::Unix(path)] {
            assert!(found.contains(&wanted), "{wanted} in {found:?}");
        }
    }
}
