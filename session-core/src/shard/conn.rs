//! What a shard knows of one network connection.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
};

use codec::{Connect, PacketId, ProtocolVersion, ReasonCode};

use super::{
    session::Waiting,
    table::{Named, SessionId},
};
use crate::{ConnId, Grants, Origin, Ticket, Time};

/// No packet can be larger: four bytes of Remaining Length, and what they count.
pub(super) const PACKET_BYTES_MAX: u32 = 268_435_460;

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// No CONNECT yet.
    Opened,
    /// CONNECT waits for an answer from outside, or (`ticket` absent) for the client's AUTH.
    Authenticating { connect: Box<Connect>, assigned: bool, ticket: Option<Ticket> },
    /// CONNACK was sent.
    Connected(SessionId),
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
}

/// A PUBACK that waits for its turn or its cause: we answer in the order that 4.6.0-2 demands of
/// clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingAck {
    pub(super) packet_id: PacketId,
    pub(super) waiting: Waiting,
    pub(super) reason: ReasonCode,
}

/// One network connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) origin: Box<Origin>,
    pub(super) phase: Phase,
    pub(super) version: ProtocolVersion,
    /// Another broker's bridge, before 5.0.
    pub(super) bridge: bool,
    /// Bytes the socket still takes; PUBLISH packets wait once it is not above 0.
    pub(super) credit: i64,
    /// Reading stops when this much below zero is reached, by acknowledgements alone.
    pub(super) credit_floor: i64,
    pub(super) paused: u8,
    /// The armed timer, so that it can be found again.
    pub(super) deadline: Option<Time>,
    pub(super) heard: Time,
    /// 1.5 times the Keep Alive; 0 is off.
    pub(super) silence_ms: u64,
    /// Maximum Packet Size of the client, bytes.
    pub(super) packet_max: u32,
    /// Receive Maximum of the client, or our own lower bound.
    pub(super) window: u16,
    /// Request Problem Information.
    pub(super) problem_info: bool,
    pub(super) grants: Grants,
    pub(super) user: Option<Box<str>>,
    /// When the right to be connected ends.
    pub(super) authority_ends: Option<Time>,
    pub(super) auth_method: Option<Box<str>>,
    pub(super) reauth: Option<Reauth>,
    //= [MQTT-3.3.2-7]
    pub(super) aliases_in: BTreeMap<u16, Box<[u8]>>,
    pub(super) aliases_out: BTreeMap<Box<[u8]>, u16>,
    pub(super) alias_out_max: u16,
    pub(super) acks: VecDeque<PendingAck>,
    /// The number of the first entry of `acks`; numbers wrap.
    pub(super) acks_first: u32,
    /// QoS 1 and 2 publishes of this connection that are not acknowledged `[MQTT-3.3.4-7]`.
    pub(super) inbound_used: u16,
}

impl Named for Conn {
    fn name(&self) -> ConnId {
        self.id
    }
}

impl Conn {
    pub(super) fn new(id: ConnId, origin: Box<Origin>, credit: u32, now: Time) -> Self {
        let credit = i64::from(credit);
        Self {
            id,
            origin,
            phase: Phase::Opened,
            version: ProtocolVersion::V5,
            bridge: false,
            credit,
            credit_floor: credit.saturating_neg(),
            paused: 0,
            deadline: None,
            heard: now,
            silence_ms: 0,
            packet_max: PACKET_BYTES_MAX,
            window: u16::MAX,
            problem_info: true,
            grants: Grants::All,
            user: None,
            authority_ends: None,
            auth_method: None,
            reauth: None,
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
            alias_out_max: 0,
            acks: VecDeque::new(),
            acks_first: 0,
            inbound_used: 0,
        }
    }

    /// Takes a packet's bytes from the credit; whether so much is owed that reading has to stop.
    #[inline]
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_sub(bytes);
        self.credit <= self.credit_floor
    }

    pub(super) const fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Connected(session) => Some(session),
            _ => None,
        }
    }

    /// When a client that has to go on with its re-authentication is given up.
    pub(super) const fn reauth_ends(&self) -> Option<Time> {
        match self.reauth {
            Some(Reauth::Challenged(until)) => Some(until),
            _ => None,
        }
    }

    /// Whether a question about it may be open.
    pub(super) const fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Authenticating { .. }) || self.reauth.is_some()
    }

    /// The waiting PUBACK with this number.
    pub(super) fn ack(&mut self, number: u32) -> Option<&mut PendingAck> {
        self.acks.get_mut(number.wrapping_sub(self.acks_first) as usize)
    }
}
