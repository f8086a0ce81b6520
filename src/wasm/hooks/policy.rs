//! A policy of one plan, whether it could be loaded or not.

use std::sync::Arc;

use super::guest::{Guest, Parts};
use super::instance::Code;
use super::loader::{Built, Refused};

pub struct Policy {
    pub guest: Arc<Guest<Code>>,
    /// What it calls itself.
    pub about: Option<About>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub head: bool,
    /// Bytes of the body that it waits for.
    pub text_max: usize,
}

/// As the guest tells it.
#[derive(Clone, Debug)]
pub struct About {
    pub name: String,
    pub version: String,
}

impl Policy {
    /// Whatever is asked of it, it is not there.
    pub fn absent(parts: Parts<'_>, reason: String) -> Policy {
        Policy { guest: Arc::new(Guest::absent(parts, Subscription::default(), reason)), about: None }
    }

    /// # Errors
    /// As [`Guest::load`]; or it fails when it is asked for its name.
    pub fn load(parts: Parts<'_>, built: Built) -> Result<Policy, Refused> {
        let (guest, about) = Guest::load(parts, built, |instance, turn| {
            let introduced = instance.introduce(turn).map_err(|failed| failed.message)?;
            Ok(introduced.map(|(name, version)| About { name, version }))
        })?;
        Ok(Policy { guest: Arc::new(guest), about })
    }

    /// It wants to know how requests went.
    pub fn has_feedback(&self) -> bool {
        self.guest.code().is_some_and(Code::has_feedback)
    }
}
