//! How long a shard takes from its records to its first input.

use std::time::Duration;

use codec::{QoS, SubscriptionOptions};
use session_core::{Record, SessionId, Shard, Subscription};

use crate::{
    Case, Report,
    meter::processor_time,
    world::{World, config, name, own_topic, scrambled},
};

/// The table of these.
const TABLE: &str = "Start, milliseconds in all";

/// All cases.
pub(crate) const CASES: [Case; 2] =
    [Case { name: "start", run: in_order }, Case { name: "start-mixed", run: mixed }];

fn in_order(size: u32, report: &mut Report) {
    recover(report, "sessions in the order of their slots", size, records(0..size));
}

fn mixed(size: u32, report: &mut Report) {
    let mut order: Vec<u32> = (0..size).collect();
    order.sort_unstable_by_key(|number| scrambled(*number));
    recover(report, "sessions in another order", size, records(order.into_iter()));
}

fn recover(report: &mut Report, label: &str, size: u32, records: impl Iterator<Item = Record>) {
    let mut shard = None;
    let took = processor_time(|| shard = Some(Shard::recovered(config(), records)));
    let mut world = World::with(shard.expect("just made"));
    let started = processor_time(|| world.shard.start(world.now, &mut world.effects));
    assert_eq!(world.shard.view().sessions(), size as usize, "every session is back");
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    report.line(TABLE, &format!("`Shard::recovered`, {label}"), &ms(took));
    report.line(TABLE, &format!("`Shard::start`, {label}"), &ms(started));
}

/// Sessions with a subscription each, as they come from the log.
pub(crate) fn records(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = Record> {
    numbers.flat_map(|number| {
        let session = SessionId::new(number, 0);
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() };
        [
            Record::Session { session, client_id: name(number).into(), expiry_s: u32::MAX },
            Record::Subscribed {
                session,
                filter: own_topic(number).into(),
                subscription: Subscription { options, id: 0 },
            },
        ]
    })
}
