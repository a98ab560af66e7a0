//! What it costs to watch over clients that only say that they are there.

use std::time::Duration;

use codec::Packet;
use session_core::Input;

use crate::{
    Case, Report,
    meter::{Random, processor_time},
    world::{World, conn},
};

/// Seconds between two PINGREQ packets of a client: its Keep Alive.
const PERIOD_S: u32 = 60;

/// Milliseconds between two calls to see whether a timer is due.
const STEP_MS: u64 = 10;

/// The table of these.
const TABLE: &str = "Keep Alive of 60 s by number of connections";

/// All cases.
pub(crate) const CASES: [Case; 1] = [Case { name: "timers", run: timers }];

/// What a span of virtual time took.
#[derive(Default)]
struct Took {
    pings: Duration,
    ticks: Duration,
}

fn timers(size: u32, report: &mut Report) {
    let mut world = World::new();
    let mut random = Random::new();
    let mut seconds = vec![Vec::new(); PERIOD_S as usize];
    (0..size).for_each(|number| seconds[random.below(PERIOD_S) as usize].push(number));
    // Within a second too they come in no order.
    for second in &mut seconds {
        for at in 1..second.len() {
            let other = random.below(u32::try_from(at).expect("few") + 1);
            second.swap(at, other as usize);
        }
        for number in &*second {
            world.connect(*number);
        }
        world.now = world.now.plus_s(1);
    }
    // Two rounds until timers stand where they stand in the long run.
    for _ in 0..2 {
        round(&mut world, &seconds);
    }
    let took = round(&mut world, &seconds);
    assert_eq!(world.shard.view().connections(), size as usize, "nobody was silent for too long");
    let ns = |time: Duration| time.as_secs_f64() * 1e9;
    let ping = ns(took.pings) / f64::from(size);
    let ticks = ns(took.ticks) / f64::from(PERIOD_S);
    let share = 100.0 * (ns(took.pings) + ns(took.ticks)) / (f64::from(PERIOD_S) * 1e9);
    report.line(TABLE, "PINGREQ to PINGRESP, ns each", &format!("{ping:.0}"));
    report.line(TABLE, "timers, µs for each second", &format!("{:.0}", ticks / 1e3));
    let each = ticks * f64::from(PERIOD_S) / f64::from(size);
    report.line(TABLE, "timers, ns for each PINGREQ", &format!("{each:.0}"));
    report.line(TABLE, "both, % of one processor", &format!("{share:.2}"));
}

/// One PINGREQ of each client, spread over a period.
fn round(world: &mut World, seconds: &[Vec<u32>]) -> Took {
    let mut took = Took::default();
    for second in seconds {
        took.pings += processor_time(|| {
            for number in second {
                world.handle(Input::Packet { conn: conn(*number), packet: Packet::PingReq });
                world.drain();
            }
        });
        took.ticks += processor_time(|| {
            for _ in 0..1000 / STEP_MS {
                world.now = world.now.plus_ms(STEP_MS);
                if world.shard.next_timeout().is_some_and(|time| time <= world.now) {
                    world.handle(Input::Tick);
                }
            }
        });
        assert!(world.effects.is_empty(), "timers found everybody alive");
    }
    took
}
