//! The state machine: its state, its inputs, and the order of work inside it.

mod ack;
mod auth;
mod backlog;
mod check;
mod clients;
mod close;
mod command;
mod conn;
mod connect;
mod crowd;
mod deliver;
mod drops;
mod limit;
mod look;
mod memo;
mod msg;
mod ordered;
mod outgoing;
mod publish;
mod record;
mod repartition;
mod rights;
mod route;
mod session;
mod subscribe;
mod subscribers;
mod table;
mod timer;
mod traffic;
mod tree;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use codec::{Frame, Packet, ReasonCode};

pub use self::{
    check::Violation,
    look::View,
    msg::{
        Declined, Delivery, Flight, MsgId, Offer, Publication, Retained, SessionRef, ShardMsg,
        Target,
    },
    outgoing::Source,
    record::{Record, topic_mark},
    repartition::repartition,
    session::{Extra, Ids, Queued, Shared, Subscription},
    table::SessionId,
};
use self::{
    clients::Clients,
    conn::{Conn, Phase, Told, paused},
    drops::Drops,
    memo::Memo,
    msg::{Job, Unrouted},
    outgoing::Outgoing,
    rights::Publishers,
    session::Session,
    subscribe::Waiter,
    subscribers::Subscribers,
    table::{Conns, ROOM_KEPT, Sessions, give_room_back},
    timer::Timers,
    traffic::Spares,
    tree::Tree,
};
use crate::{Authentication, rate::Meter};
use crate::{Cause, CommitSeq, ConnId, Effect, Effects, Input, ShardConfig, ShardId, Ticket, Time};

const _: () = assert!(
    Tree::<Subscribers>::NODE_BYTES <= 48 && Tree::<Retained>::NODE_BYTES <= 64,
    "a session's filter and a retained message's topic have two nodes to themselves"
);

/// What a call of `handle` carries along.
struct Cx<'a> {
    now: Time,
    out: &'a mut Effects,
    /// Deliveries that may still be made in this call.
    budget: u32,
}

/// Another shard, as a receiver of publishes and deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Link {
    /// Told, and not worked off there.
    in_flight: u32,
    /// Worked off here, and not reported to it.
    worked: u32,
    /// It said all its subscriptions.
    announced: bool,
}

/// A part of the broker: some sessions and some topics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    config: ShardConfig,
    conns: Conns<Conn>,
    sessions: Sessions<Session>,
    by_client: Clients,
    /// Subscriptions of the sessions here.
    subscriptions: u32,
    /// Subscriptions of all sessions to the topics that are owned here.
    index: Tree<Subscribers>,
    retained: Tree<Retained>,
    retained_count: u32,
    retained_bytes: u64,
    /// When retained messages with an expiry go, subscribers or not.
    retained_expiry: BTreeSet<(Time, Box<[u8]>)>,
    timers: Timers,
    /// Work in the order of its causes.
    jobs: VecDeque<Job>,
    /// Publishes that wait until every shard has announced its subscriptions and every link has
    /// room.
    unrouted: VecDeque<Unrouted>,
    links: Vec<Link>,
    /// What the shard owes by itself, in the order of numbers that are never used again.
    outgoing: BTreeMap<MsgId, Outgoing>,
    epoch: u32,
    last_outgoing: u64,
    /// Publishers that wait for this shard or another to catch up.
    link_waiters: BTreeSet<ConnId>,
    /// SUBSCRIBE and UNSUBSCRIBE packets that the topics' owners have not all answered.
    waiters: BTreeMap<u32, Waiter>,
    /// Open questions.
    tickets: BTreeMap<Ticket, ConnId>,
    last_ticket: u64,
    /// What this shard may take of the messages of all clients.
    all_in: Option<Meter>,
    /// Clients that are still to be asked about, since rights have changed.
    to_judge: Vec<ConnId>,
    /// And those on whose rights rests what is retained or waits.
    publishers: Publishers,
    /// The number of the last SUBSCRIBE or UNSUBSCRIBE that waits or waited for topics' owners.
    last_request: u32,
    last_assigned: u64,
    stopping: bool,
    /// The log has no room for more messages.
    storage_full: bool,
    /// The last record given to the log, and the last known to be durable.
    committed: CommitSeq,
    persisted: CommitSeq,
    /// Effects that wait for a record.
    held: VecDeque<(CommitSeq, Effect)>,
    /// Room for the receivers of one publish; empty between calls.
    scratch: Vec<Target>,
    spares: Memo<Spares>,
    /// What clients are told at CONNECT.
    told: Arc<Told>,
    drops: Memo<Drops>,
}

impl Shard {
    /// An empty shard.
    pub fn new(config: ShardConfig) -> Self {
        let links = config.map.all().map(|_| Link::default()).collect();
        let all_in = share_of_all(&config, Time(0));
        let told = Arc::new(Told::of(&config));
        Self {
            config,
            conns: Conns::new(),
            sessions: Sessions::new(),
            by_client: Clients::new(),
            subscriptions: 0,
            index: Tree::new(),
            retained: Tree::new(),
            retained_count: 0,
            retained_bytes: 0,
            retained_expiry: BTreeSet::new(),
            timers: Timers::new(),
            jobs: VecDeque::new(),
            unrouted: VecDeque::new(),
            links,
            outgoing: BTreeMap::new(),
            epoch: 0,
            last_outgoing: 0,
            link_waiters: BTreeSet::new(),
            waiters: BTreeMap::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            all_in,
            to_judge: Vec::new(),
            publishers: Publishers::default(),
            last_request: 0,
            last_assigned: 0,
            stopping: false,
            storage_full: false,
            committed: CommitSeq(0),
            persisted: CommitSeq(0),
            held: VecDeque::new(),
            scratch: Vec::new(),
            spares: Memo::default(),
            told,
            drops: Memo::default(),
        }
    }

    /// A shard that has read these records, oldest first, and does not work yet.
    pub fn recovered(config: ShardConfig, records: impl IntoIterator<Item = Record>) -> Self {
        let mut shard = Self::new(config);
        records.into_iter().for_each(|record| shard.recover(record));
        shard
    }

    /// Begins to work; called once, after the last [`Shard::recover`].
    pub fn start(&mut self, now: Time, effects: &mut Effects) {
        let cx = &mut self.cx(now, effects);
        self.send_out_again(cx);
        self.wake_sessions(cx);
        self.announce(cx);
        if self.config.authentication == Authentication::Ask {
            self.judge_publishers();
        }
        self.work(cx);
    }

    /// Takes one input and writes what is to be done.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Effects) {
        let cx = &mut self.cx(now, effects);
        match input {
            Input::Packet { conn, packet } => self.on_packet(cx, conn, packet),
            Input::Sent { conn, bytes } => self.on_sent(cx, conn, bytes),
            Input::Told { from, msg } if self.jobs.is_empty() => self.on_msg(cx, from, *msg),
            Input::Told { from, msg } => self.jobs.push_back(Job::Msg(from, *msg)),
            Input::Opened { conn, origin, credit } => self.on_opened(cx, conn, origin, credit),
            Input::Closed { conn } => self.on_closed(cx, conn),
            Input::Malformed { conn, error, version } => {
                self.on_malformed(cx, conn, error, version);
            }
            Input::Tick => self.on_tick(cx),
            Input::Persisted { through } => self.on_persisted(cx, through),
            Input::Loaded(loaded) => self.on_loaded(cx, *loaded),
            Input::Answer { ticket, answer } => self.on_answer(cx, ticket, *answer),
            Input::Command { ticket, command } => self.on_command(cx, ticket, *command),
        }
        self.work(cx);
    }

    /// When to call with [`Input::Tick`] at the latest; at or before `now` if work is left over.
    pub fn next_timeout(&self) -> Option<Time> {
        if !self.jobs.is_empty() || self.has_to_judge() || self.can_route_waiting() {
            return Some(Time(0));
        }
        let timer = self.timers.first().map(|(time, _)| time);
        let expiry = self.retained_expiry.first().map(|(time, _)| *time);
        timer.into_iter().chain(expiry).min()
    }

    /// A look inside.
    pub const fn view(&self) -> View<'_> {
        View { shard: self }
    }

    fn cx<'a>(&self, now: Time, out: &'a mut Effects) -> Cx<'a> {
        Cx { now, out, budget: self.config.limits.deliveries_per_turn_max }
    }

    fn on_packet(&mut self, cx: &mut Cx<'_>, id: ConnId, packet: Packet) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.heard = cx.now;
        let Phase::Connected(session) = conn.phase else {
            return self.on_packet_before_connack(cx, id, packet);
        };
        match packet {
            Packet::Publish(publish) => self.on_publish(cx, id, session, publish),
            Packet::PubAck(ack) => self.on_puback(cx, session, &ack),
            Packet::PubRec(ack) => self.on_pubrec(cx, id, session, &ack),
            Packet::PubRel(ack) => self.on_pubrel(cx, id, session, &ack),
            Packet::PubComp(ack) => self.on_pubcomp(cx, session, &ack),
            Packet::Subscribe(subscribe) => self.on_subscribe(cx, id, session, *subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(cx, id, session, *unsubscribe),
            //= [MQTT-3.12.4-1]
            Packet::PingReq => self.send(cx, id, Frame::PingResp),
            Packet::Disconnect(disconnect) => self.on_disconnect(cx, id, session, &disconnect),
            Packet::Auth(auth) => self.on_auth(cx, id, &auth),
            Packet::Connect(_) if seeded!(IgnoresSecondConnect) => {}
            //= [MQTT-3.1.0-2] a second CONNECT; the others only a server may send.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => self.refuse(cx, id, ReasonCode::ProtocolError),
        }
    }

    /// Works through what waits, as far as the budget of this call goes.
    fn work(&mut self, cx: &mut Cx<'_>) {
        while cx.budget > 0 {
            // A delivery that was cut short goes on before anything that was published later.
            match self.jobs.pop_front() {
                Some(Job::Msg(from, msg)) => self.on_msg(cx, from, msg),
                Some(Job::Rest(from, delivery, begin)) => {
                    self.deliver_all(cx, from, *delivery, begin);
                }
                None if self.can_route_waiting() => self.route_waiting(cx),
                None => {
                    give_room_back(&mut self.jobs, ROOM_KEPT);
                    break;
                }
            }
        }
        if !self.link_waiters.is_empty() {
            self.release_waiters(cx);
        }
        if self.has_to_judge() {
            self.judge_waiting(cx);
        }
    }

    fn on_msg(&mut self, cx: &mut Cx<'_>, from: ShardId, msg: ShardMsg) {
        match msg {
            ShardMsg::Publish(publication) => {
                self.worked_off(cx, from);
                self.route_or_wait(cx, publication);
            }
            ShardMsg::Deliver(delivery) => self.deliver_all(cx, from, delivery, 0),
            ShardMsg::Routed { flight, shards, reason } => {
                self.on_routed(cx, flight, shards, reason);
            }
            ShardMsg::Stored { flight, refused } => self.on_stored(cx, flight, refused),
            ShardMsg::Subscribe { .. } | ShardMsg::Unsubscribe { .. } => {
                self.index_or_wait(cx, from, msg);
            }
            ShardMsg::Done { who, request, filter, retained } => {
                self.on_done(cx, who.session, request, &filter, retained);
            }
            ShardMsg::Offer { target, offer } => self.on_offer(cx, from, *target, *offer),
            ShardMsg::Declined(offer) => self.on_declined(cx, *offer),
            ShardMsg::Credit(count) => self.on_credit(from, count),
            ShardMsg::Announced => self.on_announced(from),
        }
    }

    /// Tells a shard, perhaps this one: then it is work for later in this call.
    fn tell(&mut self, cx: &mut Cx<'_>, to: ShardId, msg: ShardMsg) {
        if to == self.config.id {
            self.jobs.push_back(Job::Msg(to, msg));
        } else {
            self.emit(cx, Effect::Tell { to, msg: Box::new(msg) });
        }
    }

    /// The one way out. An effect waits until every record before it is durable.
    #[inline]
    fn emit(&mut self, cx: &mut Cx<'_>, effect: Effect) {
        if self.committed == self.persisted || seeded!(OpensGate) {
            cx.out.push(effect);
        } else {
            self.held.push_back((self.committed, effect));
        }
    }

    fn on_persisted(&mut self, cx: &mut Cx<'_>, through: CommitSeq) {
        self.persisted = self.persisted.max(through.min(self.committed));
        while let Some((_, effect)) = self.held.pop_front_if(|(seq, _)| *seq <= self.persisted) {
            cx.out.push(effect);
        }
        give_room_back(&mut self.held, ROOM_KEPT);
    }

    /// Sends a packet and charges the connection's credit.
    fn send(&mut self, cx: &mut Cx<'_>, id: ConnId, frame: Frame) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_beyond = conn.charge(frame.len());
        self.send_charged(cx, id, frame, is_beyond);
    }

    /// Sends a packet whose bytes are charged.
    #[inline]
    fn send_charged(&mut self, cx: &mut Cx<'_>, id: ConnId, frame: Frame, is_beyond: bool) {
        self.emit(cx, Effect::Send { conn: id, frame });
        // A peer that lets acknowledgements pile up is not read from: it could go on for ever.
        if is_beyond {
            self.pause(cx, id, paused::CREDIT);
        }
    }

    fn on_sent(&mut self, cx: &mut Cx<'_>, id: ConnId, bytes: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let starved = conn.credit <= 0;
        conn.credit = conn.credit.saturating_add(i64::from(bytes));
        if starved && conn.credit > 0 && !seeded!(ForgetsCredit) {
            let session = conn.session();
            self.resume(cx, id, paused::CREDIT);
            if let Some(session) = session {
                self.pump(cx, session);
            }
        }
    }

    /// Stops reading for one more reason. Goes past the gate, as nothing durable is told by it.
    fn pause(&mut self, cx: &mut Cx<'_>, id: ConnId, why: u8) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.paused == 0 {
            cx.out.push(Effect::Pause { conn: id });
        }
        conn.paused |= why;
    }

    fn resume(&mut self, cx: &mut Cx<'_>, id: ConnId, why: u8) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.paused & why == 0 {
            return;
        }
        conn.paused &= !why;
        if conn.paused == 0 {
            // The silence was ours.
            conn.heard = cx.now;
            cx.out.push(Effect::Resume { conn: id });
        }
    }

    /// Ends a connection whose client broke a rule or hit a limit, and says so.
    fn refuse(&mut self, cx: &mut Cx<'_>, id: ConnId, reason: ReasonCode) {
        self.disconnect(cx, id, reason, Cause::Refused(reason));
    }
}

/// What this shard may take of the messages of all clients.
fn share_of_all(config: &ShardConfig, now: Time) -> Option<Meter> {
    let (shards, all) = (config.map.shards(), &config.limits.all);
    all.limits_in().then(|| {
        let (messages, bytes) = (&all.publishes_in, &all.bytes_in);
        Meter::new(&messages.shared_by(shards), &bytes.shared_by(shards), now)
    })
}
