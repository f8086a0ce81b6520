//! What runs, as a text: the same as the JSON that the running process answers with.

use serde_json::Value;

/// Between two columns.
const GAP: usize = 2;

/// The whole text, on several lines.
pub fn text(seen: &Value) -> String {
    let mut text = summary(seen);
    let upstreams = list(&seen["upstreams"]);
    if !upstreams.is_empty() {
        text += &table("UPSTREAM  ENDPOINT  STATE  IN FLIGHT  IDLE", endpoint_rows(upstreams));
    }
    let children = list(&seen["children"]);
    if !children.is_empty() {
        text +=
            &table("COMMAND  STATE  PROCESS  ADDRESS  RESTARTS", children.iter().map(child_row).collect());
        for child in children.iter().filter(|child| child["last_end"].is_string()) {
            text += &format!("{} ended last with {}\n", shown(&child["child"]), shown(&child["last_end"]));
        }
    }
    let routes = list(&seen["routes"]);
    if !routes.is_empty() {
        text += &table("ROUTE  REQUESTS  2XX  3XX  4XX  5XX  MEAN", routes.iter().map(route_row).collect());
    }
    text
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value without quotes, and without control characters, which a name may have.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(|one| if one.is_control() { '\u{fffd}' } else { one }).collect()
}

fn summary(seen: &Value) -> String {
    let connections = &seen["connections"];
    let workers = list(&seen["workers"]);
    let silent: Vec<String> = workers
        .iter()
        .filter(|worker| worker["responds"] == false)
        .map(|worker| shown(&worker["worker"]))
        .collect();
    let respond = match silent.as_slice() {
        [] => "all respond".to_owned(),
        silent => format!("no response from {}", silent.join(", ")),
    };
    let generation = &seen["generation"];
    let mut in_force = format!("{}, for {}", shown(&generation["number"]), span(&generation["age_seconds"]));
    for former in list(&generation["former"]) {
        let (number, count) = (shown(&former["number"]), shown(&former["connections"]));
        in_force += &format!("; {count} still run by {number}");
    }
    let lines = [
        ("version", shown(&seen["version"])),
        ("state", format!("{} for {}", shown(&seen["state"]), span(&seen["uptime_seconds"]))),
        ("process", shown(&seen["pid"])),
        ("generation", in_force),
        ("workers", format!("{}, {respond}", workers.len())),
        (
            "connections",
            format!(
                "{} open, {} of them tunnels; {} accepted, {} denied",
                shown(&connections["open"]),
                shown(&connections["tunnels"]),
                shown(&connections["accepted"]),
                shown(&connections["denied"])
            ),
        ),
        ("requests", shown(&seen["requests"])),
    ];
    lines.iter().map(|(name, value)| format!("{name:13}{value}\n")).collect()
}

fn span(seconds: &Value) -> String {
    let seconds = seconds.as_u64().unwrap_or_default();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn endpoint_rows(upstreams: &[Value]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for upstream in upstreams {
        let name = shown(&upstream["upstream"]);
        let endpoints = list(&upstream["endpoints"]);
        for endpoint in endpoints {
            let is_ejected = endpoint["ejected"] == true;
            let mut state = match (endpoint["process"].as_str(), endpoint["health"].as_str()) {
                (Some(process @ ("starting" | "stopped")), _) => process.to_owned(),
                (_, Some("down")) => "down".to_owned(),
                _ if is_ejected => "ejected".to_owned(),
                _ => "up".to_owned(),
            };
            if endpoint["backup"] == true {
                state += " (backup)";
            }
            rows.push(vec![
                name.clone(),
                shown(&endpoint["endpoint"]),
                state,
                shown(&endpoint["in_flight"]),
                shown(&endpoint["idle_connections"]),
            ]);
        }
        if endpoints.is_empty() {
            rows.push([&name, "-", "no address", "-", "-"].map(str::to_owned).to_vec());
        }
    }
    rows
}

fn child_row(child: &Value) -> Vec<String> {
    ["child", "state", "pid", "address", "restarts"].map(|key| shown(&child[key])).to_vec()
}

fn route_row(route: &Value) -> Vec<String> {
    let statuses = ["2xx", "3xx", "4xx", "5xx"].map(|class| shown(&route["statuses"][class]));
    let requests = route["requests"].as_f64().unwrap_or_default();
    let seconds = route["duration_seconds"].as_f64().unwrap_or_default();
    let mut row = vec![shown(&route["route"]), shown(&route["requests"])];
    row.extend(statuses);
    row.push(format!("{:.1} ms", 1e3 * seconds / requests.max(1.0)));
    row
}

/// An empty line, a line of titles and the rows below them.
fn table(titles: &str, rows: Vec<Vec<String>>) -> String {
    let titles: Vec<String> = titles.split("  ").map(str::to_owned).collect();
    let mut widths = vec![0; titles.len()];
    for row in rows.iter().chain([&titles]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = "\n".to_owned();
    for row in [titles].iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:0$}", width + GAP));
        text += cells.collect::<String>().trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_is_in_tables() {
        let endpoint = |at: &str, process: Value, health: &str, is_ejected: bool, is_backup: bool| {
            json!({
                "endpoint": at, "process": process, "health": health, "ejected": is_ejected,
                "backup": is_backup, "in_flight": 3, "idle_connections": 12,
            })
        };
        let seen = json!({
            "version": "1.2.3", "state": "serving", "uptime_seconds": 7500, "pid": 12,
            "workers": [{"worker": 0, "responds": true}, {"worker": 1, "responds": false}],
            "connections": {"open": 1, "tunnels": 0, "accepted": 7, "denied": 2},
            "requests": 40,
            "generation": {"number": 3, "age_seconds": 7, "former": [{"number": 1, "connections": 2}]},
            "upstreams": [
                {"upstream": "web", "endpoints": [
                    endpoint("127.0.0.1:3000", json!(null), "down", false, false),
                    endpoint("unix:a.sock", json!("starting"), "up", false, true),
                    endpoint("unix:b\u{1b}[31m", json!("ready"), "unknown", true, false),
                ]},
                {"upstream": "none", "endpoints": []},
            ],
            "children": [{
                "child": "web.0", "state": "ready", "pid": 9, "address": null, "restarts": 1,
                "last_end": "exit code 3",
            }],
            "routes": [{
                "route": "/api/*", "requests": 4, "duration_seconds": 0.01,
                "statuses": {"2xx": 3, "3xx": 0, "4xx": 0, "5xx": 1},
            }],
        });
        let expected = "\
version      1.2.3
state        serving for 2 h 5 min
process      12
generation   3, for 7 s; 2 still run by 1
workers      2, no response from 1
connections  1 open, 0 of them tunnels; 7 accepted, 2 denied
requests     40

UPSTREAM  ENDPOINT        STATE              IN FLIGHT  IDLE
web       127.0.0.1:3000  down               3          12
web       unix:a.sock     starting (backup)  3          12
web       unix:b\u{fffd}[31m     ejected            3          12
none      -               no address         -          -

COMMAND  STATE  PROCESS  ADDRESS  RESTARTS
web.0    ready  9        -        1
web.0 ended last with exit code 3

ROUTE   REQUESTS  2XX  3XX  4XX  5XX  MEAN
/api/*  4         3    0    0    1    2.5 ms
";
        assert_eq!(text(&seen), expected);
    }
}
