//! What is taken to be true of who sent a request: by conditions, hashing, the log and what an
//! application is told.

use std::collections::BTreeSet;

use crate::harness::origin::{Request, describe, ok};
use crate::harness::{Builder, Client, Origin, Proxy};

const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";

fn trusting(builder: Builder) -> Builder {
    builder.server(TRUSTING).middleware("forward_headers = true")
}

fn status(client: &mut Client, target: &str, fields: &str) -> u16 {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n"));
    client.response().status
}

/// What the origin gets of a request with these fields.
fn seen(client: &mut Client, origin: &Origin, host: &str, fields: &str) -> Request {
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
    assert_eq!(client.response().status, 200);
    origin.requests().pop().expect("the origin has answered")
}

/// Routes as an operator writes them who reads that these fields are ours.
fn guarded(origin: &Origin) -> Builder {
    Builder::new()
        .upstream("app", origin, "")
        .route(
            "app",
            "path_prefix = \"/internal\"\nheader = { name = \"X-Real-IP\", value_regex = \"^10[.]\" }",
        )
        .toml("[[routes]]\npath_prefix = \"/internal\"\nrespond = { status = 403, body = \"no\" }")
        .toml(
            "[[routes]]\nheader = { name = \"X-Forwarded-Proto\", value = \"http\" }\n\
             redirect = { to = \"https://${host}${uri}\", status = 308 }",
        )
        .route("app", "")
}

#[test]
fn conditions_see_what_the_application_will_be_told() {
    let origin = Origin::ok("app");
    let proxy = guarded(&origin).start();
    let mut client = proxy.client();
    let table = [
        ("/internal", "", 403),
        ("/internal", "X-Real-IP: 10.0.0.1\r\n", 403),
        ("/internal", "X_Real_IP: 10.0.0.1\r\n", 403),
        ("/", "", 308),
        ("/", "X-Forwarded-Proto: https\r\n", 308),
    ];
    for (target, fields, expected) in table {
        assert_eq!(status(&mut client, target, fields), expected, "a stranger: {target} {fields}");
    }
    assert!(origin.requests().is_empty());

    let proxy = trusting(guarded(&origin)).start();
    let mut client = proxy.client();
    let table = [
        ("/internal", "", 403),
        ("/internal", "X-Real-IP: 10.0.0.1\r\n", 200),
        ("/internal", "X-Forwarded-For: 6.6.6.6, 10.0.0.1\r\n", 403),
        ("/internal", "X-Forwarded-For: 10.0.0.7, 10.0.0.1\r\n", 200),
        ("/", "", 308),
        ("/", "X-Forwarded-Proto: https\r\n", 200),
        ("/", "X_Forwarded_Proto: https\r\n", 308),
    ];
    for (target, fields, expected) in table {
        assert_eq!(status(&mut client, target, fields), expected, "a trusted proxy: {target} {fields}");
    }
}

#[test]
fn a_condition_is_asked_of_everything_that_is_ours() {
    let origin = Origin::ok("app");
    let absent =
        |name: &str| format!("path_exact = \"/{name}\"\nheader = {{ name = \"{name}\", absent = true }}");
    let present = |name: &str| format!("path_exact = \"/{name}\"\nheader = {{ name = \"{name}\" }}");
    let never = ["Forwarded", "Client-IP", "X-Forwarded-Ssl", "Proxy", "X-Original-URL", "X-Sendfile"];
    let always =
        ["X-Request-Id", "X-Request-Start", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port"];
    // More than are asked in turn: these are looked up.
    let many = (0..20).map(|n| {
        format!("path_exact = \"/many\"\nheader = {{ name = \"X-Real-IP\", value = \"10.0.0.{n}\" }}")
    });
    let builder = Builder::new().upstream("app", &origin, "");
    let builder = never.iter().fold(builder, |builder, name| builder.route("app", &absent(name)));
    let builder = always.iter().fold(builder, |builder, name| builder.route("app", &present(name)));
    let proxy = many.fold(builder, |builder, route| builder.route("app", &route)).start();
    let mut client = proxy.client();
    for name in never {
        assert_eq!(status(&mut client, &format!("/{name}"), &format!("{name}: 1\r\n")), 200, "{name}");
    }
    for name in always {
        assert_eq!(status(&mut client, &format!("/{name}"), ""), 200, "{name}");
    }
    assert_eq!(status(&mut client, "/many", "X-Real-IP: 10.0.0.7\r\n"), 404);
}

#[test]
fn a_route_may_be_for_some_clients_and_for_a_scheme() {
    let origin = Origin::ok("app");
    let builder = Builder::new()
        .upstream("app", &origin, "")
        .route(
            "app",
            "path_prefix = \"/internal\"\nclient = [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]",
        )
        .toml("[[routes]]\npath_prefix = \"/internal\"\nrespond = { status = 403, body = \"no\" }")
        .toml("[[routes]]\nscheme = \"http\"\nredirect = { to = \"https://${host}${uri}\", status = 308 }")
        .route("app", "scheme = \"https\"");
    let proxy = trusting(builder).start();
    let mut client = proxy.client();
    let table = [
        ("/internal", "", 403),
        ("/internal", "X-Forwarded-For: 6.6.6.6\r\n", 403),
        ("/internal", "X-Forwarded-For: 10.1.2.3\r\n", 200),
        ("/internal", "X-Forwarded-For: 192.0.2.7:4711\r\n", 200),
        ("/internal", "X-Forwarded-For: 192.0.2.8\r\n", 403),
        ("/internal", "X-Forwarded-For: [2001:db8::9]:4711\r\n", 200),
        ("/internal", "X-Forwarded-For: 10.1.2.3, 6.6.6.6\r\n", 403),
        ("/internal", "X-Real-IP: 10.1.2.3\r\n", 403),
        ("/", "", 308),
        ("/", "X-Forwarded-Proto: HTTPS\r\n", 200),
        ("/", "X-Forwarded-Proto: wss\r\n", 200),
        ("/", "X-Forwarded-Proto: ws\r\n", 308),
    ];
    for (target, fields, expected) in table {
        assert_eq!(status(&mut client, target, fields), expected, "{target} {fields}");
    }
}

#[test]
fn a_client_that_is_no_proxy_is_its_own_address() {
    let origin = Origin::ok("app");
    let proxy = Builder::new()
        .upstream("app", &origin, "")
        .route("app", "client = [\"127.0.0.2\"]")
        .toml("[[routes]]\nclient = [\"127.0.0.0/8\"]\nrespond = { status = 403, body = \"no\" }")
        .start();
    for (own, expected) in [([127, 0, 0, 1], 403), ([127, 0, 0, 2], 200), ([127, 0, 0, 3], 403)] {
        let mut client = Client::connect_from(own.into(), proxy.address());
        assert_eq!(status(&mut client, "/", "X-Forwarded-For: 127.0.0.2\r\n"), expected, "{own:?}");
    }
}

/// Fields by which applications learn scheme, host, prefix and client: strangers may not say them.
const CLAIMS: &str = "X-Forwarded-Ssl: on\r\nX-Forwarded-Scheme: https\r\nX-Forwarded-Prefix: /evil\r\n\
    X-Forwarded-Server: evil\r\nX-Forwarded-Anything: evil\r\nX-Forwarded: for=6.6.6.6\r\nX-Scheme: https\r\n\
    X-Url-Scheme: https\r\nFront-End-Https: on\r\nClient-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\n\
    X-Client-IP: 6.6.6.6\r\nX-Cluster-Client-IP: 6.6.6.6\r\nX-Script-Name: /evil\r\n";

/// What no one may say: it would be a variable of the application's environment, or another path.
const NEVER: &str = "Proxy: http://evil/\r\nX-Original-URL: /evil\r\nX-Rewrite-URL: /evil\r\n\
    SCRIPT_NAME: /evil\r\nScript-Name: /evil\r\nPath_Info: /evil\r\nX_Forwarded_Ssl: on\r\nClient_IP: 6.6.6.6\r\n\
    X_Original_URL: /evil\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n";

fn names(fields: &str) -> Vec<String> {
    let names = fields.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.to_ascii_lowercase()).collect()
}

fn left(request: &Request, fields: &str) -> Vec<String> {
    names(fields).into_iter().filter(|name| request.head.has(name)).collect()
}

#[test]
fn what_applications_believe_is_not_passed_on_from_strangers() {
    let origin = Origin::ok("app");
    let proxy = Proxy::to(&origin);
    let fields = format!("{CLAIMS}{NEVER}X-Other: 1\r\nX_Other: 2\r\n");
    let request = seen(&mut proxy.client(), &origin, "a", &fields);
    assert_eq!(left(&request, &fields), ["x-other", "x_other"], "{}", describe(&request));

    let proxy = trusting(Proxy::with(&origin)).start();
    let request = seen(&mut proxy.client(), &origin, "a", &fields);
    assert_eq!(left(&request, CLAIMS), names(CLAIMS), "{}", describe(&request));
    assert_eq!(left(&request, NEVER), Vec::<String>::new(), "{}", describe(&request));
}

#[test]
fn an_operator_may_name_more_of_them() {
    let origin = Origin::ok("app");
    let more = "untrusted_headers = [\"CF-Connecting-IP\", \"X-Auth-*\"]";
    let fields = "CF_Connecting-ip: 6.6.6.6\r\nX-Auth-User: root\r\nx_auth_groups: wheel\r\nX-Auth: kept\r\n";
    let builder = || {
        Builder::new()
            .server(more)
            .upstream("app", &origin, "")
            .toml("[[routes]]\nheader = { name = \"X-Auth-User\" }\npath_exact = \"/user\"\nrespond = { status = 403 }")
            .route("app", "")
    };
    let proxy = builder().start();
    assert_eq!(status(&mut proxy.client(), "/user", fields), 200);
    let request = seen(&mut proxy.client(), &origin, "a", fields);
    assert_eq!(left(&request, fields), ["x-auth"], "{}", describe(&request));
    let proxy = trusting(builder()).start();
    assert_eq!(status(&mut proxy.client(), "/user", fields), 403);
    let request = seen(&mut proxy.client(), &origin, "a", fields);
    assert_eq!(left(&request, fields), names(fields), "{}", describe(&request));
}

#[test]
fn a_route_may_set_what_strangers_may_not() {
    let origin = Origin::ok("app");
    let proxy = Builder::new()
        .upstream("app", &origin, "")
        .route("app", "add_headers = { name = \"X-Forwarded-Prefix\", value = \"/own\" }")
        .start();
    let request =
        seen(&mut proxy.client(), &origin, "a", "X-Forwarded-Prefix: /evil\r\nX_Forwarded_Prefix: /e\r\n");
    assert_eq!(request.head.values("x-forwarded-prefix"), ["/own"]);
    assert!(!request.head.has("x_forwarded_prefix"));
}

#[test]
fn the_client_is_an_address_however_a_proxy_writes_it() {
    let origin = Origin::ok("app");
    let proxy = trusting(Proxy::with(&origin)).start();
    let mut client = proxy.client();
    let table = [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:51034", "203.0.113.9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("2001:db8::9", "2001:db8::9"),
        ("\"[2001:db8::9]:4711\"", "2001:db8::9"),
        ("203.0.113.9,", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9:1, , 10.0.0.3:80 ,", "203.0.113.9"),
        ("unknown", "127.0.0.1"),
        ("203.0.113.9:", "127.0.0.1"),
        ("[203.0.113.9]", "127.0.0.1"),
        ("[2001:db8::9]x", "127.0.0.1"),
    ];
    for (received, expected) in table {
        let request = seen(&mut client, &origin, "a", &format!("X-Forwarded-For: {received}\r\n"));
        assert_eq!(request.head.value("x-real-ip"), Some(expected), "{received}");
        let list = request.head.value("x-forwarded-for").unwrap_or_default();
        let whole = received.trim_end_matches([',', ' ']).replace(", ,", ",").replace(" ,", ",");
        assert_eq!(list, format!("{whole}, 127.0.0.1"), "as it was received");
    }
    let told: Vec<String> =
        proxy.log_lines(table.len(), |_| true).iter().map(|line| line.text("client").to_owned()).collect();
    assert_eq!(told, table.map(|(_, expected)| expected));
}

#[test]
fn clients_with_ports_are_spread_by_their_addresses() {
    let origins: Vec<Origin> =
        (0..4).map(|n: usize| Origin::answering(move |_| ok(&n.to_string()))).collect();
    let instances: String =
        origins.iter().map(|origin| format!("[[upstreams.app.instances]]\n{}\n", origin.toml())).collect();
    let builder = Builder::new()
        .toml(&format!("[upstreams.app]\nstrategy = \"ip_hash\"\n{instances}"))
        .route("app", "");
    let proxy = trusting(builder).start();
    let mut client = proxy.client();
    let mut used = BTreeSet::new();
    for number in 0..60 {
        let mut answers = BTreeSet::new();
        for port in [1, 40_000] {
            client.send(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.{number}:{port}\r\n\r\n"
            ));
            answers.insert(client.response().text());
        }
        assert_eq!(answers.len(), 1, "one client, whatever its port");
        used.extend(answers);
    }
    assert_eq!(used.len(), 4, "{used:?}");
}

#[test]
fn a_hash_goes_by_what_the_application_will_be_told() {
    let origins: Vec<Origin> =
        (0..4).map(|n: usize| Origin::answering(move |_| ok(&n.to_string()))).collect();
    let instances: String =
        origins.iter().map(|origin| format!("[[upstreams.app.instances]]\n{}\n", origin.toml())).collect();
    let app = format!(
        "[upstreams.app]\nstrategy = \"consistent_hash\"\nhash_key = \"header:X-Real-IP\"\n{instances}"
    );
    let strange = Builder::new().toml(&app).route("app", "").start();
    let trusted = trusting(Builder::new().toml(&app).route("app", "")).start();
    for (proxy, is_spread) in [(strange, false), (trusted, true)] {
        let mut client = proxy.client();
        let answers: BTreeSet<String> = (0..60)
            .map(|number| {
                client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 203.0.113.{number}\r\n\r\n"));
                client.response().text()
            })
            .collect();
        assert_eq!(answers.len() > 1, is_spread, "{answers:?}");
    }
}

#[test]
fn the_port_is_that_of_the_host_or_of_the_scheme() {
    let origin = Origin::ok("app");
    let https = "X-Forwarded-Proto: https\r\n";
    let strangers = [
        ("shop.test", "", "80"),
        ("shop.test:8443", "", "8443"),
        ("[2001:db8::1]", "", "80"),
        ("[2001:db8::1]:81", "", "81"),
        ("shop.test:", "", "80"),
        ("shop.test:8443", "X-Forwarded-Port: 666\r\nX-Forwarded-Host: evil:667\r\n", "8443"),
        ("shop.test", https, "80"),
    ];
    let trusted = [
        ("shop.test", "", "80"),
        ("shop.test", https, "443"),
        ("shop.test:8443", https, "8443"),
        ("shop.test", "X-Forwarded-Proto: https\r\nX-Forwarded-Port: 4430\r\n", "4430"),
        ("shop.test", "X-Forwarded-Proto: https\r\nX-Forwarded-Port: \r\n", "443"),
        // The client has used that host, whatever the proxy calls us.
        ("inner:8080", "X-Forwarded-Host: shop.test\r\nX-Forwarded-Proto: https\r\n", "443"),
        ("inner:8080", "X-Forwarded-Host: shop.test:4433\r\n", "4433"),
        ("shop.test", "X-Forwarded-Proto: https, http\r\n", "443"),
    ];
    let check = |proxy: Proxy, table: &[(&str, &str, &str)]| {
        let mut client = proxy.client();
        for (host, fields, expected) in table {
            let request = seen(&mut client, &origin, host, fields);
            assert_eq!(request.head.values("x-forwarded-port"), [*expected], "{host} {fields}");
            assert_eq!(request.head.values("x-forwarded-host").len(), 1);
        }
    };
    check(Proxy::to(&origin), &strangers);
    check(trusting(Proxy::with(&origin)).start(), &trusted);
    // A client of HTTP/1.0 need not name a host.
    let proxy = Proxy::to(&origin);
    proxy.client().send("GET / HTTP/1.0\r\n\r\n").response();
    let request = origin.requests().pop().expect("the origin has answered");
    assert_eq!(
        (request.head.value("x-forwarded-port"), request.head.value("x-forwarded-host")),
        (Some("80"), Some(""))
    );
}
