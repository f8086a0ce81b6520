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
    let admin_token = table.secret("admin_token").filter(|token| is_usable(&table, token));
    table.finish(&[]);
    Auth { is_wrong: is_written && admin_token.is_none(), admin_token }
}

/// What a client can send as the value of a field is what can be compared with one.
fn is_usable(table: &Table<'_>, token: &Written<Secret>) -> bool {
    let text = token.value.reveal();
    let wrong = match text.len() {
        0 => Some("admin_token must not be empty".to_owned()),
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Some("admin_token must have visible ASCII characters only, and no spaces".to_owned())
        }
        bytes if bytes > TOKEN_BYTES_MAX => {
            Some(format!("admin_token must have at most {TOKEN_BYTES_MAX} characters, not {bytes}"))
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        table.report().error(&token.place, wrong);
        return false;
    }
    if text.len() < TOKEN_BYTES_GOOD {
        let message = format!("admin_token is shorter than {TOKEN_BYTES_GOOD} characters: it can be guessed");
        let help = "make one with `openssl rand -hex 32`";
        table.report().push(Diagnostic::warning(token.place.clone(), message).with_help(help));
    }
    true
}
