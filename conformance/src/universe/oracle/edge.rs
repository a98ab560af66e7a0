//! The packets of one connection, at the broker's door: in as it reads them, out as it sends them.

use std::collections::{BTreeMap, VecDeque};

use codec::{Packet, PacketId, Publish, QoS, ReasonCode};
use session_core::{ConnId, Time};

use super::{
    Finding, Oracle, Sight, copies,
    reader::{Grant, Outbound, Presence, ends_at},
    will::Will,
};
use crate::universe::setup::matches;

/// One connection that the broker has not closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Edge {
    /// CONNECT went in: whether it asked for a clean start.
    pub(super) connect: Option<bool>,
    /// The Will that came with it.
    pub(super) will: Option<Will>,
    /// CONNACK came out.
    pub(super) connected: bool,
    /// DISCONNECT 0x00 went in.
    goodbye: bool,
    /// When DISCONNECT went in.
    pub(super) left: Option<Time>,
    /// PUBLISH packets of QoS 1 and of QoS 2 that await PUBACK and PUBREC, in order.
    due: [VecDeque<(PacketId, u16)>; 2],
    /// PUBREC packets that await PUBREL, in order.
    releases_due: VecDeque<PacketId>,
    /// SUBSCRIBE and UNSUBSCRIBE packets that await their answers, with the wishes they name.
    asked: BTreeMap<PacketId, (bool, usize)>,
    /// A rule was broken: the broker has to close.
    pub(super) must_close: bool,
}

impl Oracle {
    /// A client sends CONNECT; its Will, if any, has this number.
    pub(in crate::universe) fn opens(
        &mut self,
        client: usize,
        link: ConnId,
        clean: bool,
        will: Option<u16>,
    ) {
        if clean {
            // It forgets its session; whether the broker hears of it is another matter.
            self.readers[client].taken.clear();
        }
        let delay_s = self.setup.clients[client].will.map_or(0, |plan| plan.delay_s);
        let will = will.map(|number| Will { number, delay_s, due: None });
        self.edges.insert(link, Edge { will, ..Edge::default() });
    }

    /// A wish was asked for, or given up, with this identifier.
    pub(in crate::universe) fn asks(
        &mut self,
        link: ConnId,
        packet_id: PacketId,
        wish: (bool, usize),
    ) {
        if let Some(edge) = self.edges.get_mut(&link) {
            edge.asked.insert(packet_id, wish);
        }
    }

    /// The broker reads a packet.
    pub(in crate::universe) fn read(&mut self, link: ConnId, packet: &Packet, now: Time) {
        let client = link.slot as usize;
        let Some(edge) = self.edges.get_mut(&link) else { return };
        match packet {
            Packet::Connect(connect) => {
                edge.connect = Some(connect.clean_start);
                if connect.clean_start {
                    self.will_may_come(client, now);
                }
            }
            Packet::Publish(publish) => self.read_publish(client, link, publish, now),
            Packet::PubAck(ack) => self.settled(client, ack.packet_id, QoS::AtLeastOnce),
            Packet::PubRec(ack) if ack.reason.is_error() => {
                self.settled(client, ack.packet_id, QoS::ExactlyOnce);
                edge_release(&mut self.edges, link, ack.packet_id);
            }
            Packet::PubRec(ack) => {
                edge.releases_due.push_back(ack.packet_id);
                let unsure = self.pending(client) > 0;
                if let Some(outbound) = self.readers[client].outbound.get_mut(&ack.packet_id) {
                    outbound.released = true;
                    outbound.unsure |= unsure;
                }
            }
            Packet::PubComp(ack) => self.settled(client, ack.packet_id, QoS::ExactlyOnce),
            Packet::PubRel(_) => {}
            Packet::Subscribe(subscribe) => {
                if let Some((_, wish)) = edge.asked.get(&subscribe.packet_id).copied() {
                    self.subscribes(client, wish);
                }
            }
            Packet::Unsubscribe(unsubscribe) => {
                if let Some((_, wish)) = edge.asked.get(&unsubscribe.packet_id).copied() {
                    self.unsubscribes(client, wish);
                }
            }
            Packet::Disconnect(disconnect) => {
                edge.goodbye = disconnect.reason == ReasonCode::Success;
                edge.left = Some(now);
                // Another connection may have the session by now, so that it comes too late.
                if self.pending(client) > 0 {
                    self.readers[client].unsettled = true;
                }
            }
            _ => {
                edge.must_close = true;
                edge.left = Some(now);
            }
        }
    }

    fn read_publish(&mut self, client: usize, link: ConnId, publish: &Publish, now: Time) {
        // An empty payload has no number, but its exchange has; at QoS 0 it is the first of its
        // kind that was not read.
        let own = |packet_id| self.readers[client].own.get(&packet_id).copied();
        let topic = publish.message.topic_str();
        let unread = || {
            self.messages.iter().position(|sent| {
                let letter = sent.letter;
                let is_it = letter.empty && letter.qos == QoS::AtMostOnce && sent.entered == 0;
                sent.publisher == client && is_it && self.setup.topics[letter.topic] == topic
            })
        };
        let number = self.number(publish).or_else(|| match publish.packet_id {
            Some(packet_id) => own(packet_id),
            None => unread().map(|number| number as u16),
        });
        if let Some(number) = number {
            self.read_numbered(client, link, publish, number, now);
        }
    }

    fn read_numbered(
        &mut self,
        client: usize,
        link: ConnId,
        publish: &Publish,
        number: u16,
        now: Time,
    ) {
        let pending = self.pending(client);
        let Some(edge) = self.edges.get_mut(&link) else { return };
        // Another connection may have the session by now, or this one be closed already, so that it
        // is not read.
        let is_sure = pending == 0 && edge.left.is_none();
        match publish.packet_id {
            None => {
                self.enter(number, now, is_sure);
                if is_sure {
                    self.unwatched(number);
                }
            }
            Some(packet_id) if publish.qos == QoS::AtLeastOnce => {
                edge.due[0].push_back((packet_id, number));
                self.enter(number, now, true);
            }
            Some(packet_id) => {
                edge.due[1].push_back((packet_id, number));
                let reader = &mut self.readers[client];
                if reader.inbound.insert(packet_id, number) != Some(number)
                    && self.messages[usize::from(number)].entered == 0
                {
                    self.enter(number, now, true);
                }
            }
        }
    }

    /// A SUBSCRIBE went in: what is on its way may come, and what is retained.
    fn subscribes(&mut self, client: usize, wish: usize) {
        let (group, filter) = self.setup.clients[client].wishes[wish].parts();
        let reader = &mut self.readers[client];
        if !reader.grants[wish].is_certain() {
            reader.grants[wish] = Grant::Maybe;
        }
        for (number, sent) in (0_u16..).zip(&self.messages) {
            if sent.entered == 0 || !matches(filter, self.setup.topics[sent.letter.topic]) {
                continue;
            }
            // What a member of the group leaves behind looks for another one.
            if !sent.over || group.is_some() {
                reader.may.insert(number);
            }
            if sent.letter.retain && !sent.replaced && !sent.refused {
                reader.replayable.insert(number);
            }
        }
    }

    /// An UNSUBSCRIBE went in: nothing is owed for the sake of its filter any more.
    fn unsubscribes(&mut self, client: usize, wish: usize) {
        let (group, filter) = self.setup.clients[client].wishes[wish].parts();
        let reader = &mut self.readers[client];
        reader.grants[wish].doubt();
        let topics = &self.setup.topics;
        for (number, sent) in (0_u16..).zip(&mut self.messages) {
            if matches(filter, topics[sent.letter.topic]) {
                sent.hoped.remove(&client);
                reader.owed.remove(&number);
            }
        }
        if let Some(group) = group {
            self.member_leaves(client, group);
        }
    }

    /// An acknowledgement ended an exchange that the broker began.
    fn settled(&mut self, client: usize, packet_id: PacketId, qos: QoS) {
        // The session may have another connection by now, whatever was said of this one's end.
        let unsure = self.pending(client) > 0;
        let reader = &mut self.readers[client];
        if let Some(outbound) = reader.outbound.get_mut(&packet_id)
            && outbound.qos == qos
        {
            outbound.unsure |= unsure;
            if !unsure {
                reader.outbound.remove(&packet_id);
            }
        }
    }

    /// The broker sends a packet.
    ///
    /// # Errors
    /// It must not.
    pub(in crate::universe) fn wrote(
        &mut self,
        link: ConnId,
        packet: &Packet,
        now: Time,
    ) -> Result<(), Finding> {
        let client = link.slot as usize;
        let Some(edge) = self.edges.get(&link) else {
            return Err(self.fail(client, "nothing-after-close", "sent", packet));
        };
        // [MQTT-3.2.0-1]
        if !edge.connected && !matches!(packet, Packet::ConnAck(_) | Packet::Auth(_)) {
            return Err(self.fail(client, "connack-first", "sent before CONNACK", packet));
        }
        match packet {
            Packet::ConnAck(ack) => return self.wrote_connack(client, link, ack, now),
            Packet::Publish(publish) => self.wrote_publish(client, link, publish, now)?,
            Packet::PubAck(ack) => {
                let number = self.turn(client, link, 0, ack.packet_id, packet)?;
                self.answered(number, ack.reason, true);
            }
            Packet::PubRec(ack) => {
                let number = self.turn(client, link, 1, ack.packet_id, packet)?;
                if ack.reason.is_error() {
                    self.readers[client].inbound.remove(&ack.packet_id);
                }
                self.answered(number, ack.reason, false);
            }
            Packet::PubRel(ack) => self.wrote_pubrel(client, link, ack.packet_id, packet)?,
            Packet::PubComp(ack) => {
                if let Some(number) = self.readers[client].inbound.remove(&ack.packet_id) {
                    self.accepted(number);
                }
            }
            Packet::SubAck(ack) => {
                let done = ack.reasons.first().is_some_and(|reason| !reason.is_error());
                self.answered_wish(client, link, ack.packet_id, done, packet)?;
            }
            Packet::UnsubAck(ack) => {
                self.answered_wish(client, link, ack.packet_id, true, packet)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn wrote_connack(
        &mut self,
        client: usize,
        link: ConnId,
        ack: &codec::ConnAck,
        now: Time,
    ) -> Result<(), Finding> {
        let packet = Packet::ConnAck(Box::new(ack.clone()));
        let Some(edge) = self.edges.get_mut(&link) else { return Ok(()) };
        let Some(clean) = edge.connect else {
            return Err(self.fail(client, "connack-first", "nobody asked for it", &packet));
        };
        if ack.reason.is_error() {
            return Ok(());
        }
        edge.connected = true;
        let will = edge.will;
        // [MQTT-3.1.4-3]
        if self
            .edges
            .iter()
            .any(|(key, edge)| key.slot == link.slot && *key != link && edge.connected)
        {
            return Err(self.fail(client, "one-connection", "two at once", &packet));
        }
        let tells = self.setup.clients[client].version != codec::ProtocolVersion::V31;
        let present = ack.session_present;
        // [MQTT-3.1.2-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
        let wrong = match self.readers[client].presence {
            _ if clean => present,
            Presence::Absent => present,
            // It may have ended before the end of its connection could be told.
            Presence::Present { ends: Some(ends) } if ends <= now => false,
            Presence::Present { .. } => !present && tells,
            Presence::Unknown => false,
        };
        if wrong {
            let why =
                format!("session present {present} after {:?}", self.readers[client].presence);
            return Err(self.fail(client, "session-present", &why, &packet));
        }
        let resumed =
            !clean && (present || (!tells && self.readers[client].presence != Presence::Absent));
        self.will_at_return(client, resumed, now);
        if resumed {
            self.see(Sight::Resumed);
        } else {
            if self.readers[client].presence != Presence::Absent {
                self.see(Sight::SessionLost);
            }
            self.lose_session_of(client);
        }
        let reader = &mut self.readers[client];
        reader.presence = Presence::Present { ends: None };
        reader.lingers = false;
        reader.expiry_s = self.setup.clients[client].session_s(clean);
        reader.will = will;
        Ok(())
    }

    pub(super) fn lose_session_of(&mut self, client: usize) {
        let groups: Vec<_> =
            self.setup.clients[client].wishes.iter().filter_map(|wish| wish.parts().0).collect();
        for group in groups {
            self.member_leaves(client, group);
        }
        self.lose_session(client);
    }

    fn wrote_publish(
        &mut self,
        client: usize,
        link: ConnId,
        publish: &Publish,
        now: Time,
    ) -> Result<(), Finding> {
        let packet = Packet::Publish(publish.clone());
        let number = self.number(publish);
        if let Some(packet_id) = publish.packet_id {
            self.wrote_exchange(client, link, publish, packet_id, number)?;
        }
        // A repetition was judged when it was sent first.
        let (Some(number), false) = (number, publish.dup) else { return Ok(()) };
        if self.readers[client].wild {
            return Ok(());
        }
        let Some(sent) = self.messages.get(usize::from(number)) else {
            return Err(self.fail(client, "made-up", "nobody published it", &packet));
        };
        let (letter, publisher, entered) = (sent.letter, sent.publisher, sent.entered);
        let reader = &mut self.readers[client];
        // [MQTT-3.3.1-8] [MQTT-3.3.1-9]
        if publish.retain {
            if !reader.replayable.contains(&number) {
                return Err(self.fail(client, "retained-last", "not the retained one", &packet));
            }
            reader.replayed.insert(number);
            self.see(Sight::Replayed);
            return Ok(());
        }
        let may = reader.may.contains(&number);
        if self.messages[usize::from(number)].is_will {
            self.judge_will(number, &packet, now)?;
        } else if !may {
            return Err(self.fail(client, "subscribed", "nobody asked for it", &packet));
        }
        let reader = &mut self.readers[client];
        let granted = self.setup.clients[client].wishes_for(self.setup.topics[letter.topic]);
        // [MQTT-3.8.4-8]
        if granted.map(|wish| wish.qos).max().is_none_or(|max| publish.qos > max.min(letter.qos)) {
            return Err(self.fail(client, "granted-qos", "its QoS is too high", &packet));
        }
        let fresh = reader.fresh.entry(number).or_default();
        *fresh += 1;
        let is_will = self.messages[usize::from(number)].is_will;
        let times = if letter.qos == QoS::AtLeastOnce && !is_will { entered } else { 1 };
        let copies = copies(&self.setup.clients[client], self.setup.topics[letter.topic]);
        if *fresh > times * copies {
            return Err(self.fail(client, "not-multiplied", "sent anew once more", &packet));
        }
        if *fresh == 1 {
            let key = (publisher, letter.topic, letter.qos, publish.qos);
            let is_shared = self.setup.clients[client].wishes.iter().any(|w| w.parts().0.is_some());
            // [MQTT-4.6.0-5]; what was published again may have been missed the first time.
            let is_ordered = !is_will && !is_shared && entered == 1;
            if is_ordered && reader.latest.insert(key, number).is_some_and(|last| last > number) {
                return Err(self.fail(client, "order", "it comes after a later one", &packet));
            }
        }
        self.judge_group(client, number, publish.qos, &packet)
    }

    /// Whether a SUBSCRIBE that matches a topic is not answered.
    pub(super) fn asks_again(&self, client: usize, topic: usize) -> bool {
        let wishes = &self.setup.clients[client].wishes;
        let mine = self.edges.iter().filter(|(link, _)| link.slot as usize == client);
        mine.flat_map(|(_, edge)| edge.asked.values()).any(|(subscribe, wish)| {
            *subscribe && matches(wishes[*wish].parts().1, self.setup.topics[topic])
        })
    }

    /// A PUBLISH that begins an exchange, or repeats its beginning.
    fn wrote_exchange(
        &mut self,
        client: usize,
        link: ConnId,
        publish: &Publish,
        packet_id: PacketId,
        number: Option<u16>,
    ) -> Result<(), Finding> {
        let packet = Packet::Publish(publish.clone());
        let crashed = self.crashed;
        let reader = &mut self.readers[client];
        let known = reader.outbound.get(&packet_id).copied();
        let is_right = match known {
            // [MQTT-3.3.1-1] [MQTT-4.4.0-1]: again, on another connection, and not after PUBREC.
            Some(old) if old.unsure => true,
            Some(old) => {
                let again = publish.dup && old.number == number && old.link != link;
                again && (crashed || !old.released)
            }
            // A broker that logs may have begun to send and then lost the connection, or died,
            // before anything went out: it says DUP for safety.
            None if publish.dup => crashed || self.setup.durable,
            None => true,
        };
        let (wild, vague) = (reader.wild, reader.vague);
        let reused = known.is_none() && reader.last.contains_key(&packet_id);
        let outbound = Outbound { number, qos: publish.qos, link, released: false, unsure: false };
        reader.outbound.insert(packet_id, outbound);
        reader.last.insert(packet_id, number);
        let open = reader.outbound.values().filter(|one| one.link == link && !one.unsure).count();
        let maximum = usize::from(self.setup.clients[client].window());
        if !is_right && !wild && !vague {
            let why = format!("its identifier is that of {known:?}");
            return Err(self.fail(client, "identifier-unique", &why, &packet));
        }
        // [MQTT-3.3.4-9]
        if open > maximum && !wild && !vague {
            let why = format!("{open} are unacknowledged");
            return Err(self.fail(client, "receive-maximum", &why, &packet));
        }
        if publish.dup {
            self.see(Sight::SentAgain);
        }
        if open == maximum {
            self.see(Sight::WindowFull);
        }
        if reused {
            self.see(Sight::IdentifierReused);
        }
        Ok(())
    }

    fn wrote_pubrel(
        &mut self,
        client: usize,
        link: ConnId,
        packet_id: PacketId,
        packet: &Packet,
    ) -> Result<(), Finding> {
        let Some(edge) = self.edges.get_mut(&link) else { return Ok(()) };
        // [MQTT-4.6.0-4]: the answers to PUBREC come in order; what is released again on a new
        // connection comes before any PUBREC.
        if edge.releases_due.front() == Some(&packet_id) {
            edge.releases_due.pop_front();
            return Ok(());
        }
        let reader = &self.readers[client];
        let known = reader.outbound.get(&packet_id).copied();
        match known {
            Some(outbound) if outbound.unsure => Ok(()),
            Some(outbound) if outbound.released && outbound.link != link => {
                self.see(Sight::ReleasedAgain);
                Ok(())
            }
            _ if self.crashed || reader.wild || reader.vague => Ok(()),
            _ => Err(self.fail(client, "release-in-turn", "not its turn", packet)),
        }
    }

    /// PUBACK and PUBREC come in the order of their causes `[MQTT-4.6.0-2]` `[MQTT-4.6.0-3]`.
    fn turn(
        &mut self,
        client: usize,
        link: ConnId,
        kind: usize,
        packet_id: PacketId,
        packet: &Packet,
    ) -> Result<u16, Finding> {
        let due = self.edges.get_mut(&link).and_then(|edge| edge.due[kind].pop_front());
        match due {
            Some((id, number)) if id == packet_id => Ok(number),
            _ => {
                let why = format!("the next is {due:?}");
                Err(self.fail(client, "acknowledged-in-turn", &why, packet))
            }
        }
    }

    fn answered(&mut self, number: u16, reason: ReasonCode, over: bool) {
        if reason.is_error() {
            self.refused(number);
        } else if over {
            self.accepted(number);
        }
    }

    fn answered_wish(
        &mut self,
        client: usize,
        link: ConnId,
        packet_id: PacketId,
        done: bool,
        packet: &Packet,
    ) -> Result<(), Finding> {
        let edge = self.edges.get_mut(&link);
        let Some((subscribe, wish)) = edge.and_then(|edge| edge.asked.remove(&packet_id)) else {
            return Err(self.fail(client, "answers-a-question", "nobody asked", packet));
        };
        if subscribe != matches!(packet, Packet::SubAck(_)) {
            return Err(self.fail(client, "answers-a-question", "another was asked", packet));
        }
        // Another question about the same wish leaves its state open until the last answer.
        let asked_again =
            self.edges.get(&link).is_some_and(|edge| edge.asked.values().any(|(_, w)| *w == wish));
        self.readers[client].grants[wish] = match (subscribe, done) {
            _ if asked_again => Grant::Maybe,
            (true, true) => Grant::Yes,
            (true, false) | (false, _) => Grant::No,
        };
        Ok(())
    }

    /// The connection is over at the broker's end: it closed it, or noticed that it is gone.
    pub(in crate::universe) fn ended(&mut self, link: ConnId, now: Time) {
        let client = link.slot as usize;
        let Some(edge) = self.edges.remove(&link) else { return };
        if edge.must_close {
            self.see(Sight::ClosedForViolation);
        }
        if !edge.connected {
            if edge.connect.is_some() {
                self.gave_up_connecting(client, edge.will, now);
            }
            return;
        }
        for (subscribe, wish) in edge.asked.values() {
            if *subscribe || self.readers[client].grants[*wish].is_certain() {
                self.readers[client].grants[*wish] = Grant::Maybe;
            }
        }
        let pending = self.pending(client);
        if self.readers[client].unsettled || pending > 1 {
            // Who took the session over, and when, cannot be told from outside.
            self.doubt(client);
            self.readers[client].presence = Presence::Unknown;
            self.will_may_come(client, now);
            self.readers[client].will = None;
            return;
        }
        // The absence began when the broker knew of it, which it may say later.
        let since = edge.left.unwrap_or(now);
        self.decide_will(client, edge.goodbye, since);
        let reader = &mut self.readers[client];
        reader.presence = Presence::Present { ends: ends_at(reader.expiry_s, since) };
        if reader.expiry_s == 0 {
            self.lose_session_of(client);
        }
    }

    /// Whether DISCONNECT, or a packet that breaks a rule, went in on a connection of the client.
    pub(super) fn is_leaving(&self, client: usize) -> bool {
        let mine = self.edges.iter().filter(|(link, _)| link.slot as usize == client);
        mine.into_iter().any(|(_, edge)| edge.left.is_some() || edge.must_close)
    }

    /// How many CONNECTs of the client went in that are not answered.
    pub(super) fn pending(&self, client: usize) -> usize {
        let mine = self.edges.iter().filter(|(link, _)| link.slot as usize == client);
        mine.filter(|(_, edge)| edge.connect.is_some() && !edge.connected).count()
    }

    /// A connection went before its CONNACK came out: the broker may have begun a session, or
    /// ended one.
    fn gave_up_connecting(&mut self, client: usize, will: Option<Will>, now: Time) {
        self.doubt(client);
        self.readers[client].presence = Presence::Unknown;
        self.readers[client].unsettled = true;
        self.will_may_come(client, now);
        self.readers[client].will = None;
        if let Some(Will { number, .. }) = will {
            self.enter(number, now, false);
        }
    }

    /// A connection whose client broke a rule is still open.
    pub(in crate::universe) fn tolerates(&self) -> Option<&'static str> {
        let bad = self.edges.iter().find(|(_, edge)| edge.must_close && edge.connected);
        bad.map(|(key, _)| self.setup.clients[key.slot as usize].id)
    }
}

/// A refused QoS 2 message is not released.
fn edge_release(edges: &mut BTreeMap<ConnId, Edge>, link: ConnId, packet_id: PacketId) {
    if let Some(edge) = edges.get_mut(&link) {
        edge.releases_due.retain(|due| *due != packet_id);
    }
}
