//! The scenarios in which messages are sent as fast as they go: who talks to whom, and what it needs
//! of a broker.

use crate::arguments::{Arguments, Scenario};
use crate::contender::Need;
use crate::rig::packet::Version;
use crate::rig::plan::{GroupPlan, Plan, Routing};
use crate::wildcards;

const MEMBERS: usize = 10;
/// Of large payloads, no more than so many bytes are on their way to one subscriber.
const WINDOW_BYTES: u64 = 256 * 1024;
/// And of one publisher no more than so many deliveries: a slow broker would need minutes for the last.
const WINDOW_DELIVERIES: u64 = 200_000;

/// How a scenario is called in tables.
pub(crate) fn label(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::FanIn => "fan-in 50:1",
        Scenario::FanOut => "fan-out 1:1000",
        Scenario::FanOutWide => "fan-out 1:10000",
        Scenario::Pairs => "pairs 100:100",
        Scenario::Pairs16 => "pairs, 16 B",
        Scenario::Pairs256 => "pairs, 256 B",
        Scenario::Pairs16k => "pairs, 16 KiB",
        Scenario::Small => "pairs, single messages",
        Scenario::Wildcards => "wildcards",
        Scenario::Shared => "shared 10:10",
        Scenario::Mixed => "mixed 3.1.1, 5.0",
        _ => "",
    }
}

/// The highest QoS with which it is measured.
pub(crate) fn qos_max(scenario: Scenario) -> u8 {
    match scenario {
        Scenario::Pairs16 | Scenario::Pairs256 | Scenario::Pairs16k | Scenario::Small => 1,
        _ => 2,
    }
}

/// What a broker needs for it.
pub(crate) fn needs(scenario: Scenario, qos: u8) -> Vec<Need> {
    let mut needs = match scenario {
        Scenario::Wildcards => vec![Need::Wildcards],
        Scenario::Shared => vec![Need::Shared],
        Scenario::Mixed => vec![Need::Mixed],
        _ => Vec::new(),
    };
    match qos {
        0 => {}
        1 => needs.push(Need::Qos1),
        _ => needs.push(Need::Qos2),
    }
    needs
}

/// Who talks to whom.
pub(crate) fn plan(scenario: Scenario, qos: u8, arguments: &Arguments) -> Plan {
    let wide = if arguments.smoke { 2_000 } else { 10_000 };
    let (plan, payload_bytes) = match scenario {
        Scenario::FanIn => (Plan::uniform(1, 50, 1), 64),
        Scenario::FanOut => (Plan::uniform(1, 1, 1_000), 64),
        Scenario::FanOutWide => (Plan::uniform(1, 1, wide), 64),
        Scenario::Pairs16 => (Plan::uniform(100, 1, 1), 16),
        Scenario::Pairs256 => (Plan::uniform(100, 1, 1), 256),
        Scenario::Pairs16k => (Plan::uniform(100, 1, 1), 16 * 1024),
        Scenario::Wildcards => (wildcards::plan(arguments.filters), 64),
        Scenario::Shared => (shared(), 64),
        Scenario::Mixed => (mixed(), 64),
        _ => (Plan::uniform(100, 1, 1), 64),
    };
    let subscribers = plan.groups[0].subscribers.len() as u64;
    // One subscriber with fifty publishers gets more at once, as the fifty do.
    let window = arguments.window * if scenario == Scenario::FanIn { 2 } else { 1 };
    let window = window.min(WINDOW_BYTES / payload_bytes as u64);
    let window = window.min(WINDOW_DELIVERIES / subscribers);
    let (window, batch) = if scenario == Scenario::Small { (4, 1) } else { (window, usize::MAX) };
    Plan { qos, payload_bytes, window, batch, ..plan }
}

/// Publishers, and as many members of one shared subscription.
fn shared() -> Plan {
    let mut plan = Plan::uniform(1, MEMBERS, MEMBERS);
    let group = &mut plan.groups[0];
    group.routing = Routing::Share;
    for member in &mut group.subscribers {
        member.filters = vec!["$share/members/bench/0/+".to_owned()];
    }
    plan
}

/// 20 groups of two publishers and two subscribers, one of each version.
fn mixed() -> Plan {
    let both = [Version::V3, Version::V5];
    Plan::of((0..20).map(|number| GroupPlan::each(number, &both, &both)).collect())
}
