//! `[admin]`: where operators and their programs reach the running process.

use std::net::SocketAddr;

use super::table::Table;
use super::value::{Wanted, wanted};
use super::{Admin, auth, upstream};

pub fn read(mut table: Table<'_>) -> Admin {
    let socket = table.parsed("socket", upstream::socket_path).map(|written| written.value);
    let listen = table.parsed("listen", address);
    let is_written = table.has("token") || table.has("token_file");
    let token = table.secret("token").filter(|token| auth::is_usable(&table, "token", token));
    table.finish(&[]);
    Admin { socket, listen, is_wrong: is_written && token.is_none(), token }
}

fn address(text: &str) -> Result<SocketAddr, Wanted> {
    text.parse().map_err(|_| wanted("an IP address and a port").with_help("such as \"127.0.0.1:9180\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port() {
        let cases = [
            ("127.0.0.1:9180", true),
            ("[::1]:0", true),
            ("127.0.0.1", false),
            (":9180", false),
            ("localhost:9180", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(address(text).is_ok(), expected, "{text}");
        }
    }
}
