//! A secret in a file of its own.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Written;
use super::diagnostic::Diagnostic;
use super::include;
use super::report::SecretFile;

/// No secret is longer.
const BYTES_MAX: u64 = 64 << 10;

/// Others than its owner and its group may read it.
const READABLE_FOR_ALL: u32 = 0o004;

/// Reads it without the line's end that editors leave; the diagnostic is a warning.
///
/// # Errors
/// It cannot be read, is too large, or is not UTF-8.
pub fn read(path: &Written<String>) -> Result<(SecretFile, Option<Diagnostic>), Diagnostic> {
    let name = &path.value;
    let wrong = |wrong: String| Diagnostic::error(path.place.clone(), format!("{name}: {wrong}"));
    let mut text =
        include::read_text(Path::new(name), BYTES_MAX, "the file is larger than 64 KiB").map_err(wrong)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    let is_open = |metadata: Metadata| metadata.mode() & READABLE_FOR_ALL != 0;
    let doubt = Path::new(name).metadata().is_ok_and(is_open).then(|| {
        let message = format!("{name} holds a secret, and every user of this machine may read it");
        Diagnostic::warning(path.place.clone(), message).with_help(format!("chmod o-r {name}"))
    });
    Ok((SecretFile { path: name.clone(), text }, doubt))
}
