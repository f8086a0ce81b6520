//! Inputs worth keeping: written by hand in `seeds/TARGET/`, found by fuzzing in one file,
//! `corpus/TARGET`, in which each input stands after a line with its length.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn packed(target: &str) -> PathBuf {
    root().join("corpus").join(target)
}

/// Written by hand, in the order of their names.
pub fn seeds(target: &str) -> Result<Vec<Vec<u8>>> {
    files(&root().join("seeds").join(target))
}

/// Found by fuzzing; none if nothing was.
pub fn found(target: &str) -> Result<Vec<Vec<u8>>> {
    match fs::read(packed(target)) {
        Ok(bytes) => split(&bytes).ok_or_else(|| Error::new(ErrorKind::InvalidData, "not packed inputs")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Writes everything that there is for a target into a folder, one file for each input.
pub fn unpack(target: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let inputs = [seeds(target)?, found(target)?].concat();
    for (number, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("kept-{number:04}")), input)?;
    }
    Ok(())
}

/// Keeps the inputs of a folder, the short ones first, up to so many bytes in all.
pub fn pack(target: &str, folder: &Path, bytes_max: usize) -> Result<()> {
    let mut inputs = files(folder)?;
    inputs.sort_by_key(|input| (input.len(), input.clone()));
    let mut bytes = Vec::new();
    for input in inputs {
        let line = format!("{}\n", input.len());
        if bytes.len() + line.len() + input.len() < bytes_max {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(&input);
            bytes.push(b'\n');
        }
    }
    fs::create_dir_all(root().join("corpus"))?;
    fs::write(packed(target), bytes)
}

fn files(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}

fn split(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut inputs = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let len = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
        let (input, rest) = bytes[end + 1..].split_at_checked(len)?;
        inputs.push(input.to_vec());
        bytes = rest.strip_prefix(b"\n")?;
    }
    Some(inputs)
}
