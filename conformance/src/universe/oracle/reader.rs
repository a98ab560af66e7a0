//! What is known of one client's session from outside.

use std::collections::{BTreeMap, BTreeSet};

use codec::{PacketId, QoS};
use session_core::{ConnId, Time};

use super::will::Will;
use crate::universe::setup::Persona;

/// Whether the broker has a session of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Presence {
    Absent,
    /// It may or may not: a connection or the broker broke at the wrong moment.
    Unknown,
    /// It has; the session ends at that time unless somebody connects.
    Present {
        ends: Option<Time>,
    },
}

/// How far a subscription has come, as seen at the broker's door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Grant {
    No,
    /// SUBSCRIBE or UNSUBSCRIBE went in, its answer has not come out; or nobody knows.
    Maybe,
    /// SUBACK came out.
    Yes,
}

impl Grant {
    pub(super) const fn is_possible(self) -> bool {
        !matches!(self, Self::No)
    }

    pub(super) const fn is_certain(self) -> bool {
        matches!(self, Self::Yes)
    }

    pub(super) fn doubt(&mut self) {
        if self.is_certain() {
            *self = Self::Maybe;
        }
    }
}

/// An exchange that the broker began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outbound {
    pub(super) number: Option<u16>,
    pub(super) qos: QoS,
    /// The connection on which its PUBLISH was sent last.
    pub(super) link: ConnId,
    /// PUBREC went in.
    pub(super) released: bool,
    /// An acknowledgement went in that may have come too late to count.
    pub(super) unsure: bool,
}

/// A client as a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reader {
    pub(super) presence: Presence,
    pub(super) expiry_s: u32,
    /// For each of the client's wishes.
    pub(super) grants: Vec<Grant>,
    /// Messages it may get.
    pub(super) may: BTreeSet<u16>,
    /// Messages it must get.
    pub(super) owed: BTreeSet<u16>,
    /// Messages that a SUBSCRIBE may have brought it from the retained ones.
    pub(super) replayable: BTreeSet<u16>,
    /// Retained messages that came since the last look.
    pub(super) replayed: BTreeSet<u16>,
    /// How often a message was sent to it anew: not as a repetition, nor as a retained one.
    pub(super) fresh: BTreeMap<u16, u32>,
    /// How often its application got a message.
    pub(super) taken: BTreeMap<u16, u32>,
    /// Exchanges that the broker began and that are not over.
    pub(super) outbound: BTreeMap<PacketId, Outbound>,
    /// The message that an identifier carried last: after a crash it may come again.
    pub(super) last: BTreeMap<PacketId, Option<u16>>,
    /// The latest message for each publisher, topic, published QoS and QoS of delivery.
    pub(super) latest: BTreeMap<(usize, usize, QoS, QoS), u16>,
    /// The message of each exchange of the client's own, the latest for an identifier.
    pub(super) own: BTreeMap<PacketId, u16>,
    /// QoS 2 exchanges of the client's own, by identifier.
    pub(super) inbound: BTreeMap<PacketId, u16>,
    pub(super) will: Option<Will>,
    /// A CONNECT of its may have been carried out, or may yet be, on a connection that is gone.
    pub(super) unsettled: bool,
    /// Which session it has is unknown, and with it which identifiers are in use.
    pub(super) vague: bool,
    /// The broker may have forgotten since when the client is absent.
    pub(super) lingers: bool,
    /// It broke rules with identifiers that mean something.
    pub(super) wild: bool,
}

impl Reader {
    pub(super) fn new(persona: &Persona) -> Self {
        Self {
            presence: Presence::Absent,
            expiry_s: 0,
            grants: vec![Grant::No; persona.wishes.len()],
            may: BTreeSet::new(),
            owed: BTreeSet::new(),
            replayable: BTreeSet::new(),
            replayed: BTreeSet::new(),
            fresh: BTreeMap::new(),
            taken: BTreeMap::new(),
            outbound: BTreeMap::new(),
            last: BTreeMap::new(),
            latest: BTreeMap::new(),
            own: BTreeMap::new(),
            inbound: BTreeMap::new(),
            will: None,
            unsettled: false,
            vague: false,
            lingers: false,
            wild: false,
        }
    }

    /// The session is over.
    pub(super) fn reset(&mut self) {
        self.presence = Presence::Absent;
        self.vague = false;
        self.grants.fill(Grant::No);
        self.may.clear();
        // What a share group had entrusted to the old session may come to the new one.
        self.fresh.clear();
        self.owed.clear();
        self.replayable.clear();
        self.outbound.clear();
        self.last.clear();
        self.inbound.clear();
    }

    /// Time has passed: whether the session is over for certain.
    pub(super) fn expires(&self, now: Time) -> bool {
        matches!(self.presence, Presence::Present { ends: Some(ends) } if ends <= now)
    }

    /// The broker crashed: whether the session is over for certain.
    pub(super) fn crashed(&mut self, was_connected: bool, now: Time) -> bool {
        if was_connected && self.expiry_s == 0 {
            return true;
        }
        if was_connected && let Presence::Present { ends } = &mut self.presence {
            *ends = ends_at(self.expiry_s, now);
        }
        // What was asked and not answered may or may not be done.
        false
    }
}

/// When a session ends that loses its connection now.
pub(super) fn ends_at(expiry_s: u32, now: Time) -> Option<Time> {
    (expiry_s != u32::MAX).then(|| now.plus_s(expiry_s))
}
