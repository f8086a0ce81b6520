//! Which socket and which port are open to operators: they follow the plan.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

use super::board::Board;
use super::{Desk, Door, bind, serve_port, serve_socket};
use crate::plan::{Admin, Token};
use crate::server::control::Event;

/// What is listened on.
pub struct Doors {
    desk: Arc<Desk>,
    socket: Option<(PathBuf, AbortHandle)>,
    port: Option<(SocketAddr, Option<Token>, AbortHandle)>,
}

impl Doors {
    /// None yet.
    pub fn new(board: Arc<Board>, events: &Sender<Event>) -> Doors {
        let desk = Arc::new(Desk { board, events: events.clone() });
        Doors { desk, socket: None, port: None }
    }

    /// Has these open, and no others. Who asks at the start learns that it is not ready yet. Serving
    /// goes on without them.
    pub fn open(&mut self, admin: &Admin) {
        if admin.socket.as_ref() != self.socket.as_ref().map(|(path, _)| path) {
            self.open_socket(admin.socket.clone());
        }
        let wanted = admin.listen.map(|address| (address, admin.token.clone()));
        let is_same = match (&wanted, &self.port) {
            (Some((address, token)), Some((open, with, _))) => address == open && token == with,
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            self.open_port(wanted);
        }
    }

    fn open_socket(&mut self, path: Option<PathBuf>) {
        if let Some((path, task)) = self.socket.take() {
            task.abort();
            // Perhaps somebody has taken it away.
            let _gone = std::fs::remove_file(path);
        }
        let Some(path) = path else { return };
        match bind(&path) {
            Ok(listener) => {
                let task = tokio::spawn(serve_socket(listener, Arc::clone(&self.desk)));
                self.socket = Some((path, task.abort_handle()));
            }
            Err(error) => tracing::error!("cannot listen on the admin socket {}: {error}", path.display()),
        }
    }

    fn open_port(&mut self, wanted: Option<(SocketAddr, Option<Token>)>) {
        if let Some((_, _, task)) = self.port.take() {
            task.abort();
        }
        let Some((address, token)) = wanted else { return };
        let door = Door::Port { token: token.clone() };
        let task = tokio::spawn(serve_port(address, door, Arc::clone(&self.desk)));
        self.port = Some((address, token, task.abort_handle()));
    }
}
