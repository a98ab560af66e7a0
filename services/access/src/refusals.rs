//! Who was turned away lately, for administrators.

use std::{collections::VecDeque, net::SocketAddr};

use session_core::{Time, Transport};

/// A client that was turned away. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub at: Time,
    /// Its Client Identifier.
    pub client_id: Box<str>,
    /// The User Name that it gave.
    pub user_name: Option<Box<str>>,
    /// Where it came from.
    pub peer: Option<SocketAddr>,
    /// The listener.
    pub listener: Box<str>,
    /// How its bytes travelled.
    pub transport: Transport,
    /// Whether it gave a password.
    pub password_given: bool,
    /// The provider that refused; absent if nobody accepted, or nobody was asked.
    pub provider: Option<Box<str>>,
    /// What the client was told.
    pub reason: codec::ReasonCode,
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
        refusal.client_id = shortened(&refusal.client_id);
        refusal.user_name = refusal.user_name.as_deref().map(shortened);
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

fn shortened(text: &str) -> Box<str> {
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
                client_id: "x".repeat(10_000).into(),
                user_name: Some("ä".repeat(10_000).into()),
                peer: None,
                listener: "door".into(),
                transport: Transport::Tcp,
                password_given: true,
                provider: None,
                reason: codec::ReasonCode::NotAuthorized,
                why: "no".into(),
            });
        }
        let kept: Vec<u64> = refusals.latest().map(|refusal| refusal.at.0).collect();
        assert_eq!((kept, refusals.total()), (vec![4, 3, 2], 5));
        assert!(refusals.latest().all(|refusal| refusal.client_id.len() == 128));
    }
}
