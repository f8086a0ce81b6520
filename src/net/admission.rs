//! How many downstream connections the process has, as a whole and by client address.
//!
//! Global by nature: one atomic at open and close, and only where a limit is configured also
//! one short lock for the address's own count. Nothing of it is on a request's way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most connections; `None` is no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub connections: Option<usize>,
    pub per_address: Option<u32>,
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    Process,
    Address,
}

#[derive(Default)]
pub struct Admission {
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, u32>>,
}

/// One admitted connection; leaves on drop.
pub struct Admitted {
    admission: Arc<Admission>,
    /// Counted under this address.
    address: Option<IpAddr>,
}

impl Admission {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn admit(self: &Arc<Admission>, address: IpAddr, bounds: Bounds) -> Result<Admitted, Denied> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let mut admitted = Admitted { admission: Arc::clone(self), address: None };
        if bounds.connections.is_some_and(|most| before >= most) {
            return Err(Denied::Process);
        }
        if let Some(most) = bounds.per_address {
            let address = address.to_canonical();
            let mut counts = self.counts();
            let count = counts.entry(address).or_default();
            if *count >= most {
                return Err(Denied::Address);
            }
            *count += 1;
            admitted.address = Some(address);
        }
        Ok(admitted)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u32>> {
        // A panic while it is held cannot leave a count half changed.
        self.by_address.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut counts = self.admission.counts();
            if let Some(count) = counts.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_for_the_process_and_for_each_address() {
        let admission = Arc::new(Admission::default());
        let bounds = Bounds { connections: Some(3), per_address: Some(2) };
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = admission.admit(a, bounds).ok();
        let _second = admission.admit("::ffff:10.0.0.1".parse().unwrap(), bounds).ok().unwrap();
        assert_eq!(admission.admit(a, bounds).err(), Some(Denied::Address));
        let _third = admission.admit(b, bounds).ok().unwrap();
        assert_eq!(admission.admit(b, bounds).err(), Some(Denied::Process));
        assert_eq!(admission.open(), 3);
        drop(first);
        assert!(admission.admit(a, bounds).is_ok());
        assert_eq!(admission.open(), 2);
    }
}
