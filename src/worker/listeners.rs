//! The listening sockets of one worker: some come and go with a plan.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use super::accept::{self, Listener};
use crate::net::task;
use crate::proxy::Core;

/// What those have to finish who had begun to connect to an address that is not listened on any
/// more: several round trips to anywhere.
const LAST_HANDSHAKES: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
pub struct Listeners(Rc<RefCell<Vec<Rc<Listener>>>>);

impl Listeners {
    /// Accepts on one more.
    pub fn open(&self, core: &Rc<Core>, socket: TcpListener) -> io::Result<()> {
        let listener = Rc::new(Listener::new(socket)?);
        let mut list = self.0.borrow_mut();
        list.retain(|listener| !listener.is_closed());
        list.push(Rc::clone(&listener));
        let core = Rc::clone(core);
        task::spawn(async move { accept::run(&core, &listener).await }, || {
            tracing::error!("accepting ended with a panic");
        });
        Ok(())
    }

    /// Leaves these addresses: nobody new can connect there, and whoever had begun to is served.
    pub fn leave(&self, core: &Rc<Core>, addresses: &[SocketAddr]) {
        let list = self.0.borrow();
        for listener in list.iter().filter(|listener| addresses.contains(&listener.address)) {
            listener.refuse_new();
            let (core, listener) = (Rc::clone(core), Rc::clone(listener));
            let last = async move {
                core.wheel.sleep(LAST_HANDSHAKES).await;
                listener.close();
            };
            task::spawn(last, || tracing::error!("leaving an address ended with a panic"));
        }
    }

    /// Takes what is queued everywhere, then closes.
    pub fn close(&self) {
        for listener in self.0.borrow().iter() {
            listener.refuse_new();
            listener.close();
        }
    }

    pub fn are_closed(&self) -> bool {
        self.0.borrow().iter().all(|listener| listener.is_closed())
    }

    /// To be called now and then.
    pub fn look(&self) {
        self.0.borrow().iter().for_each(|listener| listener.look());
    }
}
