//! What memory each kind of state takes: how much the process grows by, divided by how many there
//! are.

use codec::QoS;
use session_core::Shard;

use crate::{
    Case, Report,
    meter::resident,
    start::records,
    world::{World, config, name, own_topic},
};

/// Subscribers and offline sessions that much else is spread over.
const FEW: u32 = 1000;

/// Seconds of Session Expiry Interval where a session is to end some day.
const DAY_S: u32 = 86_400;

/// The table of these.
const TABLE: &str = "Memory by state, bytes each";

/// All cases, one line of the table each.
pub(crate) const CASES: [Case; 10] = [
    Case { name: "memory-offline", run: offline },
    Case { name: "memory-expiring", run: expiring },
    Case { name: "memory-recovered", run: recovered },
    Case { name: "memory-connected", run: connected },
    Case { name: "memory-subscriptions", run: subscriptions },
    Case { name: "memory-crowd", run: crowd },
    Case { name: "memory-retained", run: retained },
    Case { name: "memory-retained-flat", run: retained_flat },
    Case { name: "memory-queued", run: queued },
    Case { name: "memory-queued-first", run: queued_first },
];

fn offline(size: u32, report: &mut Report) {
    let label = "offline session with one subscription of its own";
    grow(size, report, label, World::new(), |world, number| visit(world, number, u32::MAX));
}

fn expiring(size: u32, report: &mut Report) {
    let label = "the same, and it ends some day";
    grow(size, report, label, World::new(), |world, number| visit(world, number, DAY_S));
}

fn visit(world: &mut World, number: u32, expiry_s: u32) {
    let conn = world.visit(number, expiry_s);
    world.subscribe(conn, &own_topic(number), QoS::AtLeastOnce);
    world.leave(conn);
}

fn recovered(size: u32, report: &mut Report) {
    let before = resident();
    let mut world = World::with(Shard::recovered(config(), records(0..size)));
    world.shard.start(world.now, &mut world.effects);
    report.line(TABLE, "the same as the first, after a restart", &each(before, size));
}

fn connected(size: u32, report: &mut Report) {
    let label = "connected session with one subscription of its own";
    grow(size, report, label, World::new(), |world, number| {
        let conn = world.connect(number);
        world.subscribe(conn, &own_topic(number), QoS::AtLeastOnce);
    });
}

fn subscriptions(size: u32, report: &mut Report) {
    let mut world = World::new();
    let conns: Vec<_> = (0..FEW).map(|number| world.connect(number)).collect();
    let label = "one more subscription, to a filter of its own";
    grow(size, report, label, world, |world, number| {
        let conn = conns[(number % FEW) as usize];
        world.subscribe(conn, &own_topic(number), QoS::AtLeastOnce);
    });
}

fn crowd(size: u32, report: &mut Report) {
    let mut world = World::new();
    let conns: Vec<_> = (0..size).map(|number| world.connect(number)).collect();
    let label = "the first subscription, to a filter that all share";
    grow(size, report, label, world, |world, number| {
        world.subscribe(conns[number as usize], "dev/all/cmd", QoS::AtLeastOnce);
    });
}

fn retained(size: u32, report: &mut Report) {
    let mut world = World::new();
    let publisher = world.visit(0, 0);
    let label = "retained message of 64 bytes, on `dev/1a2b3c4d/cmd`";
    grow(size, report, label, world, |world, number| {
        world.publish(publisher, &own_topic(number), QoS::AtMostOnce, true);
    });
}

fn retained_flat(size: u32, report: &mut Report) {
    let mut world = World::new();
    let publisher = world.visit(0, 0);
    let label = "retained message of 64 bytes, on `dev/dev-1a2b3c4d`";
    grow(size, report, label, world, |world, number| {
        let topic = format!("dev/{}", name(number));
        world.publish(publisher, &topic, QoS::AtMostOnce, true);
    });
}

fn queued(size: u32, report: &mut Report) {
    let mut world = World::new();
    (0..FEW).for_each(|number| visit(&mut world, number, u32::MAX));
    let publisher = world.visit(u32::MAX, 0);
    let label = "queued QoS 1 message of 64 bytes, in 1,000 queues";
    grow(size, report, label, world, |world, number| {
        world.publish(publisher, &own_topic(number % FEW), QoS::AtLeastOnce, false);
    });
}

fn queued_first(size: u32, report: &mut Report) {
    let mut world = World::new();
    (0..size).for_each(|number| visit(&mut world, number, u32::MAX));
    let publisher = world.visit(u32::MAX, 0);
    let label = "queued QoS 1 message of 64 bytes, the only one of a session";
    grow(size, report, label, world, |world, number| {
        world.publish(publisher, &own_topic(number), QoS::AtLeastOnce, false);
    });
}

/// Adds one after another, and reports what each takes.
fn grow(
    size: u32,
    report: &mut Report,
    label: &str,
    mut world: World,
    add: impl Fn(&mut World, u32),
) {
    let before = resident();
    (0..size).for_each(|number| add(&mut world, number));
    report.line(TABLE, label, &each(before, size));
}

fn each(before: u64, size: u32) -> String {
    let grown = resident().saturating_sub(before);
    format!("{:.0}", grown as f64 / f64::from(size))
}
