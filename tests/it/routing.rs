//! Which route a request takes: the cases of tests/routing, and spellings against real guards.
//!
//! A case is a configuration's `[[routes]]` and `[[requests]]`, each with the number of the route
//! it takes, from 1, or none. The tree decides as in a running process; asking every rule in
//! turn must say the same.

use std::path::{Path, PathBuf};

use toml::Table;
use warpdrive::config::{self, Sources};
use warpdrive::http::h1::{Bounds, Parsed, parse};
use warpdrive::http::head::RequestHead;
use warpdrive::plan;
use warpdrive::route::{Question, Verdict};

use crate::harness::{Builder, Origin, Proxy};

const BOUNDS: Bounds = Bounds { head: 32 << 10, fields: 100, uri: 8 << 10 };

/// A request as a case writes it: a `GET` to some host, unless it says otherwise.
#[derive(Debug)]
struct Request {
    target: String,
    method: String,
    host: String,
    fields: Vec<String>,
    /// From 1.
    route: Option<usize>,
}

impl Request {
    fn read(mut table: Table) -> Request {
        let mut text = |key: &str| table.remove(key).map(|value| value.as_str().unwrap().to_owned());
        let (target, method, host) = (text("target").expect("a target"), text("method"), text("host"));
        let fields = table.remove("fields").map_or(Vec::new(), |list| {
            list.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
        });
        let route =
            table.remove("route").map(|number| usize::try_from(number.as_integer().unwrap()).unwrap());
        assert!(table.is_empty(), "{table:?}");
        let method = method.unwrap_or_else(|| "GET".to_owned());
        let host = host.unwrap_or_else(|| "any.example".to_owned());
        Request { target, method, host, fields, route }
    }

    /// As it comes over the network.
    fn head(&self) -> RequestHead {
        let lines: String = self.fields.iter().map(|line| format!("{line}\r\n")).collect();
        let (method, target, host) = (&self.method, &self.target, &self.host);
        let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
        let mut head = RequestHead::default();
        match parse::request(text.as_bytes(), BOUNDS, &mut head) {
            Ok(Parsed::Head(_)) => head,
            other => panic!("{other:?} of {text}"),
        }
    }
}

/// The configuration of a case, with the upstreams that it names, and its requests.
fn read(path: &Path) -> (Sources, Vec<Request>) {
    let text = std::fs::read_to_string(path).unwrap();
    let (routes, requests) = text.split_at(text.find("[[requests]]").expect("a case has requests"));
    let list = |text: &str, key: &str| {
        let mut table: Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        table.remove(key).unwrap().as_array().unwrap().clone()
    };
    let requests = list(requests, "requests").into_iter();
    let requests = requests.map(|request| Request::read(request.as_table().unwrap().clone())).collect();
    let mut text = routes.to_owned();
    let routes = list(routes, "routes");
    let mut names: Vec<&str> = routes.iter().map(|route| route["upstream"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        text += &format!("\n[upstreams.{name}]\nsocket = \"{name}.sock\"\n");
    }
    let file = config::File { path: path.to_owned(), text };
    (Sources { file: Some(file), ..Sources::default() }, requests)
}

fn check(path: &Path) -> usize {
    let (sources, requests) = read(path);
    let plan =
        plan::load(&sources).unwrap_or_else(|mistakes| panic!("{}: {mistakes:#?}", path.display())).plan;
    let (config, _) = config::parse(&sources).unwrap();
    let rules = plan::rules(&config, &mut Vec::new());
    assert_eq!(rules.len(), config.routes.len());
    let mut scratch = plan.tree.scratch();
    for request in &requests {
        let head = request.head();
        let question = Question::of(&head);
        let number = |route: plan::RouteId| route.0 as usize + 1;
        let decided = plan.tree.decide(&question, &mut scratch).copied().map(number);
        assert_eq!(decided, request.route, "{}: {request:?}", path.display());
        let first = rules.iter().find(|rule| rule.verdict(&question) == Verdict::Holds);
        assert_eq!(first.map(|rule| number(rule.target)), request.route, "{}: {request:?}", path.display());
    }
    requests.len()
}

#[test]
fn every_request_takes_the_route_that_its_case_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/routing");
    let cases: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(cases.len() >= 11, "there are only {} cases", cases.len());
    let requests: usize = cases.iter().map(|path| check(path)).sum();
    assert!(requests >= 80, "there are only {requests} requests");
}

/// Some paths of an application behind a token, and the others not.
fn guarded_proxy(origin: &Origin) -> Proxy {
    let guard = |conditions: &str| format!("{conditions}\nrequire_auth = true");
    Builder::new()
        .upstream("app", origin, "")
        .toml("[auth]\nadmin_token = \"correct-horse-battery-staple\"")
        .route("app", &guard("path_prefix = \"/admin\""))
        .route("app", &guard("path = \"/user/{id}/keys\""))
        .route("app", &guard("path_regex = \"^/internal/\""))
        .route("app", &guard("host = \"*.ops.example\""))
        .route("app", &guard("path_prefix = \"/hooks\"\nmethods = [\"GET\", \"POST\"]"))
        .route("app", &guard("path_prefix = \"/@admin\""))
        .route("app", "path_prefix = \"/\"")
        .start()
}

#[test]
fn no_spelling_of_a_path_gets_around_a_guard() {
    let origin = Origin::ok("open");
    let proxy = guarded_proxy(&origin);
    let guarded = [
        ("GET", "/admin", "a"),
        ("GET", "/%61dmin", "a"),
        ("GET", "/%41dmin/../admin", "a"),
        ("GET", "/x/../admin/", "a"),
        ("GET", "/x/%2e%2E/admin", "a"),
        ("GET", "/./admin", "a"),
        ("GET", "/../../admin?x", "a"),
        ("GET", "http://a/admin", "a"),
        ("GET", "HTTP://a:1/%61dmin", "a"),
        ("GET", "/user/7/keys", "a"),
        ("GET", "/user/a%2Fb/%6beys", "a"),
        ("GET", "/user/7/x/../keys", "a"),
        ("GET", "/%69nternal/x", "a"),
        ("GET", "/x/../internal/", "a"),
        ("GET", "/", "x.ops.example"),
        ("GET", "/", "X.OPS.Example:80"),
        ("GET", "/", "x.y.ops.example."),
        ("GET", "http://x.ops.example/", "open.example"),
        ("POST", "/%68ooks/1", "a"),
        ("GET", "//admin", "a"),
        ("GET", "/.//admin", "a"),
        ("GET", "/admin//users", "a"),
        ("GET", "///%61dmin//", "a"),
        ("GET", "http://a//admin", "a"),
        ("GET", "/user//7//keys", "a"),
        ("GET", "//internal//x", "a"),
        ("GET", "/%40admin", "a"),
        ("GET", "//@admin/%3Bx", "a"),
    ];
    let mut client = proxy.client();
    for (method, target, host) in guarded {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response_to(method).status, 401, "{method} {target} of {host}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn what_may_be_a_guarded_path_is_refused_without_a_challenge() {
    let origin = Origin::ok("open");
    let proxy = guarded_proxy(&origin);
    let mut client = proxy.client();
    let ambiguous = [
        "/admin%2Fusers",
        "/admin%2f",
        "/admin;v=1",
        "/admin%3Bv=1/x",
        "/admin%5Cusers",
        "/admin\\users",
        "/x/..%2Fadmin",
        "/x/..%5cadmin",
        "/x/..;/admin",
        "/x%2F..%2Fadmin;y",
        "//open.example/admin",
        "///open.example/admin",
        "/\\/open.example/admin",
        "/\\open.example/admin",
        "/user/7%2Fkeys",
        "/internal%2F",
        "/hooks%2F1",
        "/%40admin%2Fx",
    ];
    for target in ambiguous {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: ops.example\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.text()), (400, "ambiguous path\n".to_owned()), "{target}");
        client = proxy.client();
    }
    assert!(origin.requests().is_empty());
    // These are other paths. What of them an application takes for a guarded one is its own rule.
    let open = [
        "/Admin",
        "/%2561dmin",
        "/user//keys",
        "/x/internal/",
        "/a%2Fb",
        "/files//x%5Cy;z",
        "//cdn.example/x",
    ];
    for target in open {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: ops.example\r\n\r\n"));
        assert_eq!(client.response().text(), "open", "{target}");
    }
    let seen: Vec<String> =
        origin.wait_requests(open.len()).iter().map(|request| request.head.start.clone()).collect();
    assert_eq!(seen, open.map(|target| format!("GET {target} HTTP/1.1")));
}

#[test]
fn a_path_with_two_readings_is_refused_only_where_a_guard_would_be_passed() {
    let origin = Origin::ok("app");
    let proxy = Builder::new()
        .upstream("app", &origin, "")
        .toml("[auth]\nadmin_token = \"correct-horse-battery-staple\"")
        .toml("[[routes]]\npath_prefix = \"/api/.git\"\nrespond = { status = 403 }")
        .route("app", "path_prefix = \"/public\"")
        .route("app", "path_prefix = \"/api\"")
        .route("app", "path = \"/projects/{name}\"")
        .route("app", "path_prefix = \"/members\"\nrequire_auth = true")
        .toml("[[routes]]\nrequire_auth = true\npath_prefix = \"/login\"\nredirect = { to = \"/\", status = 302 }")
        .start();
    let ask = |target: &str| {
        let token = "X-Admin-Token: correct-horse-battery-staple";
        let mut client = proxy.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{token}\r\n\r\n"));
        client.response().status
    };
    let table = [
        // Denied by an earlier route.
        ("/api/.git%2Fconfig", 400),
        ("/api/x/..%2F.git", 400),
        ("/api/.git;x", 400),
        // Out of everything that is routed, where the application may have more.
        ("/api/..%2Fsecret", 400),
        ("/public/..;/secret", 400),
        ("//public/secret", 400),
        // An encoded slash as a part of a name, as GitLab has it: the other reading has no route.
        ("/projects/group%2Fname", 200),
        ("/api/a%2Fb;c%5Cd", 200),
        // The route of the other reading has no guard that this one lacks.
        ("/members/x/..%2F..%2Fpublic", 200),
        ("/members%2F..%2Fpublic", 404),
        // What we answer ourselves is read by us alone.
        ("/login/..%2Fmembers", 302),
    ];
    for (target, status) in table {
        assert_eq!(ask(target), status, "{target}");
    }
    let line = proxy.log_line(400);
    assert_eq!(line.text("reason"), "ambiguous path");
}

#[test]
fn what_a_route_makes_of_a_path_leads_nowhere_else() {
    let origin = Origin::ok("app");
    let proxy = Builder::new()
        .upstream("app", &origin, "")
        .route("app", "path_prefix = \"/app\"\nstrip_prefix = true")
        .route("app", "path = \"/files/{*rest}\"\nrewrite = \"/$rest\"")
        .route("app", "path_regex = \"^/@(.+)$\"\nrewrite = \"/users/$1\"")
        .route("app", "")
        .start();
    let table = [
        ("/app/..%2Fadmin/x", 400, ""),
        ("/app/..;/admin/x", 400, ""),
        ("/app/..\\admin", 400, ""),
        ("/@..%2Fpriv", 400, ""),
        ("/@..;/priv", 400, ""),
        ("/app//x/admin", 200, "/x/admin"),
        ("/app/\\x/admin", 200, "/x/admin"),
        ("/files//x/admin", 200, "/x/admin"),
        ("/@a%2Fb;c", 200, "/users/a%2Fb;c"),
        ("/app/a//b%2Fc", 200, "/a//b%2Fc"),
    ];
    let mut forwarded = 0;
    for (sent, status, wanted) in table {
        assert_eq!(proxy.client().get(sent).status, status, "{sent}");
        if status == 200 {
            forwarded += 1;
            assert_eq!(origin.wait_requests(forwarded)[forwarded - 1].target(), wanted, "{sent}");
        }
    }
    assert_eq!(origin.requests().len(), forwarded);
}

#[test]
fn empty_segments_match_and_arrive_as_they_were_sent() {
    let origin = Origin::ok("app");
    let proxy = Builder::new()
        .upstream("app", &origin, "")
        .route("app", "path_prefix = \"/strip\"\nstrip_prefix = true")
        .route("app", "path_prefix = \"/@old\"\nrewrite = \"/new\"")
        .route("app", "path = \"/files/{*rest}\"\nrewrite = \"/f/${rest}\"")
        .route("app", "path_regex = \"^/u/([0-9]+)$\"\nrewrite = \"/user/$1\"")
        .route("app", "path_regex = \"^/@(.*)$\"\nrewrite = \"/at/$1\"")
        .route("app", "")
        .start();
    let table = [
        ("//strip//a//%40b", "/a//%40b"),
        ("/strip", "/"),
        ("/%40old/x//y", "/new/x//y"),
        ("//@old", "/new"),
        ("//files//a//b%2Fc", "/f//a//b%2Fc"),
        ("/u//7", "/user/7"),
        ("//%40%7C%3Bx", "/at/%7C%3Bx"),
        ("//x//%21", "//x//%21"),
    ];
    for (number, (sent, wanted)) in table.into_iter().enumerate() {
        assert_eq!(proxy.client().get(sent).status, 200, "{sent}");
        assert_eq!(origin.wait_requests(number + 1)[number].target(), wanted, "{sent}");
    }
}

#[test]
fn no_route_and_no_routes_are_told_apart() {
    let origin = Origin::ok("never");
    let one = Builder::new().upstream("app", &origin, "").route("app", "methods = [\"PUT\"]").start();
    let none = Builder::new().start();
    for (proxy, reason) in [(one, "no route matches"), (none, "no routes are configured")] {
        let response = proxy.client().get("/");
        assert_eq!((response.status, response.text()), (404, format!("{reason}\n")));
        let line = &proxy.log_lines(1, |_| true)[0];
        assert_eq!((line.status(), line.text("reason")), (404, reason));
    }
}
