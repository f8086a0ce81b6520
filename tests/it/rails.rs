//! The documented example of a Rails application: real Puma servers on Unix sockets, a real Action
//! Cable, kept running and restarted.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::harness::proxy::{BINARY, run};
use crate::harness::wire::Stream;
use crate::harness::{Directory, Proxy, eventually, free_port, holds};
use crate::operators::under_load;
use crate::supervision::kill;

const EXAMPLE: &str = include_str!("../../config/rails.toml");
const TOKEN: &str = "token-of-the-administrators";

/// The command that it names, without a bundle: what was installed is what there is.
const BUNDLE: &str = "#!/bin/sh\nshift\nexec \"$@\"\n";
const MIGRATE: &str = "#!/bin/sh\necho \"$@\" >>migrations\n";

fn write(directory: &Path) {
    let files = [
        ("config.ru", include_str!("rails/config.ru"), 0o600),
        ("sidekiq.ru", include_str!("rails/sidekiq.ru"), 0o600),
        ("cable/config.ru", include_str!("rails/cable/config.ru"), 0o600),
        ("bin/bundle", BUNDLE, 0o700),
        ("bin/rails", MIGRATE, 0o700),
    ];
    for (name, text, mode) in files {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// The example, with its places moved to where nobody else is.
fn start() -> Proxy {
    let directory = Directory::fresh();
    write(directory.path());
    let here = directory.path().to_str().unwrap();
    let text = EXAMPLE
        .replace("http_port = 80", "http_port = 0\nbind = [\"127.0.0.1\"]")
        .replace("port = 3001", &format!("port = {}", free_port()))
        .replace("port = 7080", &format!("port = {}", free_port()))
        .replace("/tmp/", &format!("{here}/"))
        .replace("/run/", &format!("{here}/"))
        .replace("interval_secs = 5", "interval = \"200ms\"");
    std::fs::write(directory.path().join("warpdrive.toml"), text).unwrap();
    let mut command = Command::new(BINARY);
    let path = std::env::var("PATH").unwrap();
    command.arg("-c").arg("warpdrive.toml").current_dir(directory.path());
    command.env("WARPDRIVE_ADMIN_TOKEN", TOKEN).env("PATH", format!("{here}/bin:{path}"));
    let log = directory.path().join("none");
    Proxy::spawn(command, log, directory)
}

/// What `warpdrive WORDS` prints.
fn order(proxy: &Proxy, words: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.args(words).args(["-c", "warpdrive.toml"]).current_dir(proxy.directory());
    let answer = run(command.env("WARPDRIVE_ADMIN_TOKEN", TOKEN));
    assert_eq!(answer.code, Some(0), "{words:?}: {answer:?} {:#?}", proxy.stderr());
    answer.stdout
}

fn ask(proxy: &Proxy, host: &str, path: &str, more: &str) -> (u16, String) {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"));
    let answer = client.response();
    (answer.status, answer.text())
}

fn application(proxy: &Proxy) -> Vec<String> {
    let (status, text) = ask(proxy, "example.com", "/page", "");
    assert_eq!(status, 200, "{text} {:#?}", proxy.stderr());
    text.split(' ').map(str::to_owned).collect()
}

struct Cable(WebSocket<Stream>);

impl Cable {
    fn subscribe(proxy: &Proxy) -> Cable {
        let stream = proxy.client().into_stream();
        let (socket, response) = tungstenite::client("ws://example.com/cable", stream).expect("a handshake");
        assert_eq!(response.status(), 101);
        let mut cable = Cable(socket);
        cable.until("welcome");
        cable.send(&json!({ "command": "subscribe", "identifier": IDENTIFIER }));
        cable.until("confirm_subscription");
        cable
    }

    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    fn say(&mut self, text: &str) {
        let speak = json!({ "action": "speak", "text": text }).to_string();
        self.send(&json!({ "command": "message", "identifier": IDENTIFIER, "data": speak }));
    }

    /// The next message that contains a word.
    fn until(&mut self, word: &str) -> String {
        loop {
            let message = self.0.read().expect("a message").to_string();
            if message.contains(word) {
                return message;
            }
        }
    }
}

const IDENTIFIER: &str = "{\"channel\":\"ChatChannel\"}";

#[test]
fn the_example_of_a_rails_application_runs() {
    let mut proxy = start();
    let page = "GET /page HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let words = application(&proxy);
    assert_eq!(
        (&*words[0], &*words[2], &*words[3], &*words[4]),
        ("rails", "production", "example.com", "/page")
    );
    // One connection stays with one worker, where each of the three has its turn once it is ready.
    let mut client = proxy.client();
    let mut process = || client.send(page).response().text().split(' ').nth(1).map(str::to_owned);
    let pids = eventually("three that take turns", || {
        let pids = [(); 6].map(|()| process().unwrap());
        let are_three = pids[0] != pids[1] && pids[1] != pids[2] && pids[0] != pids[2];
        if are_three && pids[..3] == pids[3..] { Ok(pids) } else { Err(pids) }
    });
    let (_, text) = ask(&proxy, "www.example.com", "/", "");
    assert!(text.contains(" www.example.com /"), "{text}");
    assert_eq!(std::fs::read_to_string(proxy.directory().join("migrations")).unwrap(), "db:migrate\n");

    let sidekiq = |token: &str| ask(&proxy, "example.com", "/sidekiq/queues", token);
    assert_eq!(sidekiq("").0, 401);
    assert_eq!(sidekiq("X-Admin-Token: a guess\r\n").0, 403);
    assert_eq!(sidekiq(&format!("X-Admin-Token: {TOKEN}\r\n")), (200, "sidekiq /queues".to_owned()));

    let mut listener = Cable::subscribe(&proxy);
    let mut speaker = Cable::subscribe(&proxy);
    speaker.say("hello");
    assert!(listener.until("hello").contains("\"message\":{\"text\":\"hello\"}"));

    // A new version of the application, which the WebSockets do not notice.
    under_load(&proxy, page.as_bytes(), || drop(order(&proxy, &["restart", "rails"])));
    assert!(!pids.contains(&application(&proxy)[1]));
    speaker.say("still here");
    listener.until("still here");
    assert_eq!(
        std::fs::read_to_string(proxy.directory().join("migrations")).unwrap(),
        "db:migrate\n".repeat(2)
    );

    // One that dies.
    under_load(&proxy, page.as_bytes(), || {
        let victim = application(&proxy)[1].clone();
        kill(victim.parse().unwrap(), Signal::KILL);
        proxy.stderr_contains("killed by SIGKILL");
        eventually("all three", || {
            let status = order(&proxy, &["status"]);
            holds(status.matches(" ready").count() == 5, status)
        });
    });
    drop((listener, speaker));
    assert_eq!(proxy.terminate(), 0);
}
