//! What hooks of one exchange write down for later ones.

/// Bytes of all notes of one exchange and guest, names and texts.
const BYTES_MAX: usize = 4 << 10;

#[derive(Clone, Default)]
pub struct Notes(Vec<Note>);

#[derive(Clone)]
struct Note {
    /// The place of the guest in the list of the route.
    place: usize,
    name: String,
    text: String,
}

impl Notes {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn find(&self, place: usize, name: &str) -> Option<&str> {
        let mut own = self.0.iter().filter(|note| note.place == place);
        own.find(|note| note.name == name).map(|note| note.text.as_str())
    }

    /// False if that would be too much: then nothing has changed.
    #[must_use]
    pub fn set(&mut self, place: usize, name: String, text: String) -> bool {
        let others = self.0.iter().filter(|note| note.place == place && note.name != name);
        let bytes: usize = others.map(|note| note.name.len() + note.text.len()).sum();
        if bytes + name.len() + text.len() > BYTES_MAX {
            return false;
        }
        match self.0.iter_mut().find(|note| note.place == place && note.name == name) {
            Some(note) => note.text = text,
            None => self.0.push(Note { place, name, text }),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_has_its_own_notes_and_so_much_of_them() {
        let mut notes = Notes::default();
        let set = |notes: &mut Notes, place, name: &str, len| notes.set(place, name.into(), "x".repeat(len));
        assert!(set(&mut notes, 0, "a", 4000));
        assert!(!set(&mut notes, 0, "b", 96));
        assert!(set(&mut notes, 0, "a", 4095));
        assert!(set(&mut notes, 1, "a", 1));
        assert_eq!(notes.find(0, "a").map(str::len), Some(4095));
        assert_eq!(notes.find(1, "a"), Some("x"));
        assert_eq!(notes.find(1, "b"), None);
    }
}
