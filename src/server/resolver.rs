//! Asks for the addresses of a name: in `/etc/hosts`, then from the name servers, on the control
//! thread and without blocking it.
//!
//! Must not know: who wants them, and what was answered before.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::time::timeout;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long what is in `/etc/hosts` holds: after that, it is read again if it was written.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// What one name may take in all.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// What a configured server may take for one try, and how many there are.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: usize = 2;

/// What is known of a name: for each family its addresses, of which there may be none, or why
/// they could not be found out.
#[derive(Clone, Debug)]
pub struct Found {
    pub v4: Result<Vec<IpAddr>, String>,
    pub v6: Result<Vec<IpAddr>, String>,
    /// How long the answers may be used.
    pub ttl: Duration,
}

/// One for all names.
pub struct Resolver {
    /// Instead of those in `/etc/resolv.conf`, if there are any.
    servers: Box<[SocketAddr]>,
    system: Mutex<System>,
}

/// What the files of the system said when they were read last.
#[derive(Default)]
struct System {
    hosts: Seen<Hosts>,
    servers: Seen<Servers>,
}

struct Seen<T> {
    modified: Option<SystemTime>,
    content: Option<Result<T, String>>,
}

#[derive(Clone)]
struct Servers {
    resolver: TokioResolver,
    /// The domains in which a name is looked for, in this order.
    search: Vec<Name>,
    /// A name with fewer dots is looked for in these domains first.
    dots: usize,
}

impl<T> Default for Seen<T> {
    fn default() -> Seen<T> {
        Seen { modified: None, content: None }
    }
}

impl<T> Seen<T> {
    /// What `read` makes of the file; read again if it has changed, or could not be read.
    fn refresh(&mut self, path: &str, read: impl FnOnce() -> Result<T, String>) -> &Result<T, String> {
        let modified = std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let is_current = self.modified == modified && matches!(self.content, Some(Ok(_)));
        if !is_current {
            self.content = None;
            self.modified = modified;
        }
        self.content.get_or_insert_with(read)
    }
}

impl Resolver {
    pub fn new(servers: &[SocketAddr]) -> Resolver {
        Resolver { servers: servers.into(), system: Mutex::default() }
    }

    /// What is known of this name now; a dot at its end keeps it out of search domains.
    pub async fn look_up(&self, host: &str) -> Found {
        let name = match Name::from_ascii(host) {
            Ok(name) => name,
            Err(error) => return Found::nothing(&error.to_string()),
        };
        if let Some(found) = self.in_hosts(&name) {
            return found;
        }
        let servers = match self.servers() {
            Ok(servers) => servers,
            Err(error) => return Found::nothing(&error),
        };
        timeout(LOOKUP_TIMEOUT, servers.look_up(&name))
            .await
            .unwrap_or_else(|_| Found::nothing("the name servers do not answer"))
    }

    /// As everywhere, a name that is in `/etc/hosts` is asked of nobody else, whatever its family.
    fn in_hosts(&self, name: &Name) -> Option<Found> {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || Hosts::from_system().map_err(|error| format!("cannot read {HOSTS}: {error}"));
        // Without the file there are no names in it.
        let hosts = system.hosts.refresh(HOSTS, read).as_ref().ok()?;
        let find = |kind| {
            let lookup = hosts.lookup_static_host(&Query::query(name.clone(), kind));
            let records = lookup.iter().flat_map(|lookup| lookup.answers());
            records.filter_map(|record| record.data.ip_addr()).collect::<Vec<IpAddr>>()
        };
        let (v4, v6) = (find(RecordType::A), find(RecordType::AAAA));
        let is_there = !v4.is_empty() || !v6.is_empty();
        is_there.then_some(Found { v4: Ok(v4), v6: Ok(v6), ttl: HOSTS_TTL })
    }

    fn servers(&self) -> Result<Servers, String> {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        match &*self.servers {
            [] => system.servers.refresh(RESOLV_CONF, Servers::of_system).clone(),
            configured => {
                let servers = system.servers.content.get_or_insert_with(|| Servers::at(configured));
                servers.clone()
            }
        }
    }
}

impl Found {
    fn nothing(cause: &str) -> Found {
        let cause = || Err(cause.to_owned());
        Found { v4: cause(), v6: cause(), ttl: Duration::ZERO }
    }

    /// There is no address, as far as is known.
    pub fn has_none(&self) -> bool {
        let mut families = [&self.v4, &self.v6].into_iter().flatten();
        families.all(Vec::is_empty)
    }

    /// What is wrong with it, if it is not the whole truth about a name that is there.
    pub fn failure(&self) -> Option<String> {
        match (&self.v4, &self.v6) {
            (Err(cause), _) | (_, Err(cause)) => Some(cause.clone()),
            (Ok(_), Ok(_)) => self.has_none().then(|| "it has no address".to_owned()),
        }
    }
}

impl Servers {
    /// Those that are configured. Names are whole: they are in no domain of this machine.
    fn at(addresses: &[SocketAddr]) -> Result<Servers, String> {
        let servers = addresses.iter().map(|address| {
            let connection = |protocol| {
                let mut connection = ConnectionConfig::new(protocol);
                connection.port = address.port();
                connection
            };
            let connections = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
            NameServerConfig::new(address.ip(), true, connections)
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let mut options = ResolverOpts::default();
        options.timeout = TRY_TIMEOUT;
        options.attempts = TRIES;
        Servers::new(config, options, Vec::new())
    }

    fn of_system() -> Result<Servers, String> {
        let (config, options) =
            read_system_conf().map_err(|error| format!("cannot use {RESOLV_CONF}: {error}"))?;
        let mut search = config.search().to_vec();
        if search.is_empty() {
            search.extend(config.domain().cloned());
        }
        Servers::new(config, options, search)
    }

    fn new(config: ResolverConfig, mut options: ResolverOpts, search: Vec<Name>) -> Result<Servers, String> {
        let dots = options.ndots;
        // What was answered is kept by those who asked.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Servers { resolver, search, dots })
    }

    /// The first of the names that this one may stand for that has an address. A question that
    /// failed ends the search: another name would be a guess.
    async fn look_up(&self, name: &Name) -> Found {
        let mut found = Found::nothing("its name is too long");
        for name in candidates(name, &self.search, self.dots) {
            found = self.ask(name).await;
            let is_absent = found.has_none() && found.v4.is_ok() && found.v6.is_ok();
            if !is_absent {
                return found;
            }
        }
        found
    }

    async fn ask(&self, name: Name) -> Found {
        let v4 = self.resolver.lookup(name.clone(), RecordType::A);
        let v6 = self.resolver.lookup(name, RecordType::AAAA);
        let (v4, v6) = tokio::join!(v4, v6);
        let mut ttl = Duration::MAX;
        let mut addresses = |answer: Result<hickory_resolver::lookup::Lookup, NetError>| match answer {
            Ok(lookup) => {
                // A name on the way holds no longer than it says, either.
                let ttls = lookup.answers().iter().map(|record| Duration::from_secs(record.ttl.into()));
                ttl = ttls.fold(ttl, Duration::min);
                Ok(lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
            }
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        };
        let (v4, v6) = (addresses(v4), addresses(v6));
        Found { v4, v6, ttl }
    }
}

/// What a name may stand for, in the order of the resolver that every other program has.
fn candidates(name: &Name, search: &[Name], dots: usize) -> Vec<Name> {
    let mut whole = name.clone();
    whole.set_fqdn(true);
    if name.is_fqdn() {
        return vec![whole];
    }
    let mut names: Vec<Name> =
        search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
    names.iter_mut().for_each(|name| name.set_fqdn(true));
    let is_whole_first = usize::from(name.num_labels()) > dots || name.is_localhost();
    names.insert(if is_whole_first { 0 } else { names.len() }, whole);
    names
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_name_without_a_dot_at_its_end_is_looked_for_in_the_domains() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let search = [name("a.example"), name("b.example.")];
        let cases: [(&str, usize, &[&str]); 6] = [
            ("app", 1, &["app.a.example.", "app.b.example.", "app."]),
            ("app.", 1, &["app."]),
            ("app.net", 1, &["app.net.", "app.net.a.example.", "app.net.b.example."]),
            ("app.net", 5, &["app.net.a.example.", "app.net.b.example.", "app.net."]),
            ("app.net.", 5, &["app.net."]),
            ("localhost", 1, &["localhost.", "localhost.a.example.", "localhost.b.example."]),
        ];
        for (written, dots, expected) in cases {
            let found: Vec<String> =
                candidates(&name(written), &search, dots).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{written}");
        }
        assert_eq!(candidates(&name("a_b"), &[], 1)[0].to_string(), "a_b.");
    }

    #[test]
    fn a_file_is_read_again_when_it_was_written_or_could_not_be_read() {
        let path = std::env::temp_dir().join(format!("wd-resolver-{}", std::process::id()));
        let path = path.to_str().unwrap();
        let mut seen = Seen::default();
        let read = || std::fs::read_to_string(path).map_err(|_| "no file".to_owned());
        assert_eq!(*seen.refresh(path, read), Err("no file".to_owned()));
        std::fs::write(path, "one").unwrap();
        assert_eq!(*seen.refresh(path, read), Ok("one".to_owned()));
        assert_eq!(*seen.refresh(path, || panic!("it has not changed")), Ok("one".to_owned()));
        std::fs::write(path, "two").unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(*seen.refresh(path, read), Ok("two".to_owned()));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn localhost_needs_no_server() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        // Nobody answers there.
        let resolver = Resolver::new(&["127.0.0.1:1".parse().unwrap()]);
        for name in ["localhost", "localhost."] {
            let found = runtime.block_on(resolver.look_up(name));
            assert!(found.v4.unwrap().contains(&IpAddr::from([127, 0, 0, 1])), "{name}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_a_failure_not_an_empty_answer() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let resolver = Resolver::new(&["127.0.0.1:1".parse().unwrap()]);
        let found = runtime.block_on(resolver.look_up("app.example"));
        assert!(found.v4.is_err() && found.v6.is_err(), "{found:?}");
    }
}
