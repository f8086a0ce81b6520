//! Users of this system, by name.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What one entry of the user database may take, in bytes.
const ENTRY_MAX: usize = 64 << 10;

/// Groups that one user is in.
const GROUPS_MAX: usize = 1024;

/// A user as a process needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups that the user is in.
    pub groups: Vec<u32>,
    pub home: PathBuf,
}

impl User {
    /// Whether a process of ours may become this user.
    pub fn is_within_reach(&self) -> bool {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        uid.is_root() || (uid.as_raw(), gid.as_raw()) == (self.uid, self.gid)
    }
}

/// The user with this name; `None` if there is none.
///
/// # Errors
/// The user database cannot be read.
pub fn find(name: &str) -> io::Result<Option<User>> {
    let Ok(text) = CString::new(name) else {
        return Ok(None);
    };
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut space = vec![0 as libc::c_char; ENTRY_MAX];
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to memory of ours that outlives the call, `space` with its length.
    let code = unsafe {
        libc::getpwnam_r(text.as_ptr(), entry.as_mut_ptr(), space.as_mut_ptr(), space.len(), &mut found)
    };
    if found.is_null() {
        return match code {
            // Not finding it may be said in each of these ways (getpwnam_r(3)).
            0 | libc::ENOENT | libc::ESRCH => Ok(None),
            code => Err(io::Error::from_raw_os_error(code)),
        };
    }
    // SAFETY: the call has found the user, so it has written the entry.
    let entry = unsafe { entry.assume_init() };
    // SAFETY: a found entry has a home, which is a C string in `space`, which lives on.
    let home = unsafe { CStr::from_ptr(entry.pw_dir) };
    Ok(Some(User {
        name: name.to_owned(),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        groups: groups(&text, entry.pw_gid),
        home: PathBuf::from(OsStr::from_bytes(home.to_bytes())),
    }))
}

fn groups(name: &CStr, gid: u32) -> Vec<u32> {
    let mut groups = vec![0; GROUPS_MAX];
    let mut count = libc::c_int::try_from(GROUPS_MAX).unwrap_or(libc::c_int::MAX);
    // SAFETY: `groups` has room for `count` of them, which the call does not exceed.
    let filled = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
    let count = if filled < 0 { GROUPS_MAX } else { usize::try_from(count).unwrap_or(0) };
    groups.truncate(count);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_everywhere_and_others_are_not() {
        let root = find("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert!(root.home.is_absolute());
        assert_eq!(find("no-such-user-here").unwrap(), None);
        assert_eq!(find("with\0nul").unwrap(), None);
    }
}
