//! What the broker remembers of a client between and during its connections.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};

use core::ops::Bound::{Excluded, Included};

use codec::{Message, PacketId, QoS, SubscriptionOptions, Will};

use super::{
    memo::Memo,
    msg::{MsgId, Publication},
    outgoing::Source,
    table::SortedList,
    traffic::Lazy,
};
use crate::{ConnId, Limits, Place, ShardId, Subject, Time};

/// A subscription as its session knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// What was asked for, the QoS cut to what is granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0 is none.
    pub id: u32,
}

/// The Subscription Identifiers that go with one delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ids {
    /// None.
    #[default]
    None,
    /// One, as nearly always.
    One(u32),
    /// Those of overlapping subscriptions `[MQTT-3.3.4-4]`.
    Many(Box<Vec<u32>>),
}

impl Ids {
    /// The identifiers of one subscription.
    pub(super) const fn of(id: u32) -> Self {
        if id == 0 { Self::None } else { Self::One(id) }
    }

    /// Adds the identifier of an overlapping subscription.
    pub(super) fn add(&mut self, id: u32) {
        if id == 0 {
            return;
        }
        match self {
            Self::None => *self = Self::One(id),
            Self::One(first) => *self = Self::Many(Box::new(Vec::from([*first, id]))),
            Self::Many(ids) => ids.push(id),
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::None => Vec::new(),
            Self::One(id) => Vec::from([*id]),
            Self::Many(ids) => ids.to_vec(),
        }
    }
}

/// What only some deliveries have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extra {
    /// Subscription Identifiers.
    pub ids: Ids,
    /// The Shared Subscription it came by.
    pub share: Option<Shared>,
}

/// What another member of a share group needs to get the message as it was published: this member's
/// subscription may have lowered its QoS and cleared its RETAIN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shared {
    /// The subscription, whole: `$share/group/filter`.
    pub filter: Arc<str>,
    /// QoS as published.
    pub qos: QoS,
    /// RETAIN as published.
    pub retain: bool,
}

/// A message that waits for its turn, or for its acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queued {
    /// The message.
    pub message: Message,
    /// The QoS of this delivery: the lower of published and granted `[MQTT-3.8.4-8]`.
    pub qos: QoS,
    /// RETAIN of this delivery.
    pub retain: bool,
    /// When the broker got the message; its expiry counts from here.
    pub at: Time,
    /// Its place in the queue; meaningless at QoS 0.
    pub place: Place,
    /// Rare parts.
    pub extra: Option<Box<Extra>>,
}

impl Queued {
    /// The Shared Subscription this came by.
    pub(super) fn share(&self) -> Option<&Shared> {
        self.extra.as_ref()?.share.as_ref()
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.message.size()).unwrap_or(u64::MAX)
    }
}

/// Messages in order, and their size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) messages: VecDeque<Queued>,
    pub(super) bytes: u64,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { messages: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether one more message of this size breaks a limit.
    pub(super) fn is_full(&self, message: &Message, limits: &Limits) -> bool {
        let bytes = u64::try_from(message.size()).unwrap_or(u64::MAX);
        self.len() >= limits.session_queue_max as usize
            || self.bytes.saturating_add(bytes) > limits.session_queue_bytes_max
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.bytes = self.bytes.saturating_add(queued.bytes());
        self.messages.push_back(queued);
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(queued.bytes());
        Some(queued)
    }
}

/// Seconds left of a message's expiry; `None` once it has expired. A message without expiry has
/// for ever (and the value is not written).
pub(super) fn expiry_left_s(message: &Message, at: Time, now: Time) -> Option<u32> {
    let Some(interval_s) = message.expiry_interval_s() else { return Some(u32::MAX) };
    let interval_ms = u64::from(interval_s).saturating_mul(1000);
    let left_ms = interval_ms.checked_sub(now.since_ms(at))?;
    // [MQTT-3.3.2-5]: nothing left is expired. Part of a second left is announced as one.
    (left_ms > 0).then(|| u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX))
}

/// How far an outbound QoS 1 or 2 exchange has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// PUBLISH is unacknowledged.
    Published(Queued),
    /// PUBREC came: PUBREL is unacknowledged, and the message is the receiver's.
    Released,
}

/// An outbound QoS 1 or 2 exchange.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Exchange {
    pub(super) packet_id: PacketId,
    pub(super) stage: Stage,
    /// The place that its message had in the queue.
    pub(super) place: Place,
    /// Sent on the present connection, so that it takes a place in the receiver's window.
    pub(super) sent: bool,
}

/// An inbound QoS 2 message between PUBLISH and PUBREL `[MQTT-4.3.3-10]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) publication: Publication,
    /// Received on the present connection, so that it counts against our Receive Maximum.
    pub(super) counted: bool,
}

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.publication.message.size()).unwrap_or(u64::MAX)
    }
}

/// Which answers to a routed publish are still to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    /// The topic's owner told how many shards will answer.
    pub(super) routed: bool,
    /// Answers to come; below 0 while they overtake the owner's word.
    pub(super) stored: i32,
}

impl Waiting {
    pub(super) const fn is_over(self) -> bool {
        self.routed && self.stored == 0
    }
}

/// A Will, and when it is due once the connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingWill {
    pub(super) will: Will,
    pub(super) due: Option<Time>,
    /// Whose right it rests on, once the connection is gone; not known after a restart.
    pub(super) by: Option<Arc<Subject>>,
}

/// A Session `[MQTT-3.1.2-23]`. Most sessions of a large broker are idle: what only traffic needs is
/// elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) client_id: Box<str>,
    pub(super) conn: Option<ConnId>,
    /// Session Expiry Interval in seconds; `u32::MAX` never ends, 0 ends with the connection.
    pub(super) expiry_s: u32,
    /// It outlives its connection, or once did: changes to it are logged.
    pub(super) logged: bool,
    /// When the session ends if nobody comes back.
    pub(super) ends: Option<Time>,
    pub(super) will: Option<Box<PendingWill>>,
    pub(super) subscriptions: SortedList<Subscription>,
    pub(super) next_packet_id: u16,
    /// Identifiers from the next one to below this are free.
    pub(super) free_below: Memo<u16>,
    /// The place given last.
    pub(super) last: Place,
    /// What has a place behind this one is on disk only.
    pub(super) loaded: Place,
    pub(super) traffic: Lazy,
}

const _: () = assert!(size_of::<SortedList<Subscription>>() <= 24, "one subscription is inline");

impl Session {
    pub(super) fn new(client_id: Box<str>, expiry_s: u32) -> Self {
        Self {
            client_id,
            conn: None,
            expiry_s,
            logged: expiry_s > 0,
            ends: None,
            will: None,
            subscriptions: SortedList::new(),
            next_packet_id: 1,
            free_below: Memo(0),
            last: Place::default(),
            loaded: Place::default(),
            traffic: Lazy::default(),
        }
    }

    /// Whether a publication that is routed again is stored already.
    pub(super) fn has_seen(&self, message: MsgId) -> bool {
        self.traffic.seen.contains_key(&message)
    }

    /// Whether a publication that was routed later to the same topic is stored: then this one was
    /// routed before the session had a subscription to it, and would come too late
    /// `[MQTT-4.6.0-6]`.
    pub(super) fn has_seen_later(&self, message: MsgId, topic: u64) -> bool {
        // What was owed before the number of shards changed is routed before everything after it.
        let last = MsgId { number: u64::MAX, ..message };
        let later = MsgId { epoch: u32::MAX, shard: ShardId(u16::MAX), number: u64::MAX };
        let next = MsgId { epoch: message.epoch.saturating_add(1), shard: ShardId(0), number: 0 };
        let stored = self
            .traffic
            .seen
            .range((Excluded(message), Included(last)))
            .chain(self.traffic.seen.range(next..=later));
        stored.into_iter().any(|(_, stored)| *stored == topic)
    }

    /// Remembers a publication to a topic, and forgets those that will not come again.
    pub(super) fn remember(&mut self, source: Source, topic: u64) {
        let seen = &mut self.traffic.seen;
        let floor = MsgId { number: source.floor, ..source.id };
        let first = MsgId { number: 0, ..source.id };
        while let Some((over, _)) = seen.range(first..floor).next() {
            let over = *over;
            seen.remove(&over);
        }
        seen.insert(source.id, topic);
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        self.traffic.present()?.queue.pop()
    }

    pub(super) fn pop_qos0(&mut self) -> Option<Queued> {
        self.traffic.present()?.queue_qos0.pop()
    }

    /// A Packet Identifier that no exchange uses `[MQTT-2.2.1-4]`; `None` if all are in use. How far
    /// identifiers are free is remembered, so that not every message looks through all exchanges.
    pub(super) fn free_packet_id(&mut self, max: u16) -> Option<PacketId> {
        let next = self.next_packet_id;
        if next <= max && next < self.free_below.0 {
            return PacketId::new(next);
        }
        let id = self.find_packet_id(max)?;
        self.next_packet_id = id.get();
        let others = self.traffic.exchanges.iter().map(|exchange| exchange.packet_id.get());
        let used = others.filter(|used| *used >= id.get()).min();
        self.free_below.0 = used.unwrap_or(u16::MAX);
        Some(id)
    }

    /// The same, whatever is remembered.
    pub(super) fn find_packet_id(&self, max: u16) -> Option<PacketId> {
        //= [U3-2.3.1-a]
        //= [U5-2.2.1-a] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
        let exchanges = &self.traffic.exchanges;
        let max = max.max(1);
        let mut candidate = self.next_packet_id;
        // Among n+1 candidates one is not used by n exchanges.
        for _ in 0..=exchanges.len().min(usize::from(max)) {
            if candidate == 0 || candidate > max {
                candidate = 1;
            }
            let id = PacketId::new(candidate)?;
            if seeded!(ReusesIdentifiers)
                || !exchanges.iter().any(|exchange| exchange.packet_id == id)
            {
                return Some(id);
            }
            candidate = candidate.wrapping_add(1);
        }
        None
    }

    /// Whether what is remembered of free identifiers is true.
    pub(super) fn remembers_well(&self) -> bool {
        let known_free = self.next_packet_id..self.free_below.0;
        let exchanges = &self.traffic.exchanges;
        !exchanges.iter().any(|exchange| known_free.contains(&exchange.packet_id.get()))
    }

    /// The first message of the queue begins its exchange. Both life and recovery come here.
    pub(super) fn begin_exchange(&mut self, packet_id: PacketId, sent: bool) {
        let Some(queued) = self.pop() else { return };
        let place = queued.place;
        let stage = Stage::Published(queued);
        self.follow(packet_id);
        self.traffic.begin(Exchange { packet_id, stage, place, sent });
    }

    /// An exchange comes back from a snapshot, PUBREL unacknowledged.
    pub(super) fn resume_release(&mut self, packet_id: PacketId, place: Place) {
        self.note_place(place);
        self.follow(packet_id);
        self.traffic.begin(Exchange { packet_id, stage: Stage::Released, place, sent: false });
    }

    /// The identifier behind this one is the next to try.
    fn follow(&mut self, packet_id: PacketId) {
        let next = packet_id.get().wrapping_add(1);
        // Of what is behind any other than the expected one nothing is known.
        if packet_id.get() != self.next_packet_id || next == 0 {
            self.free_below.0 = 0;
        }
        self.next_packet_id = next;
    }

    pub(super) fn exchange(&mut self, packet_id: PacketId) -> Option<&mut Exchange> {
        self.traffic.present()?.exchange(packet_id)
    }

    /// Forgets what belonged to the connection.
    pub(super) fn detach(&mut self) {
        self.conn = None;
        if let Some(traffic) = self.traffic.present() {
            traffic.detach();
        }
    }
}
