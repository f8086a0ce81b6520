//! What of a configuration the environment and the arguments override.

use crate::config::Override;

/// What the environment and the arguments set, one a line; nothing if they set nothing.
pub fn print_overrides(overrides: &[Override]) {
    for Override { key, place, replaced } in overrides {
        match replaced {
            Some(replaced) => println!("{key} is set by {place}, not by {}", replaced.file_and_line()),
            None => println!("{key} is set by {place}"),
        }
    }
}
