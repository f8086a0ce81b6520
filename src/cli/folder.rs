//! Folders for the time of one command.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// A new directory into which nobody else can look, among the temporary ones.
///
/// # Errors
/// It cannot be made.
pub fn private(name: &str) -> io::Result<PathBuf> {
    let parent = std::env::temp_dir();
    let mut last = io::ErrorKind::AlreadyExists.into();
    for number in 0..100 {
        // One with our number may be left from a process that had it before.
        let suffix = if number == 0 { String::new() } else { format!("-{number}") };
        let path = parent.join(format!("{name}-{}{suffix}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_directory_is_private_and_new() {
        let (first, second) = (private("warpdrive-test").unwrap(), private("warpdrive-test").unwrap());
        assert_ne!(first, second);
        for directory in [first, second] {
            let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            std::fs::remove_dir(directory).unwrap();
        }
    }
}
