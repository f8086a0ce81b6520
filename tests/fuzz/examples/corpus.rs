//! `corpus unpack TARGET FOLDER` and `corpus pack TARGET FOLDER`: between one file of inputs and
//! the folder that libFuzzer works on. `corpus try TARGET FILE`: one input, without libFuzzer.

use std::io::{Error, Result};
use std::path::Path;

/// What is kept of one target, in bytes.
const BYTES_MAX: usize = 300 * 1000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["unpack", target, folder] => warpdrive_fuzz::corpus::unpack(target, Path::new(folder)),
        ["pack", target, folder] => warpdrive_fuzz::corpus::pack(target, Path::new(folder), BYTES_MAX),
        ["try", target, file] => {
            let found = warpdrive_fuzz::TARGETS.iter().find(|(name, _)| *name == target);
            let (_, check) = found.ok_or_else(|| Error::other("no such target"))?;
            check(&std::fs::read(file)?);
            Ok(())
        }
        _ => Err(Error::other("usage: corpus unpack|pack TARGET FOLDER, corpus try TARGET FILE")),
    }
}
