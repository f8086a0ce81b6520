//! What a file is, without compiling or running it: its world, and whether there is what it wants.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator};

/// No component is larger.
const BYTES_MAX: u64 = 256 << 20;

/// The interface through which a component takes requests.
const HANDLER: &str = "wasi:http/incoming-handler";
/// The same of the version after this one.
const HANDLER_3: &str = "wasi:http/handler";

/// The interfaces that a component of version 0.2 can have, without their version.
const PROVIDED: [&str; 23] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:config/store",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Linked, so that programs which bring them along can start; nobody gets a socket.
const SOCKETS: &str = "wasi:sockets/";

/// What a component wants and gives, by name and version, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// Why a file cannot answer requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Follows the name of the file.
    pub message: String,
    pub help: Option<String>,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), help: None }
    }

    fn with_help(self, help: impl Into<String>) -> Refusal {
        Refusal { help: Some(help.into()), ..self }
    }
}

/// The bytes of a component; one that is written as text is translated.
///
/// # Errors
/// The file cannot be read, or is nothing like a component.
pub fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    let unread = |error: io::Error| Refusal::new(format!("cannot read the file: {error}"));
    let file = File::open(path).map_err(unread)?;
    let metadata = file.metadata().map_err(unread)?;
    if !metadata.is_file() {
        return Err(Refusal::new("it is not a file"));
    }
    if metadata.len() > BYTES_MAX {
        return Err(Refusal::new(format!("the file is larger than {} MiB", BYTES_MAX >> 20)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.starts_with(b"\0asm") {
        return Ok(bytes);
    }
    let text = wat::parse_bytes(&bytes).map_err(|error| {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default();
        Refusal::new(format!("it is neither a component nor the text of one: {first}"))
    })?;
    Ok(text.into_owned())
}

/// The world of a component whose code is valid.
///
/// # Errors
/// It is a core module, or not valid.
pub fn world(bytes: &[u8]) -> Result<World, Refusal> {
    if Parser::is_core_wasm(bytes) {
        let help = "make a component of it: `wasm-tools component new`, or build for wasm32-wasip2";
        return Err(Refusal::new("it is a core module, and no component").with_help(help));
    }
    let invalid = |error: wasmparser::BinaryReaderError| {
        Refusal::new(format!("it is not a valid component: {}", error.message()))
    };
    let world = names(bytes).map_err(invalid)?;
    if !world.exports.iter().any(|name| interface(name).0 == HANDLER_3) {
        Validator::new().validate_all(bytes).map_err(invalid)?;
    }
    Ok(world)
}

/// The names of the outermost component, not of those within it.
fn names(bytes: &[u8]) -> Result<World, wasmparser::BinaryReaderError> {
    let mut world = World::default();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    world.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Instance {
                        world.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(world)
}

/// `wasi:http/types` and `0.2.3` of `wasi:http/types@0.2.3`.
fn interface(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

fn is_version_2(version: &str) -> bool {
    version.strip_prefix("0.2.").is_some_and(|patch| patch.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn is_provided(import: &str) -> bool {
    let (interface, version) = interface(import);
    match interface {
        // It never came further than its drafts.
        "wasi:config/store" => version.starts_with("0.2.0-"),
        other if other.starts_with(SOCKETS) => is_version_2(version),
        other => PROVIDED.contains(&other) && is_version_2(version),
    }
}

/// Whether a component can take requests with what there is for it.
///
/// # Errors
/// It takes none, or wants something else.
pub fn check(world: &World) -> Result<(), Refusal> {
    let exports = |wanted: &str| world.exports.iter().find(|name| interface(name).0 == wanted);
    match exports(HANDLER) {
        Some(name) if is_version_2(interface(name).1) => {}
        Some(name) => {
            let message = format!("it exports {name}, a version that is not known");
            return Err(Refusal::new(message).with_help("0.2.0 and later ones of 0.2 are"));
        }
        None => return Err(without_handler(world, exports(HANDLER_3))),
    }
    let missing: Vec<&str> =
        world.imports.iter().map(String::as_str).filter(|name| !is_provided(name)).collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(Refusal::new(format!("it imports {one}, which is not there for components"))),
        several => {
            let names = several.join(", ");
            Err(Refusal::new(format!("it imports {names}, which are not there for components")))
        }
    }
}

fn without_handler(world: &World, version_3: Option<&String>) -> Refusal {
    if let Some(name) = version_3 {
        return Refusal::new(format!(
            "it exports {name}, which is known, but does not work yet in this version"
        ))
        .with_help(format!("a component that exports {HANDLER}@0.2 works"));
    }
    let refusal = Refusal::new(format!("it takes no requests: it does not export {HANDLER}@0.2"));
    match world.exports.as_slice() {
        [] => refusal.with_help("it exports nothing"),
        exports => refusal.with_help(format!("it exports {}", exports.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<(), String> {
        let bytes = wat::parse_str(text).unwrap();
        world(&bytes).and_then(|world| check(&world)).map_err(|refusal| refusal.message)
    }

    #[test]
    fn components_are_judged_by_their_world() {
        let exporting = |name: &str| format!("(component (instance $i) (export \"{name}\" (instance $i)))");
        let importing = |names: &[&str]| {
            let imports: String =
                names.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
            format!(
                "(component {imports} (instance $i) (export \"wasi:http/incoming-handler@0.2.3\" (instance $i)))"
            )
        };
        let cases = [
            ("(module)".to_owned(), Err("it is a core module, and no component")),
            (
                "(component)".to_owned(),
                Err("it takes no requests: it does not export wasi:http/incoming-handler@0.2"),
            ),
            (exporting("wasi:http/incoming-handler@0.2.0"), Ok(())),
            (exporting("wasi:http/incoming-handler@0.2.12"), Ok(())),
            (
                exporting("wasi:http/incoming-handler@0.2.0-rc-2023-11-10"),
                Err("it exports wasi:http/incoming-handler@0.2.0-rc-2023-11-10, a version that is not known"),
            ),
            (
                exporting("wasi:http/handler@0.3.0"),
                Err(
                    "it exports wasi:http/handler@0.3.0, which is known, but does not work yet in this version",
                ),
            ),
            (importing(&["wasi:io/streams@0.2.3", "wasi:sockets/tcp@0.2.0"]), Ok(())),
            (importing(&["wasi:config/store@0.2.0-rc.1"]), Ok(())),
            (
                importing(&["acme:db/query@1.0.0"]),
                Err("it imports acme:db/query@1.0.0, which is not there for components"),
            ),
            (
                importing(&["wasi:keyvalue/store@0.2.0-draft", "a:b/c"]),
                Err("it imports wasi:keyvalue/store@0.2.0-draft, a:b/c, which are not there for components"),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(judge(&text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_is_within_a_component_is_not_its_own() {
        let text = r#"(component
            (component (import "a:b/c" (instance)))
            (core module)
            (instance $i)
            (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
        assert_eq!(judge(text), Ok(()));
    }
}
