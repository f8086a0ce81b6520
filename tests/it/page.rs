//! The page for operators in a real browser: what it shows, that it goes on by itself, and that it
//! needs nothing from elsewhere.

use rustix::process::Signal;
use serde_json::Value;

use crate::admin::{LISTEN, admin};
use crate::browser::{Browser, PATIENCE};
use crate::harness::client::get;
use crate::harness::origin::ok;
use crate::harness::{Builder, Origin, eventually_within, holds};

/// What the page shows.
const LOOK: &str = "
const text = id => document.getElementById(id).textContent;
const rows = id => [...document.getElementById(id).rows].map(row => [...row.cells].map(cell => cell.textContent));
return { state: text('state'), about: text('about'), p99: text('p99'), open: text('open'), failed: text('failed'),
  rate: text('rate'), points: document.querySelector('polyline').getAttribute('points').split(' ').length,
  upstreams: rows('upstreams'), routes: rows('routes'), workers: rows('workers'),
  hasCommands: !document.getElementById('children').closest('section').hidden };";

/// What is wrong with it for those who do not see it, or have no mouse.
const WRONG: &str = "
const wrong = [];
const name = element => document.getElementById(element.getAttribute('aria-labelledby'))?.textContent;
for (const region of document.querySelectorAll('section, [role=region]'))
  if (!name(region)) wrong.push(`no name: ${region.outerHTML.slice(0, 80)}`);
for (const region of document.querySelectorAll('.scroll'))
  if (region.tabIndex !== 0) wrong.push('cannot be scrolled by keys');
for (const cell of document.querySelectorAll('th'))
  if (!cell.scope) wrong.push(`no scope: ${cell.textContent}`);
if (!document.documentElement.lang) wrong.push('no language');
if (document.querySelector('#state').getAttribute('role') !== 'status') wrong.push('the state is not told');
const style = getComputedStyle(document.body);
if (style.color === style.backgroundColor) wrong.push('not to be read');
return wrong;";

/// What was loaded, but for the page itself.
const LOADED: &str = "return performance.getEntriesByType('resource').map(one => new URL(one.name).origin);";

fn text<'a>(seen: &'a Value, name: &str) -> &'a str {
    seen[name].as_str().unwrap_or_default()
}

#[test]
fn a_browser_shows_what_runs_and_goes_on() {
    let origin = Origin::answering(|request| match request.target() {
        "/broken" => b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("hello"),
    });
    let script =
        "[[routes]]\ndescription = \"<script>alert(1)</script>\"\npath_exact = \"/a\"\nupstream = \"app\"\n";
    let builder =
        Builder::new().upstream("app", &origin, "").toml(script).route("app", "path_prefix = \"/\"");
    let proxy = builder.toml(LISTEN).start();
    let at = format!("http://{}", admin(&proxy));
    let browser = Browser::start();
    browser.open(&format!("{at}/"));
    eventually_within(PATIENCE, "the page to say that it serves", || {
        let seen = browser.run(LOOK);
        let is_idle = seen["routes"].as_array().is_some_and(Vec::is_empty) && seen["hasCommands"] == false;
        holds(text(&seen, "state") == "serving" && is_idle, seen)
    });
    for path in ["/a", "/b", "/broken"] {
        get(proxy.address(), path);
    }
    let seen = eventually_within(PATIENCE, "the requests on the page", || {
        let seen = browser.run(LOOK);
        let count = seen["routes"].as_array().map_or(0, Vec::len);
        let is_there = count == 2 && text(&seen, "failed") == "1" && seen["points"].as_u64() > Some(1);
        if is_there { Ok(seen) } else { Err(seen) }
    });
    let route = |row: usize, column: usize| seen["routes"][row][column].as_str().unwrap_or_default();
    assert_eq!([route(0, 0), route(0, 4), route(0, 5)], ["<script>alert(1)</script>", "1", "1"], "{seen:#}");
    assert_eq!([route(1, 0), route(1, 4), route(1, 8)], ["/*", "2", "1"], "{seen:#}");
    assert!(route(1, 3).ends_with(" ms"), "{seen:#}");
    assert_eq!((&seen["upstreams"][0][0], &seen["upstreams"][0][2]), (&"app".into(), &"up".into()));
    assert_eq!(seen["workers"].as_array().map(Vec::len), Some(2), "{seen:#}");
    assert!(text(&seen, "about").contains(&format!("process {}", proxy.data_pid())), "{seen:#}");
    assert_eq!(browser.run(WRONG), Value::Array(Vec::new()));
    let loaded = browser.run(LOADED);
    let own = |origin: &Value| *origin == at;
    assert!(loaded.as_array().is_some_and(|all| all.len() > 2 && all.iter().all(own)), "{loaded:#}");
    let said = browser.console();
    assert!(said.as_array().is_some_and(Vec::is_empty), "{said:#}");

    let pressed = browser.run(
        "document.getElementById('pause').click(); return document.getElementById('pause').getAttribute('aria-pressed')",
    );
    assert_eq!(pressed, "true");
    browser.run("document.getElementById('pause').click()");
    proxy.signal_data_process(Signal::STOP);
    eventually_within(PATIENCE, "the page to say that nobody answers", || {
        let seen = browser.run(LOOK);
        holds(text(&seen, "state") == "no answer", seen)
    });
    proxy.signal_data_process(Signal::CONT);
    eventually_within(PATIENCE, "the page to go on", || {
        let seen = browser.run(LOOK);
        holds(text(&seen, "state") == "serving", seen)
    });
}
