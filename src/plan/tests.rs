//! The shipped examples, the defaults, the cross references.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::*;
use crate::config::{self, Config, Diagnostic, Sources};
use crate::http::fields::Fields;
use crate::route::{Question, Sender};

const REFERENCE: &str = include_str!("../../config/warpdrive.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");
const THREE_APPS: &str = include_str!("../../config/three-apps.toml");
const RAILS: &str = include_str!("../../config/rails.toml");

fn sources(text: &str) -> Sources {
    Sources {
        file: Some(config::File { path: PathBuf::from("w.toml"), text: text.to_owned() }),
        ..Sources::default()
    }
}

fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
    let line = |one: &Diagnostic| {
        let related = one.related.iter().map(|other| format!(" ({}: {})", other.label, other.place));
        format!("{}: {}: {}{}", one.place, one.severity, one.message, related.collect::<String>())
    };
    diagnostics.iter().map(line).collect()
}

pub(crate) fn loaded(text: &str) -> Loaded {
    match load(&sources(text)) {
        Ok(loaded) => loaded,
        Err(diagnostics) => panic!("{:#?}", lines(&diagnostics)),
    }
}

fn refused(text: &str) -> Vec<Diagnostic> {
    match load(&sources(text)) {
        Ok(_) => panic!("this should be refused:\n{text}"),
        Err(diagnostics) => diagnostics,
    }
}

fn decided(plan: &Plan, host: &[u8], path: &[u8]) -> Option<RouteId> {
    let fields = Fields::default();
    let (canonical, sender) = (path, Sender::default());
    let question = Question { method: b"GET", host, canonical, path, query: b"", fields: &fields, sender };
    plan.tree.decide(&question, &mut plan.tree.scratch()).copied()
}

#[test]
fn the_shipped_files_load() {
    for text in [REFERENCE, MINIMAL] {
        assert_eq!(lines(&loaded(text).warnings), Vec::<String>::new());
    }
    let three = loaded(THREE_APPS);
    let warning = "w.toml:4:1: warning: https_port 443 opens no listener: \
                   no certificate and no domain is configured";
    assert_eq!(lines(&three.warnings), [warning]);
    assert_eq!(three.plan.upstreams.len(), 3);
    assert_eq!(three.plan.routes.len(), 3);
    let token = ("WARPDRIVE_ADMIN_TOKEN".to_owned(), "more-than-sixteen-bytes".to_owned());
    let rails = load(&Sources { environment: vec![token], ..sources(RAILS) }).unwrap();
    assert_eq!(lines(&rails.warnings), Vec::<String>::new());
    assert_eq!(rails.plan.children.len(), 5);
}

/// The table of checks is commented out in the reference: without it there are none.
#[test]
fn the_defaults_of_checks_in_the_reference_are_the_defaults() {
    let title = "# [upstreams.app.health]\n";
    let (_, below) = REFERENCE.split_once(title).unwrap();
    let (table, _) = below.split_once("\n\n").unwrap();
    let is_default = |line: &&str| line.contains(" = ") && !line.starts_with("# host = ");
    let keys: String =
        table.lines().filter(is_default).map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let check = |keys: &str| {
        let upstream = "[upstreams.app]\nsocket = \"s\"\n[upstreams.app.health]\n";
        let text = format!("{upstream}{keys}[[routes]]\nupstream = \"app\"\n");
        loaded(&text).plan.upstreams[0].check.clone().unwrap()
    };
    assert_eq!(keys.lines().count(), 7, "{keys}");
    assert_eq!(check(&keys), check("path = \"/health\"\n"));
}

/// Everything that has a default, in a form that can be compared.
fn defaults(plan: &Plan) -> String {
    let mut upstream = plan.upstreams[0].clone();
    upstream.name.clear();
    format!("{:#?}", (&plan.server, &plan.dns, &plan.limits, &plan.forwarding, &plan.log, upstream))
}

#[test]
fn every_default_in_the_reference_is_the_default() {
    let bare = "upstreams.app = { host = \"127.0.0.1\", port = 3000 }\n\
                routes = [{ upstream = \"app\", path_prefix = \"/\" }]";
    let (reference, bare) = (loaded(REFERENCE), loaded(bare));
    assert_eq!(defaults(&reference.plan), defaults(&bare.plan));
    assert_eq!(reference.events, bare.events);
    let actions = |plan: &Plan| plan.routes[0].action.clone();
    assert_eq!(actions(&reference.plan), actions(&bare.plan));
}

#[test]
fn without_a_file_everything_goes_to_one_upstream() {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut sources = Sources::default();
    let plan = load(&sources).ok().unwrap().plan;
    let host =
        |host: &str, port| upstream::Instance::from(upstream::Place::Host { host: host.to_owned(), port });
    assert_eq!(plan.upstreams[0].name, "default");
    assert_eq!(*plan.upstreams[0].instances, [host("127.0.0.1", 3000)]);
    assert_eq!(plan.server.listen[0], SocketAddr::from(([0; 4], 8080)));

    sources.environment = vec![
        variable("WARPDRIVE_HTTP_PORT", "0"),
        variable("WARPDRIVE_TARGET_HOST", "App.internal"),
        variable("WARPDRIVE_TARGET_PORT", "81"),
    ];
    let loaded = load(&sources).ok().unwrap();
    assert!(loaded.warnings.is_empty());
    let plan = loaded.plan;
    assert_eq!(*plan.upstreams[0].instances, [host("app.internal", 81)]);
    assert_eq!(plan.server.listen[1], "[::]:0".parse().unwrap());
    assert_eq!(decided(&plan, b"any", b"/x"), Some(RouteId(0)));
    assert_eq!(plan.routes[0].place, "default");
}

#[test]
fn the_environment_overrides_the_file() {
    let mut sources = sources(MINIMAL);
    let port = ("WARPDRIVE_HTTP_PORT".to_owned(), "9090".to_owned());
    sources.environment.push(port);
    let plan = load(&sources).ok().unwrap().plan;
    assert!(plan.server.listen.iter().all(|address| address.port() == 9090));
}

#[test]
fn routes_become_actions_in_document_order() {
    let plan = loaded(
        r#"
        upstreams.b.socket = "b.sock"
        upstreams.a.socket = "a.sock"
        [[routes]]
        path_prefix = "/a/"
        strip_prefix = true
        upstream = "a"
        [[routes]]
        path_exact = "/b"
        host = "B.example"
        upstream = "b"
        [[routes]]
        path_prefix = "/"
        strip_prefix = true
        upstream = "a"
        "#,
    )
    .plan;
    let names: Vec<_> = plan.upstreams.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    let actions: Vec<_> = plan.routes.iter().map(forward).collect();
    let actions: Vec<_> = actions.iter().map(|one| (one.upstream.0, &one.path)).collect();
    assert_eq!(actions, [(1, &PathChange::Strip(1)), (0, &PathChange::Keep), (1, &PathChange::Keep)]);
    assert_eq!(plan.routes[1].place, "w.toml:8");
    let cases: [(&[u8], &[u8], u32); 4] =
        [(b"x", b"/a", 0), (b"x", b"/ab", 2), (b"b.example", b"/b", 1), (b"x", b"/b", 2)];
    for (host, path, expected) in cases {
        assert_eq!(decided(&plan, host, path), Some(RouteId(expected)));
    }
}

fn forward(route: &Route) -> &Forward {
    match &route.action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

#[test]
fn timeouts_are_the_routes_or_the_upstreams_or_the_default() {
    let plan = loaded(
        r#"
        upstreams.a = { socket = "a.sock", read_timeout = "7s" }
        [[routes]]
        path_exact = "/slow"
        upstream = "a"
        read_timeout_secs = 120
        connect_timeout = "1s"
        [[routes]]
        upstream = "a"
        "#,
    )
    .plan;
    let secs = |route: &Route| {
        let forward = forward(route);
        (forward.connect_timeout.as_secs(), forward.read_timeout.as_secs())
    };
    let timeouts: Vec<_> = plan.routes.iter().map(secs).collect();
    assert_eq!(timeouts, [(1, 120), (5, 7)]);
}

#[test]
fn only_routes_with_captures_take_them() {
    let routes = [
        ("path = \"/{id}\"", "rewrite = \"/x/${id}\"", true),
        ("path = \"/{id}\"", "rewrite = \"/x\"", false),
        ("path = \"/{id}\"", "add_headers = { name = \"X-Id\", value = \"$id\" }", true),
        ("path = \"/{id}\"", "response_headers = { name = \"X-Id\", value = \"$id\" }", true),
        ("path = \"/{id}\"", "response_headers = { name = \"X-Uri\", value = \"$uri\" }", false),
        ("path_regex = \"^/(a)\"", "rewrite = \"/$1\"", true),
    ];
    for (condition, action, expected) in routes {
        let text =
            format!("upstreams.a.socket = \"a.sock\"\n[[routes]]\n{condition}\nupstream = \"a\"\n{action}\n");
        assert_eq!(loaded(&text).plan.routes[0].captured.is_some(), expected, "{action}");
    }
}

#[test]
fn what_cannot_work_between_the_parts_is_refused_at_once() {
    let found = refused(
        r#"[upstreams.rails]
socket = "r.sock"
[upstreams.cable]
socket = "c.sock"
[[routes]]
path_prefix = "/a"
upstream = "rials"
[[routes]]
path_exact = "/a/b"
upstream = "rails"
[[routes]]
host = "a.example"
upstream = "rails"
[[routes]]
host = "A.example"
path_prefix = "/x"
upstream = "nobody"
"#,
    );
    let expected = [
        "w.toml:3:12: warning: upstream `cable` is not used by any route",
        "w.toml:7:12: error: upstream `rials` is not defined (`rails` is defined here: w.toml:1:12)",
        "w.toml:8:1: error: this route can never match: an earlier one takes all of its requests \
         (this one takes them: w.toml:5:1)",
        "w.toml:14:1: error: this route can never match: an earlier one takes all of its requests \
         (this one takes them: w.toml:11:1)",
        "w.toml:17:12: error: upstream `nobody` is not defined",
    ];
    assert_eq!(lines(&found), expected);
    let help = |index: usize| found[index].help.clone().unwrap_or_default();
    assert_eq!(help(1), "did you mean `rails`?");
    assert_eq!(help(4), "defined: `rails`, `cable`");
}

/// The conditions of routes; of each that can never match, the number, the number of the one that
/// takes its requests, and the reason.
type Shadows = (&'static [&'static str], &'static [(usize, usize, &'static str)]);

#[test]
fn a_route_that_can_never_match_names_the_one_that_is_in_its_way() {
    const SAME: &str = "an earlier one has the same conditions";
    const WIDER: &str = "an earlier one takes all of its requests";
    let cases: [Shadows; 11] = [
        (&["path_prefix = \"/a\"", "path_prefix = \"/a/\""], &[(2, 1, SAME)]),
        (&["path_exact = \"/a\"", "path_exact = \"/a\""], &[(2, 1, SAME)]),
        (&["path_prefix = \"/\"", "path_exact = \"/\""], &[(2, 1, WIDER)]),
        (&["path_prefix = \"/a/\"", "path_exact = \"/a\""], &[(2, 1, WIDER)]),
        (&["path_prefix = \"/a\"", "path_exact = \"/ab\""], &[]),
        (&["path_exact = \"/a\"", "path_prefix = \"/a\""], &[]),
        (&["path_prefix = \"/\"", ""], &[(2, 1, SAME)]),
        (&["", "path_prefix = \"/\""], &[(2, 1, SAME)]),
        (&["host = \"a\"", "path_prefix = \"/x\""], &[]),
        (&["path_prefix = \"/x\"", "host = \"a\"\npath_prefix = \"/x/y\""], &[(2, 1, WIDER)]),
        (&["host = \"A\"", "host = \"a\"\npath_exact = \"/x\"", "host = \"b\""], &[(2, 1, WIDER)]),
    ];
    for (conditions, expected) in cases {
        let mut text = "upstreams.a.socket = \"s\"\n".to_owned();
        let mut headers = Vec::new();
        for conditions in conditions {
            headers.push(text.len());
            text += &format!("[[routes]]\nupstream = \"a\"\n{conditions}\n");
        }
        let route = |place: &config::Place| {
            let start = place.range().map(|range| range.start.byte);
            1 + headers.iter().position(|header| Some(*header) == start).expect("it is a header")
        };
        let found = load(&sources(&text)).err().unwrap_or_default();
        let found: Vec<_> = found
            .iter()
            .map(|one| {
                let reason = one.message.strip_prefix("this route can never match: ");
                (route(&one.place), route(&one.related[0].place), reason.unwrap_or(&one.message))
            })
            .collect();
        assert_eq!(found, expected, "in:\n{text}");
    }
}

#[test]
fn routes_that_overlap_but_do_not_cover_are_accepted() {
    let loaded = loaded(
        r#"
        upstreams.a.socket = "a.sock"
        routes = [
            { path_exact = "/a", upstream = "a" },
            { path_prefix = "/a", upstream = "a" },
            { path_prefix = "/", host = "a.example", upstream = "a" },
            { path_exact = "/", upstream = "a" },
            { path_prefix = "/ab", upstream = "a" },
            { upstream = "a" },
        ]
        "#,
    );
    assert!(loaded.warnings.is_empty());
}

#[test]
fn mistakes_of_reading_and_of_compiling_come_together() {
    let found = refused(
        r#"[upstreams.a]
socket = "a.sock"
[[routes]]
path_prefix = "nowhere"
upstream = "b"
[[routes]]
cache = true
upstream = "a"
[[routes]]
path_prefix = "/x"
upstream = "a"
[[routes]]
path_exact = "/x/y"
upstream = "a"
[log]
lvel = "info"
"#,
    );
    // A route that was not understood is in nobody's way, nor is anything in its.
    let expected = [
        "w.toml:4:15: error: path_prefix must be a path that starts with `/`, not `nowhere`",
        "w.toml:5:12: error: upstream `b` is not defined",
        "w.toml:7:1: error: `cache` in [[routes]] is known, but does not work yet in this version",
        "w.toml:12:1: error: this route can never match: an earlier one takes all of its requests \
         (this one takes them: w.toml:9:1)",
        "w.toml:16:1: error: unknown key `lvel` in [log]",
    ];
    assert_eq!(lines(&found), expected);
}

#[test]
fn after_broken_syntax_nothing_is_said_to_be_undefined() {
    let found = refused("[upstreams.a\nsocket = \"a\"\n[[routes]]\nupstream = \"a\"\n");
    assert_eq!(lines(&found), ["w.toml:1:13: error: unclosed table, expected `]`"]);
}

/// Whatever is written, reading it ends with an answer, and the answer can be shown.
#[test]
fn a_file_with_anything_in_it_is_read_and_explained_without_a_panic() {
    const PIECES: [&str; 24] = [
        "\n",
        "\"",
        "'",
        "[",
        "]",
        "[[routes]]\n",
        "[server]\n",
        "{",
        "}",
        "=",
        ".",
        ",",
        "#",
        "\\",
        "\0",
        "\r\n",
        "é漢",
        "\u{1b}",
        "\u{feff}",
        "upstream = 1\n",
        "http_port = 1\n",
        "\"\"\"",
        "-1",
        "[upstreams.app]\n",
    ];
    // Numbers that look random and are the same in every run.
    let mut state: u64 = 11;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let mut explained = 0;
    for _ in 0..400 {
        let mut text = THREE_APPS.to_owned();
        for _ in 0..=next(6) {
            let start = text.floor_char_boundary(next(text.len() + 1));
            let end = text.ceil_char_boundary(text.len().min(start + next(20)));
            text.replace_range(start..end, PIECES[next(PIECES.len())]);
        }
        let found = match load(&sources(&text)) {
            Ok(loaded) => loaded.warnings,
            Err(mistakes) => mistakes,
        };
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(shown.iter().all(|one| one.starts_with("error: ") || one.starts_with("warning: ")));
        explained += shown.len();
    }
    assert!(explained > 400, "the texts are hardly wrong: {explained}");
}

#[test]
fn nothing_configured_is_allowed_with_a_warning() {
    let loaded = loaded("");
    let warning = "w.toml: warning: there are no routes: every request will be answered with 404";
    assert_eq!(lines(&loaded.warnings), [warning]);
    assert!(loaded.plan.tree.is_empty());
    let (_, warnings) = compile(&Config::empty(config::Place::Default)).ok().unwrap();
    assert_eq!(warnings.len(), 1);
}

#[test]
fn the_most_fields_are_the_same_everywhere() {
    let most = crate::http::h1::FIELDS_MAX;
    let text = |fields| format!("[server.limits]\nfields = {fields}\n");
    assert_eq!(loaded(&text(most)).plan.limits.fields, most);
    assert_eq!(refused(&text(most + 1)).len(), 1);
}

#[test]
fn a_route_that_requires_a_token_has_a_step_or_is_refused() {
    let route = |token: &str| {
        format!("{token}upstreams.a.socket = \"a\"\nroutes = [{{ upstream = \"a\", require_auth = true }}]\n")
    };
    let plan = loaded(&route("auth.admin_token = \"0123456789abcdef\"\n")).plan;
    assert_eq!(
        *plan.routes[0].steps,
        [Step::Auth(Arc::new(middleware::auth::Settings::new("0123456789abcdef")))]
    );
    let refused_for = |token: &str| lines(&refused(&route(token)));
    let none = "w.toml:2:44: error: this route requires a token, and none is configured";
    assert_eq!(refused_for(""), [none]);
    let empty = "w.toml:1:20: error: admin_token must not be empty";
    assert_eq!(refused_for("auth.admin_token = \"\"\n"), [empty]);
    let unread = "w.toml:3:44: error: this route requires a token, and the configured one cannot be used";
    assert_eq!(refused_for("auth.admin_token_file = \"unread\"\n"), [unread]);
    let without = route("").replace("true", "false");
    assert!(loaded(&without).plan.routes[0].steps.is_empty());
}

#[test]
fn nobody_trusted_is_told() {
    let loaded = loaded(
        "middleware.forward_headers = true\nupstreams.a.socket = \"a\"\nroutes = [{ upstream = \"a\" }]",
    );
    let warning = "w.toml:1:30: warning: forward_headers changes nothing: no address is trusted";
    assert_eq!(lines(&loaded.warnings), [warning]);
}
