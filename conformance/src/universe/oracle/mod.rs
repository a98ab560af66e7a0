//! What must and what must not happen, judged from outside: by the packets that go into the broker
//! and come out of it, and by time. It never looks into the core and shares no code with it.

mod edge;
mod group;
mod reader;
mod will;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use codec::{Packet, PacketId, QoS, RetainHandling};
use session_core::{ConnId, Time};

use self::{edge::Edge, reader::Reader, will::Will};
use super::{
    Finding,
    setup::{Letter, Persona, Setup, matches},
};

/// Something that shows that a run was not vacuous: it happened at least once somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Sight {
    QoS1Delivered,
    QoS2Delivered,
    SentAgain,
    ReleasedAgain,
    Resumed,
    SessionLost,
    TakenOver,
    HandedOver,
    WindowFull,
    Replayed,
    ReplacedRetained,
    WillPublished,
    WillCancelled,
    SharedDelivered,
    Refused,
    RecordsLost,
    RecordsSurvived,
    SessionExpired,
    Paused,
    IdentifierReused,
    ClosedForViolation,
    PublishRefused,
    Repartitioned,
    BacklogLoaded,
}

impl Sight {
    /// Every sight, in order.
    pub const ALL: [Self; 24] = [
        Self::QoS1Delivered,
        Self::QoS2Delivered,
        Self::SentAgain,
        Self::ReleasedAgain,
        Self::Resumed,
        Self::SessionLost,
        Self::TakenOver,
        Self::HandedOver,
        Self::WindowFull,
        Self::Replayed,
        Self::ReplacedRetained,
        Self::WillPublished,
        Self::WillCancelled,
        Self::SharedDelivered,
        Self::Refused,
        Self::RecordsLost,
        Self::RecordsSurvived,
        Self::SessionExpired,
        Self::Paused,
        Self::IdentifierReused,
        Self::ClosedForViolation,
        Self::PublishRefused,
        Self::Repartitioned,
        Self::BacklogLoaded,
    ];

    /// Its bit in a set of sights.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// One Application Message, whoever published it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sent {
    publisher: usize,
    letter: Letter,
    /// It is a Will.
    is_will: bool,
    /// How often the broker read it, so that it may have routed it so often.
    entered: u32,
    /// Its exchange is over: nothing more is routed because of it.
    over: bool,
    /// The broker answered it with an error.
    refused: bool,
    /// Whether the broker published it at all is unknown.
    doubtful: bool,
    /// It is a Will that must never be published.
    cancelled: bool,
    /// Nobody says when it is routed: it has been once all is quiet.
    on_its_way: bool,
    /// Clients that must get it once it is acknowledged.
    hoped: BTreeSet<usize>,
    /// Shared Subscriptions that must get it once it is acknowledged.
    hoped_groups: BTreeSet<&'static str>,
    /// Another retained message has surely taken its place.
    replaced: bool,
    /// What it surely replaces once its own exchange is over.
    replaces: BTreeSet<u16>,
    expires: Option<Time>,
}

/// The judge of one world.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    setup: Arc<Setup>,
    messages: Vec<Sent>,
    readers: Vec<Reader>,
    /// Connections by client and number; those that the broker has not closed.
    edges: BTreeMap<ConnId, Edge>,
    /// Messages that must come to a member: Shared Subscription and number.
    group_owed: BTreeSet<(&'static str, u16)>,
    group_taken: BTreeSet<(&'static str, u16)>,
    /// The member that was sent a message at QoS 2, by Shared Subscription and number.
    group_sent: BTreeMap<(&'static str, u16), usize>,
    /// The broker has crashed: what it forgot of acknowledgements it may send again.
    crashed: bool,
    /// What was seen; no part of the state.
    pub(super) sights: u32,
}

impl std::hash::Hash for Oracle {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.messages.hash(state);
        self.readers.hash(state);
        self.edges.hash(state);
        self.group_owed.hash(state);
        self.group_taken.hash(state);
        self.group_sent.hash(state);
        self.crashed.hash(state);
    }
}

impl Oracle {
    pub(super) fn new(setup: Arc<Setup>) -> Self {
        let readers = setup.clients.iter().map(Reader::new).collect();
        Self {
            setup,
            messages: Vec::new(),
            readers,
            edges: BTreeMap::new(),
            group_owed: BTreeSet::new(),
            group_taken: BTreeSet::new(),
            group_sent: BTreeMap::new(),
            crashed: false,
            sights: 0,
        }
    }

    fn see(&mut self, sight: Sight) {
        self.sights |= sight.bit();
    }

    /// How many messages there were.
    pub(super) fn messages(&self) -> usize {
        self.messages.len()
    }

    /// A client makes a message; its number is its payload.
    pub(super) fn compose(&mut self, publisher: usize, letter: Letter, is_will: bool) -> u16 {
        self.messages.push(Sent {
            publisher,
            letter,
            is_will,
            entered: 0,
            over: false,
            refused: false,
            doubtful: false,
            cancelled: false,
            on_its_way: false,
            hoped: BTreeSet::new(),
            hoped_groups: BTreeSet::new(),
            replaced: false,
            replaces: BTreeSet::new(),
            expires: None,
        });
        (self.messages.len() - 1) as u16
    }

    /// A client begins an exchange for a message.
    pub(super) fn begins(&mut self, client: usize, packet_id: PacketId, number: u16) {
        self.readers[client].own.insert(packet_id, number);
    }

    /// The broker has a message, once more perhaps: who must get it now, and who may.
    fn enter(&mut self, number: u16, now: Time, surely: bool) {
        let letter = self.messages[usize::from(number)].letter;
        for client in 0..self.readers.len() {
            // It may be retained by the time that the topic's shard hears of a SUBSCRIBE.
            if letter.retain && self.asks_again(client, letter.topic) {
                self.readers[client].replayable.insert(number);
            }
        }
        for sent in &mut self.messages {
            // It comes after what was to replace it.
            sent.replaces.remove(&number);
        }
        let sent = &mut self.messages[usize::from(number)];
        let topic = self.setup.topics[letter.topic];
        // A member that asked for QoS 0 may get a message and lose it.
        let wishes = || self.setup.clients.iter().flat_map(|persona| &persona.wishes);
        let is_kept = |group| {
            wishes().all(|wish| wish.parts().0 != Some(group) || wish.qos > QoS::AtMostOnce)
        };
        let is_lasting = !letter.empty && letter.expiry_s.is_none();
        sent.entered += 1;
        sent.over = false;
        sent.doubtful = !surely;
        sent.expires = letter.expiry_s.map(|s| now.plus_s(s));
        sent.replaced = false;
        for (client, reader) in self.readers.iter_mut().enumerate().filter(|(_, r)| !r.wild) {
            let persona = &self.setup.clients[client];
            let (mut may, mut must) = (false, false);
            for (wish, grant) in persona.wishes.iter().zip(&reader.grants) {
                let (group, filter) = wish.parts();
                if !matches(filter, topic) || !grant.is_possible() {
                    continue;
                }
                may = true;
                if grant.is_certain() && letter.qos.min(wish.qos) > QoS::AtMostOnce {
                    match group {
                        None => must = true,
                        Some(group) if surely && is_lasting && is_kept(group) => {
                            sent.hoped_groups.insert(group);
                        }
                        Some(_) => {}
                    }
                }
            }
            if may {
                reader.may.insert(number);
            }
            if must && surely && is_lasting {
                sent.hoped.insert(client);
            }
        }
        if letter.retain && surely {
            let sure: BTreeSet<u16> = self.retained_on(letter.topic, number, |other| other.over);
            self.messages[usize::from(number)].replaces = sure;
        }
    }

    /// Retained messages of a topic other than this one that fulfil a condition.
    fn retained_on(&self, topic: usize, but: u16, holds: impl Fn(&Sent) -> bool) -> BTreeSet<u16> {
        let all = (0_u16..).zip(&self.messages);
        all.filter(|(number, sent)| {
            *number != but && sent.letter.retain && sent.letter.topic == topic && holds(sent)
        })
        .map(|(number, _)| number)
        .collect()
    }

    /// The broker told the publisher that it has the message, or a Will went out.
    fn accepted(&mut self, number: u16) {
        let sent = &mut self.messages[usize::from(number)];
        sent.over = true;
        let (hoped, groups) =
            (std::mem::take(&mut sent.hoped), std::mem::take(&mut sent.hoped_groups));
        let replaced = std::mem::take(&mut sent.replaces);
        for client in hoped {
            let reader = &mut self.readers[client];
            if !reader.taken.contains_key(&number) {
                reader.owed.insert(number);
            }
        }
        for group in groups {
            if !self.group_taken.contains(&(group, number)) {
                self.group_owed.insert((group, number));
            }
        }
        if !replaced.is_empty() {
            self.see(Sight::ReplacedRetained);
        }
        for other in replaced {
            // What was published once more meanwhile may have come later.
            let other = &mut self.messages[usize::from(other)];
            other.replaced |= other.over;
        }
    }

    /// The broker has a message that nobody acknowledges: QoS 0, or a Will.
    fn unwatched(&mut self, number: u16) {
        let replaces = std::mem::take(&mut self.messages[usize::from(number)].replaces);
        self.accepted(number);
        let sent = &mut self.messages[usize::from(number)];
        sent.replaces = replaces;
        sent.over = false;
        sent.on_its_way = true;
    }

    /// Nothing is under way in the broker: what nobody acknowledges has arrived.
    pub(super) fn at_rest(&mut self) {
        let arrived: Vec<u16> = (0_u16..)
            .zip(&self.messages)
            .filter(|(_, sent)| sent.on_its_way)
            .map(|(number, _)| number)
            .collect();
        for reader in &mut self.readers {
            reader.unsettled = false;
        }
        for number in arrived {
            self.messages[usize::from(number)].on_its_way = false;
            self.accepted(number);
        }
    }

    /// The broker refused the message: it must not be routed by this.
    fn refused(&mut self, number: u16) {
        let sent = &mut self.messages[usize::from(number)];
        sent.over = true;
        sent.refused = true;
        sent.hoped.clear();
        sent.hoped_groups.clear();
        sent.replaces.clear();
        self.see(Sight::PublishRefused);
    }

    /// A client's application got a message: for QoS 2, the first of its exchange.
    pub(super) fn taken(
        &mut self,
        client: usize,
        number: u16,
        qos: QoS,
        topic: &str,
    ) -> Result<(), Finding> {
        let Some(sent) = self.messages.get(usize::from(number)) else {
            return Err(Finding::new("made-up", format!("nobody published {number}")));
        };
        if self.setup.topics[sent.letter.topic] != topic {
            return Err(Finding::new("made-up", format!("{number} came on {topic}")));
        }
        let reader = &mut self.readers[client];
        reader.owed.remove(&number);
        let is_once = qos == QoS::ExactlyOnce && !reader.replayable.contains(&number);
        *reader.taken.entry(number).or_default() += u32::from(is_once);
        let copies = copies(&self.setup.clients[client], topic);
        let again = is_once && reader.taken[&number] > copies && !reader.wild;
        let wishes = self.setup.clients[client].wishes_for(topic);
        let groups: Vec<_> = wishes.filter_map(|wish| wish.parts().0).collect();
        for group in groups {
            self.group_owed.remove(&(group, number));
            self.group_taken.insert((group, number));
            self.see(Sight::SharedDelivered);
        }
        self.see(match qos {
            QoS::ExactlyOnce => Sight::QoS2Delivered,
            _ => Sight::QoS1Delivered,
        });
        // [MQTT-4.3.3-12]
        if again {
            let name = self.setup.clients[client].id;
            return Err(Finding::new("qos-2-once", format!("{name} got {number} twice")));
        }
        Ok(())
    }

    /// A client refused a QoS 2 message that it had got: it did not take it after all.
    pub(super) fn untaken(&mut self, client: usize, number: u16) {
        self.readers[client].taken.remove(&number);
        self.see(Sight::Refused);
    }

    /// The client broke rules with identifiers that mean something: what it gets is its own fault.
    pub(super) fn goes_wild(&mut self, client: usize) {
        let reader = &mut self.readers[client];
        reader.wild = true;
        reader.owed.clear();
        for sent in &mut self.messages {
            sent.hoped.remove(&client);
            sent.hoped_groups.clear();
        }
        self.group_owed.clear();
    }

    /// Whether nothing is owed to anybody.
    pub(super) fn is_content(&self) -> bool {
        self.readers.iter().all(|reader| reader.owed.is_empty()) && self.group_owed.is_empty()
    }

    /// What is owed, in words.
    pub(super) fn owed(&self) -> String {
        let names = self.setup.clients.iter().map(|persona| persona.id);
        let owed: Vec<_> = names
            .zip(&self.readers)
            .filter(|(_, reader)| !reader.owed.is_empty())
            .map(|(name, reader)| format!("{name}: {:?}", reader.owed))
            .collect();
        format!("{} groups: {:?}", owed.join(", "), self.group_owed)
    }

    /// From now on retained messages are counted that come to a client.
    pub(super) fn forget_replays(&mut self, client: usize) {
        self.readers[client].replayed.clear();
    }

    /// A client has asked for a wish of its and all is quiet: what was retained for certain must
    /// have come. That nothing else came was judged when it was sent.
    pub(super) fn judge_replays(&self, client: usize, wish: usize) -> Result<(), Finding> {
        let wish = self.setup.clients[client].wishes[wish];
        let (group, filter) = wish.parts();
        if self.readers[client].wild || group.is_some() || wish.handling != RetainHandling::Send {
            return Ok(());
        }
        for (topic, name) in self.setup.topics.iter().enumerate() {
            if !matches(filter, name) {
                continue;
            }
            let candidates =
                self.retained_on(topic, u16::MAX, |sent| sent.entered > 0 && !sent.replaced);
            let is_sure = |number: &u16| {
                let sent = &self.messages[usize::from(*number)];
                let known = sent.over && !sent.refused && !sent.doubtful;
                known && !sent.letter.empty && sent.expires.is_none()
            };
            let came = candidates.intersection(&self.readers[client].replayed).count();
            if came == 0 && !candidates.is_empty() && candidates.iter().all(is_sure) {
                let detail = format!("none of {candidates:?} came for {filter}");
                return Err(Finding::new("retained-last", detail));
            }
        }
        Ok(())
    }

    /// Time has passed.
    pub(super) fn advanced(&mut self, now: Time) {
        for client in 0..self.readers.len() {
            self.wills_due(client, now);
            if !self.readers[client].expires(now) {
                continue;
            }
            if self.pending(client) > 0 || self.readers[client].lingers {
                self.doubt(client);
                self.readers[client].presence = reader::Presence::Unknown;
            } else {
                self.lose_session_of(client);
                self.see(Sight::SessionExpired);
            }
        }
    }

    /// A client's session is over: what it was owed is void.
    fn lose_session(&mut self, client: usize) {
        let reader = &mut self.readers[client];
        reader.reset();
        for sent in &mut self.messages {
            sent.hoped.remove(&client);
        }
    }

    /// The broker died and came back.
    ///
    /// If records were `lost`, so were deadlines that nobody was told of: absences count anew, and a
    /// Will that was on its way is due anew.
    pub(super) fn crashed(&mut self, lost: bool, now: Time) {
        self.crashed = true;
        self.owed_again();
        if lost {
            self.see(Sight::RecordsLost);
            self.doubt_absences(now);
        }
        let leaving: Vec<usize> = self
            .edges
            .iter()
            .filter(|(_, edge)| edge.left.is_some())
            .map(|(key, _)| key.slot as usize)
            .collect();
        for client in &leaving {
            // Its goodbye may or may not be on the disk.
            if let Some(Will { number, .. }) = self.readers[*client].will.take() {
                self.enter(number, now, false);
            }
        }
        let connected: BTreeSet<usize> = self
            .edges
            .iter()
            .filter(|(_, edge)| edge.connected)
            .map(|(key, _)| key.slot as usize)
            .collect();
        let connecting: Vec<_> = self
            .edges
            .iter()
            .filter(|(_, edge)| edge.connect.is_some() && !edge.connected)
            .map(|(key, edge)| (key.slot as usize, edge.will))
            .collect();
        self.edges.clear();
        for client in 0..self.readers.len() {
            if connected.contains(&client) {
                self.will_after_crash(client, now);
            }
            if self.readers[client].crashed(connected.contains(&client), now) {
                self.lose_session(client);
            }
        }
        for client in 0..self.readers.len() {
            if self.readers[client].unsettled {
                self.doubt(client);
                self.readers[client].presence = reader::Presence::Unknown;
            }
        }
        for client in leaving {
            // Its absence may or may not be on the disk.
            self.doubt(client);
            self.readers[client].lingers = true;
            self.readers[client].presence = reader::Presence::Unknown;
        }
        for (client, will) in connecting {
            self.readers[client].presence = reader::Presence::Unknown;
            self.doubt(client);
            if let Some(Will { number, .. }) = will {
                self.enter(number, now, false);
            }
            if let Some(Will { number, .. }) = self.readers[client].will.take() {
                self.enter(number, now, false);
            }
        }
    }

    /// What the broker owed by itself may be routed again, to who has subscribed meanwhile.
    fn owed_again(&mut self) {
        for (number, sent) in (0_u16..).zip(&self.messages) {
            let is_owed = sent.letter.qos == QoS::ExactlyOnce || sent.is_will;
            if sent.entered == 0 || sent.refused || !is_owed {
                continue;
            }
            let topic = self.setup.topics[sent.letter.topic];
            for (persona, reader) in self.setup.clients.iter().zip(&mut self.readers) {
                let mut wishes = persona.wishes.iter().zip(&reader.grants);
                if wishes.any(|(w, grant)| matches(w.parts().1, topic) && grant.is_possible()) {
                    reader.may.insert(number);
                }
            }
        }
    }

    fn doubt_absences(&mut self, now: Time) {
        self.revive_wills(now);
        for client in 0..self.readers.len() {
            let reader = &mut self.readers[client];
            reader.lingers = true;
            if reader.presence == reader::Presence::Absent {
                reader.presence = reader::Presence::Unknown;
            }
        }
        for sent in &mut self.messages {
            // What nobody was told of may not have been kept, nor what it replaced have gone.
            sent.replaced = false;
            if sent.letter.qos == QoS::AtMostOnce || sent.is_will {
                sent.doubtful = true;
                sent.on_its_way = false;
                sent.replaces.clear();
            }
        }
        for (number, sent) in (0_u16..).zip(&mut self.messages).filter(|(_, sent)| sent.is_will) {
            sent.hoped.clear();
            sent.hoped_groups.clear();
            sent.doubtful = true;
            self.group_owed.retain(|(_, owed)| *owed != number);
            for reader in &mut self.readers {
                reader.owed.remove(&number);
            }
        }
    }

    fn revive_wills(&mut self, now: Time) {
        for number in 0..self.messages.len() {
            // A goodbye that is not durable was none.
            if std::mem::take(&mut self.messages[number].cancelled) {
                self.enter(number as u16, now, false);
            }
        }
    }

    /// Whether the session goes on is unknown: nothing is owed for certain.
    fn doubt(&mut self, client: usize) {
        let reader = &mut self.readers[client];
        reader.owed.clear();
        reader.vague = true;
        for sent in &mut self.messages {
            sent.hoped.remove(&client);
        }
        for grant in &mut self.readers[client].grants {
            grant.doubt();
        }
    }

    /// The number that a packet's payload carries.
    fn number(&self, packet: &codec::Publish) -> Option<u16> {
        if packet.message.payload().is_empty() {
            return None;
        }
        super::client::payload_number(&packet.message)
    }

    fn fail(&self, client: usize, property: &'static str, what: &str, packet: &Packet) -> Finding {
        let name = self.setup.clients[client].id;
        Finding::new(property, format!("{name}: {what}: {packet:?}"))
    }
}

/// How many copies of one message a client may get: one for its own subscriptions together, and one
/// for each Shared Subscription.
fn copies(persona: &Persona, topic: &str) -> u32 {
    let groups: BTreeSet<_> = persona.wishes_for(topic).map(|wish| wish.parts().0).collect();
    groups.len() as u32
}
