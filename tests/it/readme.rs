//! README.md holds what it shows: its configurations load, its commands say what stands below
//! them, and its links lead somewhere.

use std::path::Path;
use std::process::Command;

use warpdrive::config::Sources;
use warpdrive::plan;

use crate::explanations::said;
use crate::harness::Directory;
use crate::harness::proxy::BINARY;

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).expect("README.md")
}

/// A block between two lines of three backquotes.
struct Block {
    /// The line that opens it, from 1.
    line: usize,
    language: String,
    text: String,
}

/// The blocks of a page, and the page without them.
fn split(page: &str) -> (Vec<Block>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut open: Option<Block> = None;
    for (line, text) in (1..).zip(page.lines()) {
        match (text.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block { line, language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{text}\n"),
            (None, None) => prose += &format!("{text}\n"),
        }
    }
    assert!(open.is_none(), "the last block is not closed");
    (blocks, prose)
}

/// Where the links of a page lead: what stands between `](` and `)`.
fn targets(prose: &str) -> Vec<&str> {
    let ends = prose.match_indices("](").map(|(at, mark)| &prose[at + mark.len()..]);
    ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

#[test]
fn blocks_and_links_are_found() {
    let page = "a [b](c.md) and [d](e/f#g)\n```toml\nx = 1\n[y](z)\n```\nh\n";
    let (blocks, prose) = split(page);
    assert_eq!(blocks.len(), 1);
    assert_eq!((blocks[0].line, blocks[0].language.as_str()), (2, "toml"));
    assert_eq!(blocks[0].text, "x = 1\n[y](z)\n");
    assert_eq!(targets(&prose), ["c.md", "e/f#g"]);
}

#[test]
fn every_configuration_loads_without_a_word() {
    let directory = Directory::fresh();
    let file = directory.path().join("warpdrive.toml");
    let (blocks, _) = split(&readme());
    let mut loaded = 0;
    // The components that they speak of.
    let component = r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
    for name in ["user.wasm", "admin.wasm"] {
        std::fs::write(directory.path().join(name), component).expect("a file of our own");
    }
    let policy =
        component.replace("wasi:http/incoming-handler@0.2.0", "warpdrive:policy/load-balancer@0.1.0");
    std::fs::write(directory.path().join("sticky.wasm"), policy).expect("a file of our own");
    let filter = component.replace("wasi:http/incoming-handler@0.2.0", "warpdrive:middleware/filter@0.1.0");
    for name in ["auth.wasm", "rate-limit.wasm", "moderation.wasm"] {
        std::fs::write(directory.path().join(name), &filter).expect("a file of our own");
    }
    let variables = vec![("JWT_KEY".to_owned(), "0123456789abcdef".to_owned())];
    let can_load = |block: &&Block| cfg!(feature = "wasm") || !block.text.contains("[wasm.");
    for block in blocks.iter().filter(|block| block.language == "toml").filter(can_load) {
        std::fs::write(&file, &block.text).expect("a file of our own");
        let sources = Sources::read(Some(file.clone()), variables.clone()).expect("it was just written");
        let said = match plan::load(&sources) {
            Ok(right) => right.warnings,
            Err(mistakes) => mistakes,
        };
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        assert!(said.is_empty(), "README.md:{}:\n{}", block.line, said.join("\n"));
        loaded += 1;
    }
    assert!(loaded > 0, "README.md has no configuration");
}

/// The files that the commands name are among the cases of mistakes.
#[test]
fn every_check_says_what_stands_below_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics");
    let (blocks, _) = split(&readme());
    let mut compared = 0;
    for block in &blocks {
        let Some((command, shown)) = block.text.split_once('\n') else {
            continue;
        };
        let Some(words) = command.strip_prefix("$ warpdrive check ") else {
            continue;
        };
        let mut check = Command::new(BINARY);
        check.arg("check").args(words.split(' ')).current_dir(&directory).env_remove("WARPDRIVE_HTTP_PORT");
        let output = check.output().expect("the binary runs");
        let said = [output.stderr, output.stdout].concat();
        assert_eq!(String::from_utf8_lossy(&said), shown, "README.md:{}", block.line);
        compared += 1;
    }
    assert!(compared >= 1, "README.md shows what check says");
}

/// The files that the commands name are among those of the transcripts.
#[test]
fn every_explanation_is_what_stands_below_its_command() {
    let (blocks, _) = split(&readme());
    let commands =
        blocks.iter().filter_map(|block| Some((block, block.text.strip_prefix("$ ")?.split_once('\n')?)));
    let mut compared = 0;
    for (block, (command, shown)) in
        commands.filter(|(_, (command, _))| command.starts_with("warpdrive route "))
    {
        assert_eq!(said(command), (shown.to_owned(), Some(0)), "README.md:{}", block.line);
        compared += 1;
    }
    assert!(compared >= 1, "README.md shows what route says");
}

#[test]
fn every_link_leads_to_a_file() {
    let page = readme();
    let (_, prose) = split(&page);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_relative = |target: &&str| !target.contains("://") && !target.starts_with('#');
    let links: Vec<&str> = targets(&prose).into_iter().filter(is_relative).collect();
    assert!(!links.is_empty(), "README.md has no links");
    for link in links {
        let file = link.split('#').next().unwrap_or_default();
        assert!(root.join(file).exists(), "README.md links to {link}");
    }
}
