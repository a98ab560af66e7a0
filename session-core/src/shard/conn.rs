//! What a shard knows of one network connection.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use codec::{Connect, PacketId, ProtocolVersion, ReasonCode};

use super::{
    limit::Limiter,
    session::Waiting,
    table::{Named, SessionId, give_room_back},
};
use crate::{ConnId, Exchange, Features, Grants, Origin, ShardConfig, Subject, Ticket, Time};

/// No packet can be larger: four bytes of Remaining Length, and what they count.
pub(super) const PACKET_BYTES_MAX: u32 = 268_435_460;

/// Waiting PUBACKs that a connection has room for when none waits.
const ACKS_KEPT: usize = 16;

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// No CONNECT yet. Where the connection comes from goes out with the question who it is, and
    /// nobody asks for it later.
    Opened(Option<Box<Origin>>),
    /// CONNECT waits.
    Authenticating(Box<Pending>),
    /// CONNACK was sent.
    Connected(SessionId),
}

/// A CONNECT that waits for an answer from outside, or (`ticket` absent) for the client's AUTH.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) connect: Box<Connect>,
    pub(super) assigned: bool,
    pub(super) ticket: Option<Ticket>,
}

/// How far a re-authentication has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reauth {
    /// It waits for an answer from outside.
    Asked(Ticket),
    /// It waits for the client's AUTH, until this time.
    Challenged(Time),
}

/// Why a connection is not read from, as bits.
pub(super) mod paused {
    /// A question about the client is open.
    pub(in super::super) const ANSWER: u8 = 1;
    /// The peer does not read what it gets.
    pub(in super::super) const CREDIT: u8 = 2;
    /// Too many of its publishes are not acknowledged by their receivers' shards.
    pub(in super::super) const FLIGHTS: u8 = 4;
    /// Another shard has not worked off what it was told.
    pub(in super::super) const LINK: u8 = 8;
    /// The client has sent more than it may for now.
    pub(in super::super) const RATE: u8 = 16;
}

/// A PUBACK that waits for its turn or its cause: we answer in the order that 4.6.0-2 demands of
/// clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingAck {
    pub(super) packet_id: PacketId,
    pub(super) waiting: Waiting,
    pub(super) reason: ReasonCode,
}

/// What CONNACK tells of limits and features: it holds for as long as the client is connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Told {
    pub(super) features: Features,
    pub(super) receive_maximum: u16,
    pub(super) topic_alias_maximum: u16,
}

impl Told {
    pub(super) fn of(config: &ShardConfig) -> Self {
        Self {
            features: config.features.clone(),
            receive_maximum: config.limits.receive_maximum,
            topic_alias_maximum: config.limits.topic_alias_maximum,
        }
    }
}

/// One network connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) phase: Phase,
    pub(super) version: ProtocolVersion,
    /// Another broker's bridge, before 5.0.
    pub(super) bridge: bool,
    /// Bytes the socket still takes; PUBLISH packets wait once it is not above 0.
    pub(super) credit: i64,
    /// Bytes that it took at first.
    credit_given: u32,
    pub(super) paused: u8,
    /// It has got as many messages as it may for now.
    pub(super) held: bool,
    /// There is something that counts for it.
    pub(super) limited: bool,
    /// The armed timer, so that it can be found again.
    pub(super) deadline: Option<Time>,
    pub(super) heard: Time,
    /// 1.5 times the Keep Alive; 0 is off.
    silence_ms: u32,
    /// Maximum Packet Size of the client, bytes.
    pub(super) packet_max: u32,
    /// Receive Maximum of the client, or our own lower bound.
    pub(super) window: u16,
    /// Request Problem Information.
    pub(super) problem_info: bool,
    pub(super) grants: Grants,
    /// What it was told when it connected, or will be.
    pub(super) told: Arc<Told>,
    pub(super) alias_out_max: u16,
    pub(super) acks: VecDeque<PendingAck>,
    /// The number of the first entry of `acks`; numbers wrap.
    pub(super) acks_first: u32,
    /// QoS 1 and 2 publishes of this connection that are not acknowledged `[MQTT-3.3.4-7]`.
    pub(super) inbound_used: u16,
    /// Absent if there is nothing in it.
    rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<Conn>() <= 152, "a broker has hundreds of thousands of them");

/// What few connections have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Rare {
    /// When the right to be connected ends.
    pub(super) authority_ends: Option<Time>,
    /// It has ended, but for a moment in which a client may prove itself anew.
    pub(super) lapsed: bool,
    pub(super) auth_method: Option<Box<str>>,
    pub(super) reauth: Option<Reauth>,
    /// An enhanced authentication on its way.
    pub(super) exchange: Option<Exchange>,
    /// What rights are judged by.
    pub(super) subject: Option<Arc<Subject>>,
    /// The open question whether rights are still the same.
    pub(super) judged: Option<Ticket>,
    /// Present if the client has limits.
    pub(super) limiter: Option<Box<Limiter>>,
    /// No denial is told before, and so many were not.
    pub(super) denials: Option<(Time, u32)>,
    //= [MQTT-3.3.2-7]
    pub(super) aliases_in: BTreeMap<u16, Box<[u8]>>,
    pub(super) aliases_out: BTreeMap<Box<[u8]>, u16>,
}

/// What is not there is this.
static NOTHING_RARE: Rare = Rare {
    authority_ends: None,
    lapsed: false,
    auth_method: None,
    reauth: None,
    exchange: None,
    subject: None,
    judged: None,
    limiter: None,
    denials: None,
    aliases_in: BTreeMap::new(),
    aliases_out: BTreeMap::new(),
};

impl Named for Conn {
    fn name(&self) -> ConnId {
        self.id
    }
}

impl Conn {
    pub(super) fn new(
        id: ConnId,
        origin: Box<Origin>,
        told: Arc<Told>,
        credit: u32,
        now: Time,
    ) -> Self {
        Self {
            id,
            phase: Phase::Opened(Some(origin)),
            version: ProtocolVersion::V5,
            bridge: false,
            credit: i64::from(credit),
            credit_given: credit,
            paused: 0,
            held: false,
            limited: false,
            deadline: None,
            heard: now,
            silence_ms: 0,
            packet_max: PACKET_BYTES_MAX,
            window: u16::MAX,
            problem_info: true,
            grants: Grants::All,
            told,
            alias_out_max: 0,
            acks: VecDeque::new(),
            acks_first: 0,
            inbound_used: 0,
            rare: None,
        }
    }

    /// Reading stops when so much below zero is reached, by acknowledgements alone.
    pub(super) fn credit_floor(&self) -> i64 {
        i64::from(self.credit_given).saturating_neg()
    }

    pub(super) fn set_keep_alive(&mut self, keep_alive_s: u16) {
        self.silence_ms = u32::from(keep_alive_s).saturating_mul(1500);
    }

    /// The Keep Alive in force.
    pub(super) fn keep_alive_s(&self) -> u16 {
        u16::try_from(self.silence_ms / 1500).unwrap_or(u16::MAX)
    }

    /// When the client will have been silent for too long.
    pub(super) fn silent_at(&self) -> Option<Time> {
        (self.silence_ms > 0).then(|| self.heard.plus_ms(u64::from(self.silence_ms)))
    }

    #[inline]
    pub(super) fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    /// Whether there are rare parts.
    pub(super) const fn has_rare(&self) -> bool {
        self.rare.is_some()
    }

    /// Changes rare parts, which are there from the first use on.
    pub(super) fn edit_rare(&mut self, edit: impl FnOnce(&mut Rare)) {
        let rare = self.rare.get_or_insert_default();
        edit(rare);
        if **rare == NOTHING_RARE {
            self.rare = None;
        }
    }

    /// Whether a PUBLISH may be sent now, as far as socket and rate go.
    #[inline]
    pub(super) const fn has_room(&self) -> bool {
        self.credit > 0 && !self.held
    }

    /// What counts for a client with limits.
    pub(super) fn limiter(&mut self) -> Option<&mut Limiter> {
        self.rare.as_mut()?.limiter.as_deref_mut()
    }

    /// Takes a packet's bytes from the credit; whether so much is owed that reading has to stop.
    #[inline]
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_sub(bytes);
        self.credit <= self.credit_floor()
    }

    pub(super) const fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Connected(session) => Some(session),
            _ => None,
        }
    }

    /// When the right to be connected ends, or a client that has to go on with its
    /// re-authentication is given up.
    pub(super) fn authority_ends(&self) -> Option<Time> {
        let rare = self.rare();
        let challenged = match rare.reauth {
            Some(Reauth::Challenged(until)) => Some(until),
            _ => None,
        };
        [rare.authority_ends, challenged].into_iter().flatten().min()
    }

    /// The open questions about it.
    pub(super) fn questions(&self) -> impl Iterator<Item = Ticket> {
        let begun = match &self.phase {
            Phase::Authenticating(pending) => pending.ticket,
            _ => None,
        };
        let rare = self.rare();
        let renewed = match rare.reauth {
            Some(Reauth::Asked(ticket)) => Some(ticket),
            _ => None,
        };
        [begun, renewed, rare.judged].into_iter().flatten()
    }

    /// The waiting PUBACK with this number.
    pub(super) fn ack(&mut self, number: u32) -> Option<&mut PendingAck> {
        self.acks.get_mut(number.wrapping_sub(self.acks_first) as usize)
    }

    /// Takes the first waiting PUBACK out if its turn has come.
    pub(super) fn pop_ack(
        &mut self,
        is_due: impl FnOnce(&PendingAck) -> bool,
    ) -> Option<PendingAck> {
        let ack = self.acks.pop_front_if(|ack| is_due(ack))?;
        self.acks_first = self.acks_first.wrapping_add(1);
        self.inbound_used = self.inbound_used.saturating_sub(1);
        // An idle connection keeps nothing of what a busy hour needed.
        give_room_back(&mut self.acks, ACKS_KEPT);
        Some(ack)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::Transport;

    fn conn() -> Conn {
        let origin = Origin {
            listener: "test".into(),
            peer: None,
            transport: Transport::Tcp,
            certificates: Vec::new(),
            server_name: None,
            proxied: None,
        };
        let map = crate::ShardMap::new(1, 1);
        let told = Arc::new(Told::of(&ShardConfig::new(crate::ShardId(0), map)));
        Conn::new(ConnId { slot: 0, epoch: 0 }, origin.into(), told, 1000, Time(0))
    }

    #[test]
    fn rare_parts_are_there_while_they_are_needed() {
        let mut conn = conn();
        let before = conn.clone();
        conn.edit_rare(|rare| rare.authority_ends = None);
        assert_eq!(conn, before);
        conn.edit_rare(|rare| rare.reauth = Some(Reauth::Challenged(Time(7))));
        conn.edit_rare(|rare| rare.authority_ends = Some(Time(9)));
        assert_eq!((conn.authority_ends(), conn.questions().count()), (Some(Time(7)), 0));
        conn.edit_rare(|rare| rare.reauth = Some(Reauth::Asked(Ticket(5))));
        conn.edit_rare(|rare| rare.judged = Some(Ticket(6)));
        assert_eq!(conn.authority_ends(), Some(Time(9)));
        assert!(conn.questions().eq([Ticket(5), Ticket(6)]));
        conn.edit_rare(|rare| (rare.reauth, rare.judged) = (None, None));
        conn.edit_rare(|rare| rare.authority_ends = None);
        assert_eq!(conn, before, "nothing is left behind");
    }

    #[test]
    fn a_busy_hour_leaves_no_room_behind() {
        let mut conn = conn();
        let packet_id = PacketId::new(1).expect("not zero");
        let (waiting, reason) = (Waiting::default(), ReasonCode::Success);
        for count in [1, ACKS_KEPT * 4] {
            for _ in 0..count {
                conn.acks.push_back(PendingAck { packet_id, waiting, reason });
            }
            assert!(conn.pop_ack(|_| false).is_none());
            assert_eq!((0..count).filter(|_| conn.pop_ack(|_| true).is_some()).count(), count);
            assert!(conn.acks.capacity() <= ACKS_KEPT, "{}", conn.acks.capacity());
        }
        assert!(conn.pop_ack(|_| true).is_none());
        assert_eq!(conn.acks_first as usize, 1 + ACKS_KEPT * 4);
    }
}
