//! Routes that require a token: who passes, what the others are told, and that nobody sees it.

use std::process::Command;

use crate::harness::client::{Client, Response, get};
use crate::harness::proxy::{BINARY, run};
use crate::harness::{Builder, Origin, Proxy};

const TOKEN: &str = "correct-horse-battery-staple";

/// `/admin` requires the token, the rest does not.
fn guarded(origin: &Origin, auth: &str) -> Builder {
    Builder::new()
        .upstream("app", origin, "")
        .toml(&format!("[auth]\n{auth}"))
        .route("app", "path_prefix = \"/admin\"\nrequire_auth = true")
        .route("app", "path_prefix = \"/\"")
}

fn with_token(origin: &Origin) -> Builder {
    guarded(origin, &format!("admin_token = \"{TOKEN}\""))
}

fn send(client: &mut Client, path: &str, fields: &str) -> Response {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).response()
}

#[test]
fn the_right_token_passes_and_goes_no_further() {
    let origin = Origin::ok("fine");
    let proxy = with_token(&origin).start();
    let mut client = proxy.client();
    let token = format!("x-admin-token: {TOKEN}\r\nX-Kept: 1\r\n");
    assert_eq!(send(&mut client, "/admin/x", &token).text(), "fine");
    assert_eq!(send(&mut client, "/open", &token).text(), "fine");
    let underscore = format!("X_Admin_Token: {TOKEN}\r\nX-Kept: 1\r\n");
    assert_eq!(send(&mut client, "/open", &underscore).text(), "fine");
    for request in origin.wait_requests(3) {
        let names: Vec<_> = request.head.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        assert!(!names.iter().any(|name| name.contains("admin")), "{names:?}");
        assert_eq!(request.head.value("x-kept"), Some("1"));
    }
}

#[test]
fn without_the_right_token_there_is_no_way_to_the_application() {
    let origin = Origin::ok("never");
    let proxy = with_token(&origin).start();
    let twice = format!("X-Admin-Token: {TOKEN}\r\nX-Admin-Token: {TOKEN}\r\n");
    let named_away = format!("Connection: X-Admin-Token\r\nX-Admin-Token: {TOKEN}\r\n");
    let with_underscore = format!("X_Admin_Token: {TOKEN}\r\n");
    let longer = format!("X-Admin-Token: {TOKEN}x\r\n");
    let query = format!("Authorization: Bearer {TOKEN}\r\n");
    let cases: [(&str, u16, &str); 8] = [
        ("", 401, "admin token required"),
        ("X-Admin-Token:\r\n", 401, "admin token required"),
        (&named_away, 401, "admin token required"),
        (&with_underscore, 401, "admin token required"),
        (&query, 401, "admin token required"),
        ("X-Admin-Token: wrong\r\n", 403, "wrong admin token"),
        (&longer, 403, "wrong admin token"),
        (&twice, 403, "more than one admin token"),
    ];
    let mut client = proxy.client();
    for (fields, status, reason) in cases {
        let response = send(&mut client, "/admin", fields);
        assert_eq!((response.status, response.text()), (status, format!("{reason}\n")), "{fields}");
        let challenge = (status == 401).then_some("X-Admin-Token realm=\"warpdrive\"");
        assert_eq!(response.head.value("www-authenticate"), challenge);
    }
    let lines = proxy.log_lines(cases.len(), |_| true);
    for ((_, status, reason), line) in cases.iter().zip(lines) {
        assert_eq!((line.status(), line.text("reason")), (u64::from(*status), *reason));
        assert_eq!(line.text("path"), "/admin");
        assert!(!line.text("route").is_empty());
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_refused_body_ends_its_connection_and_the_answer_is_read() {
    let origin = Origin::ok("never");
    let proxy = with_token(&origin).start();
    let mut client = proxy.client();
    client.send("POST /admin HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart of it");
    let response = client.response_to("POST");
    assert_eq!((response.status, response.head.value("connection")), (401, Some("close")));
    client.expect_end();
    let mut client = proxy.client();
    client.send("POST /admin HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response_to("POST").status, 401);
    assert!(origin.requests().is_empty());
}

#[test]
fn the_token_may_come_from_a_file_or_a_variable() {
    let origin = Origin::ok("fine");
    let settings = guarded(&origin, "admin_token_file = \"token\"");
    let proxy = settings.file("token", &format!("{TOKEN}\n")).start();
    let field = format!("X-Admin-Token: {TOKEN}\r\n");
    assert_eq!(send(&mut proxy.client(), "/admin", &field).status, 200);
    assert_eq!(send(&mut proxy.client(), "/admin", "X-Admin-Token: token\r\n").status, 403);

    let variable = guarded(&origin, "").variable("WARPDRIVE_ADMIN_TOKEN", TOKEN).start();
    assert_eq!(send(&mut variable.client(), "/admin", &field).status, 200);
    let named = guarded(&origin, "admin_token = \"${TOKEN_OF_OURS}\"").variable("TOKEN_OF_OURS", TOKEN);
    assert_eq!(send(&mut named.start().client(), "/admin", &field).status, 200);
}

#[test]
fn a_route_that_requires_what_is_not_configured_is_refused() {
    let origin = Origin::ok("never");
    let refused = guarded(&origin, "").check();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("this route requires a token, and none is configured"), "{refused:?}");
    assert!(refused.stderr.contains("WARPDRIVE_ADMIN_TOKEN"), "{refused:?}");
}

#[test]
fn the_token_is_seen_nowhere() {
    let origin = Origin::ok("fine");
    let settings = with_token(&origin).file("mistake.toml", &format!("[auth]\nadmin_tokn = \"{TOKEN}\"\n"));
    let said = |command: &mut Command| {
        let run = run(command.env("WARPDRIVE_LOG__LEVEL", "debug"));
        format!("{}{}", run.stdout, run.stderr)
    };
    let file = settings.written();
    let mistake = file.with_file_name("mistake.toml");
    let mut output = String::new();
    for verb in ["check", "env"] {
        output += &said(Command::new(BINARY).arg(verb).arg("-c").arg(&file));
        output += &said(Command::new(BINARY).arg(verb).arg("-c").arg(&mistake));
        let set = format!("auth.admin_token={TOKEN}");
        output += &said(Command::new(BINARY).arg(verb).arg("-c").arg(&file).arg("--set").arg(set));
        let variable = ("WARPDRIVE_ADMIN_TOKEN", TOKEN);
        output += &said(Command::new(BINARY).arg(verb).arg("-c").arg(&file).env(variable.0, variable.1));
    }
    output += &said(Command::new(BINARY).args(["env", "--format", "json", "-c"]).arg(&file));
    assert!(output.contains("auth.admin_token = (secret, set by "), "{output}");
    assert!(output.contains("unknown key `admin_tokn`"), "{output}");

    let mut proxy = settings.variable("WARPDRIVE_LOG__LEVEL", "debug").start();
    let field = format!("X-Admin-Token: {TOKEN}\r\n");
    assert_eq!(send(&mut proxy.client(), "/admin", &field).status, 200);
    let twice = format!("{field}{field}");
    assert_eq!(send(&mut proxy.client(), "/admin", &twice).status, 403);
    assert_eq!(get(proxy.address(), "/open").status, 200);
    proxy.log_lines(3, |_| true);
    output += &proxy.log_text();
    assert_eq!(proxy.terminate(), 0);
    output += &proxy.stderr().concat();
    output += &proxy.stdout().concat();
    assert!(!output.contains(TOKEN), "{output}");
}

#[test]
fn a_route_without_it_asks_nobody() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).start();
    assert_eq!(get(proxy.address(), "/admin").text(), "fine");
}
