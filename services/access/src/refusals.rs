//! Who was turned away lately, for administrators.

use std::collections::VecDeque;

use codec::ReasonCode;
use session_core::Time;

use crate::Visitor;

/// A client that was turned away. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub at: Time,
    /// Who.
    pub visitor: Visitor,
    /// The provider that refused, or that has let it in; absent if nobody accepted, or nobody was asked.
    pub provider: Option<Box<str>>,
    /// What the client was told.
    pub reason: ReasonCode,
    /// Why.
    pub why: Box<str>,
}

/// The last refusals.
#[derive(Clone, Debug)]
pub struct Refusals {
    ring: VecDeque<Refusal>,
    max: usize,
    total: u64,
}

impl Refusals {
    /// An empty list that keeps so many.
    pub fn new(max: usize) -> Self {
        Self { ring: VecDeque::new(), max, total: 0 }
    }

    /// Adds one; the oldest makes room.
    pub fn add(&mut self, mut refusal: Refusal) {
        // A Client Identifier may have 64 KiB.
        refusal.visitor.client_id = shortened(&refusal.visitor.client_id);
        refusal.visitor.user = refusal.visitor.user.as_deref().map(shortened);
        self.total += 1;
        if self.ring.len() >= self.max {
            self.ring.pop_front();
        }
        if self.max > 0 {
            self.ring.push_back(refusal);
        }
    }

    /// Those that are kept, latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Refusal> {
        self.ring.iter().rev()
    }

    /// How many there were since the start.
    pub const fn total(&self) -> u64 {
        self.total
    }
}

/// As much of a name as is kept and written.
pub(crate) fn shortened(text: &str) -> Box<str> {
    const CHARS_MAX: usize = 128;
    text.chars().take(CHARS_MAX).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_long_names_cut() {
        let mut refusals = Refusals::new(3);
        for number in 0..5_u64 {
            refusals.add(Refusal {
                at: Time(number),
                visitor: Visitor {
                    client_id: "x".repeat(10_000).into(),
                    user: Some("ä".repeat(10_000).into()),
                    address: None,
                    peer: None,
                    listener: "door".into(),
                    transport: None,
                    has_secret: true,
                },
                provider: None,
                reason: ReasonCode::NotAuthorized,
                why: "no".into(),
            });
        }
        let kept: Vec<u64> = refusals.latest().map(|refusal| refusal.at.0).collect();
        assert_eq!((kept, refusals.total()), (vec![4, 3, 2], 5));
        assert!(refusals.latest().all(|refusal| refusal.visitor.client_id.len() == 128));
    }
}
