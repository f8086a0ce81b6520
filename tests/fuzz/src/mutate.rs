//! A small fuzzer that knows nothing of coverage: it changes inputs that are worth having, the
//! same way each time. It keeps the targets honest where libFuzzer is not at hand.

use crate::split::Choice;

/// Pieces that matter to one or another parser.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\0",
    b"\x80",
    b"%2e",
    b"/../",
    b"0\r\n\r\n",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Connection: close\r\n",
    b"Host: b\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.0",
    b"ffffffffffffffff",
    b"^.",
    b"^+",
];

/// Another input, made of one of these.
pub fn mutated(inputs: &[Vec<u8>], choice: &mut Choice) -> Vec<u8> {
    let mut made = inputs.get(choice.below(inputs.len())).cloned().unwrap_or_default();
    for _ in 0..=choice.below(4) {
        let at = choice.below(made.len() + 1);
        let end = (at + choice.below(9)).min(made.len());
        match choice.below(6) {
            0 => drop(made.splice(at..end, [])),
            1 => drop(made.splice(at..at, WORDS[choice.below(WORDS.len())].iter().copied())),
            2 => drop(made.splice(at..end, WORDS[choice.below(WORDS.len())].iter().copied())),
            3 => {
                if let Some(byte) = made.get_mut(at) {
                    *byte ^= 1 << choice.below(8);
                }
            }
            4 => {
                let copied = made[at..end].to_vec();
                let to = choice.below(made.len() + 1);
                made.splice(to..to, copied);
            }
            _ => {
                let other = &inputs[choice.below(inputs.len())];
                let from = choice.below(other.len() + 1);
                made.truncate(at);
                made.extend_from_slice(&other[from..]);
            }
        }
    }
    made
}
