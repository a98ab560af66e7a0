//! What a session has while messages are on their way: made when the first is, and given back when
//! the last has arrived, since most sessions of a large broker are idle.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::{
    hash::{Hash, Hasher},
    ops::{Deref, DerefMut},
};

use codec::PacketId;

use super::{
    msg::MsgId,
    session::{Exchange, Held, Queue},
    table::give_room_back,
};

/// What a session has while messages are on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Traffic {
    /// SUBSCRIBE packets that the topics' owners have not all answered: deliveries wait, so that
    /// a retained message cannot arrive after a newer one.
    pub(super) subscribing: u32,
    pub(super) inbound: BTreeMap<PacketId, Held>,
    /// Bytes of their messages.
    pub(super) inbound_bytes: u64,
    pub(super) exchanges: VecDeque<Exchange>,
    /// Exchanges that are not sent on the present connection.
    pub(super) unsent: u32,
    /// Places taken in the receiver's window.
    pub(super) window_used: u16,
    /// QoS 1 and 2 messages that wait for their first transmission: the first of them, if there are
    /// more than memory should hold.
    pub(super) queue: Queue,
    /// The next part of the backlog is asked for.
    pub(super) loading: bool,
    /// So many messages were taken beyond the queue's limits, because the oldest, which make room,
    /// are on disk only. They are dropped when they are loaded.
    pub(super) overdue: u32,
    /// QoS 0 messages that wait for the socket.
    pub(super) queue_qos0: Queue,
    /// Stored publications that a crash of their shard would bring again, with their topics.
    pub(super) seen: BTreeMap<MsgId, u64>,
}

/// That of all sessions that have none.
const IDLE: &Traffic = &Traffic {
    subscribing: 0,
    inbound: BTreeMap::new(),
    inbound_bytes: 0,
    exchanges: VecDeque::new(),
    unsent: 0,
    window_used: 0,
    queue: Queue::new(),
    loading: false,
    overdue: 0,
    queue_qos0: Queue::new(),
    seen: BTreeMap::new(),
};

impl Traffic {
    /// An exchange begins, or comes back.
    pub(super) fn begin(&mut self, exchange: Exchange) {
        if exchange.sent {
            self.window_used = self.window_used.saturating_add(1);
        } else {
            self.unsent = self.unsent.saturating_add(1);
        }
        self.exchanges.push_back(exchange);
    }

    pub(super) fn exchange(&mut self, packet_id: PacketId) -> Option<&mut Exchange> {
        let at = self.position(packet_id)?;
        self.exchanges.get_mut(at)
    }

    /// Where an exchange is. Identifiers are given in turn, so that it is as far behind the first as its
    /// identifier, or one place less if 0 was left out; if others between have ended, it is looked for.
    fn position(&self, packet_id: PacketId) -> Option<usize> {
        let first = self.exchanges.front()?.packet_id;
        let far = usize::from(packet_id.get().wrapping_sub(first.get()));
        let is_at = |at: &usize| {
            self.exchanges.get(*at).is_some_and(|exchange| exchange.packet_id == packet_id)
        };
        let expected = [far, far.saturating_sub(1)].into_iter().find(is_at);
        expected
            .or_else(|| self.exchanges.iter().position(|exchange| exchange.packet_id == packet_id))
    }

    /// An exchange takes its place in the window of the present connection.
    pub(super) fn mark_sent(&mut self, packet_id: PacketId) {
        let Some(exchange) = self.exchange(packet_id) else { return };
        if !core::mem::replace(&mut exchange.sent, true) {
            self.window_used = self.window_used.saturating_add(1);
            self.unsent = self.unsent.saturating_sub(1);
        }
    }

    /// An exchange is over: its identifier and its place in the window are free
    /// `[MQTT-4.9.0-2]`.
    pub(super) fn end_exchange(&mut self, packet_id: PacketId) -> Option<Exchange> {
        let at = self.position(packet_id)?;
        let exchange = self.exchanges.remove(at)?;
        if exchange.sent {
            self.window_used = self.window_used.saturating_sub(u16::from(!seeded!(KeepsWindow)));
        } else {
            self.unsent = self.unsent.saturating_sub(1);
        }
        Some(exchange)
    }

    /// Holds a QoS 2 message until it is released.
    pub(super) fn hold(&mut self, packet_id: PacketId, held: Held) {
        self.inbound_bytes = self.inbound_bytes.saturating_add(held.bytes());
        if let Some(old) = self.inbound.insert(packet_id, held) {
            self.inbound_bytes = self.inbound_bytes.saturating_sub(old.bytes());
        }
    }

    /// Gives a held message out.
    pub(super) fn unhold(&mut self, packet_id: PacketId) -> Option<Held> {
        let held = self.inbound.remove(&packet_id)?;
        self.inbound_bytes = self.inbound_bytes.saturating_sub(held.bytes());
        Some(held)
    }

    /// Forgets what belonged to the connection.
    pub(super) fn detach(&mut self) {
        if seeded!(ForgetsInbound) {
            self.inbound.clear();
            self.inbound_bytes = 0;
        }
        self.subscribing = 0;
        if !seeded!(KeepsOldWindow) {
            self.window_used = 0;
        }
        for exchange in &mut self.exchanges {
            exchange.sent = seeded!(KeepsSent);
        }
        self.unsent = u32::try_from(self.exchanges.len()).unwrap_or(u32::MAX);
        for held in self.inbound.values_mut() {
            held.counted = false;
        }
        // [MQTT-4.3.1-1]: QoS 0 is not kept for an absent receiver.
        self.queue_qos0 = Queue::default();
    }

    fn is_idle(&self) -> bool {
        let nothing_waits = self.queue.is_empty() && self.queue_qos0.is_empty();
        nothing_waits && self.exchanges.is_empty() && *self == *IDLE
    }

    /// Keeps no more room in empty lists than a few messages need.
    fn shrink(&mut self) {
        const KEPT: usize = 16;
        give_room_back(&mut self.exchanges, KEPT);
        give_room_back(&mut self.queue.messages, KEPT);
        give_room_back(&mut self.queue_qos0.messages, KEPT);
    }
}

/// The traffic of one session. It is read as if it were always there, and is made by the first change;
/// whether an idle one is there makes no difference.
#[derive(Clone, Debug, Default)]
pub(super) struct Lazy(Option<Box<Traffic>>);

impl Lazy {
    /// What is there to be changed, if it is not idle anyway.
    #[inline]
    pub(super) fn present(&mut self) -> Option<&mut Traffic> {
        self.0.as_deref_mut()
    }

    pub(super) fn into_inner(self) -> Traffic {
        self.0.map(|traffic| *traffic).unwrap_or_default()
    }

    /// Makes it, of a spare one if there is one.
    #[inline]
    pub(super) fn wake(&mut self, spares: &mut Spares) {
        if self.0.is_none() {
            self.0 = spares.0.pop();
        }
    }

    /// Gives back the room of lists that have run empty, and all of it if it is idle.
    #[inline]
    pub(super) fn rest(&mut self, spares: &mut Spares) {
        let Some(traffic) = &mut self.0 else { return };
        traffic.shrink();
        if traffic.is_idle()
            && let Some(traffic) = self.0.take()
            && spares.0.len() < Spares::MOST
        {
            spares.0.push(traffic);
        }
    }
}

impl Deref for Lazy {
    type Target = Traffic;

    #[inline]
    fn deref(&self) -> &Traffic {
        self.0.as_deref().unwrap_or(IDLE)
    }
}

impl DerefMut for Lazy {
    #[inline]
    fn deref_mut(&mut self) -> &mut Traffic {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for Lazy {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Lazy {}

impl Hash for Lazy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// Idle traffic for whoever needs one next, so that not every message to a session that was idle
/// asks for memory. A copy of a shard begins without.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is spared")]
pub(super) struct Spares(Vec<Box<Traffic>>);

impl Spares {
    const MOST: usize = 64;
}

impl Clone for Spares {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::session::Stage, *};
    use crate::Place;

    #[test]
    fn idle_traffic_is_as_good_as_none() {
        assert_eq!(*IDLE, Traffic::default());
        let (mut lazy, mut spares) = (Lazy::default(), Spares::default());
        assert_eq!((lazy.subscribing, lazy.present().is_none()), (0, true));
        lazy.subscribing = 1;
        assert_ne!(lazy, Lazy::default());
        lazy.rest(&mut spares);
        assert_eq!((lazy.subscribing, spares.0.len()), (1, 0));
        lazy.subscribing = 0;
        assert_eq!(lazy, Lazy::default());
        lazy.rest(&mut spares);
        assert_eq!((lazy.0.is_none(), spares.0.len()), (true, 1));
        lazy.wake(&mut spares);
        assert_eq!((lazy.0.is_some(), spares.0.len()), (true, 0));
        assert_eq!(lazy, Lazy::default());
    }

    /// Whatever has ended, and where identifiers begin anew, each is found where it is.
    #[test]
    fn exchanges_are_found_by_their_identifiers() {
        let ids: Vec<u16> = (65_530..=65_535).chain(1..=6).collect();
        let exchange = |id: &u16| Exchange {
            packet_id: PacketId::new(*id).expect("not zero"),
            stage: Stage::Released,
            place: Place::default(),
            sent: true,
        };
        for ended in 0..1_u32 << ids.len() {
            let is_open = |at: &usize| ended >> at & 1 == 0;
            let open: Vec<u16> = (0..ids.len()).filter(is_open).map(|at| ids[at]).collect();
            let mut traffic = Traffic::default();
            open.iter().for_each(|id| traffic.begin(exchange(id)));
            for id in (1..=8).chain(65_528..=65_535) {
                let found = PacketId::new(id).and_then(|id| traffic.position(id));
                assert_eq!(found, open.iter().position(|other| *other == id), "{open:?} {id}");
            }
        }
    }

    /// What is remembered of publications may stay for long; the room of a long queue does not.
    #[test]
    fn lists_that_run_empty_keep_no_room() {
        let (mut lazy, mut spares) = (Lazy::default(), Spares::default());
        lazy.inbound_bytes = 1;
        lazy.queue.messages.reserve(1000);
        lazy.rest(&mut spares);
        assert_eq!((lazy.inbound_bytes, lazy.queue.messages.capacity()), (1, 0));
    }

    #[test]
    fn spare_traffic_is_small_and_not_much() {
        let mut spares = Spares::default();
        for _ in 0..2 * Spares::MOST {
            let mut lazy = Lazy::default();
            lazy.exchanges.reserve(1000);
            lazy.queue.messages.reserve(4);
            lazy.rest(&mut spares);
        }
        assert_eq!(spares.0.len(), Spares::MOST);
        let kept = spares
            .0
            .iter()
            .all(|spare| spare.exchanges.capacity() == 0 && spare.queue.messages.capacity() == 4);
        assert!(kept);
    }
}
