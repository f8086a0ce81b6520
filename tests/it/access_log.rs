//! The access log: what it says, in which form, where it goes, and what becomes of it when that
//! takes nothing. And the form of what the process says of itself.

use std::fs::File;
use std::io::{IoSliceMut, Read, Seek};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::client::get;
use crate::harness::origin::ok;
use crate::harness::{
    BOUND, Builder, Client, Directory, Origin, Proxy, eventually, free_port, holds, make_pipe,
};

/// Everything goes to this origin; these are the lines of `[log]`.
fn with_log(origin: &Origin, lines: &[&str]) -> Builder {
    lines.iter().fold(Proxy::with(origin), |builder, line| builder.log(line))
}

/// Waits until the log has so many lines.
fn lines(proxy: &Proxy, count: usize) -> Vec<String> {
    eventually(&format!("{count} lines in the access log"), || {
        let lines: Vec<String> = proxy.log_text().lines().map(str::to_owned).collect();
        if lines.len() < count { Err((lines, proxy.stderr())) } else { Ok(lines) }
    })
}

#[test]
fn a_line_may_be_of_the_operators_own_form() {
    let origin = Origin::ok("twelve bytes");
    let template = "template = '${client} \"${method} ${uri}\" ${status} ${bytes_out} ${attempts} <${referer}> $$ ${reason}'";
    let builder = with_log(&origin, &["format = \"custom\"", template, "file = \"access.log\""]);
    let proxy = builder.start();
    let mut client = proxy.client();
    client.send("GET /a?b=c&token=hidden HTTP/1.1\r\nHost: a\r\nReferer: http://b/?c&Token=hidden\r\n\r\n");
    client.response();
    let expected = "127.0.0.1 \"GET /a?b=c&token=REDACTED\" 200 12 1 <http://b/?c&Token=REDACTED> $ -";
    assert_eq!(lines(&proxy, 1), [expected]);
}

#[test]
fn the_times_and_the_attempts_are_told() {
    let origin = Origin::ok("fine");
    let proxy = Proxy::with(&origin).workers(1).start();
    let mut client = proxy.client();
    client.get("/first");
    client.get("/second");
    let lines = proxy.log_lines(2, |_| true);
    for line in &lines {
        assert_eq!(line.number("attempts"), 1);
        assert!(line.number("upstream_ms") <= line.number("duration_ms"), "{line:?}");
    }
    let has_connected: Vec<bool> = lines.iter().map(|line| line.is_there("connect_ms")).collect();
    assert_eq!(has_connected, [true, false], "the second takes the connection of the first");
}

#[test]
fn a_request_that_was_tried_twice_says_so() {
    let broken = Origin::scripted(|c| c.expect_head().map(drop));
    let whole = Origin::ok("fine");
    let instances = format!(
        "[upstreams.app]\nmax_fails = 0\n[[upstreams.app.instances]]\n{}[[upstreams.app.instances]]\n{}",
        broken.toml(),
        whole.toml()
    );
    let proxy = Builder::new().workers(1).toml(&instances).route("app", "").start();
    let mut client = proxy.client();
    while broken.connections() == 0 {
        assert_eq!(client.get("/").status, 200);
    }
    let twice = proxy.log_lines(1, |line| line.number("attempts") == 2);
    assert_eq!((twice[0].status(), twice[0].text("reason")), (200, ""));
}

#[test]
fn a_sample_has_every_failure() {
    let origin = Origin::answering(|request| match request.target() {
        "/broken" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("fine"),
    });
    let builder = with_log(&origin, &["sample = 0.0", "file = \"access.log\""]);
    let mut proxy = builder.start();
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(client.get("/broken").status, 500);
    let mut malformed = proxy.client();
    malformed.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(malformed.response().status, 400);
    drop((client, malformed));
    assert_eq!(proxy.terminate(), 0);
    let mut statuses: Vec<u64> = proxy.log().iter().map(|line| line.status()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [400, 500]);
}

#[test]
fn a_sample_has_its_part_of_the_rest() {
    let origin = Origin::ok("fine");
    let mut proxy = with_log(&origin, &["sample = 0.5", "file = \"access.log\""]).start();
    let mut client = proxy.client();
    for _ in 0..400 {
        client.get("/");
    }
    drop(client);
    assert_eq!(proxy.terminate(), 0);
    let count = proxy.log().len();
    // Ten standard deviations to both sides.
    assert!((100..=300).contains(&count), "{count} of 400");
}

#[test]
fn a_route_may_have_no_lines() {
    let origin = Origin::ok("fine");
    let builder = Builder::new().upstream("app", &origin, "");
    let builder = builder.route("app", "path_exact = \"/quiet\"\nlog = false").route("app", "");
    let mut proxy = builder.start();
    let mut client = proxy.client();
    for path in ["/quiet", "/told", "/quiet"] {
        client.get(path);
    }
    drop(client);
    assert_eq!(proxy.terminate(), 0);
    let paths: Vec<String> = proxy.log().iter().map(|line| line.text("path").to_owned()).collect();
    assert_eq!(paths, ["/told"]);
}

#[test]
fn the_values_of_secret_parameters_are_in_no_line() {
    let origin = Origin::ok("fine");
    let query = "/?a=1&password=hidden&user%5Bpassword%5D=hidden&TOKEN=hidden&%73ig=hidden&z=2";
    let expected = "a=1&password=REDACTED&user%5Bpassword%5D=REDACTED&TOKEN=REDACTED&%73ig=REDACTED&z=2";
    let proxy = Proxy::to(&origin);
    get(proxy.address(), query);
    assert_eq!(proxy.log_line(200).text("query"), expected);
    // The application still gets them.
    assert!(origin.only_request().target().contains("hidden"));

    let lines = ["redact_query = [\"q\"]", "file = \"access.log\""];
    let proxy = with_log(&origin, &lines).start();
    get(proxy.address(), "/?q=hidden&password=1");
    assert_eq!(proxy.log_line(200).text("query"), "q=REDACTED&password=1");
}

#[test]
fn nothing_that_a_client_sends_leaves_its_line() {
    let origin = Origin::ok("fine");
    let hostile = "GET /%0A%1b[2J\"} HTTP/1.1\r\nHost: a\r\nReferer: \"\\ \u{9b}31m\r\n\
                   User-Agent: \"},{\" \u{202e}\u{fc} \\\r\nX-Request-Id: \"\r\n\r\n";
    let mut hostile = hostile.as_bytes().to_vec();
    let at = hostile.windows(2).position(|two| two == b" \\").unwrap();
    hostile[at] = 0xff;
    let template = "template = '\"${path}\" \"${referer}\" \"${user_agent}\"'";
    for format in [&["format = \"json\""][..], &["format = \"combined\""], &["format = \"custom\"", template]]
    {
        let builder = with_log(&origin, &["file = \"access.log\""]);
        let mut proxy = format.iter().fold(builder, |builder, line| builder.log(line)).start();
        let mut client = proxy.client();
        client.send(&hostile).response();
        drop(client);
        assert_eq!(proxy.terminate(), 0);
        let text = proxy.log_text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{text}");
        // Quotes that a client sent are escaped: what is left are those of the form.
        let quotes = text.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        assert_eq!(quotes % 2, 0, "{text}");
        if format == ["format = \"json\""] {
            let line: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(line["user_agent"], "\"},{\" \u{202e}\u{fc}\u{fffd}\\");
        }
    }
}

#[test]
fn a_file_that_was_moved_is_opened_anew_and_no_line_is_lost() {
    let origin = Origin::ok("fine");
    let mut proxy = Proxy::to(&origin);
    let file = proxy.directory().join("access.log");
    let moved = |number: usize| proxy.directory().join(format!("access.log.{number}"));
    let mut client = proxy.client();
    const ROTATIONS: usize = 3;
    const REQUESTS: usize = 20;
    for number in 0..ROTATIONS {
        for _ in 0..REQUESTS {
            client.get("/");
        }
        std::fs::rename(&file, moved(number)).unwrap();
        proxy.signal(Signal::USR1);
        eventually("the file to be there again", || holds(file.exists(), proxy.stderr()));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7137, 0, "{mode:o}");
        proxy.stderr_contains("is opened anew");
    }
    client.get("/last");
    proxy.log_lines(1, |line| line.text("path") == "/last");
    drop(client);
    let count = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
    let in_moved: usize = (0..ROTATIONS).map(|number| count(&moved(number))).sum();
    assert_eq!(proxy.terminate(), 0);
    assert_eq!(in_moved + count(&file), ROTATIONS * REQUESTS + 1);
}

#[test]
fn a_file_that_cannot_be_opened_anew_stays_in_use() {
    let origin = Origin::ok("fine");
    let builder = with_log(&origin, &["file = \"logs/access.log\""]).file("logs/keep", "");
    let proxy = builder.start();
    let (logs, away) = (proxy.directory().join("logs"), proxy.directory().join("away"));
    std::fs::rename(&logs, &away).unwrap();
    proxy.signal(Signal::USR1);
    proxy.stderr_contains("the file that was open stays in use");
    get(proxy.address(), "/");
    eventually("the line in the old file", || {
        let text = std::fs::read_to_string(away.join("access.log")).unwrap();
        holds(text.lines().count() == 1, text)
    });
}

#[test]
fn the_log_can_go_to_the_standard_error() {
    let origin = Origin::ok("fine");
    let proxy = with_log(&origin, &["output = \"stderr\"", "format = \"combined\""]).start();
    get(proxy.address(), "/seen");
    proxy.stderr_contains("\"GET /seen HTTP/1.1\" 200");
}

/// The next entry: the datagram, or the sealed file that came with it.
fn entry(journal: &UnixDatagram) -> (String, bool) {
    let mut buffer = vec![0; 1 << 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(journal, &mut slices, &mut beside, flags).expect("an entry");
    let files = beside.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => files.collect(),
        _ => Vec::new(),
    });
    let Some(file) = files.into_iter().next() else {
        return (String::from_utf8(buffer[..received.bytes].to_vec()).unwrap(), false);
    };
    let seals = rustix::fs::fcntl_get_seals(&file).expect("a file in memory");
    assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW), "{seals:?}");
    let (mut file, mut text) = (File::from(file), String::new());
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    (text, true)
}

#[test]
fn the_log_can_go_to_journald() {
    let origin = Origin::ok("fine");
    let directory = Directory::fresh();
    let socket = directory.path().join("journal");
    let journal = UnixDatagram::bind(&socket).unwrap();
    journal.set_read_timeout(Some(BOUND)).unwrap();
    let many = "${user_agent}".repeat(16);
    let proxy = with_log(
        &origin,
        &[
            "output = \"journald\"",
            &format!("journal_socket = \"{}\"", socket.display()),
            "format = \"custom\"",
            &format!("template = '${{path}} {many}'"),
        ],
    );
    let proxy = proxy.start();
    let head = "PRIORITY=6\nSYSLOG_IDENTIFIER=warpdrive\nWARPDRIVE_LOG=access\nMESSAGE=";
    let mut client = proxy.client();
    client.send("GET /short HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\n\r\n").response();
    assert_eq!(entry(&journal), (format!("{head}/short {}\n", "x".repeat(16)), false));
    // More than a datagram may have.
    let agent = "y".repeat(24 << 10);
    client.send(format!("GET /long HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n")).response();
    assert_eq!(entry(&journal), (format!("{head}/long {}\n", agent.repeat(16)), true));
}

#[test]
fn events_below_the_level_are_not_told() {
    let origin = Origin::ok("fine");
    for (level, has_info, has_debug) in
        [("debug", true, true), ("info", true, false), ("error", false, false)]
    {
        let port = free_port();
        let builder = with_log(&origin, &[&format!("level = \"{level}\""), "file = \"access.log\""]);
        let builder = builder.port(port);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut proxy = builder.launch(address);
        drop(eventually("the proxy to listen", || Client::try_connect(address)));
        assert_eq!(get(address, "/").status, 200);
        assert_eq!(proxy.terminate(), 0);
        let has = |word: &str| proxy.stderr().iter().any(|line| line.contains(word));
        assert_eq!((has(" INFO "), has(" DEBUG ")), (has_info, has_debug), "{level}: {:?}", proxy.stderr());
    }
}

/// Asks for what has a line of 180 KiB.
fn ask_at_length(client: &mut Client) {
    let agent = vec![0xff; 30 << 10];
    let request = [b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: ", &agent[..], b"\r\n\r\n"].concat();
    assert_eq!(client.send(request).response().status, 200);
}

#[test]
fn a_stalled_pipe_loses_lines_and_no_request_waits() {
    let origin = Origin::ok("fine");
    let builder = with_log(&origin, &["file = \"pipe\""]).workers(1);
    let pipe = builder.directory().join("pipe");
    make_pipe(&pipe);
    let reader = rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let mut reader = File::from(reader.unwrap());
    let mut proxy = builder.start();
    let mut client = proxy.client();
    // Twice what may wait.
    for _ in 0..130 {
        ask_at_length(&mut client);
    }
    let said = proxy.stderr_contains("the access log is taken too slowly");
    let lost = said.rsplit_once("lines_lost=").and_then(|(_, lost)| lost.parse::<usize>().ok());
    assert!(lost.is_some_and(|lost| (1..=130).contains(&lost)), "{said}");
    // Once it is read again, lines come again, and each is whole.
    let mut text = Vec::new();
    let mut piece = vec![0; 1 << 20];
    eventually("a line of the time after", || {
        client.get("/after");
        let seen = text.len();
        while let Ok(count) = reader.read(&mut piece) {
            if count == 0 {
                break;
            }
            text.extend_from_slice(&piece[..count]);
        }
        // Over the border to what was looked at before.
        let is_there = memchr_of(&text[seen.saturating_sub(100)..], b"\"path\":\"/after\"");
        holds(is_there, text.len())
    });
    let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap();
    for line in text[..whole].split(|byte| *byte == b'\n') {
        serde_json::from_slice::<Value>(line).expect("a whole line");
    }
    // One that nobody reads any more holds no drain.
    for _ in 0..10 {
        ask_at_length(&mut client);
    }
    drop(client);
    assert_eq!(proxy.terminate(), 0);
}

fn memchr_of(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// As in a container whose output nobody takes: both streams are one pipe.
#[test]
fn a_stalled_pipe_for_log_and_events_alike_stops_nobody() {
    let origin = Origin::ok("fine");
    let port = free_port();
    let builder = with_log(&origin, &["format = \"json\""]).workers(1).port(port);
    let pipe = builder.directory().join("pipe");
    make_pipe(&pipe);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let _unread = rustix::fs::open(&pipe, flags, Mode::empty()).unwrap();
    let mut proxy = builder.launch_into(&pipe, SocketAddr::from(([127, 0, 0, 1], port)));
    let mut client = eventually("the proxy to listen", || Client::try_connect(proxy.address()));
    let begun = Instant::now();
    // Long enough for a core to notice that lines are lost, and to want to say so.
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(3) || count < 130 {
        ask_at_length(&mut client);
        count += 1;
    }
    drop(client);
    assert_eq!(proxy.terminate(), 0);
}

#[test]
fn a_full_disk_loses_lines_and_no_request_waits() {
    let origin = Origin::ok("fine");
    let proxy = with_log(&origin, &["file = \"/dev/full\""]).start();
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    proxy.stderr_contains("cannot write to /dev/full: No space left on device");
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_at_the_start() {
    let origin = Origin::ok("fine");
    let builder = with_log(&origin, &["file = \"pipe\""]);
    make_pipe(&builder.directory().join("pipe"));
    let run = crate::harness::proxy::run(
        std::process::Command::new(crate::harness::proxy::BINARY)
            .args(["run", "-c"])
            .arg(builder.written())
            .current_dir(builder.directory()),
    );
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("cannot open the access log pipe: "), "{run:?}");
}

#[test]
fn events_may_be_json() {
    let origin = Origin::ok("fine");
    let mut proxy = with_log(&origin, &["events = \"json\"", "file = \"access.log\""]).start();
    assert_eq!(proxy.terminate(), 0);
    let events = proxy.stderr();
    for line in &events {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(event["level"], "INFO", "{event}");
    }
    assert!(events.iter().any(|line| line.contains("\"message\":\"listening on http://")), "{events:?}");
}
