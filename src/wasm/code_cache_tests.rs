//! What is loaded from the cache, and above all what is not.

use std::os::unix::fs::symlink;

use super::*;

const COMPONENT: &[u8] = b"(component)";

/// A directory of its own, gone with this value.
struct Place(PathBuf);

impl Place {
    fn fresh(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("wd-code-{}-{name}", std::process::id()));
        let _absent = std::fs::remove_dir_all(&path);
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _absent = std::fs::remove_dir_all(&self.0);
    }
}

/// A cache with one entry: its key, its file and the code in it.
fn filled(place: &Place, engine: &Engine) -> (Cache, Key, PathBuf, Vec<u8>) {
    let cache = Cache::open(&place.0).unwrap();
    let key = Key::new(engine, COMPONENT);
    let code = engine.precompile_component(&wat::parse_bytes(COMPONENT).unwrap()).unwrap();
    cache.store(&key, &code).unwrap();
    let file = place.0.join(key.file_name());
    (cache, key, file, code)
}

#[test]
fn what_was_stored_is_loaded_and_nobody_else_can_read_it() {
    let (place, engine) = (Place::fresh("kept"), Engine::default());
    let (cache, key, file, code) = filled(&place, &engine);
    assert_eq!(cache.read(&key).unwrap(), code);
    assert!(cache.load(&engine, &key).is_some());
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&place.0).unwrap().mode() & 0o777, 0o700);
    let other = Key::new(&engine, b"(component (core module))");
    assert!(cache.load(&engine, &other).is_none(), "an entry is of one component");
}

#[test]
fn an_entry_is_of_one_engine() {
    let engine = Engine::default();
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    let other = Engine::new(&config).unwrap();
    assert!(Key::new(&engine, COMPONENT) != Key::new(&other, COMPONENT));
}

#[test]
fn a_damaged_entry_is_passed_over_and_written_anew() {
    let (place, engine) = (Place::fresh("damaged"), Engine::default());
    let (cache, key, file, code) = filled(&place, &engine);
    let whole = std::fs::read(&file).unwrap();
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("its magic", |bytes| bytes[0] ^= 1),
        ("its digest", |bytes| bytes[20] ^= 1),
        ("its code", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("cut", |bytes| bytes.truncate(bytes.len() - 1)),
        ("empty", Vec::clear),
    ];
    for (what, damage) in damages {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        assert!(cache.load(&engine, &key).is_none(), "{what}");
    }
    cache.store(&key, &code).unwrap();
    assert!(cache.load(&engine, &key).is_some());
}

#[test]
fn code_of_another_component_under_this_name_is_not_run() {
    let (place, engine) = (Place::fresh("moved"), Engine::default());
    let (cache, key, file, code) = filled(&place, &engine);
    let other = Key::new(&engine, b"(component (core module))");
    cache.store(&other, &code).unwrap();
    std::fs::rename(place.0.join(other.file_name()), &file).unwrap();
    assert!(cache.load(&engine, &key).is_none());
}

#[test]
fn what_others_may_have_written_is_not_run() {
    let (place, engine) = (Place::fresh("open"), Engine::default());
    let (cache, key, file, _) = filled(&place, &engine);
    let set_mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for mode in [0o620, 0o602, 0o666] {
        set_mode(&file, mode);
        assert!(cache.load(&engine, &key).is_none(), "{mode:o}");
    }
    set_mode(&file, 0o600);
    assert!(cache.load(&engine, &key).is_some());
    set_mode(&place.0, 0o777);
    assert!(Cache::open(&place.0).is_err(), "nor anything in a directory that others may write to");
}

#[test]
fn links_and_what_is_no_file_lead_nowhere() {
    let (place, engine) = (Place::fresh("links"), Engine::default());
    let (cache, key, file, _) = filled(&place, &engine);
    let aside = place.0.join("aside");
    std::fs::rename(&file, &aside).unwrap();
    symlink(&aside, &file).unwrap();
    assert!(cache.load(&engine, &key).is_none(), "a symbolic link");
    std::fs::remove_file(&file).unwrap();
    std::fs::hard_link(&aside, &file).unwrap();
    assert!(cache.load(&engine, &key).is_none(), "a file that has another name, too");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(cache.load(&engine, &key).is_none(), "a directory");
    let linked = Place::fresh("linked");
    symlink(&place.0, &linked.0).unwrap();
    assert!(Cache::open(&linked.0).is_err(), "a directory by a link");
    std::fs::remove_file(&linked.0).unwrap();
}
