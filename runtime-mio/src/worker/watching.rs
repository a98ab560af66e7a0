//! What operators see and want, and what is counted for them.

use std::sync::{Arc, mpsc::Sender};

use codec::{Frame, Packet};
use session_core::{Command, ConnId, Event, Input, Reply, Ticket};
use tracing::info;

use super::Worker;
use crate::{
    Counter, Look, TRACE_TARGET, TraceFilter, note,
    trace::{FrameSummary, Summary},
};

/// Tickets of operators' commands begin here. Services give others, and the worker itself the last.
const FIRST_ORDER: u64 = 1 << 62;

impl Worker {
    pub(super) fn show(&self, look: Box<dyn FnOnce(&Look<'_>) + Send>) {
        look(&Look {
            view: self.shard.view(),
            now: self.now,
            connections: &self.connections,
            doors: &self.config.doors,
        });
    }

    pub(super) fn order(&mut self, command: Box<Command>, replies: Sender<Reply>) {
        if let Command::Reconfigure(settings) = &*command {
            self.config.shard.limits = settings.limits.clone();
        }
        self.last_order += 1;
        let ticket = Ticket(FIRST_ORDER + self.last_order);
        self.orders.insert(ticket, replies);
        self.handle(Input::Command { ticket, command });
    }

    /// Whether a reply was an operator's.
    pub(super) fn replied(&mut self, ticket: Ticket, reply: &Reply) -> bool {
        let Some(replies) = self.orders.remove(&ticket) else { return false };
        // Whoever waits no more does not want to know.
        let _ = replies.send(reply.clone());
        true
    }

    pub(super) fn trace(&mut self, filters: Arc<[TraceFilter]>) {
        self.traces = filters;
        for (_, connection) in self.connections.iter_mut() {
            connection.traced = false;
        }
        for filter in self.traces.clone().iter().filter(|filter| filter.is_of_connection()) {
            let of_client = filter.client_id.as_ref().map(|client_id| {
                let row = self.shard.view().session(client_id);
                row.and_then(|row| row.connection).map(|connection| connection.conn)
            });
            for (conn, connection) in self.connections.iter_mut() {
                let peer = connection.origin.peer;
                connection.traced |= of_client.is_none_or(|found| found == Some(conn))
                    && filter
                        .address
                        .as_ref()
                        .is_none_or(|range| peer.is_some_and(|peer| range.contains(peer.ip())));
            }
        }
    }

    /// A packet came: it is counted, and traced if somebody wants it.
    #[inline]
    pub(super) fn count_packet(&mut self, conn: ConnId, packet: &Packet) {
        let board = &self.config.board;
        board.add(Counter::PacketsIn, 1);
        if let Packet::Publish(publish) = packet {
            board.published(publish.qos, publish.message.payload().len());
            if self.may_follow {
                self.may_follow = false;
                self.followed = self.config.sampler.follow(&publish.message);
            }
        }
        if !self.traces.is_empty() {
            self.trace_packet(conn, packet);
        }
    }

    /// A CONNECT that another worker has read.
    pub(super) fn trace_arrival(&mut self, conn: ConnId, packet: &Packet) {
        self.trace_packet(conn, packet);
    }

    #[cold]
    fn trace_packet(&mut self, conn: ConnId, packet: &Packet) {
        let topic = match packet {
            Packet::Publish(publish) => Some(publish.message.topic_str()),
            _ => None,
        };
        let Some(connection) = self.connections.get(conn) else { return };
        if let Packet::Connect(connect) = packet {
            let wants = |filter: &TraceFilter| {
                filter.is_of_connection()
                    && filter.client_id.as_ref().is_none_or(|id| *id == connect.client_id)
                    && filter.address.as_ref().is_none_or(|range| {
                        connection.origin.peer.is_some_and(|peer| range.contains(peer.ip()))
                    })
            };
            let traced = self.traces.iter().any(wants);
            if let Some(connection) = self.connections.get_mut(conn) {
                connection.traced = traced;
            }
        }
        if self.is_traced(conn, topic) {
            let peer = self.connections.get(conn).and_then(|connection| connection.origin.peer);
            let peer = note::Peer(peer);
            let slot = conn.slot;
            info!(target: TRACE_TARGET, %peer, slot, "< {}", Summary(packet));
        }
    }

    /// A packet goes out.
    #[cold]
    pub(super) fn trace_frame(&self, conn: ConnId, frame: &Frame) {
        let topic = frame.published().map(|(message, _)| message.topic_str());
        if self.is_traced(conn, topic) {
            let peer = self.connections.get(conn).and_then(|connection| connection.origin.peer);
            let peer = note::Peer(peer);
            let slot = conn.slot;
            info!(target: TRACE_TARGET, %peer, slot, "> {}", FrameSummary(frame));
        }
    }

    fn is_traced(&self, conn: ConnId, topic: Option<&str>) -> bool {
        let Some(connection) = self.connections.get(conn) else { return false };
        if connection.traced {
            return true;
        }
        let Some(topic) = topic else { return false };
        let by_topic = self.traces.iter().filter(|filter| !filter.is_of_connection());
        by_topic.into_iter().any(|filter| {
            filter.takes_topic(topic)
                && filter.address.as_ref().is_none_or(|range| {
                    connection.origin.peer.is_some_and(|peer| range.contains(peer.ip()))
                })
                && filter.client_id.as_ref().is_none_or(|client_id| {
                    let row = self.shard.view().session(client_id);
                    row.and_then(|row| row.connection).is_some_and(|found| found.conn == conn)
                })
        })
    }

    /// Something for the log of events, which is also counted.
    pub(super) fn note(&mut self, event: &Event) {
        let connection = note::connection_of(event).and_then(|conn| self.connections.get_mut(conn));
        let board = &self.config.board;
        match event {
            Event::Connected { user, .. } => {
                board.add(Counter::Connected, 1);
                if let Some(connection) = connection {
                    connection.user.clone_from(user);
                    // What CONNACK has just told.
                    let packet_max = self.config.shard.limits.packet_bytes_max;
                    connection.framer.set_packet_max(packet_max);
                }
            }
            Event::Disconnected { was_connected: false, .. } => board.add(Counter::Refused, 1),
            Event::Disconnected { .. } => board.add(Counter::Disconnected, 1),
            Event::Denied { untold, .. } => board.add(Counter::Denied, 1 + *untold as usize),
            Event::OverRate { untold, .. } => board.add(Counter::OverRate, 1 + *untold as usize),
            Event::Dropped { .. } | Event::SharedBacklogLost { .. } => {}
        }
        let connection = note::connection_of(event).and_then(|conn| self.connections.get(conn));
        let about = connection.map(|connection| note::About {
            peer: connection.origin.peer,
            door: self.config.doors.get(connection.origin.door),
            user: connection.user.as_deref().unwrap_or_default(),
            lasted_ms: self.now.since_ms(connection.since),
            publishes_in: connection.publishes_in,
            publishes_out: connection.publishes_out,
        });
        note::write(event, about.as_ref());
    }
}
