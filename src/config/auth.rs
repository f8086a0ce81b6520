//! `[auth]`: the token that a route may require.

use super::diagnostic::Diagnostic;
use super::secret::Secret;
use super::table::Table;
use super::{Auth, Written};

/// Longer tokens do not fit into the smallest head that may be configured.
const TOKEN_BYTES_MAX: usize = 512;
/// Shorter ones can be guessed.
const TOKEN_BYTES_GOOD: usize = 16;

pub fn read(mut table: Table<'_>) -> Auth {
    let is_written = table.has("admin_token") || table.has("admin_token_file");
    let admin_token = table.secret("admin_token").filter(|token| is_usable(&table, "admin_token", token));
    table.finish(&[]);
    Auth { is_wrong: is_written && admin_token.is_none(), admin_token }
}

/// What a client can send as the value of a field is what can be compared with one.
pub fn is_usable(table: &Table<'_>, key: &str, token: &Written<Secret>) -> bool {
    let text = token.value.reveal();
    let wrong = match text.len() {
        0 => Some(format!("{key} must not be empty")),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some(format!("{key} must have visible ASCII characters only, and no spaces"))
        }
        bytes if bytes > TOKEN_BYTES_MAX => {
            Some(format!("{key} must have at most {TOKEN_BYTES_MAX} characters, not {bytes}"))
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        table.report().error(&token.place, wrong);
        return false;
    }
    if text.len() < TOKEN_BYTES_GOOD {
        let message = format!("{key} is shorter than {TOKEN_BYTES_GOOD} characters: it can be guessed");
        let help = "make one with `openssl rand -hex 32`";
        table.report().push(Diagnostic::warning(token.place.clone(), message).with_help(help));
    }
    true
}
