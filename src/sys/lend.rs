//! References lent to whatever is called meanwhile, where it cannot be passed on as an argument.

use std::cell::Cell;

/// What is lent: a reference, or something that holds some.
pub trait Lendable: 'static {
    /// It, for as long as it is lent. The same type but for the lifetime.
    type For<'a>: Copy;
}

/// A place of one thread where something may be lent.
pub struct Lent<L: Lendable>(Cell<Option<L::For<'static>>>);

impl<L: Lendable> Lent<L> {
    pub const fn new() -> Lent<L> {
        Lent(Cell::new(None))
    }

    /// Calls `borrower`, to whom `it` is lent, and to nobody after it.
    pub fn lend<R>(&self, it: L::For<'_>, borrower: impl FnOnce() -> R) -> R {
        let _back = GiveBack { place: self, before: self.0.replace(Some(forget_lifetime::<L>(it))) };
        borrower()
    }

    /// What is lent now. For no longer than `look` takes: it cannot keep what may live so short.
    pub fn with<R>(&self, look: impl for<'a> FnOnce(Option<L::For<'a>>) -> R) -> R {
        look(self.0.get())
    }
}

impl<L: Lendable> Default for Lent<L> {
    fn default() -> Lent<L> {
        Lent::new()
    }
}

/// Ends a loan, also by a panic.
struct GiveBack<'a, L: Lendable> {
    place: &'a Lent<L>,
    before: Option<L::For<'static>>,
}

impl<L: Lendable> Drop for GiveBack<'_, L> {
    fn drop(&mut self) {
        self.place.0.set(self.before);
    }
}

#[allow(unsafe_code, reason = "the lifetime of a loan is that of a call, which no type can name")]
fn forget_lifetime<L: Lendable>(it: L::For<'_>) -> L::For<'static> {
    // SAFETY: the two types are the same but for the lifetime. `lend` takes the value away before
    // what it borrows from can end, and `with` shows it for every lifetime, so to nobody who
    // could keep it. The place is not `Sync`: no other thread sees it.
    unsafe { std::mem::transmute_copy::<L::For<'_>, L::For<'static>>(&it) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text;

    impl Lendable for Text {
        type For<'a> = &'a str;
    }

    #[test]
    fn a_loan_ends_with_the_call_also_by_a_panic() {
        let place = Lent::<Text>::new();
        let length = || place.with(|text| text.map(str::len));
        assert_eq!(length(), None);
        let text = "four".to_owned();
        let inner = place.lend(&text, || (length(), place.lend("x", length), length()));
        assert_eq!(inner, (Some(4), Some(1), Some(4)));
        assert_eq!(length(), None);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            place.lend(&text, || panic!("in the call"));
        }));
        assert!(panicked.is_err());
        assert_eq!(length(), None);
    }
}
