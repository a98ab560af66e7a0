//! How long a broker makes one client wait that only pings, while others load it and it makes
//! checkpoints and merges what it has written.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::pinger::Pinger;
use crate::rig::broker::Broker;
use crate::rig::load::Load;
use crate::rig::statistics::{median, quantile};
use crate::{Bench, Contender, Result, fan_in};

const CONTENDERS: [Contender; 3] = [Contender::Sync, Contender::Memory, Contender::Persistent];
const PUBLISHERS: u64 = 100;
const PAYLOAD_BYTES: usize = 200;

/// What the broker is busy with, and how long pings took meanwhile.
struct Phase {
    name: &'static str,
    times: Vec<Duration>,
}

pub(crate) fn table(bench: &mut Bench) -> Result<()> {
    let backlog = bench.arguments.pause_backlog.div_ceil(PUBLISHERS) * PUBLISHERS;
    println!(
        "PINGRESP in milliseconds to a client that pings every millisecond (the greatest of all rounds \
         as max). Load: {PUBLISHERS} publishers as above, with {PAYLOAD_BYTES} bytes. Queueing: \
         {backlog} such messages for the session, its client being away. Saving: mosquitto with that \
         queue is told to save, with SIGUSR1, as it does by itself every half hour.\n\n\
         | broker | meanwhile | p50 | p99 | max |\n|---|---|--:|--:|--:|"
    );
    let rows = bench.rounds(&CONTENDERS, |bench, contender| measure(bench, contender, backlog))?;
    for (contender, runs) in &rows {
        let phases = runs.first().map_or(0, Vec::len);
        for at in 0..phases {
            let ms =
                |part| median(runs, |phases| quantile(&phases[at].times, part).as_secs_f64() * 1e3);
            let longest = runs.iter().filter_map(|phases| phases[at].times.last()).max();
            println!(
                "| {} | {} | {:.2} | {:.2} | {:.2} |",
                contender.name(),
                runs[0][at].name,
                ms(0.5),
                ms(0.99),
                longest.map_or(0.0, |longest| longest.as_secs_f64() * 1e3),
            );
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench, contender: Contender, backlog: u64) -> Result<Vec<Phase>> {
    let (broker, _folder) = bench.start(contender)?;
    let mut phases = Vec::new();
    let short = Duration::from_millis(if bench.arguments.smoke { 100 } else { 1000 });
    phases.push(pinging(&broker, "nothing", || thread::sleep(short))?);

    let in_flight = usize::from(bench.arguments.in_flight);
    let window = PUBLISHERS * in_flight as u64;
    let plan = fan_in(PUBLISHERS as usize, in_flight, PAYLOAD_BYTES, window);
    let mut load = Load::connect(broker.address, &plan)?;
    let count = bench.arguments.messages.div_ceil(PUBLISHERS);
    phases.push(pinging(&broker, "load", || _ = load.run(count))?);
    bench.note(contender, "load with pings", load.faults());

    let absent = load.leave();
    phases.push(pinging(&broker, "queueing", || _ = load.run(backlog / PUBLISHERS))?);
    if !contender.is_ours() {
        let mut sent = Ok(());
        phases.push(pinging(&broker, "saving", || {
            // So that the first pings have been answered: while it saves it takes no connection.
            thread::sleep(Duration::from_millis(20));
            sent = broker.signal(Signal::USR1);
            thread::sleep(short);
        })?);
        sent?;
    }
    load.resume(broker.address, absent)?;
    phases.push(pinging(&broker, "draining", || _ = load.run(0))?);
    bench.note(contender, "queue with pings", load.faults());
    Ok(phases)
}

/// Pings while `busy` runs.
fn pinging(broker: &Broker, name: &'static str, busy: impl FnOnce()) -> Result<Phase> {
    let pinger = Pinger::start(broker.address)?;
    busy();
    Ok(Phase { name, times: pinger.finish()? })
}
