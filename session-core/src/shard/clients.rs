//! Sessions by Client Identifier.

use core::cmp::Ordering;

use super::{
    memo::quick_hash,
    ordered::{At, Ordered},
    session::Session,
    table::{SessionId, Sessions},
};

/// The sessions in the order of the hashes of their Client Identifiers, which only the sessions
/// have. Whoever finds identifiers with equal hashes gains nothing: these are in the order of the
/// identifiers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Clients {
    entries: Ordered<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    hash: u32,
    slot: u32,
}

impl Clients {
    pub(super) const fn new() -> Self {
        Self { entries: Ordered::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The session of a client.
    pub(super) fn get(&self, sessions: &Sessions<Session>, client_id: &str) -> Option<SessionId> {
        let at = self.find(sessions, client_id).ok()?;
        sessions.by_slot(self.entries.get(at)?.slot).map(|(id, _)| id)
    }

    /// Takes in a session that has just got its place.
    pub(super) fn insert(&mut self, sessions: &Sessions<Session>, id: SessionId) {
        let Some(session) = sessions.get(id) else { return };
        let entry = Entry { hash: hash(&session.client_id), slot: id.slot };
        match self.find(sessions, &session.client_id) {
            Ok(at) => {
                if let Some(old) = self.entries.get_mut(at) {
                    *old = entry;
                }
            }
            Err(at) => self.entries.insert(at, entry),
        }
    }

    /// Takes out a session that is about to go.
    pub(super) fn remove(&mut self, sessions: &Sessions<Session>, id: SessionId) {
        let found = sessions.get(id).map(|session| self.find(sessions, &session.client_id));
        if let Some(Ok(at)) = found {
            self.entries.remove(at);
        }
    }

    fn find(&self, sessions: &Sessions<Session>, client_id: &str) -> Result<At, At> {
        let hash = hash(client_id);
        self.entries.find(|entry| {
            entry.hash.cmp(&hash).then_with(|| match sessions.by_slot(entry.slot) {
                Some((_, session)) => (*session.client_id).cmp(client_id),
                None => Ordering::Less,
            })
        })
    }

    #[cfg(test)]
    pub(super) fn clear(&mut self) {
        self.entries = Ordered::new();
    }

    /// A second entry for the first session.
    #[cfg(test)]
    pub(super) fn repeat(&mut self) {
        let first = *self.entries.get(At::FIRST).unwrap();
        self.entries.insert(At::FIRST, first);
    }
}

fn hash(client_id: &str) -> u32 {
    quick_hash(client_id.as_bytes()) as u32
}
