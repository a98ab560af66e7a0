//! What processor time inputs cost among many sessions. Whom they are about is drawn at random, so
//! that what they touch is in no cache unless all of it fits.

use codec::{AckKind, Frame, Packet, QoS};
use session_core::{ConnId, Effect, Input};

use crate::{
    Case, Report,
    meter::{Random, cost},
    world::{
        World, conn, connect, disconnect, name, opened, own_topic, puback, publish, scrambled,
        sent, subscribe, unsubscribe,
    },
};

/// Things done between two looks at the clock.
const BATCH: u32 = 1000;

/// The same where one takes long.
const FEW: u32 = 10;

/// The table of these.
const TABLE: &str = "Processor time by number of sessions, nanoseconds each";

/// The same of retained messages.
const TABLE_RETAINED: &str = "Processor time by number of retained messages, nanoseconds each";

/// Retained messages that one filter matches.
const GROUP: u32 = 1000;

/// Seconds of Session Expiry Interval of who comes and goes.
const DAY_S: u32 = 86_400;

/// All cases.
pub(crate) const CASES: [Case; 4] = [
    Case { name: "cost-publish", run: publishes },
    Case { name: "cost-subscribe", run: subscribes },
    Case { name: "cost-connect", run: connects },
    Case { name: "cost-retained", run: retained },
];

/// A broker, and whom to draw next.
pub(crate) struct Drawing {
    pub(crate) world: World,
    random: Random,
    size: u32,
    /// The one who does what anybody could.
    pub(crate) visitor: ConnId,
    /// Subscriptions beyond the first, which are taken away again.
    extra: Vec<(ConnId, String)>,
    /// Filters used for those.
    filters: u32,
}

impl Drawing {
    pub(crate) fn new(mut world: World, size: u32) -> Self {
        let visitor = world.visit(u32::MAX, 0);
        let random = Random::new();
        Self { world, random, size, visitor, extra: Vec::new(), filters: size }
    }

    /// One of all.
    pub(crate) fn draw(&mut self) -> u32 {
        self.random.below(self.size)
    }

    /// A batch of things to do.
    pub(crate) fn batch<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..BATCH).map(|_| make(self)).collect()
    }

    /// SUBSCRIBE packets of sessions drawn at random, to a new filter each.
    fn new_extra(&mut self) -> Vec<(ConnId, Packet)> {
        self.extra = self.batch(|drawing| {
            drawing.filters += 1;
            (conn(drawing.draw()), own_topic(drawing.filters))
        });
        let packet = |(conn, filter): &(_, String)| (*conn, subscribe(filter, QoS::AtLeastOnce));
        self.extra.iter().map(packet).collect()
    }

    /// UNSUBSCRIBE packets for those.
    fn end_extra(&mut self) -> Vec<(ConnId, Packet)> {
        let extra = std::mem::take(&mut self.extra);
        extra.iter().map(|(conn, filter)| (*conn, unsubscribe(filter))).collect()
    }

    fn do_all(&mut self, batch: Vec<(ConnId, Packet)>) {
        for (conn, packet) in batch {
            self.world.handle(Input::Packet { conn, packet });
            self.world.drain();
        }
    }

    /// Publishes all; each receiver's socket takes its message, and QoS 1 is acknowledged.
    pub(crate) fn publish_all(&mut self, batch: Vec<Packet>, receivers: u32) {
        let expected = receivers * u32::try_from(batch.len()).expect("small");
        let mut received = 0;
        for packet in batch {
            self.world.handle(Input::Packet { conn: self.visitor, packet });
            received += answer(&mut self.world);
        }
        assert_eq!(received, expected, "the messages come to whom they should");
    }
}

/// Lets sockets take what was sent, and acknowledges it. Returns the number of messages.
fn answer(world: &mut World) -> u32 {
    let mut received = 0;
    let mut effects = std::mem::take(&mut world.effects);
    while !effects.is_empty() {
        for effect in effects.drain(..).flat_map(Effect::each) {
            let Effect::Send { conn, frame } = effect else { continue };
            world.handle(sent(conn, &frame));
            match frame {
                Frame::Publish { packet_id, .. } => {
                    received += 1;
                    if packet_id > 0 {
                        world.handle(Input::Packet { conn, packet: puback(packet_id) });
                    }
                }
                Frame::Ack { kind: AckKind::PubAck, .. } => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
        std::mem::swap(&mut effects, &mut world.effects);
    }
    world.effects = effects;
    received
}

/// Sessions with a connection and a subscription of their own each.
fn connected(size: u32) -> Drawing {
    let mut world = World::new();
    for number in 0..size {
        let conn = world.connect(number);
        world.subscribe(conn, &own_topic(number), QoS::AtLeastOnce);
    }
    Drawing::new(world, size)
}

fn publishes(size: u32, report: &mut Report) {
    let mut drawing = connected(size);
    for (qos, label) in [
        (QoS::AtMostOnce, "QoS 0 publish to one subscriber"),
        (QoS::AtLeastOnce, "QoS 1 publish to one subscriber, with both PUBACKs"),
    ] {
        let took = cost(
            &mut drawing,
            BATCH,
            |drawing| drawing.batch(|drawing| publish(&own_topic(drawing.draw()), qos, false)),
            |drawing, batch| drawing.publish_all(batch, 1),
        );
        report.line(TABLE, label, &format!("{took:.0}"));
    }
}

fn subscribes(size: u32, report: &mut Report) {
    let mut drawing = connected(size);
    let took = cost(
        &mut drawing,
        BATCH,
        |drawing| {
            let end = drawing.end_extra();
            drawing.do_all(end);
            drawing.new_extra()
        },
        Drawing::do_all,
    );
    report.line(TABLE, "SUBSCRIBE to one more filter of its own", &format!("{took:.0}"));
    let end = drawing.end_extra();
    drawing.do_all(end);
    let took = cost(
        &mut drawing,
        BATCH,
        |drawing| {
            let new = drawing.new_extra();
            drawing.do_all(new);
            drawing.end_extra()
        },
        Drawing::do_all,
    );
    report.line(TABLE, "UNSUBSCRIBE from it", &format!("{took:.0}"));
    crowd(&mut drawing, report);
}

/// One more subscriber of a filter that every other session subscribes to.
fn crowd(drawing: &mut Drawing, report: &mut Report) {
    const FILTER: &str = "dev/all/cmd";
    (0..drawing.size).for_each(|number| {
        drawing.world.subscribe(conn(number), FILTER, QoS::AtLeastOnce);
    });
    let took = cost(
        drawing,
        FEW,
        |drawing| {
            let again = |_| {
                let conn = conn(drawing.draw());
                [(conn, unsubscribe(FILTER)), (conn, subscribe(FILTER, QoS::AtLeastOnce))]
            };
            (0..FEW).flat_map(again).collect()
        },
        Drawing::do_all,
    );
    let label = "UNSUBSCRIBE from a filter of all sessions, and SUBSCRIBE again";
    report.line(TABLE, label, &format!("{took:.0}"));
}

fn connects(size: u32, report: &mut Report) {
    let mut world = World::new();
    for number in 0..size {
        let conn = world.visit(number, DAY_S);
        world.subscribe(conn, &own_topic(number), QoS::AtLeastOnce);
        world.leave(conn);
    }
    let mut drawing = Drawing::new(world, size);
    let conn = conn(0);
    let took = cost(
        &mut drawing,
        BATCH,
        |drawing| {
            drawing.batch(|drawing| {
                let name = name(drawing.draw());
                (opened(conn), connect(&name, DAY_S), disconnect())
            })
        },
        |drawing, batch| {
            for (opened, connect, disconnect) in batch {
                drawing.world.handle(opened);
                drawing.world.packet(conn, connect);
                drawing.world.packet(conn, disconnect);
            }
        },
    );
    assert_eq!(drawing.world.shard.view().sessions(), size as usize + 1, "nobody is new");
    let label = "CONNECT to a session that is there, and DISCONNECT";
    report.line(TABLE, label, &format!("{took:.0}"));
}

fn retained(size: u32, report: &mut Report) {
    let topic = |number: u32| {
        let (group, member) = (number / GROUP, number % GROUP);
        format!("group-{group}/{:08x}/state", scrambled(member))
    };
    let mut drawing = Drawing::new(World::new(), size);
    let publisher = drawing.visitor;
    (0..size).for_each(|number| {
        drawing.world.publish(publisher, &topic(number), QoS::AtMostOnce, true);
    });
    let took = look_up(&mut drawing, BATCH, 0, |number| format!("{}/none", topic(number)));
    let label = "SUBSCRIBE to a topic without one, and UNSUBSCRIBE";
    report.line(TABLE_RETAINED, label, &format!("{took:.0}"));
    let took = look_up(&mut drawing, BATCH, 1, topic);
    let label = "SUBSCRIBE to one topic, its message, and UNSUBSCRIBE";
    report.line(TABLE_RETAINED, label, &format!("{took:.0}"));
    let matches = GROUP.min(size);
    let groups = size / matches;
    let group = |number: u32| format!("group-{}/+/state", number % groups);
    let took = look_up(&mut drawing, FEW, matches, group) / f64::from(matches);
    let label = "each message of SUBSCRIBE to `group-1/+/state` with 1,000 matches";
    report.line(TABLE_RETAINED, label, &format!("{took:.0}"));
}

/// The cost of subscribing to filters made of drawn numbers, getting so many retained messages for
/// each, and unsubscribing.
fn look_up(drawing: &mut Drawing, each: u32, matches: u32, filter: impl Fn(u32) -> String) -> f64 {
    cost(
        drawing,
        each,
        |drawing| {
            let make = |_| {
                let filter = filter(drawing.draw());
                (subscribe(&filter, QoS::AtMostOnce), unsubscribe(&filter))
            };
            (0..each).map(make).collect::<Vec<_>>()
        },
        |drawing, batch| {
            let conn = drawing.visitor;
            for (subscribe, unsubscribe) in batch {
                drawing.world.handle(Input::Packet { conn, packet: subscribe });
                assert_eq!(drawing.world.published(), matches as usize, "all that match");
                drawing.world.drain();
                drawing.world.packet(conn, unsubscribe);
            }
        },
    )
}
