//! The tree against a table, and against a scan of all rules.

use super::cover::{covers, shadowed};
use super::tree::Asks;
use super::*;
use crate::http::fields::Fields;
use crate::http::forwarding::{Network, Scheme};
use crate::http::target::canonicalise;

/// A rule of words: `host=a`, `host=*.b`, `exact=/x`, `prefix=/x`, `pattern=/{x}`, `regex=^/x`,
/// `method=GET`, `field=name`, `field=!name`, `field=name:value`, `field=name~regex`, and
/// `query=` likewise; `client=10.0.0.0/8,::1/128`, `scheme=https`.
fn rule(words: &str, target: usize) -> Rule<usize> {
    let mut rule = Rule { hosts: Vec::new(), path: PathCondition::Any, conditions: Vec::new(), target };
    for word in words.split_whitespace() {
        let (kind, text) = word.split_once('=').unwrap();
        match kind {
            "host" => rule.hosts.push(match text.strip_prefix('*') {
                Some(end) => HostPattern::Below(end.to_owned()),
                None => HostPattern::Exact(text.to_owned()),
            }),
            "exact" => rule.path = PathCondition::exact(text),
            "prefix" => rule.path = PathCondition::prefix(text),
            "pattern" => rule.path = PathCondition::Pattern(Pattern::parse(text).unwrap()),
            "regex" => rule.path = PathCondition::Regex(Program::parse(text).unwrap()),
            "method" => {
                let names = text.split(',').map(str::to_owned).collect();
                rule.conditions.push(Condition::Method(Methods::new(names)));
            }
            "field" => {
                let (name, test) = named(text);
                rule.conditions.push(Condition::Field(name, test));
            }
            "client" => {
                let networks = text.split(',').map(|text| {
                    let (address, bits) = text.split_once('/').unwrap();
                    Network { address: address.parse().unwrap(), bits: bits.parse().unwrap() }
                });
                rule.conditions.push(Condition::Client(networks.collect()));
            }
            "scheme" => {
                let scheme = if text == "https" { Scheme::Https } else { Scheme::Http };
                rule.conditions.push(Condition::Scheme(scheme));
            }
            "query" => {
                let (name, test) = named(text);
                rule.conditions.push(Condition::Parameter(name, test));
            }
            _ => panic!("{word}"),
        }
    }
    rule
}

fn named(text: &str) -> (String, Test) {
    if let Some(name) = text.strip_prefix('!') {
        return (name.to_owned(), Test::Absent);
    }
    match (text.split_once(':'), text.split_once('~')) {
        (Some((name, value)), _) => (name.to_owned(), Test::Equals(value.to_owned())),
        (_, Some((name, regex))) => (name.to_owned(), Test::Matches(Program::parse(regex).unwrap())),
        _ => (text.to_owned(), Test::Present),
    }
}

/// A request of words: `GET a.example/path?query name:value …`, and `client:10.0.0.1 scheme:https`.
struct Asked {
    method: String,
    host: String,
    canonical: Vec<u8>,
    path: String,
    query: String,
    fields: Fields,
    sender: Sender,
}

impl Asked {
    fn new(text: &str) -> Asked {
        let mut words = text.split(' ');
        let method = words.next().unwrap().to_owned();
        let target = words.next().unwrap();
        let at = target.find(['/', '*']).unwrap();
        let (host, rest) = target.split_at(at);
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let mut fields = Fields::default();
        let mut sender = Sender::default();
        for word in words {
            match word.split_once(':').unwrap() {
                ("client", address) => sender.client = address.parse().unwrap(),
                ("scheme", "https") => sender.scheme = Scheme::Https,
                (name, value) => fields.push(name.as_bytes(), value.as_bytes()),
            }
        }
        let canonical = canonicalise(path.as_bytes());
        Asked { method, host: host.into(), canonical, path: path.into(), query: query.into(), fields, sender }
    }

    fn question(&self) -> Question<'_> {
        Question {
            method: self.method.as_bytes(),
            host: self.host.as_bytes(),
            canonical: &self.canonical,
            path: self.path.as_bytes(),
            query: self.query.as_bytes(),
            fields: &self.fields,
            sender: self.sender,
        }
    }
}

fn check(rules: &[&str], table: &[(&str, Option<usize>)]) {
    let rules: Vec<Rule<usize>> = rules.iter().zip(0..).map(|(words, target)| rule(words, target)).collect();
    let tree = Tree::compile(rules.clone()).unwrap();
    let mut scratch = tree.scratch();
    for (text, expected) in table {
        let asked = Asked::new(text);
        let decided = tree.decide(&asked.question(), &mut scratch).copied();
        assert_eq!(decided, *expected, "{text}");
        assert_eq!(scan(&rules, &asked), *expected, "{text}, by a scan");
    }
}

fn scan(rules: &[Rule<usize>], asked: &Asked) -> Option<usize> {
    rules.iter().position(|rule| rule.verdict(&asked.question()) == Verdict::Holds)
}

#[test]
fn the_first_rule_that_holds_wins() {
    let rules = [
        "prefix=/api/v1",
        "host=a.example exact=/api",
        "prefix=/api",
        "host=a.example",
        "exact=/",
        "host=b.example prefix=/",
        "prefix=/x//y",
    ];
    let table = [
        ("GET a.example/api/v1", Some(0)),
        ("GET a.example/api/v1/", Some(0)),
        ("GET a.example/api/v1x", Some(2)),
        ("GET a.example/api", Some(1)),
        ("GET b.example/api", Some(2)),
        ("GET /api", Some(2)),
        ("GET /apix", None),
        ("GET /ap", None),
        ("GET a.example/apix", Some(3)),
        ("GET c.example/", Some(4)),
        ("GET b.example/", Some(4)),
        ("GET b.example/any", Some(5)),
        ("GET b.example*", Some(5)),
        ("GET a.example*", Some(3)),
        ("GET c.example*", None),
        ("GET c.example/x//y/z", Some(6)),
        ("GET c.example/x/y", Some(6)),
        ("GET c.example/x/%79", Some(6)),
        ("GET c.example//%61pi//v%31", Some(0)),
        ("GET c.example///api///v1", Some(0)),
    ];
    check(&rules, &table);
}

#[test]
fn clients_and_schemes_are_told_apart() {
    let rules = [
        "prefix=/internal client=10.0.0.0/8,2001:db8::/32",
        "client=192.0.2.7/32 scheme=https",
        "scheme=http host=a.example",
        "regex=^/x client=0.0.0.0/0",
    ];
    let table = [
        ("GET a.example/internal client:10.1.2.3", Some(0)),
        ("GET a.example/internal client:::ffff:10.1.2.3", Some(0)),
        ("GET a.example/internal client:2001:db8::1", Some(0)),
        ("GET a.example/internal client:11.0.0.1", Some(2)),
        ("GET a.example/internal client:2001:db9::1 scheme:https", None),
        ("GET a.example/ client:192.0.2.7 scheme:https", Some(1)),
        ("GET a.example/ client:192.0.2.7", Some(2)),
        ("GET b.example/ client:192.0.2.7", None),
        ("GET b.example/x client:192.0.2.7", Some(3)),
        ("GET b.example/x client:::1", None),
    ];
    check(&rules, &table);
}

#[test]
fn a_tree_knows_what_it_asks_for() {
    let table: [(&[&str], Asks); 5] = [
        (&["prefix=/"], Asks::default()),
        (&["prefix=/", "field=x-api-version"], Asks { fields: true, ..Asks::default() }),
        (&["field=x-real-ip:10.0.0.1"], Asks { fields: true, told: true, sender: false }),
        (&["field=!x-forwarded-anything"], Asks { fields: true, told: true, sender: false }),
        (&["scheme=http", "client=::/0"], Asks { sender: true, ..Asks::default() }),
    ];
    for (rules, expected) in table {
        let rules = rules.iter().zip(0..).map(|(words, target)| rule(words, target)).collect();
        assert_eq!(Tree::compile(rules).unwrap().asks(), expected);
    }
}

#[test]
fn captures_and_literals_are_both_tried() {
    let rules = [
        "pattern=/user/me/settings",
        "pattern=/user/{id}/posts",
        "pattern=/user/me/{*rest}",
        "pattern=/{a}/{b}/{c}",
        "pattern=/{*rest}",
        "exact=/",
    ];
    let table = [
        ("GET /user/me/settings", Some(0)),
        ("GET /user/me/posts", Some(1)),
        ("GET /user/7/posts", Some(1)),
        ("GET /user/me/other", Some(2)),
        ("GET /user/7/other", Some(3)),
        ("GET /user/7/other/", Some(4)),
        ("GET /user//posts", Some(4)),
        ("GET /user/", Some(4)),
        ("GET /", Some(5)),
        ("GET *", None),
    ];
    check(&rules, &table);
}

#[test]
fn names_below_a_domain_are_any_depth_but_not_the_domain() {
    let rules =
        ["host=*.a.example prefix=/x", "host=*.example host=other.org", "host=a.example", "prefix=/x"];
    let table = [
        ("GET b.a.example/x", Some(0)),
        ("GET c.b.a.example/x", Some(0)),
        ("GET a.example/x", Some(1)),
        ("GET b.a.example/y", Some(1)),
        ("GET example/x", Some(3)),
        ("GET .example/x", Some(3)),
        ("GET other.org/x", Some(1)),
        ("GET b.other.org/x", Some(3)),
    ];
    check(&rules, &table);
}

#[test]
fn methods_fields_and_parameters_are_asked_where_a_path_leads() {
    let rules = [
        "prefix=/x method=GET,HEAD field=x-version:v2",
        "prefix=/x field=x-version:v1",
        "prefix=/x field=accept~^text/ query=debug",
        "prefix=/x field=!x-version query=a+b:c",
        "prefix=/x query=q:1 method=POST",
        "prefix=/x query=q~^[0-9]+$",
        "prefix=/",
    ];
    let table = [
        ("GET /x X-Version:v2", Some(0)),
        ("POST /x X-Version:v2", Some(6)),
        ("get /x X-Version:v2", Some(6)),
        ("POST /x X-Version:v2 x-version:v1", Some(1)),
        ("GET /x Accept:text/html", Some(6)),
        ("GET /x?debug Accept:text/html", Some(2)),
        ("GET /x?a%2Bb=%63", Some(3)),
        ("GET /x?a+b=c", Some(6)),
        ("GET /x?a%2Bb=c X-Version:v3", Some(6)),
        ("POST /x?q=1", Some(4)),
        ("GET /x?q=1", Some(5)),
        ("GET /x?q=x&q=7", Some(5)),
        ("GET /x?q=x", Some(6)),
    ];
    check(&rules, &table);
}

#[test]
fn expressions_are_searched_and_keep_their_place_in_the_order() {
    let rules = [
        "regex=^/users/[0-9]+/posts",
        "prefix=/users/7",
        "host=a.example host=*.b.example regex=secret",
        "regex=\\.(png|jpg)$ method=GET",
        "prefix=/users",
        "regex=.",
    ];
    let table = [
        ("GET /users/7/posts", Some(0)),
        ("GET /users/7/postsx", Some(0)),
        ("GET /users/7/x", Some(1)),
        ("GET a.example/secret.png", Some(2)),
        ("GET x.b.example/asecretb", Some(2)),
        ("GET b.example/secret.png", Some(3)),
        ("POST b.example/secret.png", Some(5)),
        ("GET /users/x.png", Some(3)),
        ("GET /users/x", Some(4)),
        ("OPTIONS *", Some(5)),
    ];
    check(&rules, &table);
}

#[test]
fn many_rules_of_one_place_are_found_by_name_and_value() {
    let mut rules: Vec<String> = (0..100).map(|n| format!("prefix=/x field=tenant:t{n}")).collect();
    rules.extend((0..100).map(|n| format!("prefix=/x query=tenant:t{n} method=GET")));
    rules.insert(50, "prefix=/x field=tenant~^t6".to_owned());
    rules.push("prefix=/".to_owned());
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let table = [
        ("GET /x Tenant:t0", Some(0)),
        ("GET /x tenant:t49", Some(49)),
        ("GET /x tenant:t50", Some(51)),
        ("GET /x tenant:t60", Some(50)),
        ("GET /x tenant:t99 tenant:t3", Some(3)),
        ("GET /x?tenant=t5", Some(106)),
        ("GET /x?tenant=%745&tenant=t1", Some(102)),
        ("POST /x?tenant=t5", Some(201)),
        ("GET /x?tenant=t1 tenant:t99", Some(100)),
        ("GET /x tenant:t100", Some(201)),
    ];
    check(&rules, &table);
}

#[test]
fn a_tree_without_rules_matches_nothing() {
    let tree: Tree<usize> = Tree::compile(Vec::new()).unwrap();
    assert!(tree.is_empty());
    check(&[], &[("GET a.example/", None), ("OPTIONS *", None)]);
}

struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// From few segments, so that rules and questions overlap often.
    fn path(&mut self, segments_max: usize, segments: &[&str]) -> String {
        let count = 1 + self.below(segments_max);
        (0..count).map(|_| format!("/{}", self.one(segments))).collect()
    }

    fn rule(&mut self, target: usize) -> Rule<usize> {
        let literal = ["a", "b", "ab", "", "a%2Fb"];
        let mut words = Vec::new();
        if self.below(3) == 0 {
            for _ in 0..=self.below(2) {
                words.push(format!("host={}", self.one(&["a.x", "b.x", "c.b.x", "*.x", "*.b.x"])));
            }
        }
        words.push(match self.below(9) {
            0 => String::new(),
            1 | 2 => format!("exact={}", self.path(3, &literal)),
            3..6 => format!("prefix={}", self.path(3, &literal)),
            6 => format!("prefix=/{}", self.one(&["", "a", "b"])),
            7 => {
                let capture = ["a", "b", "{0}", "{0}", ""];
                let pattern = self.path(4, &capture);
                let rest = self.one(&["", "", "/{*rest}"]);
                // Each capture by a name of its own.
                let mut named = String::new();
                for (at, piece) in pattern.split("{0}").enumerate() {
                    if at > 0 {
                        named.push_str(&format!("{{c{at}}}"));
                    }
                    named.push_str(piece);
                }
                format!("pattern={named}{rest}")
            }
            _ => format!("regex={}", self.one(&["^/a", "b$", "/a/", "^/(a|b)+/", "a.*b", "^/[ab]$"])),
        });
        let conditions = [
            "method=GET",
            "method=GET,POST",
            "field=f",
            "field=!f",
            "field=f:1",
            "field=f:2",
            "field=f~^1",
            "field=g:1",
            "query=q",
            "query=!q",
            "query=q:1",
            "query=q:2",
            "query=q~2$",
        ];
        for _ in 0..[0, 0, 1, 1, 2][self.below(5)] {
            words.push(self.one(&conditions).to_owned());
        }
        rule(&words.join(" "), target)
    }

    fn asked(&mut self) -> Asked {
        let path = match self.below(12) {
            0 => "*".to_owned(),
            _ => self.path(5, &["a", "b", "ab", "", "a%2Fb", "c"]),
        };
        let host = self.one(&["a.x", "b.x", "c.b.x", "x", "", "d.c.b.x"]);
        let query = self.one(&["", "?q", "?q=1", "?q=2&q=1", "?r=1&%71=12"]);
        let fields = self.one(&["", " f:1", " F:2", " f:12 g:1", " g:1 f:2 f:1"]);
        Asked::new(&format!("{} {host}{path}{query}{fields}", self.one(&["GET", "POST", "PUT"])))
    }
}

#[test]
fn the_tree_decides_as_a_scan_of_all_rules_does() {
    let mut random = Xorshift(0x9E37_79B9_7F4A_7C15);
    let (mut asked_count, mut matched, mut holding) = (0_usize, 0_usize, 0_usize);
    for _ in 0..2_500 {
        let count = random.below(40);
        let rules: Vec<_> = (0..count).map(|target| random.rule(target)).collect();
        let tree = Tree::compile(rules.clone()).unwrap().clone();
        let mut scratch = tree.scratch();
        for _ in 0..40 {
            let asked = random.asked();
            let question = asked.question();
            let expected = scan(&rules, &asked);
            let decided = tree.decide(&question, &mut scratch).copied();
            assert_eq!(decided, expected, "{} {} {} {rules:#?}", asked.host, asked.path, asked.query);
            asked_count += 1;
            matched += usize::from(expected.is_some());
            holding += rules.iter().filter(|rule| rule.verdict(&question) == Verdict::Holds).count();
        }
    }
    assert_eq!(asked_count, 100_000);
    assert!(matched > asked_count / 2, "{matched} of {asked_count} match");
    assert!(holding > matched * 3, "{holding} rules hold for {matched} requests");
}

#[test]
fn a_rule_that_covers_another_holds_whenever_that_one_does() {
    let mut random = Xorshift(0x2545_F491_4F6C_DD1D);
    let mut covered = 0;
    for _ in 0..4_000 {
        let rules = [random.rule(0), random.rule(1)];
        if !covers(&rules[0], &rules[1]) {
            continue;
        }
        covered += 1;
        for _ in 0..50 {
            let asked = random.asked();
            assert_ne!(scan(&rules, &asked), Some(1), "{rules:#?} {} {}", asked.host, asked.path);
        }
    }
    assert!(covered > 100, "{covered}");
}

#[test]
fn every_pair_of_rules_is_searched_for_shadows() {
    let mut random = Xorshift(7);
    for _ in 0..200 {
        let rules: Vec<_> = (0..25).map(|target| random.rule(target)).collect();
        let expected: Vec<(usize, usize)> = (0..rules.len())
            .filter_map(|number| {
                let by = (0..number).find(|earlier| covers(&rules[*earlier], &rules[number]))?;
                Some((number, by))
            })
            .collect();
        let found: Vec<(usize, usize)> = shadowed(&rules).iter().map(|one| (one.rule, one.by)).collect();
        assert_eq!(found, expected, "{rules:#?}");
    }
}
