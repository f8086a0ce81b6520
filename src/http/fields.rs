//! A field section (RFC 9110 5): names and values as ranges of one byte string.
//!
//! Hot path: no allocation once its two vectors have grown. The bytes are a copy of the head
//! as it was received, so a section outlives the buffer that it was read into.

pub use super::known::{Known, KnownSet, is_same_name};

/// A range of the byte string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Span,
    value: Span,
    known: Known,
}

impl Entry {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.name.start as usize..self.name.end()]
    }
}

/// One field, borrowed from its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub known: Known,
    pub name: &'a [u8],
    /// Without leading and trailing white space.
    pub value: &'a [u8],
    /// `name: value` and the line's end, if that is exactly how it was received.
    line: Option<&'a [u8]>,
}

impl Field<'_> {
    /// Appends the field in its one form.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self.line {
            Some(line) => out.extend_from_slice(line),
            None => push_field(out, self.name, self.value),
        }
    }
}

/// Appends a field.
pub fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A field section in the order in which it was received.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The kinds that the entries are of, and perhaps some that they were of.
    kinds: KnownSet,
    /// Names that no trailer of the message may have.
    excluded: Vec<Span>,
}

impl Fields {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.kinds = KnownSet::default();
        self.excluded.clear();
    }

    /// Becomes a copy of `other` in the memory that it has.
    pub fn copy_from(&mut self, other: &Fields) {
        self.bytes.clone_from(&other.bytes);
        self.entries.clone_from(&other.entries);
        self.kinds = other.kinds;
        self.excluded.clone_from(&other.excluded);
    }

    /// Starts again with a copy of `bytes`, of which spans are then made by [`Span::within`].
    pub fn reset(&mut self, bytes: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends bytes which belong to no field.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span { start: start as u32, len: bytes.len() as u32 }
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..(span.start + span.len) as usize]
    }

    /// Gives a field whose name and value lie at these places of the bytes of [`Self::reset`].
    pub fn index(&mut self, known: Known, name: Span, value: Span) {
        self.kinds.insert(known);
        self.entries.push(Entry { name, value, known });
    }

    /// Appends a field of our own.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_as(Known::of(name), name, value);
    }

    /// Appends a field of our own that counts as one of another kind than its name says.
    pub fn push_as(&mut self, known: Known, name: &[u8], value: &[u8]) {
        let name = self.push_bytes(name);
        let value = self.push_bytes(value);
        self.index(known, name, value);
    }

    /// Appends fields of our own, as lines that `write` writes.
    pub fn push_lines(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut start = self.bytes.len();
        write(&mut self.bytes);
        while let Some(len) = memchr::memmem::find(&self.bytes[start..], b"\r\n") {
            let line = &self.bytes[start..start + len];
            if let Some(colon) = memchr::memmem::find(line, b": ") {
                let known = Known::of(&line[..colon]);
                let span = Span { start: start as u32, len: len as u32 };
                self.index(known, span.take(colon), span.skip(colon + 2));
            }
            start += len + 2;
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'_>> {
        self.entries.iter().map(|entry| Field {
            known: entry.known,
            name: self.bytes(entry.name),
            value: self.bytes(entry.value),
            line: self.line(entry),
        })
    }

    fn line(&self, entry: &Entry) -> Option<&[u8]> {
        let (name, value) = (entry.name.end(), entry.value.start as usize);
        let is_plain = self.bytes.get(name..value) == Some(b": ")
            && self.bytes.get(entry.value.end()..entry.value.end() + 2) == Some(b"\r\n");
        is_plain.then(|| &self.bytes[entry.name.start as usize..entry.value.end() + 2])
    }

    /// `false`: there is no field of this kind.
    pub fn may_have(&self, known: Known) -> bool {
        self.kinds.contains(known)
    }

    /// `false`: there is no field of these kinds.
    pub fn may_have_any(&self, kinds: KnownSet) -> bool {
        self.kinds.meets(kinds)
    }

    /// The value of the first field of this kind.
    pub fn value(&self, known: Known) -> Option<&[u8]> {
        if !self.may_have(known) {
            return None;
        }
        let entry = self.entries.iter().find(|entry| entry.known == known)?;
        Some(self.bytes(entry.value))
    }

    /// The values of all fields with this name, in whatever case.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let is_named = |field: &Field<'_>| field.name.eq_ignore_ascii_case(name.as_bytes());
        self.iter().filter(is_named).map(|field| field.value)
    }

    /// Removes all fields with this name, in whatever case and with `_` for `-`. Their bytes stay.
    pub fn remove(&mut self, name: &[u8]) {
        let Fields { bytes, entries, .. } = self;
        entries.retain(|entry| !is_same_name(entry.name(bytes), name));
    }

    /// Removes all fields with this name, and has no trailer with it either.
    pub fn exclude(&mut self, name: &[u8]) {
        self.remove(name);
        if !self.excludes(name) {
            let name = self.push_bytes(name);
            self.excluded.push(name);
        }
    }

    /// No trailer of the message may have this name.
    pub fn excludes(&self, name: &[u8]) -> bool {
        self.excluded.iter().any(|excluded| is_same_name(self.bytes(*excluded), name))
    }

    /// How many names no trailer may have.
    pub fn excluded(&self) -> usize {
        self.excluded.len()
    }

    /// Keeps the fields that `is_kept` says. The bytes of the others stay.
    pub fn retain(&mut self, is_kept: impl Fn(Known, &[u8]) -> bool) {
        let Fields { bytes, entries, .. } = self;
        entries.retain(|entry| is_kept(entry.known, entry.name(bytes)));
    }

    /// Makes fields that are of no kind ones of this kind, where `is_one` says so.
    pub fn mark(&mut self, known: Known, is_one: impl Fn(&[u8]) -> bool) {
        let Fields { bytes, entries, kinds, .. } = self;
        for entry in entries.iter_mut() {
            if entry.known == Known::Other && is_one(entry.name(bytes)) {
                entry.known = known;
                kinds.insert(known);
            }
        }
    }

    /// Makes fields of these kinds ones of no kind.
    pub fn unmark(&mut self, kinds: KnownSet) {
        for entry in self.entries.iter_mut().filter(|entry| kinds.contains(entry.known)) {
            entry.known = Known::Other;
        }
    }

    /// Bytes of all names and values that are there.
    pub fn weight(&self) -> usize {
        self.entries.iter().map(|entry| (entry.name.len + entry.value.len) as usize).sum()
    }

    /// Bytes that are kept, of what was removed, too.
    pub fn stored(&self) -> usize {
        self.bytes.len()
    }

    /// Notes what there is, so that it can be restored.
    pub fn save(&self, saved: &mut Saved) {
        saved.entries.clone_from(&self.entries);
        saved.kinds = self.kinds;
        saved.bytes = self.bytes.len();
        saved.excluded = self.excluded.len();
    }

    /// All is again as it was when it was saved: since then, bytes were only added.
    pub fn restore(&mut self, saved: &Saved) {
        self.entries.clone_from(&saved.entries);
        self.kinds = saved.kinds;
        self.bytes.truncate(saved.bytes);
        self.excluded.truncate(saved.excluded);
    }

    /// Marks the fields that a `Connection` field names (RFC 9110 7.6.1), so that they are
    /// not passed on. `Host` cannot be named away.
    pub fn mark_hop_by_hop(&mut self, name: &[u8]) {
        let Fields { bytes, entries, kinds, .. } = self;
        for entry in entries.iter_mut() {
            let kept = KnownSet::of(&[Known::Host, Known::Connection]).contains(entry.known);
            if !kept && entry.name(bytes).eq_ignore_ascii_case(name) {
                entry.known = Known::HopByHop;
                kinds.insert(Known::HopByHop);
            }
        }
    }
}

/// A field section as it was: see [`Fields::save`].
#[derive(Clone, Debug, Default)]
pub struct Saved {
    entries: Vec<Entry>,
    kinds: KnownSet,
    bytes: usize,
    excluded: usize,
}

/// The characters of a token (RFC 9110 5.6.2).
pub fn is_token(name: &[u8]) -> bool {
    let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_fit)
}

/// What a field may have as its value (RFC 9110 5.5): no control characters, but for tabs.
pub fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

impl Span {
    /// Where `part` lies in `whole`, of which it is a slice.
    pub fn within(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len());
        Span { start: start as u32, len: part.len() as u32 }
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    fn end(self) -> usize {
        (self.start + self.len) as usize
    }

    /// The part that begins `skip` bytes later.
    pub fn skip(self, skip: usize) -> Span {
        let skip = (skip as u32).min(self.len);
        Span { start: self.start + skip, len: self.len - skip }
    }

    /// The first `len` bytes.
    pub fn take(self, len: usize) -> Span {
        Span { start: self.start, len: self.len.min(len as u32) }
    }
}

/// The elements of a comma-separated list (RFC 9110 5.6.1), without empty ones.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_field_is_marked_but_never_host() {
        let mut fields = Fields::default();
        fields.push(b"Host", b"a");
        fields.push(b"X-Secret", b"1");
        fields.mark_hop_by_hop(b"x-secret");
        fields.mark_hop_by_hop(b"host");
        let kinds: Vec<Known> = fields.iter().map(|field| field.known).collect();
        assert_eq!(kinds, [Known::Host, Known::HopByHop]);
    }

    #[test]
    fn what_was_saved_is_restored() {
        let mut fields = Fields::default();
        fields.push(b"A", b"1");
        fields.push(b"B", b"2");
        let mut saved = Saved::default();
        fields.save(&mut saved);
        let shown = |fields: &Fields| -> Vec<(String, String)> {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            fields.iter().map(|field| (text(field.name), text(field.value))).collect()
        };
        let before = shown(&fields);
        fields.exclude(b"a");
        fields.push(b"Via", b"3");
        assert_eq!(shown(&fields), [("B".into(), "2".into()), ("Via".into(), "3".into())]);
        assert_eq!((fields.weight(), fields.stored()), (6, 9));
        assert!(fields.excludes(b"A") && !fields.excludes(b"b"));
        fields.restore(&saved);
        assert_eq!(shown(&fields), before);
        assert!(!fields.may_have(Known::Via) && !fields.excludes(b"a"));
    }

    #[test]
    fn names_are_removed_and_excluded_once_whatever_their_spelling() {
        let mut fields = Fields::default();
        for name in ["X_Name", "x-name", "X-Names", "X-NAME"] {
            fields.push(name.as_bytes(), b"1");
        }
        for name in ["X-Name", "X_NAME", "x-name"] {
            fields.exclude(name.as_bytes());
        }
        let left: Vec<&[u8]> = fields.iter().map(|field| field.name).collect();
        assert_eq!(left, [b"X-Names"]);
        assert_eq!(fields.excluded.len(), 1);
        assert!(fields.excludes(b"x_name") && !fields.excludes(b"x-names"));
    }

    #[test]
    fn lines_become_fields() {
        let mut fields = Fields::default();
        fields.push(b"A", b"1");
        fields.push_lines(|out| out.extend_from_slice(b"X-Real-IP: ::1\r\nX-Empty: \r\n"));
        let shown: Vec<(Known, &[u8], &[u8])> =
            fields.iter().map(|field| (field.known, field.name, field.value)).collect();
        assert_eq!(
            shown[1..],
            [(Known::XRealIp, &b"X-Real-IP"[..], &b"::1"[..]), (Known::Other, b"X-Empty", b"")]
        );
    }

    #[test]
    fn names_and_values_are_told_from_what_breaks_a_line() {
        assert!(is_token(b"X-Name") && !is_token(b"") && !is_token(b"a b") && !is_token(b"a:"));
        assert!(is_value(b"") && is_value("a\té".as_bytes()) && !is_value(b"a\nb") && !is_value(b"\0"));
    }

    #[test]
    fn lists_are_split_at_commas_without_empty_elements() {
        let elements: Vec<&[u8]> = list(b" a, b ,,c,").collect();
        assert_eq!(elements, [b"a", b"b", b"c"]);
    }
}
