//! The commands of the upstreams as children: one for all instances, or one each; in an order in
//! which each stands after those that it depends on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::compile::HTTP_PORT;
use super::placeholder::{self, Placeholder, Text};
use crate::config::{self, Config, Diagnostic, Place, Process, Upstream, Written};
use crate::process::orders::TEXT_MAX;
use crate::process::readiness::Address;
use crate::process::settings::{Name, Program, Restart, Settings, User, find_user};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Room for what stands beside the settings of a child in a message.
const MESSAGE_EXTRA: usize = 64;

/// All children of a configuration; of one with mistakes, those that have none.
pub fn children(config: &Config, diagnostics: &mut Vec<Diagnostic>) -> Vec<Child> {
    let order = order(config, diagnostics);
    let mut children = Vec::new();
    for upstream in order {
        if let Some(process) = &upstream.process {
            children.extend(of_upstream(config, upstream, process, diagnostics));
        }
    }
    refuse_shared(config, &children, diagnostics);
    children
}

/// The upstreams with a command, each after those that it depends on.
fn order<'a>(config: &'a Config, diagnostics: &mut Vec<Diagnostic>) -> Vec<&'a Upstream> {
    let mut walk = Walk { config, path: Vec::new(), done: Vec::new(), diagnostics };
    config.upstreams.iter().for_each(|upstream| walk.visit(upstream));
    walk.done
}

struct Walk<'a, 'd> {
    config: &'a Config,
    /// From one that was begun with to the one that is visited.
    path: Vec<&'a Upstream>,
    done: Vec<&'a Upstream>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'a> Walk<'a, '_> {
    fn visit(&mut self, upstream: &'a Upstream) {
        let Some(process) = &upstream.process else { return };
        if self.done.iter().any(|done| std::ptr::eq(*done, upstream)) {
            return;
        }
        self.path.push(upstream);
        for dependency in &process.depends_on {
            if let Some(other) = self.find(upstream, dependency) {
                self.visit(other);
            }
        }
        self.path.pop();
        self.done.push(upstream);
    }

    /// The upstream of this name, if it can be waited for.
    fn find(&mut self, upstream: &Upstream, dependency: &Written<String>) -> Option<&'a Upstream> {
        let name = &dependency.value;
        let Some(other) = self.config.upstreams.iter().find(|one| one.name.value == *name) else {
            self.diagnostics.push(self.undefined(dependency));
            return None;
        };
        if let Some(at) = self.path.iter().position(|one| std::ptr::eq(*one, other)) {
            let around = self.path[at..].iter().map(|one| one.name.value.as_str()).chain([name.as_str()]);
            let around: Vec<&str> = around.collect();
            let message = format!("the commands wait for each other: {}", around.join(" -> "));
            let help = "each is started after those in its depends_on: leave one of them out";
            self.diagnostics.push(Diagnostic::error(dependency.place.clone(), message).with_help(help));
            return None;
        }
        if other.process.is_none() {
            let message = format!("`{}` cannot wait for `{name}`, which has no command", upstream.name.value);
            let help = "depends_on names upstreams that are started here; remove it";
            self.diagnostics.push(Diagnostic::error(dependency.place.clone(), message).with_help(help));
            return None;
        }
        Some(other)
    }

    fn undefined(&self, dependency: &Written<String>) -> Diagnostic {
        let names = || self.config.upstreams.iter().map(|one| one.name.value.as_str());
        let message = format!("there is no upstream `{}`", dependency.value);
        let undefined = Diagnostic::error(dependency.place.clone(), message);
        match config::nearest(&dependency.value, names()) {
            Some(meant) => undefined.with_help(format!("did you mean `{meant}`?")),
            None => {
                let names: Vec<&str> = names().collect();
                undefined.with_help(format!("the upstreams are `{}`", names.join("`, `")))
            }
        }
    }
}

/// The children of one upstream; none if its command has mistakes.
fn of_upstream(
    config: &Config,
    upstream: &Upstream,
    process: &Process,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Child> {
    let before = diagnostics.len();
    let texts = Texts::read(process, diagnostics);
    let written = process.args.iter().chain(process.env.iter().map(|(_, value)| value));
    refuse_absent_parts(upstream, written, diagnostics);
    let instances = upstream.instances.iter();
    let addresses: Vec<Vec<Address>> = instances
        .filter_map(|instance| addresses(config, upstream, process, &instance.address, diagnostics))
        .collect();
    let user = user(process, diagnostics);
    refuse_absent_directory(process, diagnostics);
    let (Some(command), true) = (&process.command, diagnostics.len() == before) else {
        return Vec::new();
    };
    let name = |instance| Name { upstream: upstream.name.value.clone(), instance };
    let base = Settings {
        directory: process.directory.as_ref().map(|path| path.value.clone()),
        user,
        depends_on: process.depends_on.iter().map(|name| name.value.clone()).collect(),
        restart: restart(process.restart),
        start_timeout: Some(process.start_timeout.unwrap_or(START_TIMEOUT)),
        stop_timeout: process.stop_timeout.unwrap_or(STOP_TIMEOUT),
        ..Settings::new(name(None), Program { path: (&command.value).into(), arguments: Vec::new() })
    };
    let before: Vec<Program> = process.before.iter().filter_map(|words| job(words)).collect();
    let places = upstream.instances.iter().map(|instance| &instance.address);
    let children: Vec<Child> = match texts.differ() && addresses.len() > 1 {
        true => {
            let each = (0..).zip(places.zip(addresses));
            let each = each.map(|(index, (place, addresses))| {
                let filled = texts.fill(&base, index, place);
                // They are for all instances.
                let before = if index == 0 { before.clone() } else { Vec::new() };
                let settings =
                    Settings { name: name(Some(index)), addresses: vec![addresses], before, ..filled };
                Child { settings, texts: texts.clone(), index }
            });
            each.collect()
        }
        false => {
            let filled = places.take(1).map(|place| texts.fill(&base, 0, place));
            let whole = |filled| Child {
                settings: Settings { addresses: addresses.clone(), before: before.clone(), ..filled },
                texts: texts.clone(),
                index: 0,
            };
            filled.map(whole).collect()
        }
    };
    refuse_long(process, &children, diagnostics);
    children
}

fn job(words: &[String]) -> Option<Program> {
    let (path, arguments) = words.split_first()?;
    Some(Program { path: path.into(), arguments: arguments.iter().map(Into::into).collect() })
}

/// A child, and what differs if it is to listen elsewhere.
#[derive(Clone, Debug)]
pub struct Child {
    pub settings: Settings,
    texts: Texts,
    index: u32,
}

impl Child {
    /// The same, to listen at another address of the same kind, on the same machine. `None` if it is
    /// not told where to listen, or listens at several.
    pub fn elsewhere(&self, address: &Address) -> Option<Settings> {
        let [_] = self.settings.addresses.as_slice() else { return None };
        let (place, told) = match address {
            Address::Unix(path) => (config::Address::Socket(path.clone()), Placeholder::Socket),
            Address::Tcp(at) => {
                (config::Address::Host { host: at.ip().to_string(), port: at.port() }, Placeholder::Port)
            }
        };
        if !self.texts.placeholders().any(|placeholder| placeholder == told) {
            return None;
        }
        let addresses = vec![vec![address.clone()]];
        Some(Settings { addresses, ..self.texts.fill(&self.settings, self.index, &place) })
    }
}

/// What a child is started with, with what differs between the instances.
#[derive(Clone, Debug)]
struct Texts {
    arguments: Vec<Text>,
    variables: Vec<(String, Text)>,
}

impl Texts {
    /// Leaves out what has a mistake.
    fn read(process: &Process, diagnostics: &mut Vec<Diagnostic>) -> Texts {
        let arguments = process.args.iter().filter_map(|one| parse(one, diagnostics)).collect();
        let variables = process.env.iter();
        let variables =
            variables.filter_map(|(name, value)| Some((name.value.clone(), parse(value, diagnostics)?)));
        Texts { arguments, variables: variables.collect() }
    }

    /// Whether they are others for each instance.
    fn differ(&self) -> bool {
        self.placeholders().next().is_some()
    }

    fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        let texts = self.arguments.iter().chain(self.variables.iter().map(|(_, text)| text));
        texts.flat_map(Text::placeholders)
    }

    fn fill(&self, settings: &Settings, index: u32, place: &config::Address) -> Settings {
        let value = |placeholder| match (placeholder, place) {
            (Placeholder::Index, _) => index.to_string(),
            (Placeholder::Socket, config::Address::Socket(path)) => path.to_string_lossy().into_owned(),
            (Placeholder::Port, config::Address::Host { port, .. }) => port.to_string(),
            // Refused before.
            (Placeholder::Socket, _) | (Placeholder::Port, _) => String::new(),
        };
        let variables = self.variables.iter();
        Settings {
            program: Program {
                path: settings.program.path.clone(),
                arguments: self.arguments.iter().map(|text| text.fill(value).into()).collect(),
            },
            environment: variables.map(|(name, text)| (name.into(), text.fill(value).into())).collect(),
            ..settings.clone()
        }
    }
}

/// `master` is told of each child in one message.
fn refuse_long(process: &Process, children: &[Child], diagnostics: &mut Vec<Diagnostic>) {
    let most = TEXT_MAX - MESSAGE_EXTRA;
    if let Some(bytes) =
        children.iter().map(|child| child.settings.encode().len()).find(|bytes| *bytes > most)
    {
        let message =
            format!("the command with its arguments and variables has {bytes} bytes, more than {most}");
        diagnostics.push(Diagnostic::error(process.place.clone(), message));
    }
}

fn parse(text: &Written<String>, diagnostics: &mut Vec<Diagnostic>) -> Option<Text> {
    Text::parse(&text.value)
        .map_err(|word| {
            let known = placeholder::ALL.iter().map(|(name, _)| *name);
            let help = match config::nearest(&word, known) {
                Some(meant) => format!("did you mean `{{{meant}}}`?"),
                None => format!(
                    "there are `{{socket}}`, `{{port}}` and `{{index}}`; write `{{{{{word}}}}}` for \
                     `{{{word}}}` itself"
                ),
            };
            let message = format!("unknown placeholder `{{{word}}}`");
            diagnostics.push(Diagnostic::error(text.place.clone(), message).with_help(help));
        })
        .ok()
}

/// A socket or a port that an instance does not have.
fn refuse_absent_parts<'a>(
    upstream: &Upstream,
    written: impl Iterator<Item = &'a Written<String>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let has = |placeholder| {
        upstream.instances.iter().all(|instance| match &instance.address {
            config::Address::Host { .. } => placeholder != Placeholder::Socket,
            config::Address::Socket(_) => placeholder != Placeholder::Port,
        })
    };
    for written in written {
        let Ok(text) = Text::parse(&written.value) else { continue };
        for (name, placeholder) in placeholder::ALL {
            if text.placeholders().any(|one| one == placeholder) && !has(placeholder) {
                let message = format!(
                    "`{{{name}}}` stands for nothing: an instance of `{}` has no {name}",
                    upstream.name.value
                );
                diagnostics.push(Diagnostic::error(written.place.clone(), message));
            }
        }
    }
}

/// Where an instance listens, as one who is on the same machine sees it.
fn addresses(
    config: &Config,
    upstream: &Upstream,
    process: &Process,
    address: &config::Address,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Address>> {
    let (host, port) = match address {
        config::Address::Socket(path) => return Some(vec![Address::Unix(path.clone())]),
        config::Address::Host { host, port } => (host, *port),
    };
    let name = &upstream.name.value;
    let mut refuse = |message: String, help: &str| {
        diagnostics.push(Diagnostic::error(process.place.clone(), message).with_help(help));
        None
    };
    if config.server.http_port.unwrap_or(HTTP_PORT) == port {
        let message = format!("port {port} cannot be both that of upstream `{name}` and that of WarpDrive");
        return refuse(message, "change one of them");
    }
    let addresses = local_addresses(host, port);
    if addresses.is_none() {
        let message = format!("the command of `{name}` runs on this machine, and its host is `{host}`");
        return refuse(message, "the host must be an IP address of this machine, or localhost");
    }
    addresses
}

/// Names are not looked up: what is started here listens here. `None` for one that could be
/// elsewhere.
pub fn local_addresses(host: &str, port: u16) -> Option<Vec<Address>> {
    let addresses: Vec<IpAddr> = match (host, host.parse()) {
        ("localhost", _) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        (_, Ok(address)) => vec![address],
        (_, Err(_)) => return None,
    };
    Some(addresses.into_iter().map(|address| Address::Tcp(SocketAddr::new(address, port))).collect())
}

fn user(process: &Process, diagnostics: &mut Vec<Diagnostic>) -> Option<User> {
    let Written { value: name, place } = process.user.as_ref()?;
    let mut refuse = |message: String, help: &str| {
        diagnostics.push(Diagnostic::error(place.clone(), message).with_help(help));
        None
    };
    match find_user(name) {
        Ok(Some(user)) if user.is_within_reach() => Some(user),
        Ok(Some(_)) => {
            let message = format!("the command cannot be run as `{name}`: we are not root");
            refuse(message, "start WarpDrive as root, or leave the user out")
        }
        Ok(None) => refuse(format!("there is no user `{name}` on this machine"), "`getent passwd` lists all"),
        Err(error) => {
            refuse(format!("cannot look up the user `{name}`: {error}"), "`getent passwd` lists all")
        }
    }
}

fn refuse_absent_directory(process: &Process, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(directory) = process.directory.as_ref().filter(|directory| !directory.value.is_dir()) {
        let message = format!("there is no directory `{}`", directory.value.display());
        diagnostics.push(Diagnostic::error(directory.place.clone(), message));
    }
}

fn restart(written: Option<config::Restart>) -> Restart {
    match written {
        None | Some(config::Restart::Always) => Restart::Always,
        Some(config::Restart::OnFailure) => Restart::OnFailure,
        Some(config::Restart::Never) => Restart::Never,
    }
}

/// Two commands cannot listen at the same place.
fn refuse_shared(config: &Config, children: &[Child], diagnostics: &mut Vec<Diagnostic>) {
    let mut owners: HashMap<String, &Name> = HashMap::new();
    for Child { settings: child, .. } in children {
        for address in child.addresses.iter().flatten() {
            let Some(other) = owners.insert(address.to_string(), &child.name) else { continue };
            let message = format!("the commands of `{other}` and `{}` both listen on {address}", child.name);
            let place = place_of(config, &child.name);
            diagnostics.push(Diagnostic::error(place, message).with_help("each needs an address of its own"));
            break;
        }
    }
}

fn place_of(config: &Config, name: &Name) -> Place {
    let upstream = config.upstreams.iter().find(|one| one.name.value == name.upstream);
    let process = upstream.and_then(|one| one.process.as_ref());
    process.map_or_else(|| config.origin.clone(), |process| process.place.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_listens_on_this_machine() {
        let cases = [
            ("127.0.0.1", Some("127.0.0.1:3000")),
            ("::1", Some("[::1]:3000")),
            ("localhost", Some("127.0.0.1:3000 [::1]:3000")),
            ("app.example.com", None),
        ];
        for (host, expected) in cases {
            let found = local_addresses(host, 3000).map(|all| {
                let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
                texts.join(" ")
            });
            assert_eq!(found.as_deref(), expected, "{host}");
        }
    }
}
