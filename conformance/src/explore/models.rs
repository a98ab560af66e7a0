//! The narrow models: one for each question, small enough to be explored to the end.

use codec::{ProtocolVersion, QoS, RetainHandling};

use session_core::ShardMap;

use crate::universe::{Budget, Clean, Letter, Op, Persona, Setup, Sight, WillPlan, Wish};

/// A world and what is to be known of it.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name, for the command line.
    pub name: &'static str,
    /// The question.
    pub question: &'static str,
    /// The world.
    pub setup: Setup,
    /// What has to be seen, or the run says nothing.
    pub sights: &'static [Sight],
    /// Distinct states.
    pub states: usize,
}

/// A world before its budget and name.
fn world(clients: Vec<Persona>, publications: &[Letter], prelude: &[Op]) -> Setup {
    Setup {
        clients,
        publications: publications.to_vec(),
        prelude: prelude.to_vec(),
        ..Setup::new()
    }
}

const fn connect(client: u8) -> Op {
    Op::Connect { client, clean: false, door: 0 }
}

const fn subscribe(client: u8) -> Op {
    Op::Subscribe { client, wish: 0 }
}

/// Somebody who may publish so many letters.
fn publisher(id: &'static str, letters: usize) -> Persona {
    Persona { letters: (0..letters).collect(), ..Persona::new(id) }
}

/// Somebody who reads a filter and acknowledges when he likes.
fn subscriber(id: &'static str, filter: &'static str, qos: QoS) -> Persona {
    Persona { wishes: vec![Wish::new(filter, qos)], lazy: true, ..Persona::new(id) }
}

/// A publisher and a subscriber of one topic, both with sessions that never end.
fn pair(letters: &[Letter], qos: QoS) -> Setup {
    let clients = vec![publisher("p", letters.len()), subscriber("s", "t", qos)];
    world(clients, letters, &[connect(0), connect(1), subscribe(1)])
}

/// A name of one letter that belongs to a shard, as a session or as a topic.
fn on(shard: u16, shards: u16, session: bool) -> &'static str {
    const NAMES: [&str; 16] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "q"];
    let map = ShardMap::new(shards, 1);
    let owner = |name: &str| if session { map.session(name) } else { map.topic(name.as_bytes()) };
    let found = NAMES.into_iter().skip(usize::from(session) * 8).find(|n| owner(n).0 == shard);
    found.expect("sixteen names are spread over a few shards")
}

/// Reviewed numbers of states: a model that is pruned by accident has another one.
const STATES: [(&str, usize); 26] = [
    ("qos-1-reconnect", 36_165),
    ("qos-2-reconnect", 67_560),
    ("qos-1-crash", 12_619),
    ("qos-2-crash", 15_721),
    ("two-identifiers", 367_700),
    ("receive-maximum-1", 130_820),
    ("receive-maximum-2", 353_142),
    ("take-over-will", 381_669),
    ("session-expiry", 252_022),
    ("retained", 555_462),
    ("shared-death", 88_700),
    ("crash-subscribe", 32_558),
    ("acknowledgement-order", 12_642),
    ("two-shards", 223_346),
    ("three-shards", 18_675),
    ("back-pressure", 3_591),
    ("clean-start", 529_165),
    ("message-expiry", 92_854),
    ("refusals", 16_706),
    ("violations", 15_802),
    ("versions", 219_776),
    ("quota", 79_322),
    ("unsubscribe-again", 29_052),
    ("more-shards", 5_332),
    ("fewer-shards", 2_788),
    ("backlog", 23_319),
];

const Q1: Letter = Letter::new(0, QoS::AtLeastOnce);
const Q2: Letter = Letter::new(0, QoS::ExactlyOnce);

/// All models, in the order of their numbers in `docs/verification.md`.
pub fn all() -> Vec<Model> {
    vec![
        qos_1_reconnect(),
        qos_2_reconnect(),
        qos_1_crash(),
        qos_2_crash(),
        two_identifiers(),
        receive_maximum(1),
        receive_maximum(2),
        take_over_will(),
        session_expiry(),
        retained(),
        shared_death(),
        crash_subscribe(),
        acknowledgement_order(),
        two_shards(),
        three_shards(),
        back_pressure(),
        clean_start(),
        message_expiry(),
        refusals(),
        violations(),
        versions(),
        quota(),
        unsubscribe_again(),
        map_change(1, 2, "QoS 2 across a crash, and more shards after it"),
        map_change(3, 1, "QoS 2 across a crash, and fewer shards after it"),
        backlog(),
    ]
}

fn model(name: &'static str, question: &'static str, setup: Setup) -> Model {
    let states = STATES.iter().find(|(of, _)| *of == name).map_or(0, |(_, states)| *states);
    Model { name, question, setup, sights: &[], states }
}

fn qos_1_reconnect() -> Model {
    let mut setup = pair(&[Q1], QoS::AtLeastOnce);
    setup.budget = Budget { publishes: 2, drops: 2, ..Budget::default() };
    Model {
        sights: &[Sight::QoS1Delivered, Sight::SentAgain, Sight::Resumed],
        ..model("qos-1-reconnect", "QoS 1 across lost connections on both sides", setup)
    }
}

fn qos_2_reconnect() -> Model {
    let mut setup = pair(&[Q2], QoS::ExactlyOnce);
    setup.budget = Budget { publishes: 2, drops: 2, ..Budget::default() };
    Model {
        sights: &[Sight::QoS2Delivered, Sight::SentAgain, Sight::ReleasedAgain, Sight::Resumed],
        ..model("qos-2-reconnect", "QoS 2 across lost connections on both sides", setup)
    }
}

fn qos_1_crash() -> Model {
    let mut setup = pair(&[Q1], QoS::AtLeastOnce);
    setup.durable = true;
    setup.budget = Budget { publishes: 2, crashes: 1, ..Budget::default() };
    Model {
        sights: &[Sight::QoS1Delivered, Sight::SentAgain, Sight::Resumed, Sight::RecordsLost],
        ..model("qos-1-crash", "QoS 1 across a crash between any two records", setup)
    }
}

fn backlog() -> Model {
    let mut setup = pair(&[Q1], QoS::AtLeastOnce);
    setup.durable = true;
    setup.limits.session_resident_max = 1;
    setup.clients[1].receive_maximum = 1;
    // The first message waits in memory for who is away, the others on disk.
    setup.prelude.push(Op::Drop { client: 1 });
    setup.budget = Budget { publishes: 2, crashes: 1, ..Budget::default() };
    Model {
        sights: &[Sight::QoS1Delivered, Sight::BacklogLoaded, Sight::Resumed, Sight::RecordsLost],
        ..model("backlog", "messages on disk only, across a crash", setup)
    }
}

fn qos_2_crash() -> Model {
    let mut setup = pair(&[Q2], QoS::ExactlyOnce);
    setup.durable = true;
    setup.budget = Budget { publishes: 1, crashes: 2, ..Budget::default() };
    Model {
        sights: &[Sight::QoS2Delivered, Sight::ReleasedAgain, Sight::RecordsLost],
        ..model("qos-2-crash", "QoS 2 across two crashes between any two records", setup)
    }
}

fn two_identifiers() -> Model {
    let mut setup = pair(&[Q1, Q2], QoS::ExactlyOnce);
    setup.limits.packet_id_max = 2;
    setup.budget = Budget { publishes: 3, drops: 1, ..Budget::default() };
    Model {
        sights: &[Sight::IdentifierReused, Sight::SentAgain, Sight::QoS2Delivered],
        ..model("two-identifiers", "QoS 1 and 2 mixed, with two Packet Identifiers", setup)
    }
}

fn receive_maximum(maximum: u16) -> Model {
    let mut setup = pair(&[Q1, Q2], QoS::ExactlyOnce);
    setup.clients[1].receive_maximum = maximum;
    setup.budget = Budget { publishes: 3, drops: 1, ..Budget::default() };
    let name = if maximum == 1 { "receive-maximum-1" } else { "receive-maximum-2" };
    Model {
        sights: &[Sight::WindowFull, Sight::SentAgain, Sight::ReleasedAgain],
        ..model(name, "the receiver's window, over a reconnection", setup)
    }
}

fn take_over_will() -> Model {
    let will = WillPlan { topic: 0, qos: QoS::AtLeastOnce, retain: false, delay_s: 5 };
    let dying =
        Persona { will: Some(will), expiry_s: 10, clean: Clean::Sometimes, ..publisher("w", 0) };
    let clients = vec![dying, subscriber("s", "t", QoS::AtLeastOnce)];
    let mut setup = world(clients, &[], &[connect(0), connect(1), subscribe(1)]);
    setup.budget =
        Budget { take_overs: 1, drops: 1, goodbyes: 1, advances: 3, ..Budget::default() };
    Model {
        sights: &[
            Sight::WillPublished,
            Sight::WillCancelled,
            Sight::Resumed,
            Sight::SessionLost,
            Sight::SessionExpired,
        ],
        ..model(
            "take-over-will",
            "take-over, clean start and goodbye against a Will's delay",
            setup,
        )
    }
}

fn session_expiry() -> Model {
    let mut setup = pair(&[Q1], QoS::AtLeastOnce);
    setup.clients[1].expiry_s = 10;
    setup.budget =
        Budget { publishes: 2, drops: 2, advances: 2, subscribes: 1, ..Budget::default() };
    Model {
        sights: &[Sight::SessionExpired, Sight::Resumed, Sight::SentAgain],
        ..model("session-expiry", "a session's end against the return of its client", setup)
    }
}

fn retained() -> Model {
    let empty = Letter { empty: true, ..Letter::retained(0, QoS::AtLeastOnce) };
    let letters = [Letter::retained(0, QoS::AtLeastOnce), empty];
    let mut setup = pair(&letters, QoS::AtLeastOnce);
    setup.clients[1].lazy = false;
    setup.clients[1]
        .wishes
        .push(Wish { handling: RetainHandling::SendIfNew, ..Wish::new("+", QoS::AtLeastOnce) });
    setup.budget = Budget { publishes: 2, subscribes: 2, unsubscribes: 1, ..Budget::default() };
    Model {
        sights: &[Sight::Replayed, Sight::ReplacedRetained],
        ..model("retained", "subscribing anew against the replacement of a retained message", setup)
    }
}

fn shared_death() -> Model {
    let member = |id| Persona { expiry_s: 5, ..subscriber(id, "$share/g/t", QoS::ExactlyOnce) };
    let clients = vec![publisher("p", 2), member("m"), member("n")];
    let prelude = [connect(0), connect(1), connect(2), subscribe(1), subscribe(2)];
    let mut setup = world(clients, &[Q1, Q2], &prelude);
    setup.budget = Budget { publishes: 2, drops: 1, advances: 1, ..Budget::default() };
    Model {
        sights: &[Sight::SharedDelivered, Sight::SessionExpired, Sight::SentAgain],
        ..model("shared-death", "a share group against the death of a member", setup)
    }
}

fn crash_subscribe() -> Model {
    let mut setup = pair(&[Letter::retained(0, QoS::AtLeastOnce)], QoS::AtLeastOnce);
    setup.durable = true;
    setup.prelude = vec![connect(0)];
    setup.clients[1].lazy = false;
    setup.budget =
        Budget { publishes: 1, subscribes: 1, unsubscribes: 1, crashes: 1, ..Budget::default() };
    Model {
        sights: &[Sight::RecordsLost, Sight::Replayed],
        ..model(
            "crash-subscribe",
            "sessions, subscriptions and retained messages over a crash",
            setup,
        )
    }
}

fn acknowledgement_order() -> Model {
    // Three topics on three shards: what is published first may be routed last.
    let mut setup = pair(&[Q1, Letter::new(1, QoS::AtLeastOnce)], QoS::AtLeastOnce);
    setup.shards = 3;
    setup.topics = vec![on(1, 3, false), on(2, 3, false)];
    setup.clients[0].id = on(0, 3, true);
    setup.clients[1].id = on(1, 3, true);
    setup.clients[1].wishes = vec![Wish::new("#", QoS::AtLeastOnce)];
    setup.clients[1].lazy = false;
    setup.budget = Budget { publishes: 3, ..Budget::default() };
    Model {
        sights: &[Sight::QoS1Delivered],
        ..model("acknowledgement-order", "PUBACKs in turn, whichever shard is faster", setup)
    }
}

/// Publisher, topic and subscriber, each on a shard of its own if there are so many.
fn spread(shards: u16, letters: &[Letter], qos: QoS) -> Setup {
    let mut setup = pair(letters, qos);
    setup.shards = shards;
    setup.topics = vec![on(1 % shards, shards, false)];
    if shards > 1 {
        setup.clients[0].id = on(0, shards, true);
        setup.clients[1].id = on(shards - 1, shards, true);
    }
    setup.clients[1].wishes = vec![Wish::new(setup.topics[0], qos)];
    setup.clients[1].lazy = false;
    setup
}

fn two_shards() -> Model {
    let mut setup = spread(2, &[Q2], QoS::ExactlyOnce);
    setup.topics = vec![on(0, 2, false)];
    setup.clients[1].wishes = vec![Wish::new(setup.topics[0], QoS::ExactlyOnce)];
    setup.budget = Budget { publishes: 2, drops: 1, take_overs: 1, ..Budget::default() };
    Model {
        sights: &[Sight::QoS2Delivered, Sight::HandedOver, Sight::SentAgain],
        ..model("two-shards", "QoS 2 between two shards, over a lost connection", setup)
    }
}

fn three_shards() -> Model {
    let mut setup = spread(3, &[Q1], QoS::AtLeastOnce);
    setup.budget = Budget { publishes: 2, subscribes: 1, unsubscribes: 1, ..Budget::default() };
    Model {
        sights: &[Sight::QoS1Delivered],
        ..model("three-shards", "publisher, topic and subscriber on three shards", setup)
    }
}

fn back_pressure() -> Model {
    let mut setup = pair(&[Letter::new(0, QoS::AtMostOnce), Q1], QoS::AtLeastOnce);
    setup.credit = 8;
    setup.clients[1].lazy = false;
    setup.budget = Budget { publishes: 4, ..Budget::default() };
    Model {
        sights: &[Sight::QoS1Delivered, Sight::Paused],
        ..model("back-pressure", "a socket that may never drain", setup)
    }
}

fn clean_start() -> Model {
    let mut setup = pair(&[Q2], QoS::ExactlyOnce);
    setup.clients[0].clean = Clean::Sometimes;
    setup.clients[1].clean = Clean::Sometimes;
    setup.clients[1].lazy = false;
    setup.budget =
        Budget { publishes: 2, drops: 1, take_overs: 1, subscribes: 1, ..Budget::default() };
    Model {
        sights: &[Sight::SessionLost, Sight::Resumed, Sight::QoS2Delivered],
        ..model("clean-start", "a clean start of either side at any moment", setup)
    }
}

fn message_expiry() -> Model {
    let short = Letter { expiry_s: Some(5), ..Q1 };
    let mut setup = pair(&[short, Q1], QoS::AtLeastOnce);
    setup.clients[1].expiry_s = 10;
    setup.clients[1].receive_maximum = 1;
    setup.budget = Budget { publishes: 3, drops: 1, advances: 2, ..Budget::default() };
    Model {
        sights: &[Sight::QoS1Delivered, Sight::WindowFull],
        ..model("message-expiry", "messages that expire behind a full window", setup)
    }
}

fn refusals() -> Model {
    let mut setup = pair(&[Q1, Q2], QoS::ExactlyOnce);
    setup.clients[1].receive_maximum = 1;
    setup.budget = Budget { publishes: 2, drops: 1, refusals: 1, ..Budget::default() };
    Model {
        sights: &[Sight::Refused, Sight::SentAgain],
        ..model("refusals", "a receiver's errors in PUBACK and PUBREC", setup)
    }
}

fn violations() -> Model {
    let mut setup = pair(&[Q2], QoS::ExactlyOnce);
    setup.budget = Budget { publishes: 1, violations: 1, drops: 1, ..Budget::default() };
    Model {
        sights: &[Sight::ClosedForViolation, Sight::QoS2Delivered],
        ..model("violations", "packets that break rules, at any moment of an exchange", setup)
    }
}

fn quota() -> Model {
    let letters = [Letter::retained(0, QoS::AtLeastOnce), Letter::retained(1, QoS::AtLeastOnce)];
    let mut setup = pair(&letters, QoS::AtLeastOnce);
    setup.topics = vec!["t", "u"];
    setup.clients[1].wishes = vec![Wish::new("#", QoS::AtLeastOnce)];
    setup.limits.retained_max = 1;
    setup.budget = Budget { publishes: 2, subscribes: 1, drops: 1, ..Budget::default() };
    Model {
        sights: &[Sight::PublishRefused, Sight::Replayed],
        ..model("quota", "retained messages beyond their number, refused", setup)
    }
}

fn unsubscribe_again() -> Model {
    // The first answer may be lost with its connection, while the topic's shard has not heard.
    let mut setup = spread(3, &[Q1], QoS::AtLeastOnce);
    setup.budget = Budget { publishes: 1, unsubscribes: 2, drops: 1, ..Budget::default() };
    Model {
        sights: &[Sight::QoS1Delivered, Sight::Resumed],
        ..model("unsubscribe-again", "UNSUBSCRIBE again over a lost connection", setup)
    }
}

/// Everybody and everything has another owner after the crash.
fn map_change(shards: u16, later: u16, question: &'static str) -> Model {
    let mut setup = spread(shards, &[Q2], QoS::ExactlyOnce);
    setup.shards_later = vec![later];
    setup.durable = true;
    setup.budget = Budget { publishes: 1, crashes: 1, ..Budget::default() };
    let name = if later > shards { "more-shards" } else { "fewer-shards" };
    Model {
        sights: &[Sight::QoS2Delivered, Sight::Repartitioned, Sight::RecordsLost, Sight::Resumed],
        ..model(name, question, setup)
    }
}

fn versions() -> Model {
    let mut setup = pair(&[Q1, Q2], QoS::ExactlyOnce);
    setup.clients[0].version = ProtocolVersion::V311;
    setup.clients[1].version = ProtocolVersion::V31;
    setup.clients[1].clean = Clean::Sometimes;
    setup.clients[1].lazy = false;
    setup.budget = Budget { publishes: 2, drops: 1, goodbyes: 1, ..Budget::default() };
    Model {
        sights: &[Sight::QoS2Delivered, Sight::SessionLost],
        ..model("versions", "a 3.1.1 publisher and a 3.1 subscriber", setup)
    }
}
