//! A field section (RFC 9110 5): names and values as ranges of one byte string.
//!
//! Hot path: no allocation once its two vectors have grown. The bytes are a copy of the head
//! as it was received, so a section outlives the buffer that it was read into.

/// A range of the byte string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

/// The fields that a proxy must know. The order is free; there are fewer than 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    Other,
    /// Named by `Connection`: goes no further.
    HopByHop,
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyConnection,
    Referer,
    Te,
    Traceparent,
    Tracestate,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XAccel,
    XAdminToken,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    /// One of the `X` fields here, but with `_` for a `-`.
    XLookalike,
    XRealIp,
    XRequestId,
    XRequestStart,
    XSendfile,
}

/// A set of [`Known`] fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u64);

impl KnownSet {
    pub const fn of(members: &[Known]) -> KnownSet {
        let mut bits = 0;
        let mut i = 0;
        while i < members.len() {
            bits |= 1 << members[i] as u8;
            i += 1;
        }
        KnownSet(bits)
    }

    /// Both together.
    pub const fn and(self, other: KnownSet) -> KnownSet {
        KnownSet(self.0 | other.0)
    }

    fn insert(&mut self, known: Known) {
        self.0 |= 1 << known as u8;
    }

    pub const fn contains(self, known: Known) -> bool {
        self.0 & (1 << known as u8) != 0
    }
}

impl Known {
    /// Field names are case-insensitive (RFC 9110 5.1). Length and first letter leave at most
    /// one candidate, but for those of `x-`.
    pub fn of(name: &[u8]) -> Known {
        let Some(first) = name.first() else { return Known::Other };
        let (known, text) = match (first | 0x20, name.len()) {
            (b'c', 10) => (Known::Connection, "connection"),
            (b'c', 14) => (Known::ContentLength, "content-length"),
            (b'd', 4) => (Known::Date, "date"),
            (b'e', 6) => (Known::Expect, "expect"),
            (b'f', 9) => (Known::Forwarded, "forwarded"),
            (b'h', 4) => (Known::Host, "host"),
            (b'h', 14) => (Known::Http2Settings, "http2-settings"),
            (b'k', 10) => (Known::KeepAlive, "keep-alive"),
            (b'p', 16) => (Known::ProxyConnection, "proxy-connection"),
            (b'r', 7) => (Known::Referer, "referer"),
            (b't', 2) => (Known::Te, "te"),
            (b't', 7) => (Known::Trailer, "trailer"),
            (b't', 10) => (Known::Tracestate, "tracestate"),
            (b't', 11) => (Known::Traceparent, "traceparent"),
            (b't', 17) => (Known::TransferEncoding, "transfer-encoding"),
            (b'u', 7) => (Known::Upgrade, "upgrade"),
            (b'u', 10) => (Known::UserAgent, "user-agent"),
            (b'v', 3) => (Known::Via, "via"),
            (b'x', 2..) if matches!(name[1], b'-' | b'_') => return Known::of_x(name),
            _ => return Known::Other,
        };
        if is_name(name, text) { known } else { Known::Other }
    }

    fn of_x(name: &[u8]) -> Known {
        if name.contains(&b'_') {
            return Known::of_x_with_underscores(name);
        }
        const NAMES: [(&str, Known); 10] = [
            ("x-admin-token", Known::XAdminToken),
            ("x-forwarded-for", Known::XForwardedFor),
            ("x-forwarded-host", Known::XForwardedHost),
            ("x-forwarded-port", Known::XForwardedPort),
            ("x-forwarded-proto", Known::XForwardedProto),
            ("x-real-ip", Known::XRealIp),
            ("x-request-id", Known::XRequestId),
            ("x-request-start", Known::XRequestStart),
            ("x-sendfile", Known::XSendfile),
            ("x-sendfile-type", Known::XSendfile),
        ];
        if name.len() > 8 && is_name(&name[..8], "x-accel-") {
            return Known::XAccel;
        }
        let found = NAMES.iter().find(|(text, _)| text.len() == name.len() && is_name(name, text));
        found.map_or(Known::Other, |(_, known)| *known)
    }

    /// Servers that turn names into variables (CGI, WSGI, Rack) take `_` for `-`, so what looks
    /// to them like a field that a proxy answers for goes no further.
    #[cold]
    fn of_x_with_underscores(name: &[u8]) -> Known {
        let dashed: Vec<u8> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
        if Known::of_x(&dashed) == Known::Other { Known::Other } else { Known::XLookalike }
    }
}

/// Compares a field name with one in lower case of the same length, 8 bytes at a time. Setting
/// bit 5 makes letters lower-case and leaves digits and `-` alone; what else it makes equal to
/// those, no field name has.
fn is_name(name: &[u8], lower: &str) -> bool {
    const CASE: u64 = u64::from_ne_bytes([0x20; 8]);
    let lower = lower.as_bytes();
    debug_assert_eq!(name.len(), lower.len());
    let (names, name_rest) = name.as_chunks::<8>();
    let (lowers, lower_rest) = lower.as_chunks::<8>();
    let mut differs = 0;
    for (a, b) in names.iter().zip(lowers) {
        differs |= (u64::from_ne_bytes(*a) | CASE) ^ u64::from_ne_bytes(*b);
    }
    for (a, b) in name_rest.iter().zip(lower_rest) {
        differs |= u64::from((a | 0x20) ^ b);
    }
    differs == 0
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Span,
    value: Span,
    known: Known,
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
}

impl Fields {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.kinds = KnownSet::default();
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
        let name_span = self.push_bytes(name);
        let value = self.push_bytes(value);
        self.index(Known::of(name), name_span, value);
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

    /// Removes all fields with this name, in whatever case. Their bytes stay.
    pub fn remove(&mut self, name: &[u8]) {
        let Fields { bytes, entries, .. } = self;
        let own = |entry: &Entry| &bytes[entry.name.start as usize..entry.name.end()];
        entries.retain(|entry| !own(entry).eq_ignore_ascii_case(name));
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
    }

    /// All is again as it was when it was saved: since then, bytes were only added.
    pub fn restore(&mut self, saved: &Saved) {
        self.entries.clone_from(&saved.entries);
        self.kinds = saved.kinds;
        self.bytes.truncate(saved.bytes);
    }

    /// Marks the fields that a `Connection` field names (RFC 9110 7.6.1), so that they are
    /// not passed on. `Host` cannot be named away.
    pub fn mark_hop_by_hop(&mut self, name: &[u8]) {
        let Fields { bytes, entries, kinds } = self;
        for entry in entries.iter_mut() {
            let own = &bytes[entry.name.start as usize..(entry.name.start + entry.name.len) as usize];
            let kept = KnownSet::of(&[Known::Host, Known::Connection]).contains(entry.known);
            if !kept && own.eq_ignore_ascii_case(name) {
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
    fn known_fields_are_found_whatever_their_case() {
        let table: [(&str, Known); 18] = [
            ("Host", Known::Host),
            ("hOST", Known::Host),
            ("hosts", Known::Other),
            ("TE", Known::Te),
            ("Content-Length", Known::ContentLength),
            ("Transfer-Encoding", Known::TransferEncoding),
            ("X-Forwarded-Proto", Known::XForwardedProto),
            ("X-Accel-Redirect", Known::XAccel),
            ("x-accel-buffering", Known::XAccel),
            ("X-Accel-", Known::Other),
            ("X_Forwarded_For", Known::XLookalike),
            ("x-real_ip", Known::XLookalike),
            ("X_Accel-Redirect", Known::XLookalike),
            ("X-ADMIN-Token", Known::XAdminToken),
            ("X-Admin_Token", Known::XLookalike),
            ("X_Other", Known::Other),
            ("X-Sendfile-Type", Known::XSendfile),
            ("Content-Lengthy", Known::Other),
        ];
        for (name, expected) in table {
            assert_eq!(Known::of(name.as_bytes()), expected, "{name}");
        }
    }

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
        fields.remove(b"a");
        fields.push(b"Via", b"3");
        assert_eq!(shown(&fields), [("B".into(), "2".into()), ("Via".into(), "3".into())]);
        assert_eq!((fields.weight(), fields.stored()), (6, 8));
        fields.restore(&saved);
        assert_eq!(shown(&fields), before);
        assert!(!fields.may_have(Known::Via));
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
