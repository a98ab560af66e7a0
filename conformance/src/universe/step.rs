//! What an operation does.

use std::collections::VecDeque;

use codec::{
    Connect, Disconnect, Frame, Framer, Message, Packet, Properties, Property, ProtocolVersion,
    Publish, QoS, ReasonCode, Role, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe,
    Will,
};
use session_core::{Cause, ConnId, Effect, Effects, Input, Origin, ShardId, Transport};

use super::{
    Clean, Finding, Link, Op, Place, Sight, Universe, Wish,
    client::payload_number,
    setup::{Letter, Setup, WillPlan},
};

/// A larger packet than any world has.
const PACKET_MAX: u32 = 1 << 20;

pub(super) type Step = Result<bool, Finding>;

impl Universe {
    /// Does one thing; `false` if it is impossible at this moment, which changes nothing.
    ///
    /// # Errors
    /// A property is broken.
    pub fn apply(&mut self, op: Op) -> Step {
        let done = match op {
            Op::Connect { client, clean, door } => self.connect(client, clean, door),
            Op::Drop { client } => self.drop_link(client),
            Op::Goodbye { client, with_will } => self.goodbye(client, with_will),
            Op::Publish { client, letter } => self.publish(client, letter),
            Op::Subscribe { client, wish } => self.subscribe(client, wish),
            Op::Unsubscribe { client, wish } => self.unsubscribe(client, wish),
            Op::Ack { client, nth } => self.acknowledge(client, nth),
            Op::Refuse { client } => self.refuse(client),
            Op::Violate { client, how } => self.violate(client, how),
            Op::Up { link } => self.up(link),
            Op::Down { link } => self.down(link),
            Op::HangUp { link } => self.hang_up(link),
            Op::Tell { mail } => self.tell(mail),
            Op::Persist { shard, records } => self.persist(shard, records),
            Op::Load { shard } => self.load(shard),
            Op::Tick { shard } => self.tick(shard),
            Op::Advance => self.advance(),
            Op::Crash { survive } => self.crash(survive),
        }?;
        self.steps += u64::from(done);
        Ok(done)
    }

    // Clients.

    fn client(&self, client: u8) -> Option<usize> {
        usize::from(client).checked_rem(self.clients.len())
    }

    /// The link of a client that is online.
    fn online(&mut self, client: u8) -> Option<(usize, usize)> {
        let client = self.client(client)?;
        let name = self.clients[client].link?;
        let at = self.links.iter().position(|link| link.name == name)?;
        self.clients[client].online.then_some((client, at))
    }

    fn connect(&mut self, client: u8, clean: bool, door: u8) -> Step {
        let Some(client) = self.client(client) else { return Ok(false) };
        let clean = clean || self.clients[client].insists();
        // Half-open connections pile up only so far.
        if self.links.iter().filter(|link| link.name.slot as usize == client).count() > 3 {
            return Ok(false);
        }
        if self.clients[client].link.is_some() {
            if !self.clients[client].online || !spend(&mut self.budget.take_overs) {
                return Ok(false);
            }
            self.desert(client);
        }
        let persona = &self.setup.clients[client];
        let ends = persona.expiry_s != u32::MAX || persona.clean != Clean::Never;
        if self.has_ghost(client) || (ends && self.clients[client].is_lost()) {
            self.oracle.goes_wild(client);
            self.clients[client].wild = true;
        }
        let persona = self.setup.clients[client].clone();
        self.epochs[client] += 1;
        let name = ConnId { slot: client as u32, epoch: self.epochs[client] };
        let number = persona.will.map(|plan| {
            let letter = Letter { retain: plan.retain, ..Letter::new(plan.topic, plan.qos) };
            self.oracle.compose(client, letter, true)
        });
        self.oracle.opens(client, name, clean, number);
        let will = persona.will.zip(number).map(|(plan, number)| self.will(plan, number));
        let properties = if persona.version == ProtocolVersion::V5 {
            Properties::from_iter([
                Property::SessionExpiryInterval(persona.expiry_s),
                Property::ReceiveMaximum(persona.receive_maximum),
            ])
        } else {
            Properties::new()
        };
        let connect = Connect {
            version: persona.version,
            bridge: false,
            clean_start: clean,
            keep_alive_s: 0,
            client_id: persona.id.into(),
            will: will.map(Box::new),
            user_name: None,
            password: None,
            properties,
        };
        self.links.push(Link {
            name,
            place: Place::Arriving(self.door(door), None),
            up: VecDeque::from([Packet::Connect(Box::new(connect))]),
            down: VecDeque::new(),
            deserted: false,
            paused: false,
        });
        self.links.sort_by_key(|link| link.name);
        self.clients[client].connects(name, clean);
        Ok(true)
    }

    /// Whether the broker may yet read a CONNECT of the client that asks for a clean start, on a
    /// connection that the client has left: if it comes after the next one, the client cannot know
    /// which session it has.
    fn has_ghost(&self, client: usize) -> bool {
        self.links.iter().filter(|link| link.name.slot as usize == client).any(|link| {
            let moved = matches!(&link.place, Place::Arriving(_, Some(c)) if c.clean_start);
            let is_clean = |p: &Packet| matches!(p, Packet::Connect(c) if c.clean_start);
            moved || link.up.iter().any(is_clean)
        })
    }

    fn will(&self, plan: WillPlan, number: u16) -> Will {
        Will {
            qos: plan.qos,
            retain: plan.retain,
            delay_s: plan.delay_s,
            message: self.message(plan.topic, Some(number), None),
        }
    }

    fn message(&self, topic: usize, number: Option<u16>, expiry_s: Option<u32>) -> Message {
        let properties = expiry_s.map(Property::MessageExpiryInterval).into_iter().collect();
        let payload = number.map(u16::to_be_bytes);
        let payload = payload.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        Message::new(self.setup.topics[topic], &properties, payload)
            .unwrap_or_else(|_| unreachable!("topics of a world are short"))
    }

    /// A client's end is gone; what it has sent may still be read.
    fn desert(&mut self, client: usize) {
        if let Some(name) = self.clients[client].link
            && let Some(link) = self.links.iter_mut().find(|link| link.name == name)
        {
            link.deserted = true;
            link.down.clear();
        }
        self.clients[client].disconnected();
        self.sweep();
    }

    /// Forgets connections that neither end knows of.
    pub(super) fn sweep(&mut self) {
        self.links.retain(|link| !(link.deserted && link.place == Place::Closed));
    }

    fn drop_link(&mut self, client: u8) -> Step {
        let Some(client) = self.client(client) else { return Ok(false) };
        if self.clients[client].link.is_none() || !spend(&mut self.budget.drops) {
            return Ok(false);
        }
        self.desert(client);
        Ok(true)
    }

    fn goodbye(&mut self, client: u8, with_will: bool) -> Step {
        let Some((client, at)) = self.online(client) else { return Ok(false) };
        let with_will = with_will && self.setup.clients[client].version == ProtocolVersion::V5;
        if !spend(&mut self.budget.goodbyes) {
            return Ok(false);
        }
        let reason = if with_will { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
        let disconnect = Disconnect { reason, properties: Properties::new() };
        self.links[at].up.push_back(Packet::Disconnect(Box::new(disconnect)));
        self.desert(client);
        Ok(true)
    }

    fn publish(&mut self, client: u8, letter: u8) -> Step {
        let Some((client, at)) = self.online(client) else { return Ok(false) };
        let letters = &self.setup.clients[client].letters;
        let Some(nth) = usize::from(letter).checked_rem(letters.len()) else { return Ok(false) };
        let letter = self.setup.publications[letters[nth]];
        if !self.clients[client].may_publish() {
            return Ok(false);
        }
        let packet_id = match letter.qos {
            QoS::AtMostOnce => None,
            _ => match self.clients[client].free_id() {
                None => return Ok(false),
                id => id,
            },
        };
        if !spend(&mut self.budget.publishes) {
            return Ok(false);
        }
        let composed = self.oracle.compose(client, letter, false);
        let number = (!letter.empty).then_some(composed);
        let is_v5 = self.setup.clients[client].version == ProtocolVersion::V5;
        let message = self.message(letter.topic, number, letter.expiry_s.filter(|_| is_v5));
        let publish = Publish {
            dup: false,
            qos: letter.qos,
            retain: letter.retain,
            packet_id,
            topic_alias: None,
            message,
        };
        if let Some(packet_id) = packet_id {
            self.oracle.begins(client, packet_id, composed);
            self.clients[client].began(packet_id, publish.clone());
        }
        self.links[at].up.push_back(Packet::Publish(publish));
        Ok(true)
    }

    fn wish(&self, client: usize, wish: u8) -> Option<(usize, Wish)> {
        let wishes = &self.setup.clients[client].wishes;
        let nth = usize::from(wish).checked_rem(wishes.len())?;
        Some((nth, wishes[nth]))
    }

    fn subscribe(&mut self, client: u8, wish: u8) -> Step {
        let Some((client, at)) = self.online(client) else { return Ok(false) };
        let Some((nth, wish)) = self.wish(client, wish) else { return Ok(false) };
        if !spend(&mut self.budget.subscribes) {
            return Ok(false);
        }
        let Some(packet_id) = self.clients[client].free_id() else { return Ok(false) };
        let options = SubscriptionOptions {
            qos: wish.qos,
            retain_handling: wish.handling,
            ..SubscriptionOptions::default()
        };
        let filters = vec![SubscribeFilter { filter: wish.filter.into(), options }];
        let subscribe = Subscribe { packet_id, properties: Properties::new(), filters };
        self.clients[client].asked.insert(packet_id);
        self.oracle.asks(self.links[at].name, packet_id, (true, nth));
        self.links[at].up.push_back(Packet::Subscribe(Box::new(subscribe)));
        Ok(true)
    }

    fn unsubscribe(&mut self, client: u8, wish: u8) -> Step {
        let Some((client, at)) = self.online(client) else { return Ok(false) };
        let Some((nth, wish)) = self.wish(client, wish) else { return Ok(false) };
        if !spend(&mut self.budget.unsubscribes) {
            return Ok(false);
        }
        let Some(packet_id) = self.clients[client].free_id() else { return Ok(false) };
        let filters = vec![wish.filter.into()];
        let unsubscribe = Unsubscribe { packet_id, properties: Properties::new(), filters };
        self.clients[client].asked.insert(packet_id);
        self.oracle.asks(self.links[at].name, packet_id, (false, nth));
        self.links[at].up.push_back(Packet::Unsubscribe(Box::new(unsubscribe)));
        Ok(true)
    }

    fn acknowledge(&mut self, client: u8, nth: u8) -> Step {
        let Some((client, at)) = self.online(client) else { return Ok(false) };
        let sendable: Vec<_> = self.clients[client].sendable().collect();
        let owed = usize::from(nth).checked_rem(self.clients[client].owed.len());
        let Some(owed) = owed.filter(|owed| sendable.contains(owed)) else { return Ok(false) };
        let packet = self.clients[client].owed.remove(owed);
        self.links[at].up.extend(packet);
        Ok(true)
    }

    fn refuse(&mut self, client: u8) -> Step {
        let Some((client, at)) = self.online(client) else { return Ok(false) };
        let is_v5 = self.setup.clients[client].version == ProtocolVersion::V5;
        if !is_v5 || !self.clients[client].can_refuse() || !spend(&mut self.budget.refusals) {
            return Ok(false);
        }
        let Some((packet, number)) = self.clients[client].refuse() else { return Ok(false) };
        if let Some(number) = number {
            self.oracle.untaken(client, number);
        }
        self.links[at].up.push_back(packet);
        Ok(true)
    }

    fn violate(&mut self, client: u8, how: u8) -> Step {
        let Some((client, at)) = self.online(client) else { return Ok(false) };
        if !spend(&mut self.budget.violations) {
            return Ok(false);
        }
        if how % 8 >= 5 {
            self.oracle.goes_wild(client);
            self.clients[client].wild = true;
        }
        let packets = self.clients[client].violation(how);
        self.links[at].up.extend(packets);
        Ok(true)
    }

    // The network.

    fn link(&self, link: u8) -> Option<usize> {
        usize::from(link).checked_rem(self.links.len())
    }

    /// The broker accepts a connection, if it has not yet, and reads its next packet.
    fn up(&mut self, link: u8) -> Step {
        let Some(at) = self.link(link) else { return Ok(false) };
        let link = &mut self.links[at];
        let moved = matches!(link.place, Place::Arriving(_, Some(_)));
        if link.paused || link.place == Place::Closed || (link.up.is_empty() && !moved) {
            return Ok(false);
        }
        let name = link.name;
        if let Place::Arriving(shard, connect) = link.place.clone() {
            let conn = ConnId { slot: self.free_slot(shard, name.slot), epoch: name.epoch };
            self.links[at].place = Place::Open(shard, conn);
            let credit = self.setup.credit;
            self.input(shard, Input::Opened { conn, origin: origin(), credit })?;
            if let Some(connect) = connect {
                self.input(shard, Input::Packet { conn, packet: Packet::Connect(connect) })?;
                return Ok(true);
            }
        }
        let link = &mut self.links[at];
        let Place::Open(shard, conn) = link.place else { return Ok(true) };
        let Some(packet) = link.up.pop_front() else { return Ok(true) };
        self.note(|setup| line(setup, name, '>', &packet));
        self.oracle.read(name, &packet, self.now);
        self.input(shard, Input::Packet { conn, packet })?;
        Ok(true)
    }

    /// A slot that no connection of this shard uses; those of one client are congruent.
    fn free_slot(&self, shard: ShardId, client: u32) -> u32 {
        let clients = self.clients.len() as u32;
        let is_used = |slot: u32| {
            self.links.iter().any(
                |link| matches!(link.place, Place::Open(at, conn) if at == shard && conn.slot == slot),
            )
        };
        (0..).map(|k| client + k * clients).find(|slot| !is_used(*slot)).unwrap_or(client)
    }

    /// A client reads the next packet, or that there will be no more.
    fn down(&mut self, link: u8) -> Step {
        let Some(at) = self.link(link) else { return Ok(false) };
        let link = &mut self.links[at];
        if link.deserted {
            return Ok(false);
        }
        let (name, client) = (link.name, link.name.slot as usize);
        let Some((packet, bytes)) = link.down.pop_front() else {
            if link.place != Place::Closed {
                return Ok(false);
            }
            self.links.remove(at);
            if self.clients[client].link == Some(name) {
                self.clients[client].disconnected();
            }
            return Ok(true);
        };
        let mut replies = Vec::new();
        let taken = self.clients[client].receive(packet, &mut replies);
        self.links[at].up.extend(replies);
        if let Some(taken) = taken
            && let Some(number) = payload_number(&taken.message)
        {
            self.oracle.taken(client, number, taken.qos, taken.message.topic_str())?;
        }
        if let Place::Open(shard, conn) = self.links[at].place {
            self.input(shard, Input::Sent { conn, bytes })?;
        }
        Ok(true)
    }

    fn hang_up(&mut self, link: u8) -> Step {
        let Some(at) = self.link(link) else { return Ok(false) };
        let link = &mut self.links[at];
        if !link.deserted || link.place == Place::Closed {
            return Ok(false);
        }
        link.up.clear();
        let name = link.name;
        let place = std::mem::replace(&mut link.place, Place::Closed);
        self.oracle.ended(name, self.now);
        if let Place::Open(shard, conn) = place {
            self.hung_up.insert((shard, conn));
            self.input(shard, Input::Closed { conn })?;
        }
        self.sweep();
        Ok(true)
    }

    // The broker.

    fn tell(&mut self, mail: u8) -> Step {
        let Some(nth) = usize::from(mail).checked_rem(self.mail.len()) else { return Ok(false) };
        let Some((link, queue)) = self.mail.iter_mut().nth(nth) else { return Ok(false) };
        let (from, to) = *link;
        let message = queue.pop_front();
        if queue.is_empty() {
            self.mail.remove(&(from, to));
        }
        if let Some(message) = message {
            self.input(to, Input::Told { from, msg: Box::new(message) })?;
        }
        Ok(true)
    }

    fn tick(&mut self, shard: u8) -> Step {
        let Some(at) = usize::from(shard).checked_rem(self.nodes.len()) else { return Ok(false) };
        if !self.is_due(&self.nodes[at]) {
            return Ok(false);
        }
        self.input(ShardId(at as u16), Input::Tick)?;
        Ok(true)
    }

    fn advance(&mut self) -> Step {
        let Some(next) = self.next_deadline() else { return Ok(false) };
        if !spend(&mut self.budget.advances) {
            return Ok(false);
        }
        self.now = next;
        self.oracle.advanced(next);
        Ok(true)
    }

    pub(super) fn input(&mut self, shard: ShardId, input: Input) -> Result<(), Finding> {
        let now = self.now;
        let effects = self.nodes[usize::from(shard.0)].handle(now, input)?;
        self.carry_out(shard, effects)
    }

    pub(super) fn carry_out(&mut self, from: ShardId, mut effects: Effects) -> Result<(), Finding> {
        self.nodes[usize::from(from.0)].append(&mut effects)?;
        for effect in effects.into_iter().flat_map(Effect::each) {
            match effect {
                Effect::SendMany(_) => unreachable!("crowds are taken apart"),
                Effect::Send { conn, frame } => self.send(from, conn, &frame)?,
                Effect::Close { conn, cause } => {
                    if let Some(at) = self.find(from, conn, "Close")? {
                        let name = self.links[at].name;
                        self.note(|setup| {
                            let client = setup.clients[name.slot as usize].id;
                            format!("{client}.{} < closed: {cause:?}", name.epoch)
                        });
                        if cause == Cause::TakenOver {
                            self.oracle.sights |= Sight::TakenOver.bit();
                        }
                        self.links[at].place = Place::Closed;
                        self.links[at].up.clear();
                        self.oracle.ended(name, self.now);
                        self.sweep();
                    }
                }
                Effect::Pause { conn } | Effect::Resume { conn } => {
                    let paused = matches!(effect, Effect::Pause { .. });
                    if let Some(at) = self.find(from, conn, "Pause or Resume")? {
                        self.links[at].paused = paused;
                        self.oracle.sights |= Sight::Paused.bit();
                    }
                }
                Effect::Move { conn, connect, to } => {
                    if let Some(at) = self.find(from, conn, "Move")? {
                        self.links[at].place = Place::Arriving(to, Some(connect));
                        self.oracle.sights |= Sight::HandedOver.bit();
                    }
                }
                Effect::Tell { to, msg } => {
                    self.mail.entry((from, to)).or_default().push_back(*msg);
                }
                Effect::Load(load) => self.nodes[usize::from(from.0)].loads.push_back(*load),
                Effect::Ask { .. }
                | Effect::Persist { .. }
                | Effect::Reply { .. }
                | Effect::Note(_) => {}
            }
        }
        Ok(())
    }

    /// The link of a connection that an effect names; `None` if the world ended it meanwhile.
    fn find(&self, shard: ShardId, conn: ConnId, what: &str) -> Result<Option<usize>, Finding> {
        let at = self.links.iter().position(|link| link.place == Place::Open(shard, conn));
        if at.is_some() || self.hung_up.contains(&(shard, conn)) {
            return Ok(at);
        }
        let detail = format!("shard {} says {what} of {conn:?}, which it gave up", shard.0);
        Err(Finding::new("nothing-after-close", detail))
    }

    /// A packet goes out: as bytes, which are read as a client reads them.
    fn send(&mut self, shard: ShardId, conn: ConnId, frame: &Frame) -> Result<(), Finding> {
        let Some(at) = self.find(shard, conn, "Send")? else { return Ok(()) };
        let name = self.links[at].name;
        let version = self.setup.clients[name.slot as usize].version;
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let mut framer = Framer::new(Role::Client(version), PACKET_MAX, PACKET_MAX);
        let mut rest = &bytes[..];
        let packet = framer
            .decode(&mut rest)
            .ok()
            .flatten()
            .filter(|_| rest.is_empty() && bytes.len() == frame.len())
            .ok_or_else(|| Finding::new("well-formed", format!("no packet: {frame:?}")))?;
        self.note(|setup| line(setup, name, '<', &packet));
        self.oracle.wrote(name, &packet, self.now)?;
        if !self.links[at].deserted {
            self.links[at].down.push_back((packet, bytes.len() as u32));
        }
        Ok(())
    }
}

/// Takes one from what is left of a budget; `false` if nothing is.
pub(super) fn spend(left: &mut u32) -> bool {
    let some = *left > 0;
    // A budget without bound is not used up.
    *left -= u32::from(some && *left != u32::MAX);
    some
}

/// A packet in one line.
fn line(setup: &Setup, name: ConnId, direction: char, packet: &Packet) -> String {
    let client = setup.clients[name.slot as usize].id;
    let what = match packet {
        Packet::Publish(publish) => {
            let number = payload_number(&publish.message);
            let (dup, qos, retain) = (publish.dup, publish.qos as u8, publish.retain);
            let id = publish.packet_id.map_or(0, |id| id.get());
            let topic = publish.message.topic_str();
            format!("PUBLISH {topic} {number:?} qos={qos} id={id} dup={dup} retain={retain}")
        }
        other => format!("{other:?}"),
    };
    format!("{client}.{} {direction} {what}", name.epoch)
}

fn origin() -> Box<Origin> {
    Box::new(Origin {
        listener: "tcp://world".into(),
        peer: None,
        transport: Transport::Tcp,
        certificates: Vec::new(),
        server_name: None,
        proxied: None,
    })
}
