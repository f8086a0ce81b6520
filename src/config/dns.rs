//! `[dns]`.

use std::net::{IpAddr, SocketAddr};

use super::Dns;
use super::table::Table;
use super::value::{self, Wanted, wanted};

const PORT: u16 = 53;

pub fn read(mut table: Table<'_>) -> Dns {
    let servers = table.list("servers", server).unwrap_or_default();
    let dns = Dns {
        servers: servers.into_iter().map(|server| server.value).collect(),
        min_ttl: table.placed_duration("min_ttl"),
        max_ttl: table.placed_duration("max_ttl"),
    };
    table.finish(&[]);
    dns
}

/// An address, or an address and a port.
fn server(text: &str) -> Result<SocketAddr, Wanted> {
    let address: Option<IpAddr> = value::ip_address(text);
    match (address, text.parse::<SocketAddr>()) {
        (Some(address), _) => Ok(SocketAddr::new(address, PORT)),
        (None, Ok(address)) if address.port() > 0 => Ok(address),
        (None, _) => {
            let help = "such as \"10.0.0.2\", \"10.0.0.2:53\" or \"[fd00::2]:53\"";
            Err(wanted("an IP address with or without a port").with_help(help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_with_or_without_a_port() {
        let cases = [
            ("10.0.0.2", Some("10.0.0.2:53")),
            ("10.0.0.2:5353", Some("10.0.0.2:5353")),
            ("fd00::2", Some("[fd00::2]:53")),
            ("[fd00::2]", Some("[fd00::2]:53")),
            ("[fd00::2]:5353", Some("[fd00::2]:5353")),
            ("10.0.0.2:0", None),
            ("10.0.0.2:x", None),
            ("ns.example.com", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(server(text).ok().map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }
}
