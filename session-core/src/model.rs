//! Hashing for model checkers.
//!
//! Time, the names of connections and positions in the log only ever grow: hashed as they are, two
//! states that behave alike from now on would count as two for ever. With the feature `model` they
//! are hashed by their distance from a present that the checker sets. What a shard does depends on
//! these distances alone, so that states with equal hashes behave alike. Equality stays exact.

use core::{
    cell::{Cell, RefCell},
    hash::{Hash, Hasher},
};
use std::{thread_local, vec::Vec};

use crate::{CommitSeq, ConnId, Place, Time};

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static COMMITTED: Cell<u64> = const { Cell::new(0) };
    static EPOCHS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Sets the present of this thread: the time, and the last epoch that each group of slots has
/// used. A connection belongs to the group of its slot modulo the number of groups.
pub fn set_present(now: Time, epochs: &[u32]) {
    NOW.set(now.0);
    EPOCHS.with_borrow_mut(|present| {
        present.clear();
        present.extend_from_slice(epochs);
    });
}

/// Sets the last position in the log of the shard that is hashed next.
pub fn set_committed(committed: CommitSeq) {
    COMMITTED.set(committed.0);
}

impl Hash for Time {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let distance = if *self == Self::NEVER { self.0 } else { self.0.wrapping_sub(NOW.get()) };
        state.write_u64(distance);
    }
}

impl Hash for CommitSeq {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.wrapping_sub(COMMITTED.get()));
    }
}

/// A place is a name that the log needs. What a session does follows from the order of its messages,
/// which is that of its queue.
impl Hash for Place {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl Hash for ConnId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.slot);
        let last = EPOCHS.with_borrow(|epochs| {
            let groups = u32::try_from(epochs.len()).unwrap_or(u32::MAX);
            let group = self.slot.checked_rem(groups).unwrap_or(0);
            epochs.get(group as usize).copied().unwrap_or(0)
        });
        state.write_u32(last.wrapping_sub(self.epoch));
    }
}

/// A mistake that can be switched on.
#[cfg(feature = "bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// QoS 2 messages that were taken are forgotten with the connection (rmqtt 458).
    ForgetsInbound,
    /// PUBREC is not remembered: the message comes again after it.
    ForgetsPubrec,
    /// The allocator does not skip identifiers in use (rmqtt 459, emqx 17897).
    ReusesIdentifiers,
    /// The window is not given back at PUBACK and PUBCOMP.
    KeepsWindow,
    /// Receive Maximum is never enforced (mqtt-lib 142).
    IgnoresWindow,
    /// A take-over does not close the old connection (sol 17).
    KeepsOldConnection,
    /// An owed PUBREL is not sent again (wolfMQTT 506).
    ForgetsPubrel,
    /// What is sent again does not say so.
    ForgetsDup,
    /// A proper DISCONNECT publishes the Will.
    PublishesWillAtGoodbye,
    /// A Will whose delay is over is not published.
    LosesDueWill,
    /// A session whose time is up stays.
    KeepsSessions,
    /// A retained message is not replaced.
    KeepsFirstRetained,
    /// An empty message does not remove the retained one.
    KeepsEmptyRetained,
    /// Nothing waits for the log.
    OpensGate,
    /// A 3.x publisher is held up by one bound and released by another (our own).
    ReleasesPublishersLate,
    /// A late CONNECT resumes what has ended (our own).
    ResumesLate,
    /// What waited for a slow link is routed beyond the budget of a call (our own).
    RoutesAllWaiting,
    /// A publication that is routed again after a crash is stored again (our own).
    StoresTwice,
    /// UNSUBACK does not wait for the topics' owners (our own).
    AnswersUnsubscribeEarly,
    /// A QoS 2 message that a dead member was sent goes to another.
    OffersSentQoS2,
    /// A socket that drains is not written to again.
    ForgetsCredit,
    /// PUBACK does not wait for the receivers' shards.
    AcknowledgesEarly,
    /// A publication that is routed again comes after a later one (our own).
    DeliversLate,
    /// Which owed publications a session has is forgotten when shards are dealt anew.
    DealsWithoutSeen,
    /// A repeated QoS 2 PUBLISH takes memory once more (CVE-2023-28366).
    LeaksHeldBytes,
    /// A connection that is refused is not forgotten (CVE-2023-3592, CVE-2017-7654).
    KeepsRefusedConnections,
    /// A packet in the wrong state is not refused (sol 15, CVE-2021-28166).
    IgnoresSecondConnect,
    /// Packet Identifiers of both directions are one space (mqtt-lib 116).
    SharesIdentifiers,
    /// A lost connection leaves exchanges as if they were sent on the next (rumqttc 1056).
    KeepsSent,
    /// The window of a lost connection counts on the next (mosquitto 2134).
    KeepsOldWindow,
    /// A right to read is not looked at when a message is sent (CVE-2021-34434, CVE-2018-12546).
    ForgetsGrants,
    /// A Will is retained beyond the quota (mqtt-lib 0.48.2).
    RetainsWillsBeyondQuota,
    /// A clean start keeps the QoS 2 messages that were taken (mqtt-lib 118).
    KeepsInboundAtCleanStart,
    /// The subscriptions of a session that ended stay (CVE-2026-22040, CVE-2025-59946).
    KeepsIndexOfEnded,
}

#[cfg(feature = "bugs")]
impl Bug {
    /// Every mistake.
    pub const ALL: [Self; 34] = [
        Self::ForgetsInbound,
        Self::ForgetsPubrec,
        Self::ReusesIdentifiers,
        Self::KeepsWindow,
        Self::IgnoresWindow,
        Self::KeepsOldConnection,
        Self::ForgetsPubrel,
        Self::ForgetsDup,
        Self::PublishesWillAtGoodbye,
        Self::LosesDueWill,
        Self::KeepsSessions,
        Self::KeepsFirstRetained,
        Self::KeepsEmptyRetained,
        Self::OpensGate,
        Self::ReleasesPublishersLate,
        Self::ResumesLate,
        Self::RoutesAllWaiting,
        Self::StoresTwice,
        Self::AnswersUnsubscribeEarly,
        Self::OffersSentQoS2,
        Self::ForgetsCredit,
        Self::AcknowledgesEarly,
        Self::DeliversLate,
        Self::DealsWithoutSeen,
        Self::LeaksHeldBytes,
        Self::KeepsRefusedConnections,
        Self::IgnoresSecondConnect,
        Self::SharesIdentifiers,
        Self::KeepsSent,
        Self::KeepsOldWindow,
        Self::ForgetsGrants,
        Self::RetainsWillsBeyondQuota,
        Self::KeepsInboundAtCleanStart,
        Self::KeepsIndexOfEnded,
    ];
}

#[cfg(feature = "bugs")]
thread_local! {
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Switches one mistake on in this thread, or all off.
#[cfg(feature = "bugs")]
pub fn seed(bug: Option<Bug>) {
    BUG.set(bug);
}

#[cfg(feature = "bugs")]
pub(crate) fn is_seeded(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}
