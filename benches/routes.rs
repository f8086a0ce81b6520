//! What one routing decision costs, by the kind and the number of routes.
//!
//! Every request of a round goes to another route, so that neither the tree nor the predictors of
//! the processor are warm for just one. Beside the tree: a scan of all rules in turn, and `matchit`
//! where its rules say the same.

#![allow(unsafe_code)]

use std::hint::black_box;

use warpdrive::http::fields::Fields;
use warpdrive::route::{
    Condition, HostPattern, PathCondition, Pattern, Program, Question, Rule, Sender, Test, Tree, Verdict,
};

mod instruments;

use instruments::Case;

/// Requests of one round.
const ROUND: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Pattern,
    Host,
    Header,
    Regex,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Exact, "exact"),
    (Kind::Prefix, "prefix"),
    (Kind::Pattern, "pattern"),
    (Kind::Host, "host"),
    (Kind::Header, "header"),
    (Kind::Regex, "regex"),
];

const COUNTS: [usize; 5] = [1, 10, 100, 1_000, 10_000];

impl Kind {
    fn rule(self, number: usize) -> Rule<usize> {
        let mut rule =
            Rule { hosts: Vec::new(), path: PathCondition::Any, conditions: Vec::new(), target: number };
        match self {
            Kind::Exact => rule.path = PathCondition::Exact(format!("/tenants/{number}/health")),
            Kind::Prefix => rule.path = PathCondition::Prefix(format!("/tenant-{number}/app")),
            Kind::Pattern => {
                let pattern = Pattern::parse(&format!("/t{number}/{{user}}/posts/{{id}}"));
                rule.path = PathCondition::Pattern(pattern.expect("a pattern"));
            }
            Kind::Host => rule.hosts.push(HostPattern::Exact(format!("tenant-{number}.example.com"))),
            Kind::Header => {
                rule.path = PathCondition::prefix("/api");
                let test = Test::Equals(format!("tenant-{number}"));
                rule.conditions.push(Condition::Field("x-tenant".to_owned(), test));
            }
            Kind::Regex => {
                let program = Program::parse(&format!("^/users-{number}/[0-9]+/posts"));
                rule.path = PathCondition::Regex(program.expect("an expression"));
            }
        }
        rule
    }

    fn request(self, number: usize) -> Request {
        let mut request =
            Request { host: "www.example.com".into(), path: "/api/x".into(), fields: Fields::default() };
        for (name, value) in [("Host", "www.example.com"), ("User-Agent", "bench"), ("Accept", "*/*")] {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        match self {
            Kind::Exact => request.path = format!("/tenants/{number}/health"),
            Kind::Prefix => request.path = format!("/tenant-{number}/app/products/17"),
            Kind::Pattern => request.path = format!("/t{number}/someone/posts/17"),
            Kind::Host => request.host = format!("tenant-{number}.example.com"),
            Kind::Header => request.fields.push(b"X-Tenant", format!("tenant-{number}").as_bytes()),
            Kind::Regex => request.path = format!("/users-{number}/4711/posts/17"),
        }
        request
    }

    /// As `matchit` would write it.
    fn matchit(self, number: usize) -> Option<String> {
        match self {
            Kind::Exact => Some(format!("/tenants/{number}/health")),
            Kind::Prefix => Some(format!("/tenant-{number}/app/{{*rest}}")),
            Kind::Pattern => Some(format!("/t{number}/{{user}}/posts/{{id}}")),
            Kind::Host | Kind::Header | Kind::Regex => None,
        }
    }

    /// More expressions than this would not be one table any more.
    fn count_max(self) -> usize {
        if self == Kind::Regex { 1_000 } else { 10_000 }
    }
}

struct Request {
    host: String,
    path: String,
    fields: Fields,
}

impl Request {
    fn question(&self) -> Question<'_> {
        Question {
            method: b"GET",
            host: self.host.as_bytes(),
            canonical: self.path.as_bytes(),
            path: self.path.as_bytes(),
            query: b"",
            fields: &self.fields,
            sender: Sender::default(),
        }
    }
}

fn rules(kind: Kind, count: usize) -> Vec<Rule<usize>> {
    (0..count).map(|number| kind.rule(number)).collect()
}

/// Numbers of routes and their requests, in an order without a pattern.
fn requests(kind: Kind, count: usize) -> Vec<(usize, Request)> {
    let mut state = 7_usize;
    (0..ROUND)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (state >> 33) % count;
            (number, kind.request(number))
        })
        .collect()
}

fn tree(kind: Kind, count: usize) -> Tree<usize> {
    Tree::compile(rules(kind, count)).expect("the expressions are small")
}

/// Bytes of the tables of one core, and of what its decisions write to, once all was asked.
fn memory(kind: Kind, count: usize) -> (usize, usize) {
    let tree = tree(kind, count);
    let mut scratch = tree.scratch();
    for number in 0..count {
        tree.decide(&kind.request(number).question(), &mut scratch);
    }
    (tree.bytes(), scratch.bytes())
}

fn decide(kind: Kind, count: usize) -> Case {
    let tree = tree(kind, count);
    let requests = requests(kind, count);
    let mut scratch = tree.scratch();
    let mut next = 0;
    Box::new(move || {
        let (number, request) = &requests[next % ROUND];
        next += 1;
        assert_eq!(tree.decide(black_box(&request.question()), &mut scratch), Some(number));
    })
}

fn scan(kind: Kind, count: usize) -> Case {
    let rules = rules(kind, count);
    let requests = requests(kind, count);
    let mut next = 0;
    Box::new(move || {
        let (number, request) = &requests[next % ROUND];
        next += 1;
        let question = black_box(request.question());
        let found = rules.iter().find(|rule| rule.verdict(&question) == Verdict::Holds);
        assert_eq!(found.map(|rule| rule.target), Some(*number));
    })
}

fn matchit(kind: Kind, count: usize) -> Option<Case> {
    let mut router = matchit::Router::new();
    for number in 0..count {
        router.insert(kind.matchit(number)?, number).expect("the routes differ");
    }
    let requests = requests(kind, count);
    let mut next = 0;
    Some(Box::new(move || {
        let (number, request) = &requests[next % ROUND];
        next += 1;
        let found = router.at(black_box(&request.path)).expect("a route matches");
        assert_eq!(found.value, number);
    }))
}

/// `prefix 100` and so on.
fn case_of(name: &str) -> Option<Case> {
    let (kind, count) = name.split_once(' ')?;
    let (kind, _) = KINDS.into_iter().find(|(_, known)| *known == kind)?;
    Some(decide(kind, count.parse().ok()?))
}

fn main() {
    if let Some((name, rounds)) = instruments::asked_to_repeat() {
        let mut case = case_of(&name).expect("a case of that name");
        (0..rounds).for_each(|_| case());
        return;
    }
    if !instruments::is_bench() {
        for (kind, _) in KINDS {
            let mut cases: Vec<Case> = vec![decide(kind, 100), scan(kind, 100)];
            cases.extend(matchit(kind, 100));
            for case in &mut cases {
                (0..10).for_each(|_| case());
            }
        }
        return println!("every kind of route works; `cargo bench` measures them");
    }
    println!(
        "{:<16}{:>8}{:>14}{:>8}{:>13}{:>15}{:>12}{:>12}{:>12}",
        "routes",
        "ns",
        "instructions",
        "allocs",
        "tree bytes",
        "scratch bytes",
        "scan ns",
        "matchit ns",
        "compile ms"
    );
    for (kind, name) in KINDS {
        for count in COUNTS.into_iter().filter(|count| *count <= kind.count_max()) {
            let name = format!("{name} {count}");
            let started = std::time::Instant::now();
            black_box(tree(kind, count));
            let compile = started.elapsed().as_secs_f64() * 1e3;
            let (bytes, scratch) = memory(kind, count);
            let mut case = decide(kind, count);
            let allocated = instruments::allocations(&mut case);
            let ns = instruments::nanoseconds(&mut case);
            let counted = instruments::instructions(&name, ROUND as u64);
            let counted = counted.map_or("no valgrind".to_owned(), |counted| counted.to_string());
            // A scan of expressions makes a new scratch for each: that would be no comparison.
            let scanned = (kind != Kind::Regex && count <= 1_000)
                .then(|| instruments::nanoseconds(&mut scan(kind, count)));
            let peer = matchit(kind, count).map(|mut case| instruments::nanoseconds(&mut case));
            let text = |ns: Option<f64>| ns.map_or("–".to_owned(), |ns| format!("{ns:.0}"));
            println!(
                "{name:<16}{ns:>8.0}{counted:>14}{allocated:>8.2}{bytes:>13}{scratch:>15}{:>12}{:>12}{compile:>12.1}",
                text(scanned),
                text(peer)
            );
        }
    }
}
