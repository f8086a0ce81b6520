//! Real servers from packages behind a realistic configuration.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::client::get;
use crate::harness::{Directory, Proxy, eventually, pattern, show};

/// A server as a child of ours, on a port that it chose itself.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts it and waits for a line of its output with `mark`, which ends in its port.
    pub fn start(command: &mut Command, package: &str, mark: &str) -> Server {
        command.stdin(Stdio::null());
        let (reader, writer) = std::io::pipe().expect("a pipe for its output");
        command.stderr(writer.try_clone().expect("the pipe twice")).stdout(writer);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!(
                "{:?} does not start ({error}): install the Debian package {package}, \
                 as tests/run does",
                command.get_program()
            ),
        };
        // The command keeps the write ends; without this the reader would never see the end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let theirs = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                theirs.lock().unwrap().push_back(line);
            }
        });
        let mut server = Server { child, port: 0 };
        server.port = eventually(&format!("{package} to listen"), || {
            let lines = lines.lock().unwrap().clone();
            lines.iter().find_map(|line| port_after(line, mark)).ok_or(lines)
        });
        server
    }

    fn python(directory: &Path) -> Server {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]);
        command.arg("--directory").arg(directory);
        Server::start(&mut command, "python3", "port ")
    }

    fn node() -> Server {
        Server::start(Command::new("node").args(["-e", NODE]), "nodejs", "port ")
    }

    fn puma(directory: &Path) -> Server {
        let rackup = directory.join("config.ru");
        std::fs::write(&rackup, RACKUP).expect("a rackup file");
        let mut command = Command::new("puma");
        command.args(["-C", "-", "-b", "tcp://127.0.0.1:0"]).arg(rackup);
        command.current_dir(directory);
        Server::start(&mut command, "puma", "http://127.0.0.1:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port_after(line: &str, mark: &str) -> Option<u16> {
    let (_, rest) = line.split_once(mark)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

const NODE: &str = r#"
const server = require('http').createServer((request, response) => {
  let length = 0;
  request.on('data', piece => { length += piece.length; });
  request.on('end', () => {
    if (request.url === '/cable/events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      for (const n of [1, 2, 3]) setTimeout(() => response.write(`data: ${n}\n\n`), n * 20);
      setTimeout(() => response.end(), 100);
    } else {
      response.writeHead(200, { 'X-Seen-For': request.headers['x-forwarded-for'] });
      response.end(`node ${request.method} ${request.url} ${length}`);
    }
  });
});
server.on('upgrade', (request, socket, head) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
  socket.write(head);
  socket.pipe(socket);
});
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
"#;

const RACKUP: &str = r#"
run lambda { |env|
  length = env['rack.input'] ? env['rack.input'].read.bytesize : 0
  text = "puma #{env['REQUEST_METHOD']} #{env['PATH_INFO']}?#{env['QUERY_STRING']} #{length}"
  [200, { 'content-type' => 'text/plain', 'content-length' => text.bytesize.to_s }, [text]]
}
"#;

/// The documented example with three applications, as it stands there.
const EXAMPLE: &str = r#"
# warpdrive.toml
[server]
http_port = 8080
https_port = 443
# Define upstream services
[upstreams.rails]
host = "127.0.0.1"
port = 3000
[upstreams.cable]
host = "127.0.0.1"
port = 3001
[upstreams.sidekiq]
host = "127.0.0.1"
port = 7080
# Define routing rules (evaluated in order)
[[routes]]
path_prefix = "/cable"
upstream = "cable"
[[routes]]
path_prefix = "/sidekiq"
upstream = "sidekiq"
strip_prefix = true # /sidekiq/jobs → /jobs
[[routes]]
path_prefix = "/"
upstream = "rails"
"#;

#[test]
fn the_documented_example_serves_three_real_servers() {
    let directory = Directory::fresh();
    let large = pattern(3 << 20);
    std::fs::write(directory.path().join("large"), &large).unwrap();
    std::fs::write(directory.path().join("page.html"), "a page\n").unwrap();
    let (python, node) = (Server::python(directory.path()), Server::node());
    let puma = Server::puma(directory.path());
    let text = EXAMPLE
        .replace("port = 3000", &format!("port = {}", python.port))
        .replace("port = 3001", &format!("port = {}", node.port))
        .replace("port = 7080", &format!("port = {}", puma.port))
        .replace("http_port = 8080", "http_port = 0");
    let mut proxy = Proxy::from_text(&text);
    proxy.stderr_contains("https_port");

    python_files(&proxy, &large);
    node_exchanges(&proxy);
    puma_exchanges(&proxy);
    assert_eq!(proxy.terminate(), 0);
}

fn python_files(proxy: &Proxy, large: &[u8]) {
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/page.html").text(), "a page\n");
    }
    assert!(client.get("/large").body == large, "the file changed");
    assert_eq!(client.get("/absent").status, 404);
    client.send("HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_to("HEAD").head;
    assert_eq!(head.value("content-length"), Some(large.len().to_string().as_str()));
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response_to("PUT").status, 501, "python's own answer");
}

fn node_exchanges(proxy: &Proxy) {
    let mut client = proxy.client();
    let response = client.get("/cable");
    assert_eq!(response.text(), "node GET /cable 0");
    assert!(response.head.value("x-seen-for").is_some_and(|from| from.contains("127.0.0.1")));
    client.send("POST /cable/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5;x\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.response_to("POST").text(), "node POST /cable/x 5");
    let events = client.get("/cable/events").text();
    assert_eq!(events, "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    client.send("GET /cable HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nfirst.");
    assert_eq!(client.head().word(1), "101");
    assert_eq!(client.until("."), b"first.");
    client.send("second.");
    assert_eq!(client.until("."), b"second.");
    let (rest, _) = client.half_close().rest();
    assert!(rest.is_empty(), "{}", show(&rest));
}

fn puma_exchanges(proxy: &Proxy) {
    assert_eq!(get(proxy.address(), "/sidekiq/jobs?page=2").text(), "puma GET /jobs?page=2 0");
    assert_eq!(get(proxy.address(), "/sidekiq").text(), "puma GET /? 0");
    let mut client = proxy.client();
    let body = pattern(1 << 20);
    client.send(format!("POST /sidekiq/a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert_eq!(client.response_to("POST").text(), "puma POST /a? 1048576");
    client.send("POST /sidekiq/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.response_to("POST").text(), "puma POST /b? 5");
    for _ in 0..20 {
        assert_eq!(client.get("/sidekiq/x").text(), "puma GET /x? 0");
    }
}
