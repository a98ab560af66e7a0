//! Leaves a broker that outlives the scenario as it was found, as far as the player knows.

use std::collections::{BTreeMap, BTreeSet};

use codec::{
    Connect, Disconnect, Message, Packet, Properties, ProtocolVersion, Publish, QoS, ReasonCode,
};

use super::{Link, Player};

/// What a scenario may have left behind.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    sessions: BTreeMap<Box<str>, ProtocolVersion>,
    retained: BTreeSet<Vec<u8>>,
}

impl Leftovers {
    pub(super) fn sent(&mut self, packet: &Packet, version: ProtocolVersion) {
        match packet {
            Packet::Connect(connect) => {
                let ends_with_connection = match version {
                    ProtocolVersion::V5 => {
                        connect.properties.session_expiry_interval().unwrap_or(0) == 0
                    }
                    ProtocolVersion::V31 | ProtocolVersion::V311 => connect.clean_start,
                };
                if !ends_with_connection && !connect.client_id.is_empty() {
                    self.sessions.insert(connect.client_id.clone(), version);
                }
                if let Some(will) = connect.will.as_ref().filter(|will| will.retain) {
                    self.retained.insert(will.message.topic().to_vec());
                }
            }
            // What has a Topic Alias may be retained later, under no topic but the alias; and to
            // clear the empty topic would end the connection that is to clear the others.
            Packet::Publish(publish) if publish.retain || publish.topic_alias.is_some() => {
                let topic = publish.message.topic();
                if !topic.is_empty() {
                    self.retained.insert(topic.to_vec());
                }
            }
            _ => {}
        }
    }

    pub(super) fn received(&mut self, packet: &Packet) {
        if let Packet::ConnAck(connack) = packet
            && let Some(id) = connack.properties.assigned_client_identifier()
        {
            self.sessions.insert(id.into(), ProtocolVersion::V5);
        }
    }
}

impl Player<'_> {
    /// Ends what is open, ends the sessions and clears the retained messages. Errors do not matter
    /// here: the scenario has its verdict.
    pub(super) fn tidy_up(&mut self) {
        if !self.world.is_live() {
            return;
        }
        for client in &mut self.clients {
            if let Some(link) = client.link.take() {
                self.world.close(link.connection);
            }
        }
        let leftovers = std::mem::take(&mut self.leftovers);
        for (client_id, version) in &leftovers.sessions {
            self.visit(client_id, *version, Vec::new());
        }
        let clear = |topic: &Vec<u8>| {
            let topic = str::from_utf8(topic).ok()?;
            let message = Message::new(topic, &Properties::default(), &[]).ok()?;
            Some(Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                packet_id: None,
                topic_alias: None,
                message,
            }))
        };
        let clearing: Vec<_> = leftovers.retained.iter().filter_map(clear).collect();
        if !clearing.is_empty() {
            let client_id = self.names.client_id("tidy");
            self.visit(&client_id, self.version, clearing);
        }
    }

    /// Connects with a clean session, sends the packets and leaves.
    fn visit(&mut self, client_id: &str, version: ProtocolVersion, packets: Vec<Packet>) {
        let (user_name, password) = self.names.login();
        let connect = Packet::Connect(Box::new(Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id: client_id.into(),
            will: None,
            user_name,
            password,
            properties: Properties::default(),
        }));
        let leave = Packet::Disconnect(Box::new(Disconnect {
            reason: ReasonCode::Success,
            properties: Properties::default(),
        }));
        let Ok(connection) = self.world.open() else { return };
        let mut bytes = Vec::new();
        for packet in [connect].into_iter().chain(packets).chain([leave]) {
            packet.encode(version, &mut bytes);
        }
        self.world.send(connection, &bytes);
        let mut link = Link::new(connection);
        while !self.world.receive(connection, &mut link.inbox) && self.world.advance() == Ok(true) {
        }
        self.world.close(connection);
    }
}
