//! The tables of the document: their order, what each is about, and who measures it.

use clap::ValueEnum;

use crate::arguments::{Arguments, Scenario};
use crate::document::wrap;
use crate::rounds::Bench;
use crate::{Result, backlog, connections, host, latency, messages, retained, workers};

/// In the order of the document.
pub(crate) const NAMES: [&str; 10] = [
    "throughput",
    "sizes",
    "routing",
    "retained",
    "backlog",
    "storm",
    "idle",
    "offline",
    "latency",
    "workers",
];

/// The table to which a scenario belongs.
fn section_of(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::FanIn | Scenario::FanOut | Scenario::FanOutWide | Scenario::Pairs => "throughput",
        Scenario::Pairs16 | Scenario::Pairs256 | Scenario::Pairs16k | Scenario::Small => "sizes",
        Scenario::Wildcards | Scenario::Shared | Scenario::Mixed => "routing",
        Scenario::Retained => "retained",
        Scenario::Backlog => "backlog",
        Scenario::Storm => "storm",
        Scenario::Idle => "idle",
        Scenario::Offline => "offline",
        Scenario::Latency => "latency",
        Scenario::Workers => "workers",
    }
}

/// The tables that are to be measured. Of one that is to be written, nothing may be left out: the rest
/// of it would be lost.
pub(crate) fn wanted(arguments: &Arguments) -> Result<Vec<&'static str>> {
    let mut wanted = Vec::new();
    for name in NAMES {
        let all = Scenario::value_variants();
        let all = all.iter().copied().filter(|scenario| section_of(*scenario) == name);
        let left_out: Vec<Scenario> =
            all.clone().filter(|scenario| !arguments.scenario.contains(scenario)).collect();
        if left_out.len() == all.count() {
            continue;
        }
        if arguments.write.is_some() && !left_out.is_empty() {
            let names = left_out.iter().filter_map(Scenario::to_possible_value);
            let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
            let names = names.join(",");
            return Err(
                format!("--write: the table `{name}` has more scenarios: add {names}").into()
            );
        }
        wanted.push(name);
    }
    let is_part = ["throughput", "sizes", "routing", "latency", "workers"];
    let has_levels = wanted.iter().any(|name| is_part.contains(name));
    if arguments.write.is_some() && has_levels && arguments.qos != [0, 1, 2] {
        return Err("--write: tables of messages have all levels: leave --qos out".into());
    }
    Ok(wanted)
}

/// Measures a table and returns all that stands between its marks.
pub(crate) fn measure(bench: &mut Bench, name: &'static str, command: &str) -> Result<String> {
    let load = host::load_average();
    let scenarios = bench.arguments.scenario.clone();
    let mut scenarios: Vec<Scenario> =
        scenarios.into_iter().filter(|scenario| section_of(*scenario) == name).collect();
    scenarios.dedup();
    let tables = match name {
        "retained" => retained::table(bench)?,
        "backlog" => backlog::table(bench)?,
        "storm" => connections::storm(bench)?,
        "idle" => connections::idle(bench)?,
        "offline" => connections::offline(bench)?,
        "latency" => latency::table(bench)?,
        "workers" => workers::table(bench)?,
        _ => messages::tables(bench, &scenarios)?,
    };
    let (title, about) = about(name);
    let mut text = format!("## {title}\n\n{}\n\n{tables}\n", wrap(about));
    let notes = std::mem::take(&mut bench.notes);
    if !notes.is_empty() {
        text += "What went wrong:\n\n";
        notes.iter().for_each(|note| text += &format!("- {note}\n"));
        text += "\n";
    }
    text += &wrap(&bench.origin(&load, command));
    Ok(text)
}

/// The beginning of the document.
pub(crate) fn head() -> String {
    format!("{HEAD}\nThe last run was on {}.\n", host::describe())
}

const HEAD: &str = "\
# Benchmarks

Written by `target/release/bench --write docs/benchmarks.md`; `bench --help` says how to measure a part of it,
which then replaces that part here. What durability costs stands in [benchmarks-durable.md](benchmarks-durable.md).

How to read it:

- All brokers run on one machine, each alone and started anew for every figure, and take turns. The load generator, one
  thread, shares the processors with them. So **processor time per delivered message** is what compares: it is read from
  the operating system for all threads of the broker, user and system. Messages per second depend on the generator and
  on what else the machine does. Nothing compares with a figure of another machine or day.
- In brackets stands how many times the first column's figure it is. *Best other* says how many times better the first
  column is than the best of the other brokers, and which that is: below 1 it is worse.
- `floor` is no broker: one thread that reads, copies the same bytes to the same receivers and writes, and checks, keeps and
  knows nothing. No broker can cost less with as many system calls; it may with fewer.
- Every delivery is checked: each message once, in order, unchanged, to whom it belongs and to nobody else. A broker that does
  something wrong has no figure but `failed`, and below the table stands what it did. `-` is what it does not have.
- Keeping on disk is off wherever it can be (NATS keeps QoS 1 in files), and queues are unbounded wherever they can be, so
  that nothing has to be dropped. Each run lasts about one and a half seconds, or four million messages.
";

/// The heading of a table, and what is measured.
fn about(name: &str) -> (&'static str, &'static str) {
    match name {
        "throughput" => (
            "Messages",
            "As fast as it goes, 64 bytes, MQTT 3.1.1, and 20 messages of a publisher unacknowledged at most. Fan-in: 50 \
             publishers with a topic each, one subscriber to all, 1,000 messages on their way to it. Fan-out: one publisher, \
             all subscribers to its topic, 200,000 messages on their way to them all. Pairs: 100 publishers with a \
             subscriber each, 500 on their way to it.",
        ),
        "sizes" => (
            "Sizes",
            "100 pairs with other payloads; of those of 16 KiB at most 16 are on their way to a subscriber. *Single \
             messages*: a write for each of 64 bytes and at most four on their way, so that system calls are nearly \
             everything.",
        ),
        "routing" => (
            "Routing",
            "Wildcards: 100 subscribers with 100,000 filters of three levels, a quarter each exact and with `+` at the \
             first, second and third level; 10 publishers with 400 topics each, and two to four filters that match a \
             topic. Shared: 10 publishers, 10 members of one shared subscription. Mixed: 20 groups of two publishers and \
             two subscribers, one each of MQTT 3.1.1 and 5.0.",
        ),
        "retained" => (
            "Retained messages",
            "Four publishers set them, each on its own topic; then a subscriber to `#` gets them all.",
        ),
        "backlog" => (
            "Queues",
            "Messages wait in the session of a client that is away, and are sent when it returns.",
        ),
        "storm" => (
            "Connections that come and go",
            "TCP connect, CONNECT, CONNACK, DISCONNECT, and both sides close; from 64 addresses.",
        ),
        "idle" => (
            "Connections that say nothing",
            "The growth of the broker's resident memory, without what the kernel keeps for sockets. A message to each \
             must not change it.",
        ),
        "offline" => (
            "Sessions without a connection",
            "Clients connect with a session that is kept, subscribe and disconnect; what the broker's memory grows by.",
        ),
        "latency" => (
            "Latency",
            "From the moment at which a message is due to the one at which the generator has read it: a broker that \
             pauses is late with everything that falls due meanwhile. The generator's own delay is part of it, as the \
             floor shows.",
        ),
        _ => (
            "One worker or two",
            "The default is a worker for every two processors. A message that crosses from one worker to another costs \
             more than one that stays.",
        ),
    }
}
