//! What a route does: what of a request reaches the application, what of a response the client,
//! and what is answered without one.

use std::time::Duration;

use crate::harness::origin::ok;
use crate::harness::{Builder, Origin};

/// The request line of each target as it is forwarded by a route with these lines.
fn check_forwarded(route: &str, cases: &[(&str, &str)]) {
    let origin = Origin::ok("ok");
    let proxy = Builder::new().upstream("app", &origin, "").route("app", route).start();
    let mut client = proxy.client();
    for (number, (target, expected)) in cases.iter().enumerate() {
        assert_eq!(client.get(target).status, 200, "{target} by {route}");
        let requests = origin.wait_requests(number + 1);
        assert_eq!(requests[number].target(), *expected, "{target} by {route}");
    }
}

#[test]
fn paths_are_rewritten_and_queries_kept() {
    check_forwarded(
        "path_prefix = \"/old-api\"\nrewrite = \"/new-api\"",
        &[
            ("/old-api/users", "/new-api/users"),
            ("/old-api", "/new-api"),
            ("/old-api/?a=/old-api", "/new-api/?a=/old-api"),
            ("/x/../old-api/%7Eb", "/new-api/~b"),
        ],
    );
    check_forwarded(
        "path_prefix = \"/sidekiq\"\nstrip_prefix = true",
        &[("/sidekiq/jobs?page=2", "/jobs?page=2"), ("/sidekiq", "/"), ("/sidekiq//x//y", "/x//y")],
    );
    check_forwarded("path_exact = \"/health\"\nrewrite = \"/up\"", &[("/health?deep=1", "/up?deep=1")]);
    check_forwarded(
        "path = \"/user/{id}/{*rest}\"\nrewrite = \"/${rest}/of/${id}\"",
        &[("/user/a%2Fb/posts/7", "/posts/7/of/a%2Fb"), ("/user/7/x", "/x/of/7")],
    );
    check_forwarded(
        "path_regex = \"^/v([0-9]+)(/.*)?$\"\nrewrite = \"$2/$1\"",
        &[("/v2/x", "/x/2"), ("/v3", "/3")],
    );
    check_forwarded("rewrite = \"/all\"", &[("/any/thing?q", "/all?q")]);
}

#[test]
fn what_captures_put_together_is_in_normal_form_again() {
    check_forwarded(
        "path_regex = \"^/x(.*)\"\nrewrite = \"/files/$1/end\"",
        &[("/x..", "/end"), ("/x.a%2F", "/files/.a%2F/end"), ("/x/./y", "/files//y/end")],
    );
}

#[test]
fn half_an_escape_is_refused() {
    let origin = Origin::ok("never");
    let route = "path_regex = \"^/(.)\"\nrewrite = \"/$1\"";
    let proxy = Builder::new().upstream("app", &origin, "").route("app", route).start();
    assert_eq!(proxy.client().get("/%25").status, 400);
    assert_eq!(proxy.log_line(400).text("reason"), "malformed percent-encoding in the path");
    assert!(origin.requests().is_empty());
}

#[test]
fn fields_of_the_request_are_set_replaced_and_removed() {
    let origin = Origin::ok("ok");
    let route = r#"
path = "/t/{tenant}/{*rest}"
add_headers = [
    { name = "X-Backend", value = "api-service" },
    { name = "X-Forwarded-Host", value = "www.example.com" },
    { name = "X-Tenant", value = "<${tenant}>" },
    { name = "x-uri", value = "${uri}" },
    { name = "Host", value = "internal.example:81" },
]
remove_headers = ["cookie", "X-Secret"]
"#;
    let proxy = Builder::new().upstream("app", &origin, "").route("app", route).start();
    let mut client = proxy.client();
    client.send(
        "POST /t/blue/x?y=1 HTTP/1.1\r\nHost: a.example\r\nCookie: a=b\r\nX-Secret: 1\r\nx-secret: 2\r\n\
         X-Tenant: red\r\nX-URI: mine\r\nX-Kept: yes\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(client.response().status, 200);
    let request = origin.only_request();
    let expected: [(&str, &[&str]); 9] = [
        ("x-backend", &["api-service"]),
        ("x-forwarded-host", &["www.example.com"]),
        ("x-tenant", &["<blue>"]),
        ("x-uri", &["/t/blue/x?y=1"]),
        ("host", &["internal.example:81"]),
        ("cookie", &[]),
        ("x-secret", &[]),
        ("x-kept", &["yes"]),
        ("content-length", &["5"]),
    ];
    for (name, values) in expected {
        assert_eq!(request.head.values(name), values, "{name}");
    }
    assert_eq!(request.body, b"hello");
}

#[test]
fn fields_of_every_response_of_a_route_are_changed() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nServer: secret\r\nX-Frame-Options: ALLOW\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let fields = "response_headers = [{ name = \"X-Frame-Options\", value = \"DENY\" }, \
                  { name = \"Server\", remove = true }, { name = \"X-Name\", value = \"$name\" }]";
    let proxy = Builder::new()
        .toml("[auth]\nadmin_token = \"correct-horse-battery-staple\"")
        .upstream("app", &origin, "")
        .toml("[upstreams.nobody]\nsocket = \"nobody.sock\"")
        .route("app", &format!("path = \"/app/{{name}}\"\n{fields}"))
        .route("nobody", &format!("path = \"/down/{{name}}\"\n{fields}"))
        .route("app", &format!("path = \"/token/{{name}}\"\nrequire_auth = true\n{fields}"))
        .toml(&format!("[[routes]]\npath = \"/go/{{name}}\"\nredirect = {{ to = \"/\" }}\n{fields}"))
        .toml(&format!("[[routes]]\npath = \"/say/{{name}}\"\nrespond = {{ body = \"hi\" }}\n{fields}"))
        .start();
    let mut client = proxy.client();
    for (path, status) in
        [("/app/a", 200), ("/down/a", 502), ("/token/a", 401), ("/go/a", 302), ("/say/a", 200)]
    {
        let response = client.get(path);
        assert_eq!(response.status, status, "{path}");
        assert_eq!(response.head.values("x-frame-options"), ["DENY"], "{path}");
        assert_eq!(response.head.values("x-name"), ["a"], "{path}");
        assert!(!response.head.has("server"), "{path}");
    }
    // What belongs to one exchange is not left over for the next.
    let response = client.get("/nothing");
    assert_eq!((response.status, response.head.has("x-name")), (404, false));
}

#[test]
fn clients_are_sent_elsewhere() {
    let text = |route: &str| format!("[[routes]]\n{route}\n");
    let proxy = Builder::new()
        .toml(&text("path = \"/go/{*rest}\"\nredirect = { to = \"/$rest\", status = 301 }"))
        .toml(&text("path_exact = \"/post\"\nredirect = { to = \"https://new.example/post\", status = 307 }"))
        .toml(&text("redirect = { to = \"https://${host}${uri}\", status = 308 }"))
        .start();
    let cases = [
        ("a.example", "/go/x/y", 301, "/x/y"),
        ("a.example", "/go//evil.example", 301, "/evil.example"),
        ("a.example", "/post", 307, "https://new.example/post"),
        ("A.example:8080", "/x/%7Ey?z=1", 308, "https://a.example/x/~y?z=1"),
    ];
    let mut client = proxy.client();
    for (host, target, status, location) in cases {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = client.response();
        let found = (response.status, response.head.value("location"), response.head.value("content-length"));
        assert_eq!(found, (status, Some(location), Some("0")), "{target}");
    }
    let mut old = proxy.client();
    old.send("GET /x HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().status, 400);
    assert_eq!(proxy.log_lines(1, |line| line.status() == 307)[0].text("path"), "/post");
}

#[test]
fn routes_answer_by_themselves() {
    let text = |route: &str| format!("[[routes]]\n{route}\n");
    let proxy = Builder::new()
        .toml(&text("path_exact = \"/robots.txt\"\nrespond = { body = \"User-agent: *\\nDisallow: /\\n\" }"))
        .toml(&text("path_exact = \"/none\"\nrespond = { status = 204 }"))
        .toml(&text(
            "path_exact = \"/json\"\nrespond = { status = 503, body = '{\"up\":false}' }\n\
             response_headers = { name = \"Content-Type\", value = \"application/json\" }",
        ))
        .toml(&text("respond = { status = 410 }"))
        .start();
    let mut client = proxy.client();
    let response = client.get("/robots.txt");
    assert_eq!((response.status, response.text().as_str()), (200, "User-agent: *\nDisallow: /\n"));
    assert_eq!(response.head.value("content-type"), Some("text/plain; charset=utf-8"));
    let response = client.get("/none");
    assert_eq!((response.status, response.head.has("content-length")), (204, false));
    let response = client.get("/json");
    assert_eq!((response.status, response.text().as_str()), (503, "{\"up\":false}"));
    assert_eq!(response.head.values("content-type"), ["application/json"]);
    assert!(!response.head.has("retry-after"));
    client.send("HEAD /robots.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response_to("HEAD");
    assert_eq!((response.status, response.head.value("content-length")), (200, Some("26")));
    let response = client.get("/else");
    assert_eq!((response.status, response.head.value("content-length")), (410, Some("0")));
    // A body that is not read ends the connection, and the answer arrives all the same.
    client.send("POST /robots.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello");
    let response = client.response();
    assert_eq!((response.status, response.head.value("connection")), (200, Some("close")));
}

#[test]
fn a_route_has_timeouts_of_its_own() {
    let origin = Origin::scripted(|connection| {
        let request = connection.expect_request()?;
        if request.target() == "/fast" {
            // Longer than the route waits, less than the upstream's other routes do.
            return connection.expect_close();
        }
        connection.send_slowly(ok("slow"), Duration::from_millis(50))
    });
    let proxy = Builder::new()
        .upstream("app", &origin, "read_timeout = \"30s\"")
        .route("app", "path_exact = \"/fast\"\nread_timeout = \"200ms\"")
        .route("app", "path_prefix = \"/\"")
        .start();
    assert_eq!(proxy.client().get("/fast").status, 504);
    assert_eq!(proxy.client().get("/slow").status, 200);
}

#[test]
fn encoded_slashes_are_kept_or_refused() {
    let origin = Origin::ok("ok");
    let builder = || Builder::new().upstream("app", &origin, "").route("app", "path_prefix = \"/\"");
    let keeping = builder().start();
    assert_eq!(keeping.client().get("/a%2fb").status, 200);
    assert_eq!(origin.only_request().target(), "/a%2Fb");
    let rejecting = builder().server("encoded_slash = \"reject\"").start();
    let mut client = rejecting.client();
    for (target, status) in [("/a%2Fb", 400), ("/a%2fb", 400), ("/a%252Fb", 200), ("/a?b=%2F", 200)] {
        assert_eq!(client.get(target).status, status, "{target}");
    }
    assert_eq!(
        rejecting.log_lines(2, |line| line.status() == 400)[0].text("reason"),
        "encoded slash in the path"
    );
}
