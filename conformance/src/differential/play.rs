//! Plays a script against one broker, step by step, and writes down what every client saw.

use std::time::Instant;

use codec::{
    Connect, Disconnect, Framer, Message, Packet, Properties, Property, ProtocolVersion, Publish,
    QoS, ReasonCode, Role, Subscribe, SubscribeFilter, Unsubscribe, Will,
};

use super::{
    client::{Client, Terms},
    event::{Event, Seen, Trace},
    script::{Act, Alias, Hello, Publication, Script},
};
use crate::{
    play::Names,
    world::{Connection, World, WorldError},
};

/// Rounds after which a step has to be quiet.
const ROUNDS_MAX: usize = 100;

/// Plays a script. Rounds of PINGREQ on every connection end each step: the first rounds in any
/// case, as many as `rounds_min`, then until one brings nothing but its answers.
///
/// # Errors
/// The broker cannot be reached, or never falls silent.
pub fn play(
    world: &mut dyn World,
    names: &Names,
    script: &Script,
    rounds_min: usize,
) -> Result<Trace, WorldError> {
    let clients = (0..script.clients).map(|_| Client::default()).collect();
    let mut player = Player {
        world,
        names,
        script,
        clients,
        links: Vec::new(),
        trace: Trace::default(),
        began: Instant::now(),
    };
    for op in &script.ops {
        player.trace.steps.push(Vec::new());
        player.act(op.client, &op.act)?;
        // Nobody answers for a connection that is gone, and its end is read behind its last packet.
        let is_gone = matches!(op.act, Act::Vanish | Act::Publish { vanish: true, .. });
        player.fall_silent(op.client, rounds_min + 2 * usize::from(is_gone))?;
    }
    Ok(player.trace)
}

struct Player<'a> {
    world: &'a mut dyn World,
    names: &'a Names,
    script: &'a Script,
    clients: Vec<Client>,
    links: Vec<Link>,
    trace: Trace,
    began: Instant,
}

struct Link {
    connection: Connection,
    client: usize,
    framer: Framer,
    terms: Terms,
    /// Neither side has closed it.
    is_open: bool,
    is_accepted: bool,
    /// PINGREQs without an answer.
    pings: usize,
}

impl Player<'_> {
    fn act(&mut self, client: usize, act: &Act) -> Result<(), WorldError> {
        if let Act::Connect(hello) = act {
            return self.connect(client, hello);
        }
        let Some(link) = self.clients[client].link else { return Ok(()) };
        match act {
            Act::Connect(_) => {}
            Act::Goodbye(reason, expiry_s) => {
                if let Some(expiry_s) = expiry_s {
                    self.clients[client].expiry_s = *expiry_s;
                }
                let expiry = expiry_s.map(Property::SessionExpiryInterval);
                let properties = expiry.into_iter().collect();
                let disconnect = Disconnect { reason: *reason, properties };
                self.send(link, &Packet::Disconnect(Box::new(disconnect)));
                self.wait_until(|player| !player.links[link].is_open)?;
                self.close(link);
            }
            Act::Vanish => self.close(link),
            Act::Subscribe { filters, identifier } => {
                let packet_id = self.clients[client].begin("SUBSCRIBE".to_owned());
                let filters = filters.iter().map(|entry| SubscribeFilter {
                    filter: self.names.filter(&entry.filter).into(),
                    options: entry.options,
                });
                let filters = filters.collect();
                let properties = identifier.map(Property::SubscriptionIdentifier);
                let properties = properties.into_iter().collect();
                let subscribe = Subscribe { packet_id, properties, filters };
                self.send(link, &Packet::Subscribe(Box::new(subscribe)));
            }
            Act::Unsubscribe(filters) => {
                let packet_id = self.clients[client].begin("UNSUBSCRIBE".to_owned());
                let filters = filters.iter().map(|filter| self.names.filter(filter).into());
                let (filters, properties) = (filters.collect(), Properties::default());
                let unsubscribe = Unsubscribe { packet_id, properties, filters };
                self.send(link, &Packet::Unsubscribe(Box::new(unsubscribe)));
            }
            Act::Publish { message, alias, vanish } => {
                self.publish(client, link, message, *alias)?;
                if *vanish {
                    self.close(link);
                }
            }
            Act::Hold => self.clients[client].hold(true),
            Act::Refuse => {
                self.clients[client].refuse();
                self.release(client, link, false);
            }
            Act::Acknowledge { oldest } => self.release(client, link, *oldest),
            Act::Prompt => {
                self.clients[client].hold(false);
                self.release(client, link, false);
            }
        }
        Ok(())
    }

    fn connect(&mut self, client: usize, hello: &Hello) -> Result<(), WorldError> {
        let before = self.clients[client].link;
        let connection = self.world.open()?;
        let properties = &hello.properties;
        let link = self.links.len();
        self.links.push(Link {
            connection,
            client,
            framer: Framer::new(Role::Client(hello.version), u32::MAX, u32::MAX),
            terms: Terms {
                version: hello.version,
                clean: hello.clean,
                receive_maximum: properties.receive_maximum().unwrap_or(u16::MAX).into(),
                alias_maximum: properties.topic_alias_maximum().unwrap_or(0),
                wants_problem_information: properties.request_problem_information() != Some(false),
                aliases: Default::default(),
                elapsed_s: 0,
            },
            is_open: true,
            is_accepted: false,
            pings: 0,
        });
        self.clients[client].on_link(link, hello.expiry_s());
        let connect = Connect {
            version: hello.version,
            bridge: false,
            clean_start: hello.clean,
            keep_alive_s: 0,
            client_id: self.names.client_id(&format!("c{client}")).into(),
            will: hello.will.as_ref().map(|will| self.will(will)).transpose()?.map(Box::new),
            user_name: None,
            password: None,
            properties: properties.clone(),
        };
        self.send(link, &Packet::Connect(Box::new(connect)));
        self.wait_until(|player| player.links[link].is_accepted || !player.links[link].is_open)?;
        // What was taken over ends, and says so by itself.
        let over = |player: &Self| before.is_none_or(|before| !player.links[before].is_open);
        self.wait_until(over)
    }

    fn will(&self, will: &Publication) -> Result<Will, WorldError> {
        let message = self.message(will, true)?;
        Ok(Will { qos: will.qos, retain: will.retain, delay_s: 0, message })
    }

    fn message(&self, publication: &Publication, with_topic: bool) -> Result<Message, WorldError> {
        let topic = if with_topic { self.names.topic(&publication.topic) } else { String::new() };
        let properties: Properties = publication
            .properties
            .iter()
            .map(|property| match property {
                Property::ResponseTopic(topic) => {
                    Property::ResponseTopic(self.names.topic(topic).into())
                }
                other => other.clone(),
            })
            .collect();
        Message::new(&topic, &properties, &publication.payload())
            .map_err(|error| WorldError(format!("a message that nobody can send: {error:?}")))
    }

    fn publish(
        &mut self,
        client: usize,
        link: usize,
        message: &Publication,
        alias: Alias,
    ) -> Result<(), WorldError> {
        let is_acknowledged = message.qos > QoS::AtMostOnce;
        let packet_id =
            is_acknowledged.then(|| self.clients[client].begin(format!("m{}", message.label)));
        let (topic_alias, with_topic) = match alias {
            Alias::None => (0, true),
            Alias::Explains(alias) => (alias, true),
            Alias::Uses(alias) => (alias, false),
        };
        let mut publish = Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            packet_id,
            topic_alias: topic_alias.try_into().ok(),
            message: self.message(message, with_topic)?,
        };
        self.send(link, &Packet::Publish(publish.clone()));
        if let Some(packet_id) = packet_id {
            // An alias would mean nothing on the connection over which it is sent again.
            publish.topic_alias = None;
            publish.message = self.message(message, true)?;
            self.clients[client].published(packet_id, &Packet::Publish(publish));
        }
        Ok(())
    }

    fn release(&mut self, client: usize, link: usize, only_oldest: bool) {
        for packet in self.clients[client].release(only_oldest) {
            self.send(link, &packet);
        }
    }

    fn send(&mut self, link: usize, packet: &Packet) {
        let Link { connection, terms, .. } = &self.links[link];
        let mut bytes = Vec::new();
        packet.encode(terms.version, &mut bytes);
        self.world.send(*connection, &bytes);
    }

    fn close(&mut self, link: usize) {
        self.world.close(self.links[link].connection);
        self.lost(link);
    }

    fn lost(&mut self, link: usize) {
        let Link { client, is_open, pings, .. } = &mut self.links[link];
        (*is_open, *pings) = (false, 0);
        let client = &mut self.clients[*client];
        if client.link == Some(link) {
            client.lost_link();
        }
    }

    /// Waits until nothing is under way.
    fn fall_silent(&mut self, actor: usize, rounds_min: usize) -> Result<(), WorldError> {
        if !self.world.is_live() {
            self.world.settle()?;
            while self.look()? {
                self.world.settle()?;
            }
            return Ok(());
        }
        // A broker with several threads may answer PINGREQ first.
        self.wait_until(|player| !player.clients[actor].is_waiting())?;
        for round in 1..=ROUNDS_MAX {
            // First whoever did something: the answer tells that it was read. Then all that it may
            // have had an effect on.
            let is_actor = |link: &Link| link.client == actor;
            let mut is_busy = self.ping(is_actor)?;
            is_busy |= self.ping(|link| !is_actor(link))?;
            if !is_busy && round >= rounds_min {
                return Ok(());
            }
        }
        Err(WorldError("the broker never falls silent".to_owned()))
    }

    /// PINGREQ on these links, and everything up to the answers; whether there was anything else.
    fn ping(&mut self, choose: impl Fn(&Link) -> bool) -> Result<bool, WorldError> {
        for link in 0..self.links.len() {
            if self.links[link].is_open && self.links[link].is_accepted && choose(&self.links[link])
            {
                self.links[link].pings += 1;
                self.send(link, &Packet::PingReq);
            }
        }
        let mut is_busy = self.look()?;
        while self.links.iter().any(|link| link.pings > 0) {
            if !self.world.advance()? {
                return Err(WorldError("no answer to PINGREQ".to_owned()));
            }
            is_busy |= self.look()?;
        }
        Ok(is_busy)
    }

    /// Goes on until it is so, or nothing comes any more.
    fn wait_until(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<(), WorldError> {
        self.look()?;
        while !is_so(self) && self.world.advance()? {
            self.look()?;
        }
        Ok(())
    }

    /// Takes all that has come, and answers it; whether it was more than PINGRESP.
    fn look(&mut self) -> Result<bool, WorldError> {
        let mut is_busy = false;
        for link in 0..self.links.len() {
            if !self.links[link].is_open {
                continue;
            }
            let mut bytes = Vec::new();
            let has_ended = self.world.receive(self.links[link].connection, &mut bytes);
            let mut rest = bytes.as_slice();
            loop {
                match self.links[link].framer.decode(&mut rest) {
                    Ok(Some(packet)) => is_busy |= self.takes(link, &packet),
                    Ok(None) => break,
                    Err(error) => {
                        self.saw(link, Event::Broken(format!("{error}")));
                        self.close(link);
                        is_busy = true;
                        break;
                    }
                }
            }
            if has_ended && self.links[link].is_open {
                self.saw(link, Event::Closed);
                self.close(link);
                is_busy = true;
            }
        }
        Ok(is_busy)
    }

    /// Whether it is more than PINGRESP.
    fn takes(&mut self, link: usize, packet: &Packet) -> bool {
        if *packet == Packet::PingResp {
            let pings = &mut self.links[link].pings;
            *pings = pings.saturating_sub(1);
            return false;
        }
        let step = self.trace.steps.len();
        let (script, names) = (self.script, self.names);
        let Link { terms, client, .. } = &mut self.links[link];
        terms.elapsed_s = self.began.elapsed().as_secs().try_into().unwrap_or(u32::MAX);
        let client = &mut self.clients[*client];
        // An old connection may have something to say, but its session belongs to the new one.
        let (events, answers) = match client.link {
            Some(current) if current == link => client.takes(packet, terms, step, script, names),
            _ => Client::default().takes(packet, terms, step, script, names),
        };
        if let Packet::ConnAck(connack) = packet {
            self.links[link].is_accepted = connack.reason == ReasonCode::Success;
        }
        events.into_iter().for_each(|event| self.saw(link, event));
        answers.iter().for_each(|answer| self.send(link, answer));
        true
    }

    fn saw(&mut self, link: usize, event: Event) {
        if let Some(step) = self.trace.steps.last_mut() {
            step.push(Seen { link, event });
        }
    }
}

/// What brings a broker that outlives the script back to where it was: sessions end, and no topic
/// has a retained message.
pub fn tidy_up(world: &mut dyn World, names: &Names, script: &Script) -> Result<(), WorldError> {
    let mut packets = vec![Vec::new(); script.clients];
    for publication in script.publications().filter(|message| message.retain) {
        let message = Message::new(&names.topic(&publication.topic), &Properties::default(), &[]);
        packets[0].extend(message.ok().map(|message| {
            let (qos, packet_id, topic_alias) = (QoS::AtMostOnce, None, None);
            Packet::Publish(Publish {
                dup: false,
                qos,
                retain: true,
                packet_id,
                topic_alias,
                message,
            })
        }));
    }
    // The Wills of the others come first, so that what they retain is cleared too.
    for (client, packets) in packets.into_iter().enumerate().rev() {
        visit(world, &names.client_id(&format!("c{client}")), packets)?;
    }
    Ok(())
}

/// Connects with a clean session, sends the packets and leaves.
fn visit(world: &mut dyn World, client_id: &str, packets: Vec<Packet>) -> Result<(), WorldError> {
    let connect = Packet::Connect(Box::new(Connect {
        version: ProtocolVersion::V311,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: Properties::default(),
    }));
    let (reason, properties) = (ReasonCode::Success, Properties::default());
    let leave = Packet::Disconnect(Box::new(Disconnect { reason, properties }));
    let connection = world.open()?;
    let mut bytes = Vec::new();
    for packet in [connect].into_iter().chain(packets).chain([leave]) {
        packet.encode(ProtocolVersion::V311, &mut bytes);
    }
    world.send(connection, &bytes);
    let mut inbox = Vec::new();
    while !world.receive(connection, &mut inbox) && world.advance()? {}
    world.close(connection);
    Ok(())
}
