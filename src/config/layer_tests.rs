//! Files that include files, variables in strings, the environment and arguments above them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tests::{said, sources};
use super::*;

/// A fresh folder with files in it, gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wd-layers-{}-{number}", std::process::id()));
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Folder(path)
    }

    fn sources(&self, environment: &[(&str, &str)]) -> Sources {
        let variable = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let sources = Sources::read(Some(self.0.join("w.toml")), environment.iter().map(variable).collect());
        let sources = sources.unwrap();
        // The process that runs it has nothing but this.
        let decoded = Sources::decode(&sources.encode()).unwrap();
        let (found, folders) = (sources.found.clone(), sources.folders.clone());
        assert_eq!(Sources { found, folders, ..decoded }, sources);
        sources
    }

    /// What is said, with names from within this folder.
    fn said(&self, environment: &[(&str, &str)]) -> Vec<String> {
        let (_, diagnostics) = read(&self.sources(environment));
        let folder = format!("{}/", self.0.display());
        let say = |one: &Diagnostic| {
            let related = one.related.iter().map(|other| format!(" ({}: {})", other.label, other.place));
            let all = said(std::slice::from_ref(one))[0].clone() + &related.collect::<String>();
            all.replace(&folder, "")
        };
        diagnostics.iter().map(say).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const MAIN: &str = "include = [\"conf.d/*.toml\", \"last.toml\"]\n\
                    [server]\nhttp_port = 1\n\
                    [[routes]]\npath_prefix = \"/m\"\nupstream = \"a\"\n";

#[test]
fn included_files_are_taken_by_name_and_their_routes_in_this_order() {
    let route = |path: &str| format!("[[routes]]\npath_prefix = \"{path}\"\nupstream = \"a\"\n");
    let folder = Folder::with(&[
        ("w.toml", MAIN),
        ("conf.d/20-b.toml", &route("/b")),
        (
            "conf.d/10-a.toml",
            &format!("include = [\"../more/*\"]\n[upstreams.a]\nsocket = \"a\"\n{}", route("/a")),
        ),
        ("conf.d/.hidden.toml", "not TOML"),
        ("conf.d/other.txt", "not TOML"),
        ("conf.d/folder.toml/inside", "not TOML"),
        ("more/c", &format!("[server.limits]\nfields = 7\n{}", route("/c"))),
        ("last.toml", "[log]\nlevel = \"debug\"\n"),
    ]);
    let (config, warnings) = parse(&folder.sources(&[])).unwrap();
    assert_eq!(said(&warnings), Vec::<String>::new());
    let paths: Vec<_> = config.routes.iter().map(|route| route.path.clone().unwrap().value).collect();
    assert_eq!(paths, ["/m", "/a", "/c", "/b"].map(|path| super::Path::Prefix(path.to_owned())));
    assert_eq!(config.limits.fields, Some(7));
    assert_eq!(config.level(), Level::Debug);
    let place = config.routes[2].place.file_and_line();
    assert!(Path::new(&place).ends_with("more/c:3"), "{place}");
}

/// Files beside each other, what is said.
type Cases<'a> = &'a [(&'a [(&'a str, &'a str)], &'a [&'a str])];

fn check(cases: Cases<'_>) {
    for (files, expected) in cases {
        assert_eq!(Folder::with(files).said(&[]), *expected, "{files:?}");
    }
}

#[test]
fn files_that_cannot_be_included_are_named_where_they_are_asked_for() {
    check(&[
        (&[("w.toml", "include = [\"none/*.toml\"]")], &[]),
        (
            &[("w.toml", "include = [\"none.toml\", \"\", \"a[\", 3]\n[log]\nfil = 1")],
            &[
                "w.toml:1:12: none.toml: cannot read the file: No such file or directory (os error 2)",
                "w.toml:1:25: the path of a file to include is empty",
                "w.toml:1:29: `a[` is not a pattern: invalid range pattern",
                "w.toml:1:35: each of include must be a string, not an integer",
                "w.toml:3:1: unknown key `fil` in [log] [did you mean `file`?]",
            ],
        ),
        (&[("w.toml", "include = [\"w.toml\"]")], &["w.toml:1:12: w.toml includes itself"]),
        (
            &[("w.toml", "include = [\"a/b\"]"), ("a/b", "include = [\"../w.toml\"]")],
            &["a/b:1:12: a/../w.toml includes itself, by way of w.toml, a/b"],
        ),
        (
            &[("w.toml", "include = [\"a\", \"*a\"]"), ("a", "")],
            &["w.toml:1:17: a is included twice [remove one of them] (first here: w.toml:1:12)"],
        ),
        (
            &[("w.toml", "include = [\"a\"]"), ("a", "[log]\nlevel = \"x\nlvel = 1")],
            &[
                "a:2:11: the string has no end [add a `\"`]",
                "a:3:1: unknown key `lvel` in [log] [did you mean `level`?]",
            ],
        ),
    ]);
    let chain: Vec<(String, String)> =
        (1..=10).map(|depth| (format!("{depth}"), format!("include = [\"{}\"]", depth + 1))).collect();
    let mut files = vec![("w.toml", "include = [\"1\"]")];
    files.extend(chain.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    assert_eq!(Folder::with(&files).said(&[]), ["8:1:12: 9 is included 9 deep, at most 8 work"]);
}

#[test]
fn files_have_a_limit_in_number_and_in_size() {
    let names: Vec<String> = (0..1000).map(|number| format!("many/{number:04}")).collect();
    let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    files.push(("w.toml", "include = [\"many/*\"]"));
    assert_eq!(Folder::with(&files).said(&[]), ["w.toml:1:12: there are more than 1000 files"]);
    assert_eq!(Folder::with(&files[1..]).said(&[]), [""; 0]);

    let large = format!("#{}", "x".repeat(9 << 20));
    let files = [("w.toml", "include = [\"a\", \"b\"]"), ("a", large.as_str()), ("b", &large)];
    let expected = "w.toml:1:17: b: with it, all files together are larger than 16 MiB";
    assert_eq!(Folder::with(&files).said(&[]), [expected]);
}

#[test]
fn files_of_one_rank_may_not_contradict_each_other() {
    check(&[
        (
            &[
                (
                    "w.toml",
                    "include = [\"a\", \"b\"]\n[server]\nhttp_port = 1\n[upstreams.x]\nsocket = \"x\"\n",
                ),
                ("a", "[server]\nhttp_port = 2\nbind = [\"::\"]\n[upstreams.x]\nsocket = \"x\"\n"),
                ("b", "server.bind = [\"::1\"]\nserver.limits = 3\nlog = 2\n"),
            ],
            &[
                "a:2:1: http_port is set in two files [set it in one of them only] (first here: w.toml:3:1)",
                "a:4:12: upstream `x` is defined in two files [define it in one of them only] (first here: w.toml:4:12)",
                "b:1:8: bind is set in two files [set it in one of them only] (first here: a:3:1)",
                "b:2:17: server.limits must be a table, not an integer [write [server.limits], and its keys below]",
                "b:3:7: log must be a table, not an integer [write [log], and its keys below]",
            ],
        ),
        (
            &[
                ("w.toml", "include = [\"a\"]\nserver.shutdown_timeout = \"5s\"\n"),
                ("a", "server.shutdown_timeout_secs = 5\n"),
            ],
            &[
                "a:1:8: shutdown_timeout and shutdown_timeout_secs are the same setting [keep one of them] (first here: w.toml:2:8)",
            ],
        ),
    ]);
}

#[test]
fn variables_in_strings_stand_for_what_their_key_wants() {
    let text = "include = [\"${DIR}/*\"]\n\
                [server]\nhttp_port = \"${PORT}\"\npin_cores = \"${PIN:-false}\"\n\
                shutdown_timeout_secs = \"${SECS:-7}\"\nbind = [\"${ADDRESS}\"]\n\
                [server.limits]\nrequest_body = \"${BODY:-10}m\"\nfields = \"${EMPTY:-9}\"\n\
                [upstreams.a]\nsocket = \"/run/${NAME}.$${x}\"\n";
    let folder = Folder::with(&[("w.toml", text), ("d/a", "[log]\nfile = \"${FILE}\"\n")]);
    let environment = [
        ("ADDRESS", "127.0.0.1"),
        ("DIR", "d"),
        ("EMPTY", ""),
        ("FILE", "${NAME}"),
        ("NAME", "n"),
        ("OTHER", "is not taken along"),
        ("PORT", "81"),
    ];
    let sources = folder.sources(&environment);
    assert!(sources.variables.iter().all(|(name, _)| name != "OTHER"));
    let (config, warnings) = parse(&sources).unwrap();
    assert_eq!(said(&warnings), Vec::<String>::new());
    assert_eq!(config.server.http_port, Some(81));
    assert_eq!(config.server.pin_cores, Some(false));
    assert_eq!(config.server.shutdown_timeout, Some(Duration::from_secs(7)));
    assert_eq!(config.server.bind, Some(vec!["127.0.0.1".parse().unwrap()]));
    assert_eq!(config.limits.request_body, Some(10 << 20));
    assert_eq!(config.limits.fields, Some(9));
    assert_eq!(
        config.upstreams[0].instances,
        [Instance::from(Address::Socket(PathBuf::from("/run/n.${x}")))]
    );
    assert_eq!(config.log.output, Some(LogOutput::File(PathBuf::from("${NAME}"))));

    let wrong = "[server]\nhttp_port = \"${PORT}\"\nio = \"x-${UNSET}\"\nbind = [\"${\"]\n\
                 [log]\nfile = \"${a b}\"\nlevel = \"${PORT}\"\n[[routes]]\nupstream = \"${UNSET}\"\n";
    let folder = Folder::with(&[("w.toml", wrong)]);
    let expected = [
        "w.toml:2:13: http_port must be an integer from 0 to 65535, not `http`",
        "w.toml:3:9: the variable UNSET is not set \
         [set it in the environment, or give a default: \"${UNSET:-…}\"]",
        "w.toml:4:9: `${` has no `}` that ends it [write `$${` for `${` itself]",
        "w.toml:6:9: `a b` is not the name of a variable \
         [write \"${NAME}\" or \"${NAME:-default}\", or `$${` for `${` itself]",
        "w.toml:7:9: level must be `error`, `warn`, `info` or `debug`, not `http`",
        "w.toml:9:13: the variable UNSET is not set \
         [set it in the environment, or give a default: \"${UNSET:-…}\"]",
    ];
    assert_eq!(folder.said(&[("PORT", "http")]), expected);
}

fn with_arguments(text: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Sources {
    let arguments = arguments.iter().map(|&one| one.to_owned()).collect();
    Sources { arguments, ..sources(text, environment) }
}

#[test]
fn arguments_beat_the_environment_and_that_beats_the_file() {
    let text = "[server]\nhttp_port = 1\nbind = [\"::\"]\nshutdown_timeout_secs = 1\n\
                [upstreams.App]\nhost = \"h\"\nport = 1\n[upstreams.\"b c\"]\nsocket = \"s\"\n";
    let environment = [
        ("WARPDRIVE_LOG__LEVEL", "debug"),
        ("WARPDRIVE_SERVER__BIND", r#"["127.0.0.1"]"#),
        ("WARPDRIVE_SERVER__HTTP_PORT", "2"),
        ("WARPDRIVE_SERVER__SHUTDOWN_TIMEOUT", "2s"),
        ("WARPDRIVE_UPSTREAMS__APP__PORT", "2"),
    ];
    let arguments = [
        "server.http_port=3",
        "upstreams.App.host = \"[::1]\"",
        "upstreams.\"b c\".socket=/run/s",
        "upstreams.new={ host = \"n\", port = 9 }",
        "server.http_port=4",
    ];
    let (config, warnings) = parse(&with_arguments(text, &environment, &arguments)).unwrap();
    assert_eq!(said(&warnings), Vec::<String>::new());
    assert_eq!(config.server.http_port, Some(4));
    assert_eq!(config.server.bind, Some(vec!["127.0.0.1".parse().unwrap()]));
    assert_eq!(config.server.shutdown_timeout, Some(Duration::from_secs(2)));
    assert_eq!(config.level(), Level::Debug);
    let host = |host: &str, port| Instance::from(Address::Host { host: host.to_owned(), port });
    let instances: Vec<_> = config.upstreams.iter().map(|one| one.instances[0].clone()).collect();
    assert_eq!(
        instances,
        [host("::1", 2), Instance::from(Address::Socket(PathBuf::from("/run/s"))), host("n", 9)]
    );
    let overrides: Vec<String> = config
        .overrides
        .iter()
        .map(|one| {
            let replaced = one.replaced.as_ref().map_or(String::new(), |place| format!(" not {place}"));
            format!("{} {}{replaced}", one.key, one.place)
        })
        .collect();
    let expected = [
        "log.level environment:WARPDRIVE_LOG__LEVEL",
        "server.bind environment:WARPDRIVE_SERVER__BIND not w.toml:3:8",
        "server.http_port --set server.http_port not w.toml:2:13",
        "server.shutdown_timeout environment:WARPDRIVE_SERVER__SHUTDOWN_TIMEOUT not w.toml:4:25",
        "upstreams.App.port environment:WARPDRIVE_UPSTREAMS__APP__PORT not w.toml:7:8",
        "upstreams.App.host --set upstreams.App.host not w.toml:6:8",
        "upstreams.\"b c\".socket --set upstreams.\"b c\".socket not w.toml:9:10",
        "upstreams.new --set upstreams.new",
    ];
    assert_eq!(overrides, expected);
}

#[test]
fn what_is_wrong_above_the_file_is_named_by_its_variable_or_argument() {
    let environment = [
        ("WARPDRIVE_HTTP_PORT", "1"),
        ("WARPDRIVE_SERVER__HTTP_PORT", "1"),
        ("WARPDRIVE_SERVER__LIMITS", "7"),
        ("WARPDRIVE_UPSTREAMS__AP__PORT", "1"),
    ];
    let arguments = [
        "server.bind=::1",
        "server.fields=3",
        "log.level=loud",
        "sever.http_port=3",
        "a b=1",
        "a=1\nb",
        "log.file",
        "include=[\"a\"]",
        "auth.admin_token=\u{e9}\u{e9}",
        "routes.0.upstream=a",
    ];
    let (_, mistakes) = read(&with_arguments("upstreams.app.socket = \"s\"", &environment, &arguments));
    let key = "[write --set KEY=VALUE, as in --set server.http_port=8081]";
    let expected = [
        "environment:WARPDRIVE_SERVER__HTTP_PORT: \
         it sets the same as environment:WARPDRIVE_HTTP_PORT: keep one of them"
            .to_owned(),
        "environment:WARPDRIVE_SERVER__LIMITS: server.limits must be a table, not a string \
         [write [server.limits], and its keys below]"
            .to_owned(),
        "environment:WARPDRIVE_UPSTREAMS__AP__PORT: [upstreams.ap] has a port, but no host \
         [there is no such upstream in a file; did you mean `app`?]"
            .to_owned(),
        format!("--set a b: `a b` is not a key {key}"),
        format!("--set log.file: a value is missing {key}"),
        "--set include: include works in a file only".to_owned(),
        "--set server.bind: bind must be a list of strings, not a string \
         [write bind = [\"::1\"]]"
            .to_owned(),
        "--set server.fields: unknown key `fields` in [server] \
         [`fields` belongs to [server.limits]]"
            .to_owned(),
        "--set routes.0.upstream: routes must be a list of tables, not a table \
         [write [[routes]], with two brackets on each side, above each of them]"
            .to_owned(),
        "--set log.level: level must be `error`, `warn`, `info` or `debug`, not `loud`".to_owned(),
        "--set auth.admin_token: \
         admin_token must have visible ASCII characters only, and no spaces"
            .to_owned(),
        "--set sever.http_port: unknown table `sever` [did you mean `[server]`?]".to_owned(),
        "--set a: unknown key `a`".to_owned(),
    ];
    assert_eq!(said(&mistakes), expected);
}

#[test]
fn a_secret_may_be_in_a_file() {
    let text = "[auth]\nadmin_token_file = \"${T}\"\n";
    let folder = Folder::with(&[("w.toml", text), ("token", "hunter2-hunter2-hunter2\n")]);
    let token = folder.0.join("token");
    let set_mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let path = token.display().to_string();
    set_mode(0o640);
    let sources = folder.sources(&[("T", &path)]);
    let (config, warnings) = parse(&sources).unwrap();
    assert_eq!(said(&warnings), Vec::<String>::new());
    let written = config.auth.admin_token.as_ref().unwrap();
    assert_eq!(written.value.reveal(), "hunter2-hunter2-hunter2");
    assert!(!format!("{config:?}{sources:?}{:?}", sources.secrets).contains("hunter2"));
    for setting in settings(&sources) {
        assert!(!format!("{setting:?}").contains("hunter2"));
    }

    set_mode(0o644);
    let expected = "w.toml:2:20: token holds a secret, and every user of this machine may read it \
                    [chmod o-r token]";
    assert_eq!(folder.said(&[("T", &path)]), [expected]);
    std::fs::write(&token, "x".repeat(70_000)).unwrap();
    assert_eq!(folder.said(&[("T", &path)]), ["w.toml:2:20: token: the file is larger than 64 KiB"]);
    let gone = format!("{path}-gone");
    let expected = "w.toml:2:20: token-gone: cannot read the file: No such file or directory (os error 2)";
    assert_eq!(folder.said(&[("T", &gone)]), [expected]);
}

#[test]
fn a_secret_is_in_no_message() {
    let shown = [
        ("[auth]\nadmin_token = \"hunter2\"\nadmin_token_file = \"t\"\n", 3),
        ("[auth]\nadmin_token = \"hunter2 \"\n", 2),
        ("[auth]\nadmin_token = hunter2 hunter2\n", 2),
        ("[auth]\nadmin_tokn = \"hunter2\"\n", 2),
        ("auth = { admin_token = \"hunter2\", x = 1 }\n", 1),
        ("admin_token = \"hunter2\"\n", 1),
        ("[auth]\nadmin_token = 47114711\n", 2),
    ];
    for (text, line) in shown {
        let (_, diagnostics) = read(&sources(text, &[]));
        let said: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        assert!(said[0].contains(&format!(" w.toml:{line}:")), "{said:?}");
        assert!(!said.concat().contains("hunter2") && !said.concat().contains("4711"), "{said:?}");
    }
}

#[test]
fn the_token_is_checked() {
    let cases: &[(&str, &[&str])] = &[
        (
            r#"[auth]
admin_token = "short" # no word of it"#,
            &[
                "2:15: admin_token is shorter than 16 characters: it can be guessed [make one with `openssl rand -hex 32`]",
            ],
        ),
        (
            r#"[auth]
admin_token = ""
admin_tokn = 1"#,
            &[
                "2:15: admin_token must not be empty",
                "3:1: unknown key `admin_tokn` in [auth] [did you mean `admin_token`?]",
            ],
        ),
        (
            r#"[auth]
admin_token = "0123456789 abcdef""#,
            &["2:15: admin_token must have visible ASCII characters only, and no spaces"],
        ),
        (
            r#"[auth]
admin_token = 12
[[routes]]
require_auth = true
upstream = "a""#,
            &["2:15: admin_token must be a string, not an integer"],
        ),
        (
            r#"[auth]
admin_token = "0123456789abcdef"
admin_token_file = "t""#,
            &["3:1: admin_token and admin_token_file are the same setting [keep one of them]"],
        ),
    ];
    for (text, expected) in cases {
        let (_, diagnostics) = read(&sources(text, &[]));
        assert_eq!(said(&diagnostics), *expected, "in:\n{text}");
    }
}
