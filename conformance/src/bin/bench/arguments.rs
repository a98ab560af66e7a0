//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::rig::load::Limit;

/// Measures cairnmq beside other brokers and checks every delivery.
#[derive(Clone, Parser)]
#[command(
    name = "bench",
    after_help = "\
Examples:
  bench --scenario pairs,fan-in --qos 0,1 --contender cairnmq,floor,mosquitto
  bench --scenario small --program nats=/opt/nats/nats-server
  bench --scenario pairs --peer 'flashmq=flashmq --config-file {config}' \\
      --peer-config flashmq=conformance/src/bin/bench/peers/flashmq.conf
  bench --scenario storm,idle --write docs/benchmarks.md
      Replaces these tables in the document and leaves the others.

Exit status: 0 when every delivery of cairnmq was as it should be, 1 when it was not, 2 when
nothing could be measured."
)]
pub(crate) struct Arguments {
    /// What to measure, separated by commas; everything if not given
    #[arg(long, value_delimiter = ',')]
    pub(crate) scenario: Vec<Scenario>,

    /// The QoS levels to measure, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "0,1,2",
          value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: Vec<u8>,

    /// What to compare, separated by commas, the first being what others are compared with:
    /// cairnmq, floor (no broker, but the least that moves the same bytes), mosquitto, rumqttd,
    /// rmqttd, nats, or the name of a --peer; all that are there if not given
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) contender: Vec<String>,

    /// Where the program of a contender is, if not in PATH
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) program: Vec<Pair>,

    /// Another broker: its command, in which {port}, {folder} (an empty directory) and {config}
    /// are replaced
    #[arg(long, value_name = "NAME=COMMAND")]
    pub(crate) peer: Vec<Pair>,

    /// A file whose text, in which {port} and {folder} are replaced, is {config} of that broker
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) peer_config: Vec<Pair>,

    /// What that broker does not have, and is not asked for: qos1, qos2, wildcards, shared, mixed
    /// (3.1.1 and 5.0 on one port), retained, sessions
    #[arg(long, value_name = "NAME=WHAT,...")]
    pub(crate) peer_lacks: Vec<Pair>,

    /// How often each contender is measured; the medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Deliveries after which a measured run ends, about
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: u64,

    /// Seconds after which a measured run ends, if it has not by then
    #[arg(long, default_value_t = 1.5)]
    pub(crate) seconds: f64,

    /// Messages that may be on their way to one subscriber
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) window: u64,

    /// Numbers of idle connections, separated by commas; max is what the limit on open files allows
    #[arg(long, value_delimiter = ',', default_value = "10000,max")]
    pub(crate) connections: Vec<Connections>,

    /// Filters of the scenario wildcards
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(400..))]
    pub(crate) filters: u32,

    /// Retained messages
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(4..))]
    pub(crate) retained: u32,

    /// Messages that are queued for a session whose client is away
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(4..))]
    pub(crate) backlog: u32,

    /// Connections of the scenario storm
    #[arg(long, default_value_t = 7_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) storm: u32,

    /// Sessions without a connection
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sessions: u32,

    /// Messages a second when latency is measured
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: u64,

    /// Seconds for which latency is measured
    #[arg(long, default_value_t = 5.0)]
    pub(crate) latency_seconds: f64,

    /// The cairnmq binary; if not given, the one beside this program
    #[arg(long)]
    pub(crate) broker: Option<PathBuf>,

    /// The number of cairnmq's worker threads, if not its default
    #[arg(long)]
    pub(crate) workers: Option<u16>,

    /// The document in which to write the tables, instead of printing them
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,

    /// Only see that everything works: one short round with few of everything
    #[arg(long)]
    pub(crate) smoke: bool,

    /// Be the floor on this port
    #[arg(long, hide = true, value_name = "PORT")]
    pub(crate) serve_floor: Option<u16>,
}

impl Arguments {
    /// Fills in what is not given.
    pub(crate) fn complete(mut self) -> Arguments {
        if self.smoke {
            (self.rounds, self.messages, self.seconds) = (1, 5_000, 0.5);
            (self.filters, self.retained, self.backlog) = (1_000, 500, 1_000);
            (self.storm, self.sessions) = (500, 500);
            (self.rate, self.latency_seconds) = (1_000, 0.3);
            self.connections = vec![Connections(Some(500))];
        }
        if self.scenario.is_empty() {
            self.scenario = Scenario::value_variants().to_vec();
        }
        self
    }

    /// What ends a measured run when one message of every publisher makes so many deliveries.
    pub(crate) fn limit(&self, deliveries_per_round: u64) -> Limit {
        let messages = self.messages.div_ceil(deliveries_per_round.max(1));
        Limit { messages, time: Duration::from_secs_f64(self.seconds) }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 50 publishers, 1 subscriber
    FanIn,
    /// 1 publisher, 1,000 subscribers
    FanOut,
    /// 1 publisher, 10,000 subscribers
    FanOutWide,
    /// 100 publishers with a subscriber each
    Pairs,
    /// Pairs with payloads of 16 bytes
    #[value(name = "pairs-16")]
    Pairs16,
    /// Pairs with payloads of 256 bytes
    #[value(name = "pairs-256")]
    Pairs256,
    /// Pairs with payloads of 16 KiB
    #[value(name = "pairs-16k")]
    Pairs16k,
    /// Pairs with 4 messages on their way and a write for each
    Small,
    /// Many filters with wildcards, few of which match
    Wildcards,
    /// A shared subscription with 10 members
    Shared,
    /// Clients of 3.1.1 and 5.0 together
    Mixed,
    /// Retained messages: set, and sent to a subscriber that comes later
    Retained,
    /// Messages that wait for a session without a connection
    Backlog,
    /// Connections that come and go
    Storm,
    /// Connections that say nothing
    Idle,
    /// Sessions without a connection
    Offline,
    /// The time from publisher to subscriber at a fixed rate
    Latency,
    /// cairnmq with one worker and with two
    Workers,
}

/// A number of connections, or as many as there can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Connections(pub(crate) Option<u32>);

impl FromStr for Connections {
    type Err = String;

    fn from_str(text: &str) -> Result<Connections, String> {
        if text == "max" {
            return Ok(Connections(None));
        }
        match text.parse() {
            Ok(count) if count > 0 => Ok(Connections(Some(count))),
            _ => Err("neither a number from 1 on nor max".to_owned()),
        }
    }
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Pair, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                Ok(Pair { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err("not of the form NAME=VALUE".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        let pair = |name: &str, value: &str| Pair { name: name.into(), value: value.into() };
        assert_eq!("a=b c=d".parse(), Ok(pair("a", "b c=d")));
        assert!("a".parse::<Pair>().is_err());
        assert!("=b".parse::<Pair>().is_err());
    }

    #[test]
    fn a_run_ends_after_so_many_deliveries() {
        let arguments = Arguments::parse_from(["bench", "--messages", "1001"]);
        assert_eq!(arguments.limit(100).messages, 11);
        assert_eq!(arguments.connections, [Connections(Some(10_000)), Connections(None)]);
    }
}
