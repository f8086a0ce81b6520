//! The listeners of a configuration that is to be reloaded: bound before it is in force, and those
//! that it has not any more closed after that.

use std::io;
use std::net::SocketAddr;

use super::data_process::DataProcess;
use super::listeners::{self, Listener};
use crate::process::orders::Order;

/// All sockets that there are.
pub struct Sockets {
    /// Of the configuration in force.
    pub listeners: Vec<Listener>,
    /// What would be in force with the next one.
    next: Option<Next>,
    workers: usize,
}

struct Next {
    addresses: Vec<SocketAddr>,
    added: Vec<Listener>,
}

impl Sockets {
    pub fn new(listeners: Vec<Listener>, workers: usize) -> Sockets {
        Sockets { listeners, next: None, workers }
    }

    /// Binds what is new of these addresses and hands it to the data process, or tells it why not.
    pub fn prepare(&mut self, addresses: Vec<SocketAddr>, process: &DataProcess) {
        let is_present = |address: &SocketAddr| self.listeners.iter().any(|one| one.wanted == *address);
        let new: Vec<SocketAddr> = addresses.iter().copied().filter(|one| !is_present(one)).collect();
        let bound = match listeners::bind_beside(&self.listeners, &new, self.workers) {
            Ok(bound) => bound,
            Err(error) => return tell(process.send(&Order::<io::Stdin>::Unbound { why: error.to_string() })),
        };
        for error in &bound.left_out {
            tracing::warn!("{error}; going on without it");
        }
        let left = self.listeners.iter().filter(|one| !addresses.contains(&one.wanted));
        let left = left.map(|listener| listener.address).collect();
        let sent = bound.listeners.iter().try_for_each(|listener| process.hand_over(listener));
        tell(sent.and_then(|()| process.send(&Order::<io::Stdin>::Bound { left })));
        self.next = Some(Next { addresses, added: bound.listeners });
    }

    /// They are in force. What is left now has no copy here any more: it closes when the workers
    /// have taken what is queued.
    pub fn adopt(&mut self) {
        let Some(Next { addresses, added }) = self.next.take() else { return };
        for listener in self.listeners.extract_if(.., |one| !addresses.contains(&one.wanted)) {
            tracing::info!("listening no longer on http://{}", listener.address);
        }
        for listener in &added {
            tracing::info!("listening on http://{}", listener.address);
        }
        self.listeners.extend(added);
    }

    /// They will not be.
    pub fn keep(&mut self) {
        self.next = None;
    }

    /// Nothing is listened on any more.
    pub fn close(&mut self) {
        self.listeners.clear();
        self.next = None;
    }
}

fn tell(sent: io::Result<()>) {
    if let Err(error) = sent {
        // It will be seen to be dead, and nothing has changed.
        tracing::debug!("cannot tell the data process of its sockets: {error}");
    }
}
