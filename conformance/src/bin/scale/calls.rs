//! What happens to all at once: how long the one call of `handle` takes, in which nothing else is
//! served.

use std::time::Duration;

use codec::QoS;
use session_core::Input;

use crate::{
    Case, Report,
    meter::processor_time,
    world::{World, conn, own_topic, publish, subscribe},
};

/// The table of these.
const TABLE: &str = "The longest single call, milliseconds";

/// Seconds of Session Expiry Interval, and of virtual time in which everybody falls silent.
const DAY_S: u32 = 86_400;

/// All cases.
pub(crate) const CASES: [Case; 4] = [
    Case { name: "calls-expiry", run: expiry },
    Case { name: "calls-silence", run: silence },
    Case { name: "calls-retained", run: retained },
    Case { name: "calls-crowd", run: crowd },
];

fn expiry(size: u32, report: &mut Report) {
    let mut world = World::new();
    for number in 0..size {
        let conn = world.visit(number, DAY_S);
        world.subscribe(conn, &own_topic(number), QoS::AtLeastOnce);
        world.leave(conn);
    }
    world.now = world.now.plus_s(DAY_S);
    let took = longest(&mut world, Input::Tick);
    assert_eq!(world.shard.view().sessions(), 0, "all ended");
    report.line(TABLE, "`Tick` in which all sessions end", &ms(took));
}

fn silence(size: u32, report: &mut Report) {
    let mut world = connected(size);
    world.now = world.now.plus_s(DAY_S);
    let took = longest(&mut world, Input::Tick);
    assert_eq!(world.shard.view().connections(), 0, "all were silent for too long");
    report.line(TABLE, "`Tick` in which all connections time out", &ms(took));
}

fn retained(size: u32, report: &mut Report) {
    let mut world = World::new();
    let publisher = world.visit(u32::MAX, 0);
    for number in 0..size {
        world.publish(publisher, &own_topic(number), QoS::AtMostOnce, true);
    }
    let conn = world.connect(0);
    let packet = subscribe("#", QoS::AtMostOnce);
    let took = longest(&mut world, Input::Packet { conn, packet });
    report.line(TABLE, "SUBSCRIBE that matches all retained messages", &ms(took));
}

fn crowd(size: u32, report: &mut Report) {
    const TOPIC: &str = "dev/all/cmd";
    let mut world = connected(size);
    for number in 0..size {
        world.subscribe(conn(number), TOPIC, QoS::AtMostOnce);
    }
    let conn = world.visit(u32::MAX, 0);
    let packet = publish(TOPIC, QoS::AtMostOnce, false);
    let took = longest(&mut world, Input::Packet { conn, packet });
    report.line(TABLE, "PUBLISH to all sessions", &ms(took));
}

fn connected(size: u32) -> World {
    let mut world = World::new();
    for number in 0..size {
        let conn = world.connect(number);
        world.subscribe(conn, &own_topic(number), QoS::AtLeastOnce);
    }
    world
}

/// Gives the shard an input, and calls it until nothing is left over.
fn longest(world: &mut World, input: Input) -> Duration {
    let mut longest = Duration::ZERO;
    let mut next = Some(input);
    while let Some(input) = next {
        longest = longest.max(processor_time(|| world.handle(input)));
        world.effects.clear();
        let is_late = world.shard.next_timeout().is_some_and(|time| time <= world.now);
        next = is_late.then_some(Input::Tick);
    }
    longest
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
