//! A component that answers `/user/{id}` with the user's number and a greeting, as JSON.
//!
//! What the pattern has captured comes in the field `X-Path-Parameters`, as in a query. The variable
//! `GREETING` is the operator's. The instance counts its requests: it lives as long as `reuse` says.

#[cfg(target_family = "wasm")]
mod guest;

/// The value of `name` in what a pattern has captured. An id has no characters that are encoded.
pub fn parameter<'a>(captured: &'a str, name: &str) -> Option<&'a str> {
    captured.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The answer about a user.
pub fn body(id: u64, greeting: &str, requests: u32) -> String {
    let greeting: String =
        greeting.chars().filter(|one| !one.is_control() && !"\"\\".contains(*one)).collect();
    format!("{{\"greeting\":\"{greeting}, user {id}\",\"id\":{id},\"requests\":{requests}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_whole_name() {
        assert_eq!(parameter("id=42", "id"), Some("42"));
        assert_eq!(parameter("uid=1&id=2", "id"), Some("2"));
        assert_eq!(parameter("ids=1", "id"), None);
        assert_eq!(parameter("", "id"), None);
    }

    #[test]
    fn the_greeting_cannot_break_out_of_its_text() {
        assert_eq!(
            body(7, "hi \"there\"\\\n", 3),
            "{\"greeting\":\"hi there, user 7\",\"id\":7,\"requests\":3}\n"
        );
    }
}
