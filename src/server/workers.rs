//! The workers as the control thread holds them: started on their cores, told, watched, joined.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender};

use crate::plan::Plan;
use crate::telemetry::Counters;
use crate::upstream::Endpoints;
use crate::worker::{self, Adoption, Handle, Message};

/// What a worker may take to build its event loop.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// All workers of this process.
pub struct Workers {
    handles: Vec<Handle>,
}

/// What they all are started with.
pub struct Settings {
    pub plan: Arc<Plan>,
    pub endpoints: Vec<Endpoints>,
    pub log: Option<Sender<Vec<u8>>>,
    pub spans: Option<Sender<Vec<u8>>>,
    /// One list a worker.
    pub listeners: Vec<Vec<TcpListener>>,
}

impl Workers {
    /// Starts all; also which driver they run on, each kind once.
    ///
    /// # Errors
    /// A worker cannot run, and why.
    pub fn start(settings: Settings) -> Result<(Workers, String), String> {
        let mut workers = Workers { handles: Vec::new() };
        let result = workers.spawn(settings).and_then(|()| {
            let started = workers.handles.iter().map(|handle| &handle.started);
            drivers(started)
        });
        match result {
            Ok(driver) => Ok((workers, driver)),
            Err(error) => {
                workers.tell(|| Message::Stop);
                Err(error)
            }
        }
    }

    fn spawn(&mut self, settings: Settings) -> Result<(), String> {
        let cores = cores(settings.plan.server.pin_cores, settings.listeners.len());
        let shared = Arc::new(worker::Shared::default());
        for (index, listeners) in settings.listeners.into_iter().enumerate() {
            let handle = worker::spawn(worker::Settings {
                index,
                core: cores.get(index).copied(),
                io: settings.plan.server.io,
                listeners,
                plan: Arc::clone(&settings.plan),
                endpoints: settings.endpoints.clone(),
                log: settings.log.clone(),
                spans: settings.spans.clone(),
                shared: Arc::clone(&shared),
            });
            let handle = handle.map_err(|error| format!("cannot start worker {index}: {error}"))?;
            self.handles.push(handle);
        }
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// What each of them counts.
    pub fn counters(&self) -> impl Iterator<Item = Arc<Counters>> {
        self.handles.iter().map(|handle| Arc::clone(&handle.counters))
    }

    pub fn tell(&self, message: impl Fn() -> Message) {
        self.handles.iter().for_each(|handle| handle.send(message()));
    }

    /// Has each of them run by another plan.
    pub fn adopt(&self, adoption: impl Fn(&Counters) -> Adoption) {
        self.handles.iter().for_each(|handle| handle.send(Message::Plan(adoption(&handle.counters))));
    }

    /// Has one of them accept on this socket, too.
    pub fn open(&self, worker: usize, socket: TcpListener) {
        if let Some(handle) = self.handles.get(worker) {
            handle.send(Message::Listen(socket));
        }
    }

    /// How many connections still run by each earlier plan, the oldest first.
    pub fn former(&self) -> BTreeMap<u64, usize> {
        let mut sum = BTreeMap::new();
        for (generation, count) in self.handles.iter().flat_map(|handle| handle.former.counts()) {
            *sum.entry(generation).or_default() += count;
        }
        sum
    }

    /// How long one of them did nothing but take over the last plan, at most.
    pub fn pause(&self) -> Duration {
        self.handles.iter().map(|handle| handle.former.pause()).max().unwrap_or_default()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        let is_running = |handle: &&Handle| !handle.thread.is_finished();
        self.handles.iter().filter(is_running).count()
    }

    /// Waits for those that have ended; the others are let go.
    pub fn join_ended(self) {
        for (index, handle) in self.handles.into_iter().enumerate() {
            if handle.thread.is_finished() && handle.thread.join().is_err() {
                tracing::error!("worker {index} panicked");
            }
        }
    }
}

/// Waits for the word of every worker.
fn drivers<'a>(
    started: impl Iterator<Item = &'a Receiver<Result<&'static str, String>>>,
) -> Result<String, String> {
    let mut drivers: Vec<&str> = Vec::new();
    for (index, started) in started.enumerate() {
        let driver = match started.recv_timeout(START_TIMEOUT) {
            Ok(result) => result.map_err(|error| format!("worker {index}: {error}"))?,
            Err(_) => return Err(format!("worker {index} does not start")),
        };
        if !drivers.contains(&driver) {
            drivers.push(driver);
        }
    }
    Ok(drivers.join(" and "))
}

/// The core of each worker; none if they are not to be pinned, or must not.
fn cores(pin: bool, workers: usize) -> Vec<CoreId> {
    if !pin {
        return Vec::new();
    }
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let parallelism = thread::available_parallelism().map_or(1, usize::from);
    match is_pinning_sound(workers, ids.len(), parallelism) {
        true => ids,
        false => Vec::new(),
    }
}

/// `parallelism` counts CPU quotas: less of it than cores means that the scheduler stops this
/// process now and then, wherever it runs, and pinned threads could not move to idle cores.
fn is_pinning_sound(workers: usize, cores: usize, parallelism: usize) -> bool {
    if cores < workers {
        tracing::debug!(cores, "workers are not pinned: there are more of them than cores");
        return false;
    }
    if parallelism < cores {
        tracing::debug!(cores, "workers are not pinned: a CPU quota is in force");
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_pinned_to_cores_of_their_own() {
        let cases = [
            ("a core each", 4, 4, 4, true),
            ("cores to spare", 2, 4, 4, true),
            ("too few cores", 5, 4, 4, false),
            ("no cores known", 1, 0, 1, false),
            ("a quota", 2, 4, 2, false),
        ];
        for (name, workers, cores, parallelism, expected) in cases {
            assert_eq!(is_pinning_sound(workers, cores, parallelism), expected, "{name}");
        }
    }

    #[test]
    fn the_word_of_every_worker_counts() {
        let started = |words: Vec<Result<&'static str, String>>| {
            let receivers: Vec<_> = words
                .into_iter()
                .map(|word| {
                    let (sender, receiver) = crossbeam_channel::bounded(1);
                    sender.send(word).unwrap();
                    receiver
                })
                .collect();
            drivers(receivers.iter())
        };
        let ring = || Ok("io_uring");
        let cases = [
            (vec![ring(), ring()], Ok("io_uring")),
            (vec![ring(), Ok("epoll"), ring()], Ok("io_uring and epoll")),
            (vec![ring(), Err("no ring".to_owned())], Err("worker 1: no ring")),
        ];
        for (words, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(started(words), expected);
        }
        let silent = crossbeam_channel::bounded(1).1;
        assert_eq!(drivers([&silent].into_iter()), Err("worker 0 does not start".to_owned()));
    }
}
