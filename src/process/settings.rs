//! What a child is: its command, where and as whom it runs, when it is ready and when it is
//! started again; and the same as a text between two processes.
//!
//! Must not know: what a configuration is.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::readiness::Address;
use crate::sys::user;

pub use crate::sys::user::User;

/// Which child it is: that of an upstream, or of one instance of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    pub upstream: String,
    pub instance: Option<u32>,
}

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Found by `PATH` if it has no slash.
    pub path: OsString,
    pub arguments: Vec<OsString>,
}

/// What to start, and how to see that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: Name,
    pub program: Program,
    /// Run to their ends, one after the other, before it is started by order; not after a crash.
    pub before: Vec<Program>,
    /// Set beside the variables that we have.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs; where we do, if there is none.
    pub directory: Option<PathBuf>,
    /// As whom; as we do, if there is none.
    pub user: Option<User>,
    /// It is ready when it accepts connections on one address of each of these. Nobody else may.
    pub addresses: Vec<Vec<Address>>,
    /// It is started when all children of these upstreams are ready, and stopped before them.
    pub depends_on: Vec<String>,
    pub restart: Restart,
    /// What it may take to be ready; `None` is any time.
    pub start_timeout: Option<Duration>,
    /// What it may take to end when it is told to.
    pub stop_timeout: Duration,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", argument.display()))
    }
}

/// When a child that ended by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    /// If it did not end with 0.
    OnFailure,
    Never,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.upstream)?;
        match self.instance {
            Some(instance) => write!(f, ".{instance}"),
            None => Ok(()),
        }
    }
}

/// The user with this name; `None` if there is none.
///
/// # Errors
/// The user database cannot be read.
pub fn find_user(name: &str) -> std::io::Result<Option<User>> {
    user::find(name)
}

/// Between two parts: no text of a configuration has it.
const SEPARATOR: char = '\0';

impl Settings {
    /// A child with nothing but these, which is never started again and ends at once.
    pub fn new(name: Name, program: Program) -> Settings {
        Settings {
            name,
            program,
            before: Vec::new(),
            environment: Vec::new(),
            directory: None,
            user: None,
            addresses: Vec::new(),
            depends_on: Vec::new(),
            restart: Restart::Never,
            start_timeout: None,
            stop_timeout: Duration::ZERO,
        }
    }

    /// A process of the one would be one of the other: where, as whom and with what it runs.
    pub fn runs_as(&self, other: &Settings) -> bool {
        self.program == other.program
            && self.environment == other.environment
            && self.directory == other.directory
            && self.user == other.user
            && self.addresses == other.addresses
    }

    /// The parts, each with its name before it. Of texts only: what is none came from arguments,
    /// and is not sent.
    pub fn encode(&self) -> String {
        let mut parts = Parts::default();
        parts.add("upstream", &self.name.upstream);
        parts.add_all("instance", self.name.instance.map(|instance| instance.to_string()));
        for program in self.before.iter().chain([&self.program]) {
            parts.add("program", &program.path.to_string_lossy());
            parts.add_all("argument", program.arguments.iter().map(|one| one.to_string_lossy()));
        }
        for (name, value) in &self.environment {
            parts.add("variable", &format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        }
        parts.add_all("directory", self.directory.as_ref().map(|path| path.to_string_lossy()));
        if let Some(user) = &self.user {
            parts.add("user", &user.name);
            parts.add("ids", &format!("{} {}", user.uid, user.gid));
            parts.add_all("group", user.groups.iter().map(u32::to_string));
            parts.add("home", &user.home.to_string_lossy());
        }
        for alternatives in &self.addresses {
            parts.add("listens", "");
            parts.add_all("address", alternatives.iter().map(Address::to_string));
        }
        parts.add_all("dependency", self.depends_on.iter());
        parts.add("restart", self.restart.word());
        parts.add_all("start_ms", self.start_timeout.map(|time| time.as_millis().to_string()));
        parts.add("stop_ms", &self.stop_timeout.as_millis().to_string());
        parts.0
    }

    /// `None` if it is not what [`Settings::encode`] makes.
    pub fn decode(text: &str) -> Option<Settings> {
        let name = Name { upstream: String::new(), instance: None };
        let mut settings = Settings::new(name, Program::default());
        for part in text.strip_suffix(SEPARATOR)?.split(SEPARATOR) {
            let (key, value) = part.split_once(' ')?;
            settings.decode_part(key, value)?;
        }
        // The last one is it.
        settings.program = settings.before.pop()?;
        let is_whole = !settings.name.upstream.is_empty() && !settings.program.path.is_empty();
        is_whole.then_some(settings)
    }

    fn decode_part(&mut self, key: &str, value: &str) -> Option<()> {
        let millis = || value.parse().ok().map(Duration::from_millis);
        match key {
            "upstream" => self.name.upstream = value.to_owned(),
            "instance" => self.name.instance = Some(value.parse().ok()?),
            "program" => self.before.push(Program { path: value.into(), arguments: Vec::new() }),
            "argument" => self.before.last_mut()?.arguments.push(value.into()),
            "variable" => {
                let (name, value) = value.split_once('=')?;
                self.environment.push((name.into(), value.into()));
            }
            "directory" => self.directory = Some(value.into()),
            "user" => {
                let (name, home) = (value.to_owned(), PathBuf::new());
                self.user = Some(User { name, uid: 0, gid: 0, groups: Vec::new(), home });
            }
            "ids" => {
                let (uid, gid) = value.split_once(' ')?;
                let user = self.user.as_mut()?;
                (user.uid, user.gid) = (uid.parse().ok()?, gid.parse().ok()?);
            }
            "group" => self.user.as_mut()?.groups.push(value.parse().ok()?),
            "home" => self.user.as_mut()?.home = value.into(),
            "listens" => self.addresses.push(Vec::new()),
            "address" => self.addresses.last_mut()?.push(Address::parse(value)?),
            "dependency" => self.depends_on.push(value.to_owned()),
            "restart" => self.restart = Restart::parse(value)?,
            "start_ms" => self.start_timeout = Some(millis()?),
            "stop_ms" => self.stop_timeout = millis()?,
            _ => return None,
        }
        Some(())
    }
}

#[derive(Default)]
struct Parts(String);

impl Parts {
    fn add(&mut self, key: &str, value: &str) {
        self.0 += key;
        self.0.push(' ');
        self.0 += value;
        self.0.push(SEPARATOR);
    }

    fn add_all(&mut self, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) {
        values.into_iter().for_each(|value| self.add(key, value.as_ref()));
    }
}

impl Restart {
    fn word(self) -> &'static str {
        match self {
            Restart::Always => "always",
            Restart::OnFailure => "on_failure",
            Restart::Never => "never",
        }
    }

    fn parse(word: &str) -> Option<Restart> {
        [Restart::Always, Restart::OnFailure, Restart::Never].into_iter().find(|one| one.word() == word)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Everything that can be said.
    pub fn full() -> Settings {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let program =
            |path: &str, arguments: &[&str]| Program { path: path.into(), arguments: words(arguments) };
        Settings {
            name: Name { upstream: "my app".to_owned(), instance: Some(3) },
            program: program("bin/serve", &["", "a b", "-b", "unix:///run/a=b.sock", "ü\n"]),
            before: vec![program("rake", &["db:migrate", ""]), program("true", &[])],
            environment: vec![("A".into(), "b=c".into()), ("EMPTY".into(), "".into())],
            directory: Some("/srv/my app".into()),
            user: Some(User {
                name: "www".to_owned(),
                uid: 33,
                gid: 34,
                groups: vec![34, 1000],
                home: "/var/www".into(),
            }),
            addresses: vec![
                vec![
                    Address::Tcp("127.0.0.1:3000".parse().unwrap()),
                    Address::Tcp("[::1]:3000".parse().unwrap()),
                ],
                vec![Address::Unix("/run/a b.sock".into())],
            ],
            depends_on: vec!["redis".to_owned(), "other app".to_owned()],
            restart: Restart::OnFailure,
            start_timeout: Some(Duration::from_secs(60)),
            stop_timeout: Duration::from_millis(1500),
        }
    }

    /// No more than has to be said.
    fn least() -> Settings {
        let name = Name { upstream: "app".to_owned(), instance: None };
        Settings::new(name, Program { path: "serve".into(), arguments: Vec::new() })
    }

    #[test]
    fn what_is_sent_is_what_arrives() {
        for settings in [full(), least()] {
            assert_eq!(Settings::decode(&settings.encode()), Some(settings));
        }
        for wrong in ["", "\0", "upstream a\0", "program a\0", "upstream a\0program b", "upstream a\0x y\0"] {
            assert_eq!(Settings::decode(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_say_which_instance() {
        assert_eq!(full().name.to_string(), "my app.3");
        assert_eq!(least().name.to_string(), "app");
    }
}
