//! A component that sends the body of a request back in capitals, as it comes: nothing waits for the
//! rest, and what the client does not read it does not take.

#[cfg(target_family = "wasm")]
mod guest;

/// Only letters of ASCII: a chunk may end within any other.
pub fn capitals(mut chunk: Vec<u8>) -> Vec<u8> {
    chunk.make_ascii_uppercase();
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_ascii_become_capitals_and_nothing_else_changes() {
        assert_eq!(capitals("aé\n1z".into()), "Aé\n1Z".as_bytes());
    }
}
