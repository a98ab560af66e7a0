//! What it costs to find the filters that match a topic, by the number of filters, the depth of the
//! topic and the number of matches.

use codec::QoS;
use session_core::ConnId;

use crate::{
    Case, Report,
    cost::Drawing,
    meter::cost,
    world::{World, conn, publish, scrambled},
};

/// Messages between two looks at the clock.
const BATCH: u32 = 1000;

/// The table of these.
const TABLE: &str = "Matching by number of filters, nanoseconds for each QoS 0 publish";

/// Connected sessions that share all subscriptions.
const SESSIONS: u32 = 1000;

/// Receivers of a topic with more than one.
const MANY: u32 = 10;

/// The last level of a topic, made of a number.
type Level = fn(u32) -> String;

/// Numbers of matches, and the level that tells those topics apart.
const KINDS: [(u32, Level); 3] = [(0, stranger), (1, level), (MANY, popular)];

/// All cases.
pub(crate) const CASES: [Case; 2] =
    [Case { name: "matching", run: matching }, Case { name: "matching-branches", run: branches }];

fn matching(size: u32, report: &mut Report) {
    for depth in [2, 4, 8] {
        let mut drawing = subscribed(size, |number| filter(depth, &level(number)));
        for number in 0..MANY {
            let popular = filter(depth, &popular(0));
            drawing.world.subscribe(conn(number), &popular, QoS::AtMostOnce);
        }
        for (matches, level) in KINDS {
            let topic = |number| topic(depth, &level(number));
            let took = published(&mut drawing, matches, topic);
            let label = format!("{depth} levels, {matches} matches");
            report.line(TABLE, &label, &format!("{took:.0}"));
        }
    }
}

/// The most that filters can do: of each pair of equal levels one is a wildcard, in all
/// combinations, so that each level of a topic doubles the places to look at.
fn branches(size: u32, report: &mut Report) {
    let branching = |number: u32| {
        let mut filter = String::new();
        for at in 0..7 {
            filter += if number >> at & 1 == 0 { "+/" } else { "l/" };
        }
        filter + &level(number)
    };
    let mut drawing = subscribed(size, branching);
    let topic = |number| format!("l/l/l/l/l/l/l/{}", stranger(number));
    let took = published(&mut drawing, 0, topic);
    let label = "8 levels, 0 matches, all mixtures of `+` and level before the last";
    report.line(TABLE, label, &format!("{took:.0}"));
}

/// So many filters, spread over connected sessions.
fn subscribed(size: u32, filter: impl Fn(u32) -> String) -> Drawing {
    let mut world = World::new();
    let conns: Vec<ConnId> = (0..SESSIONS).map(|number| world.connect(number)).collect();
    for (number, conn) in (0..size).zip(conns.into_iter().cycle()) {
        world.subscribe(conn, &filter(number), QoS::AtMostOnce);
    }
    Drawing::new(world, size)
}

fn published(drawing: &mut Drawing, receivers: u32, topic: impl Fn(u32) -> String) -> f64 {
    cost(
        drawing,
        BATCH,
        |drawing| drawing.batch(|drawing| publish(&topic(drawing.draw()), QoS::AtMostOnce, false)),
        |drawing, batch| drawing.publish_all(batch, receivers),
    )
}

/// A level of its own for each number.
fn level(number: u32) -> String {
    format!("{:08x}", scrambled(number))
}

/// A level that no filter names, of its own for each number too.
fn stranger(number: u32) -> String {
    level(u32::MAX - number)
}

/// The level of a filter that several sessions subscribe to.
fn popular(_: u32) -> String {
    "popular".into()
}

/// A filter of so many levels, every second of them a wildcard: `+/X`, `+/b/+/X`, ...
fn filter(depth: u32, last: &str) -> String {
    (1..depth).map(|at| if at % 2 == 1 { "+/" } else { "b/" }).collect::<String>() + last
}

/// A topic that such a filter matches: `a/X`, `a/b/a/X`, ...
fn topic(depth: u32, last: &str) -> String {
    (1..depth).map(|at| if at % 2 == 1 { "a/" } else { "b/" }).collect::<String>() + last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_their_topics_and_no_others() {
        for depth in [2, 4, 8] {
            assert!(codec::topic::matches(&filter(depth, "x"), &topic(depth, "x")));
            assert!(!codec::topic::matches(&filter(depth, "x"), &topic(depth, "y")));
            assert_eq!(topic(depth, "x").split('/').count(), depth as usize);
        }
    }
}
