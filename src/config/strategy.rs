//! How an upstream chooses endpoints: `strategy`, and the keys that some of its words need.

use super::table::Table;
use super::value::{self, Wanted, wanted};
use super::{Diagnostic, HashKey, Strategy, Written};

/// What a word stands for.
#[derive(Clone)]
enum Word {
    Plain(Strategy),
    /// With a `hash_key`.
    Keyed,
    /// With a `policy`, and perhaps a `fallback`.
    Wasm,
}

/// Those that need nobody's help, and so may help where there is none.
const NATIVE: [(&str, Word); 6] = [
    ("round_robin", Word::Plain(Strategy::RoundRobin)),
    ("least_conn", Word::Plain(Strategy::LeastConn)),
    ("random", Word::Plain(Strategy::Random)),
    ("ip_hash", Word::Plain(Strategy::IpHash)),
    ("p2c", Word::Plain(Strategy::P2c)),
    ("consistent_hash", Word::Keyed),
];

/// The strategy that decides if nothing else does, and the policy that is asked before it.
pub fn read(table: &mut Table<'_>) -> (Option<Strategy>, Option<Written<String>>) {
    let mut words = NATIVE.to_vec();
    words.push(("wasm", Word::Wasm));
    let is_wrong = |word: &Option<Word>, is_there: bool| word.is_none() && is_there;
    let word = table.choice("strategy", &words, &[]);
    let fallback = table.choice("fallback", &NATIVE, &[]);
    let policy = table.string("policy");
    let key = table.parsed("hash_key", hash_key);
    if is_wrong(&word, table.has("strategy")) || is_wrong(&fallback, table.has("fallback")) {
        // Whether the other keys are right depends on what was meant.
        return (None, None);
    }
    match word {
        Some(Word::Wasm) => {
            if !table.has("policy") {
                let help = "such as policy = \"sticky\", with a table [wasm.policies.sticky]";
                missing(table, "strategy", "strategy `wasm` needs a policy", help);
            }
            (native(table, "fallback", fallback, key), policy)
        }
        word => {
            for name in ["policy", "fallback"] {
                let help = "add strategy = \"wasm\", or remove it";
                refuse(table, name, &format!("{name} is for the strategy `wasm` alone"), help);
            }
            (native(table, "strategy", word, key), None)
        }
    }
}

/// What the word of `name` stands for, if it needs no policy.
fn native(
    table: &Table<'_>,
    name: &str,
    word: Option<Word>,
    key: Option<Written<HashKey>>,
) -> Option<Strategy> {
    let is_absent = word.is_none();
    let strategy = match word {
        Some(Word::Keyed) if !table.has("hash_key") => {
            let message = format!("{name} `consistent_hash` needs a hash_key");
            let help = "such as hash_key = \"header:X-Tenant\", or \"cookie:NAME\", \"query:NAME\", \"path\" or \"client\"";
            missing(table, name, &message, help);
            return None;
        }
        Some(Word::Keyed) => return key.map(|key| Strategy::ConsistentHash(key.value)),
        Some(Word::Plain(strategy)) => Some(strategy),
        Some(Word::Wasm) | None => None,
    };
    let help = match is_absent {
        true => format!("add {name} = \"consistent_hash\", or remove it"),
        false => format!("change the {name} to it, or remove hash_key"),
    };
    refuse(table, "hash_key", "hash_key is for the strategy `consistent_hash` alone", &help);
    strategy
}

fn missing(table: &Table<'_>, name: &str, message: &str, help: &str) {
    if let Some(place) = table.key_place(name) {
        table.report().push_unless_torn(Diagnostic::error(place, message).with_help(help));
    }
}

fn refuse(table: &Table<'_>, name: &str, message: &str, help: &str) {
    if let Some(place) = table.key_place(name) {
        table.report().push(Diagnostic::error(place, message).with_help(help));
    }
}

/// `client`, `path`, or what and its name: `header:X-Tenant`.
fn hash_key(text: &str) -> Result<HashKey, Wanted> {
    let (what, name) = text.split_once(':').unwrap_or((text, ""));
    match (what, name) {
        ("client", "") if text == what => Ok(HashKey::Client),
        ("path", "") if text == what => Ok(HashKey::Path),
        ("header", name) if value::is_token(name) => Ok(HashKey::Header(name.to_ascii_lowercase())),
        ("cookie", name) if value::is_token(name) => Ok(HashKey::Cookie(name.to_owned())),
        ("query", name) if !name.is_empty() => Ok(HashKey::Query(name.to_owned())),
        _ => Err(wanted("`header:NAME`, `cookie:NAME`, `query:NAME`, `path` or `client`")),
    }
}
