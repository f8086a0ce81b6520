//! What a client sends, and when, and what the origin answers: all of it in one input.
//!
//! Everything is sent as it stands, but for `^` and what follows it:
//!
//! | | |
//! |---|---|
//! | `^.` | the end of a piece: nothing more comes until all is quiet |
//! | `^+`, `^~` | a second passes, a hundred seconds pass |
//! | `^F`, `^R` | the client ends its sending direction, closes its socket |
//! | `^L` | 20,000 bytes, more than one buffer holds |
//! | `^A` … `^;` | what the origin answers to the next request |
//! | `^!`, `^X` in an answer | it begins with the head of the request; the origin closes after it |
//! | `^^` | a `^` |

use std::time::Duration;

/// For `^L`.
static LARGE: [u8; 20_000] = [b'l'; 20_000];

const STEPS_MAX: usize = 64;

/// More seconds than this in all may be a timeout of the product's.
const SECONDS_UNSEEN: usize = 5;

pub const PLAIN_BODY: &[u8] = b"plain";
/// Of the answer to a request that is not in the script.
pub const PROBE_TAG: &str = "probe";

pub enum Step {
    Send(Vec<u8>),
    Settle,
    Pass(Duration),
    Finish,
    Close,
}

/// What the origin says to one request.
#[derive(Clone, Default)]
pub struct Answer {
    pub bytes: Vec<u8>,
    /// Where pieces end.
    cuts: Vec<usize>,
    pub is_early: bool,
    pub closes: bool,
}

#[derive(Default)]
pub struct Script {
    pub steps: Vec<Step>,
    answers: Vec<Answer>,
    /// Somebody is late, early or gone: an exchange may fail although nothing is malformed.
    pub is_disturbed: bool,
}

impl Script {
    pub fn read(input: &[u8]) -> Script {
        let mut script = Script::default();
        let (mut sent, mut rest, mut seconds) = (Vec::new(), input, 0);
        while let Some((first, tail)) = rest.split_first() {
            let mark = if *first == b'^' { tail.first().copied() } else { None };
            let step = match mark {
                Some(b'.') => Step::Settle,
                Some(b'+') => {
                    seconds += 1;
                    Step::Pass(Duration::from_secs(1))
                }
                Some(b'~') => Step::Pass(Duration::from_secs(100)),
                Some(b'F') => Step::Finish,
                Some(b'R') => Step::Close,
                Some(b'L') => {
                    sent.extend_from_slice(&LARGE);
                    rest = &tail[1..];
                    continue;
                }
                Some(b'A') => {
                    let number = script.answers.len();
                    rest = script.read_answer(&tail[1..]);
                    script.answers[number].tag(&number.to_string());
                    continue;
                }
                _ => {
                    sent.push(*first);
                    rest = &tail[usize::from(mark == Some(b'^'))..];
                    continue;
                }
            };
            rest = &tail[1..];
            script.is_disturbed |= matches!(mark, Some(b'~' | b'R')) || seconds > SECONDS_UNSEEN;
            if script.steps.len() < STEPS_MAX {
                script.steps.push(Step::Send(std::mem::take(&mut sent)));
                script.steps.push(step);
            }
        }
        script.steps.push(Step::Send(sent));
        script
    }

    /// Reads an answer up to its end; what is left of the input.
    fn read_answer<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let (mut answer, mut rest) = (Answer::default(), input);
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            match if *first == b'^' { tail.first() } else { None } {
                Some(b'.') => answer.cuts.push(answer.bytes.len()),
                Some(b'L') => answer.bytes.extend_from_slice(&LARGE),
                Some(b'!') => answer.is_early = true,
                Some(b'X') => answer.closes = true,
                Some(b';') => {
                    rest = &tail[1..];
                    break;
                }
                Some(b'^') => answer.bytes.push(b'^'),
                _ => {
                    answer.bytes.push(*first);
                    continue;
                }
            }
            rest = &tail[1..];
        }
        self.is_disturbed |= answer.is_early;
        self.answers.push(answer);
        rest
    }

    /// The answer to a request.
    pub fn answer(&self, number: usize) -> Answer {
        self.answers.get(number).cloned().unwrap_or_else(|| Answer::plain(&number.to_string()))
    }
}

impl Answer {
    /// What an origin says that was not told anything else.
    pub fn plain(tag: &str) -> Answer {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec();
        bytes.extend_from_slice(PLAIN_BODY);
        let mut answer = Answer { bytes, ..Answer::default() };
        answer.tag(tag);
        answer
    }

    /// Says in every head which request it was for.
    fn tag(&mut self, tag: &str) {
        let field = format!("X-Tag: {tag}\r\n");
        let mut at = 0;
        while let Some(end) = self.bytes[at..].windows(2).position(|pair| pair == b"\r\n") {
            let is_first = self.bytes[at..].starts_with(b"HTTP/1.");
            at += end + 2;
            if is_first {
                self.bytes.splice(at..at, field.bytes());
                self.cuts.iter_mut().filter(|cut| **cut >= at).for_each(|cut| *cut += field.len());
                at += field.len();
            }
        }
    }

    /// The pieces in which it is sent. What comes after the response's `end` comes with it: sent
    /// later, nobody could tell that it does not belong to the next response.
    pub fn pieces(&self, end: Option<usize>) -> Vec<Vec<u8>> {
        let (mut pieces, mut start) = (Vec::new(), 0);
        for cut in self.cuts.iter().filter(|cut| end.is_none_or(|end| **cut < end)) {
            pieces.push(self.bytes[start..*cut].to_vec());
            start = *cut;
        }
        pieces.push(self.bytes[start..].to_vec());
        pieces
    }
}
