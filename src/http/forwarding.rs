//! What a proxy changes in a head that it passes on.

use std::net::IpAddr;

/// Whose forwarding fields are believed.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub trusted: Vec<Network>,
    /// Keep and extend what a trusted peer sent, instead of replacing it.
    pub keep_received: bool,
}

/// An address prefix, as in `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub bits: u8,
}
