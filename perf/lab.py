"""What the scripts share: building, starting and ending processes, their accounts in /proc, and the proxies' settings.

Everything listens on loopback, lives in one temporary directory, and is ended by the process ids of what was started here.
"""

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import routing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "slowhttptest": "slowhttptest"}
READY_SECONDS = 10
PROXY_CORE, LOAD_CORE = 0, 1
KEEPALIVE = 512
# nginx allots memory for this many connections when it starts, used or not: 512 is its own default.
NGINX_SLOTS = 16384
NGINX_SLOTS_DEFAULT = 512


class Trouble(Exception):
    """Something that the person who started the script has to know; shown without a traceback."""


def find_program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def require_programs(names):
    missing = [PACKAGES.get(name, name) for name in names if not find_program(name)]
    if missing:
        raise Trouble("missing Debian packages: " + " ".join(missing))


def require_two_cores():
    cores = os.sched_getaffinity(0)
    if not {PROXY_CORE, LOAD_CORE} <= cores:
        raise Trouble(
            f"cores {PROXY_CORE} and {LOAD_CORE} are needed (the proxy on one, the load on the other), available: {sorted(cores)}"
        )


def raise_descriptor_limit():
    """As many descriptors as the hard limit allows, for this process and all that it starts; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


# Building


def tools_target():
    return Path(os.environ.get("CARGO_TARGET_DIR") or HERE / "target").absolute()


def cargo_build(folder, target=None):
    environment = dict(os.environ)
    if target:
        environment["CARGO_TARGET_DIR"] = str(target)
    print(f"building {folder.relative_to(ROOT.parent)}", file=sys.stderr)
    return subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=folder, env=environment).returncode == 0


def build_tools():
    if not cargo_build(HERE, tools_target()):
        raise Trouble("the tools in perf/ do not build")


def build_peer():
    """The peer is not ours: if it does not build, the run goes on without it."""
    return cargo_build(HERE / "peer-monoio-http", tools_target())


def build_product():
    if not cargo_build(ROOT):
        raise Trouble("the product does not build")


def tool(name):
    path = tools_target() / "release" / name
    if not path.exists():
        raise Trouble(f"{name} is not built: run without --no-build first")
    return str(path)


def product():
    # A relative directory is meant from where cargo runs.
    path = ROOT / (os.environ.get("CARGO_TARGET_DIR") or "target") / "release" / "warpdrive"
    if not path.exists():
        raise Trouble("warpdrive is not built: run without --no-build first")
    return str(path)


# Processes


def _end_with_parent(core):
    """In the child, before its program: dies when this script dies, runs on the given core."""
    pr_set_pdeathsig = 1
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare():
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if core is not None:
            os.sched_setaffinity(0, {core})

    return prepare


def parents():
    """The parent of every process."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            found[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    return found


def descendants(pid):
    """The process and all below it."""
    parent_of = parents()
    tree = [pid]
    for member in tree:
        tree.extend(child for child, parent in parent_of.items() if parent == member)
    return tree


class Process:
    """A program in the background, with its output in a file of the temporary directory."""

    def __init__(self, name, command, directory, core=None, stdin=None):
        self.name = name
        self.log = Path(directory, f"{name}.log")
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=stdin or subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent(core),
                start_new_session=True,
            )
        self.pid = self.child.pid

    def output(self):
        return self.log.read_text(errors="replace")

    def must_run(self):
        if self.child.poll() is not None:
            raise Trouble(f"{self.name} ended with {self.child.returncode}:\n{self.output()[-2000:]}")

    def wait_until(self, ready, what):
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            self.must_run()
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name}: no {what} after {READY_SECONDS} s:\n{self.output()[-2000:]}")
            time.sleep(0.02)

    def wait_for_output(self, text):
        self.wait_until(lambda: text in self.output(), f"line with {text!r}")

    def end(self):
        """Asks first; then kills what is left of the tree, by ids noted before."""
        if self.child.poll() is not None:
            return
        tree = descendants(self.pid)
        self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        # A member whose id was given to somebody else meanwhile is no longer in our session.
        for pid in tree[1:]:
            try:
                if os.getsid(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass


class Lab:
    """A temporary directory and the processes that live in it; leaves nothing behind."""

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="warpdrive-perf-"))
        self.processes = []
        # Leave by the same way when somebody ends the script.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def start(self, name, command, core=None, stdin=None):
        process = Process(name, command, self.directory, core, stdin)
        self.processes.append(process)
        return process

    def end(self, process):
        process.end()
        self.processes.remove(process)

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.end()
        shutil.rmtree(self.directory, ignore_errors=True)


def run_pinned(command, core, seconds_max):
    """Runs a program to its end on one core; ended by force when it takes too long."""
    try:
        return subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            timeout=seconds_max,
            stdin=subprocess.DEVNULL,
            preexec_fn=_end_with_parent(core),
        )
    except subprocess.TimeoutExpired:
        raise Trouble(f"{Path(command[0]).name} did not end within {seconds_max:.0f} s") from None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Accounts in /proc


def cpu_by_thread(pids):
    """Nanoseconds on a core of every thread of the given processes."""
    found = {}
    for pid in pids:
        for task in Path("/proc", str(pid), "task").glob("*"):
            try:
                found[task.name] = int((task / "schedstat").read_text().split()[0])
            except (OSError, IndexError):
                continue
    return found


def cpu_between(before, after):
    """Of two accounts; a thread that began in between counts from zero."""
    return sum(spent - before.get(thread, 0) for thread, spent in after.items())


def core_busy_ns(core):
    """Time in which the core was not idle, of whatever cause."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            fields = [int(field) for field in line.split()[1:9]]
            return (sum(fields) - fields[3] - fields[4]) * tick_ns
    return 0


def memory(pids):
    """Bytes of the processes together: resident, proportional, private."""
    total = {"rss": 0, "pss": 0, "private": 0}
    for pid in pids:
        try:
            lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            name, amount = line.split()[:2]
            size = int(amount) * 1024
            if name == "Rss:":
                total["rss"] += size
            elif name == "Pss:":
                total["pss"] += size
            elif name in ("Private_Clean:", "Private_Dirty:"):
                total["private"] += size
    return total


# Requests


def fetch(port, path="/", timeout=5.0):
    """One request on a connection of its own; the length of its body."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n"
        connection.sendall(request.encode())
        return receive_response(connection)


def receive_response(connection, on_head=None):
    """Reads one response with a Content-Length; the length of its body. Anything but a 200 is a ValueError."""
    buffer = bytearray(1 << 20)
    head = b""
    while b"\r\n\r\n" not in head:
        count = connection.recv_into(buffer)
        if count == 0:
            raise ValueError("closed before the end of the head")
        head += buffer[:count]
    head, _, start = head.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if lines[0].split()[1:2] != ["200"]:
        raise ValueError(f"answered {lines[0]!r}")
    fields = dict(line.lower().split(":", 1) for line in lines[1:])
    length = int(fields["content-length"])
    if on_head:
        on_head()
    received = len(start)
    while received < length:
        count = connection.recv_into(buffer)
        if count == 0:
            raise ValueError(f"closed after {received} of {length} bytes")
        received += count
    if received != length:
        raise ValueError(f"{received} bytes instead of {length}")
    return length


def answers(port, path="/"):
    try:
        return fetch(port, path) > 0
    except (OSError, ValueError, KeyError):
        return False


def run_load(port, seconds, **options):
    """`load` on its core; what it saw. One error of any kind is a Trouble. Options without a value are left out."""
    command = [tool("load"), "--connect", f"127.0.0.1:{port}", "--seconds", seconds]
    for name, value in options.items():
        if value is not None:
            command += [f"--{name}", value]
    done = run_pinned(command, LOAD_CORE, seconds + 30)
    if done.returncode != 0:
        raise Trouble(f"load: {done.stderr.strip() or 'no result'}")
    return json.loads(done.stdout)


def load_and_account(proxy, seconds, **options):
    """The same of a proxy, with what each request has cost it: microseconds of the processor, requests per second."""
    before = proxy.cpu()
    result = run_load(proxy.port, seconds, **options)
    # What is still done about closed connections belongs to it.
    time.sleep(0.05)
    spent = cpu_between(before, proxy.cpu())
    proxy.check()
    return result | {"cpu_us": spent / 1000 / result["requests"], "rate": result["requests"] / result["seconds"]}


def reload(admin):
    """Has WarpDrive reload, by its admin socket; returns when every worker runs by the new plan."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(60)
        asked.connect(admin)
        asked.sendall(b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        answer = b""
        while more := asked.recv(4096):
            answer += more
    if b" 200 " not in answer.split(b"\r\n")[0]:
        raise Trouble(f"not reloaded: {answer.decode()}")


def wrk_counts(said):
    """Of the output of wrk: requests, and those that failed."""
    total = re.search(r"(\d+) requests in", said)
    if not total:
        raise Trouble(f"wrk said nothing of its requests:\n{said}")
    status = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    failed = (int(status[1]) if status else 0) + (sum(map(int, errors.groups())) if errors else 0)
    return int(total[1]), failed


# The origin and the proxies


def start_origin(lab, core=None, more=()):
    """An origin on a Unix socket and on TCP; returns both addresses."""
    path, port = lab.directory / "origin.sock", free_port()
    command = [tool("origin"), "--unix", path, "--tcp", f"127.0.0.1:{port}", *more]
    origin = lab.start("origin", command, core)
    origin.wait_for_output("listening")
    return path, port


class Proxy:
    """A proxy that is ready; `port` answers."""

    def __init__(self, process, port):
        self.name, self.process, self.port = process.name, process, port
        self.pids = descendants(process.pid)

    def check(self):
        """The processes are those that were there at the start: nothing died, and nothing was started again."""
        self.process.must_run()
        now = descendants(self.process.pid)
        if now != self.pids:
            raise Trouble(f"{self.name}: its processes changed:\n{self.process.output()[-2000:]}")

    def cpu(self):
        return cpu_by_thread(self.pids)

    def memory(self):
        return memory(self.pids)


def upstream_keys(upstream):
    """A path is a Unix socket, a number a port of the loopback."""
    return f"host = \"127.0.0.1\"\nport = {upstream}" if isinstance(upstream, int) else f'socket = "{upstream}"'


def write_warpdrive(lab, name, port, upstream, routes, kind="prefix", is_logged=True):
    path = lab.directory / f"{name}.toml"
    path.write_text(
        f"""[server]
http_port = {port}
bind = ["127.0.0.1"]
worker_threads = 1
pin_cores = false

[middleware]
log_requests = {str(is_logged).lower()}

[log]
format = "json"
file = "{access_log(lab, name)}"

[upstreams.origin]
{upstream_keys(upstream)}
keepalive = {KEEPALIVE}
{routing.warpdrive_routes(routes, kind)}"""
    )
    return [product(), "run", "-c", path]


def access_log(lab, name):
    return lab.directory / f"{name}.access.json"


def start_warpdrive(lab, upstream, core=None, name="warpdrive", routes=20, kind="prefix", is_logged=True):
    port = free_port()
    process = lab.start(name, write_warpdrive(lab, name, port, upstream, routes, kind, is_logged), core)
    process.wait_for_output(f"listening on http://127.0.0.1:{port}")
    process.wait_until(lambda: answers(port), "answer")
    return Proxy(process, port)


def nginx_servers(upstream):
    """As `upstream_keys`; a list has servers as nginx writes them."""
    if isinstance(upstream, list):
        return "".join(f"server {server};\n        " for server in upstream)
    return f"server 127.0.0.1:{upstream};" if isinstance(upstream, int) else f"server unix:{upstream};"


def write_nginx(lab, name, port, upstream, http="", routes=1, kind="prefix", slots=NGINX_SLOTS):
    """nginx at its best: one worker, connections kept on both sides, nothing written, no field added."""
    user = "user root;\n" if os.geteuid() == 0 else ""
    folder = lab.directory / name
    folder.mkdir(exist_ok=True)
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"""{user}daemon off;
worker_processes 1;
pcre_jit on;
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[0]};
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections {slots}; }}
http {{
    access_log off;
{temporary}    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    {http}
    upstream origin {{
        {nginx_servers(upstream)}
        keepalive {KEEPALIVE};
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
{routing.nginx_locations(routes, kind)}        location / {{ proxy_pass http://origin; }}
    }}
}}
"""
    )
    return [find_program("nginx"), "-e", folder / "error.log", "-p", folder, "-c", path]


def start_nginx(lab, upstream, core=None, name="nginx", http="", slots=NGINX_SLOTS, **table):
    port = free_port()
    process = lab.start(name, write_nginx(lab, name, port, upstream, http, slots=slots, **table), core)
    process.wait_until(lambda: answers(port), "answer")
    return Proxy(process, port)


def start_nginx_64k(lab, upstream, core=None):
    return start_nginx(lab, upstream, core, "nginx-64k", "proxy_buffer_size 64k; proxy_buffers 16 64k;")


def start_haproxy(lab, upstream, core=None, name="haproxy", routes=1, kind="prefix"):
    port = free_port()
    path, table = lab.directory / f"{name}.cfg", lab.directory / f"{name}.map"
    table.write_text(routing.haproxy_map(routes, kind))
    match = {"prefix": "map_beg", "regex": "map_reg"}[kind]
    choice = f"use_backend %[path,{match}({table})]" if routes > 1 else ""
    path.write_text(
        f"""global
    nbthread 1
    maxconn 4096

defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    option http-keep-alive
    http-reuse always

frontend downstream
    bind 127.0.0.1:{port} backlog 4096
    {choice}
    default_backend origin

backend origin
    server origin unix@{upstream} pool-max-conn {KEEPALIVE} pool-purge-delay 600s
"""
    )
    process = lab.start(name, [find_program("haproxy"), "-db", "-f", path], core)
    process.wait_until(lambda: answers(port), "answer")
    return Proxy(process, port)


def start_relay(lab, upstream, core=None):
    port = free_port()
    process = lab.start("relay", [tool("relay"), "--listen", f"127.0.0.1:{port}", "--unix", upstream], core)
    process.wait_until(lambda: answers(port), "answer")
    return Proxy(process, port)


def start_peer(lab, upstream, core=None):
    port = free_port()
    process = lab.start("monoio-http", [tool("peer-monoio-http"), f"127.0.0.1:{port}", upstream], core)
    process.wait_until(lambda: answers(port), "answer")
    return Proxy(process, port)
