// Keeps the page current: asks for `status` again and again, and shows what has changed since.
"use strict";

const EVERY_MS = 2000;
const HISTORY_MAX = 60;
const ROUTES_MAX = 100;

const at = (id) => document.getElementById(id);
const history = [];
let before = null;
let isPaused = false;
let timer = 0;

const whole = new Intl.NumberFormat("en");
const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));

function perSecond(value) {
  if (value === null) return "–";
  return value < 10 ? value.toFixed(1) : number(Math.round(value));
}

function time(seconds) {
  if (seconds === null) return "–";
  if (seconds >= 10) return `${seconds.toFixed(0)} s`;
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  const ms = seconds * 1000;
  return `${ms >= 100 ? ms.toFixed(0) : ms.toPrecision(2)} ms`;
}

function span(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${seconds} s`;
}

// The value below which that part of what was counted lies, as near as the buckets tell.
function quantile(part, counts, bounds) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  let left = part * all;
  for (const [bucket, count] of counts.entries()) {
    if (left <= count && count > 0) {
      const [low, high] = [bucket ? bounds[bucket - 1] : 0, bounds[bucket] ?? bounds.at(-1)];
      return low + (high - low) * (left / count);
    }
    left -= count;
  }
  return bounds.at(-1);
}

const minus = (now, then) => now.map((count, index) => count - (then?.[index] ?? 0));
const added = (lists) => lists.reduce((sum, list) => list.map((count, index) => count + (sum[index] ?? 0)), []);

function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Rows are kept, so that what is selected or read aloud is not replaced under the reader.
function rows(body, list) {
  while (body.rows.length > list.length) body.deleteRow(-1);
  list.forEach((cells, index) => {
    const row = body.rows[index] ?? body.insertRow();
    cells.forEach((cell, column) => {
      let element = row.cells[column];
      if (!element) {
        element = document.createElement(column === 0 ? "th" : "td");
        if (column === 0) element.scope = "row";
        row.append(element);
      }
      const { text, kind = "" } = typeof cell === "object" ? cell : { text: cell };
      if (element.className !== kind) element.className = kind;
      show(element, text);
    });
  });
}

const right = (text, kind = "") => ({ text, kind: `number ${kind}`.trim() });

function endpointState(endpoint) {
  const kinds = { starting: "warn", stopped: "bad" };
  let [word, kind] = ["up", "good"];
  if (endpoint.process in kinds) [word, kind] = [endpoint.process, kinds[endpoint.process]];
  else if (endpoint.health === "down") [word, kind] = ["down", "bad"];
  else if (endpoint.ejected) [word, kind] = ["ejected", "warn"];
  return { text: endpoint.backup ? `${word} (backup)` : word, kind: `state ${kind}` };
}

function showUpstreams(upstreams) {
  const none = (name) => [[name, "–", { text: "no address", kind: "state bad" }, right("–"), right("–")]];
  rows(at("upstreams"), upstreams.flatMap(({ upstream, endpoints }) =>
    endpoints.length === 0 ? none(upstream) : endpoints.map((endpoint) => [
      upstream, endpoint.endpoint, endpointState(endpoint),
      right(number(endpoint.in_flight)), right(number(endpoint.idle_connections)),
    ])));
}

function showRoutes(seen, then, seconds) {
  const known = new Map(then?.routes.map((route) => [route.route, route]));
  // The busiest, in the order of the configuration.
  const least = seen.routes.map((route) => route.requests).sort((a, b) => b - a)[ROUTES_MAX - 1] ?? 0;
  const shown = seen.routes.filter((route) => route.requests >= least).slice(0, ROUTES_MAX);
  const list = shown.map((route) => {
    const earlier = known.get(route.route);
    const counts = minus(route.duration_counts, earlier?.duration_counts);
    const recent = quantile(0.5, counts, seen.bounds_seconds) === null ? route.duration_counts : counts;
    const rate = then ? (route.requests - (earlier?.requests ?? 0)) / seconds : null;
    const status = (name) => number(route.statuses[name]);
    return [
      route.route, right(perSecond(rate)),
      right(time(quantile(0.5, recent, seen.bounds_seconds))),
      right(time(quantile(0.99, recent, seen.bounds_seconds))),
      right(number(route.requests)), right(status("2xx")), right(status("3xx")), right(status("4xx")),
      right(status("5xx"), route.statuses["5xx"] > 0 ? "bad" : ""),
    ];
  });
  rows(at("routes"), list);
  at("routes").closest(".scroll").hidden = list.length === 0;
  const left = seen.routes.length - list.length;
  show(at("more-routes"), left > 0 ? `and ${number(left)} more, with fewer requests; all are at status` : "");
  at("no-routes").hidden = list.length > 0;
}

function showChildren(children) {
  const kinds = { ready: "good", starting: "warn", stopped: "bad" };
  at("children").closest("section").hidden = children.length === 0;
  rows(at("children"), children.map((child) => [
    child.child, { text: child.state, kind: `state ${kinds[child.state]}` },
    right(child.pid === null ? "–" : String(child.pid)), child.address ?? "–",
    right(number(child.restarts)), { text: child.last_end ?? "–", kind: "long" },
  ]));
}

function showWorkers(seen, then, seconds) {
  rows(at("workers"), seen.workers.map((worker, index) => [
    String(worker.worker),
    worker.responds ? { text: "responds", kind: "state good" } : { text: "does not respond", kind: "state bad" },
    right(number(worker.connections)),
    right(perSecond(then ? (worker.requests - then.workers[index].requests) / seconds : null)),
  ]));
}

function showTotals(seen, then, seconds) {
  const counts = added(seen.routes.map((route) => route.duration_counts));
  const earlier = then ? added(then.routes.map((route) => route.duration_counts)) : undefined;
  const recent = minus(counts, earlier);
  const failed = (status) => status.routes.reduce((sum, route) => sum + route.statuses["5xx"], 0);
  const rate = then ? (seen.requests - then.requests) / seconds : null;
  show(at("rate"), perSecond(rate));
  show(at("median"), time(quantile(0.5, recent, seen.bounds_seconds)));
  show(at("p99"), time(quantile(0.99, recent, seen.bounds_seconds)));
  show(at("failed"), number(failed(seen)));
  show(at("open"), number(seen.connections.open));
  show(at("tunnels"), number(seen.connections.tunnels));
  if (rate === null) return;
  history.push(rate);
  if (history.length > HISTORY_MAX) history.shift();
  const most = Math.max(1, ...history);
  const x = (index) => (240 * (HISTORY_MAX - history.length + index)) / (HISTORY_MAX - 1);
  const points = history.map((value, index) => `${x(index).toFixed(1)},${(46 - (44 * value) / most).toFixed(1)}`);
  at("history").firstElementChild.setAttribute("points", points.join(" "));
}

function showState(word, kind) {
  show(at("state"), word);
  at("state").className = `badge ${kind}`;
  document.documentElement.classList.toggle("stale", kind === "bad");
  document.title = word === "serving" ? "WarpDrive" : `${word} – WarpDrive`;
}

function showAll(seen) {
  const now = performance.now() / 1000;
  // Another process has begun to count anew.
  const then = before?.seen.pid === seen.pid ? before.seen : null;
  const seconds = then ? Math.max(now - before.now, 0.001) : 1;
  showState(seen.state, seen.state === "serving" ? "good" : "warn");
  show(at("about"), `${seen.version}, process ${seen.pid}, for ${span(seen.uptime_seconds)}, configuration ${seen.generation.number}`);
  showTotals(seen, then, seconds);
  showUpstreams(seen.upstreams);
  showRoutes(seen, then, seconds);
  showChildren(seen.children);
  showWorkers(seen, then, seconds);
  before = { seen, now };
}

async function ask() {
  clearTimeout(timer);
  if (isPaused || document.hidden) return;
  try {
    const answer = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    showAll(await answer.json());
  } catch {
    showState("no answer", "bad");
  }
  clearTimeout(timer);
  timer = setTimeout(ask, EVERY_MS);
}

at("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  at("pause").setAttribute("aria-pressed", String(isPaused));
  ask();
});
document.addEventListener("visibilitychange", ask);
ask();
