"""nginx, HAProxy and WarpDrive before several instances of an application, with the same limits as far as each has them.

What is the same: a second to connect and a second of silence, one repetition on another instance, three failures put an
instance aside for two seconds, and, where checks are free, one each second of which two failed ones take an instance away and
two good ones bring it back.
"""

import json
import subprocess
from pathlib import Path

import lab
from lab import Trouble

HEALTH_PATH = "/health"
# All three repeat a GET only if not a byte of a response had come: that is nginx's default, and WarpDrive's rule. What an instance
# answers is an answer, whatever its status.
NGINX_HTTP = """proxy_connect_timeout 1s;
    proxy_read_timeout 1s;
    proxy_send_timeout 1s;
    proxy_next_upstream error timeout;
    proxy_next_upstream_tries 2;"""
NGINX_SERVER = "max_fails=3 fail_timeout=2s"
HAPROXY = f"""global
    nbthread 1
    maxconn 8192

defaults
    mode http
    timeout connect 1s
    timeout client 600s
    timeout server 1s
    timeout check 1s
    option http-keep-alive
    http-reuse always
    retries 1
    option redispatch 1
    retry-on conn-failure empty-response response-timeout
    option httpchk
    http-check send meth GET uri {HEALTH_PATH} ver HTTP/1.1 hdr Host app
    http-check expect status 200
    default-server check inter 1s fall 2 rise 2 observe layer4 error-limit 3 on-error mark-down
    default-server pool-max-conn {lab.KEEPALIVE} pool-purge-delay 600s
"""
# What WarpDrive is told as far as this version knows it: a name to call it by, and the keys of the upstream or its table.
WARPDRIVE_KEYS = [
    ("max_fails", "max_fails = 3"),
    ("fail_timeout", 'fail_timeout = "2s"'),
    ("retries", "retries = 1"),
]
WARPDRIVE_TABLES = [
    (
        "health",
        f"""[upstreams.app.health]
path = "{HEALTH_PATH}"
interval_secs = 1
timeout_secs = 1
unhealthy_threshold = 2
healthy_threshold = 2
""",
    ),
]
STRATEGY_DEFAULT = "round_robin"
STRATEGIES = {
    "round_robin": "",
    "least_conn": "",
    "random": "",
    "ip_hash": "",
    "p2c": "",
    "consistent_hash": 'hash_key = "path"\n',
}


# WarpDrive


def warpdrive_text(port, instances, strategy, names, log=None):
    """The whole configuration, with those of the keys and tables above that have one of the names."""
    keys = "".join(f"{text}\n" for name, text in WARPDRIVE_KEYS if name in names)
    tables = "".join(f"\n{text}" for name, text in WARPDRIVE_TABLES if name in names)
    places = "".join(
        f'\n[[upstreams.app.instances]]\nhost = "{host}"\nport = {number}\n'
        for host, number in (address.split(":") for address in instances)
    )
    log = f'\n[log]\nformat = "json"\nfile = "{log}"\n' if log else ""
    return f"""[server]
http_port = {port}
bind = ["127.0.0.1"]
worker_threads = 1
pin_cores = false
{log}
[upstreams.app]
strategy = "{strategy}"
{STRATEGIES[strategy]}keepalive = {lab.KEEPALIVE}
connect_timeout = "1s"
read_timeout = "1s"
write_timeout = "1s"
{keys}{places}{tables}
[[routes]]
path_prefix = "/"
upstream = "app"
"""


def refusal(space, strategy, names):
    """What `warpdrive check` has against a configuration; none if it takes it. Later versions are not asked about by number."""
    path = Path(space.directory, "check.toml")
    path.write_text(warpdrive_text(8080, ["127.0.0.1:3000", "127.0.0.1:3001"], strategy, names))
    command = [lab.product(), "check", "-c", str(path), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return None
    try:
        found = json.loads(done.stdout)["diagnostics"]
    except (json.JSONDecodeError, KeyError):
        raise Trouble(f"warpdrive check: {done.stderr.strip() or done.stdout.strip()}") from None
    return "; ".join(one["message"] for one in found if one["severity"] == "error")


def is_of_later(message):
    return "does not work yet" in message


def known_names(space):
    """Which of the keys and tables above this version takes, and which it has not yet. A refusal for any other reason is a mistake here."""
    used, later = [], []
    for name, _ in WARPDRIVE_KEYS + WARPDRIVE_TABLES:
        message = refusal(space, STRATEGY_DEFAULT, used + [name])
        if message is None:
            used.append(name)
        elif is_of_later(message):
            later.append(name)
        else:
            raise Trouble(f"warpdrive does not take {name}: {message}")
    return used, later


def known_strategies(space, wanted):
    """Those that this version has; the others, too."""
    used, later = [], []
    for strategy in wanted:
        message = refusal(space, strategy, [])
        if message is not None and not is_of_later(message):
            raise Trouble(f"warpdrive does not take {strategy}: {message}")
        (later if message else used).append(strategy)
    return used, later


def start_warpdrive(space, instances, core, name, strategy, names):
    port, path = lab.free_port(), space.directory / "warpdrive.toml"
    path.write_text(warpdrive_text(port, instances, strategy, names, lab.access_log(space, "warpdrive")))
    process = space.start(name, [lab.product(), "run", "-c", path], core)
    process.wait_for_output(f"listening on http://127.0.0.1:{port}")
    process.wait_until(lambda: lab.answers(port), "answer")
    return lab.Proxy(process, port)


# The others


def start_nginx(space, instances, core):
    servers = [f"{address} {NGINX_SERVER}" for address in instances]
    return lab.start_nginx(space, servers, core, http=NGINX_HTTP)


def start_haproxy(space, instances, core):
    port, path = lab.free_port(), space.directory / "haproxy.cfg"
    servers = "".join(f"    server app{number} {address}\n" for number, address in enumerate(instances))
    path.write_text(
        f"""{HAPROXY}
frontend downstream
    bind 127.0.0.1:{port} backlog 4096
    default_backend app

backend app
    balance roundrobin
{servers}"""
    )
    process = space.start("haproxy", [lab.find_program("haproxy"), "-db", "-f", path], core)
    process.wait_until(lambda: lab.answers(port), "answer")
    return lab.Proxy(process, port)
