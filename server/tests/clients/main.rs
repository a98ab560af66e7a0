//! The first five minutes of any MQTT tutorial, done with programs that nobody here wrote:
//! `mosquitto_pub` and `mosquitto_sub` (Debian package `mosquitto-clients`) and `paho-mqtt` (PyPI),
//! each in every protocol version it speaks, against the broker binary over loopback.
//!
//! Nothing sleeps to get an order: a step begins when the step before it was confirmed (SUBACK
//! printed, publisher exited). That something does *not* arrive is shown by what arrives instead: a
//! later message on the same subscription.
//!
//! | environment variable | meaning |
//! | --- | --- |
//! | `CAIRNMQ_REQUIRE_CLIENTS=1` | fail when a client program is missing, instead of skipping |
//! | `CAIRNMQ_PYTHON` | the Python interpreter that can import paho-mqtt |
//! | `CAIRNMQ_TEST_BROKER=HOST:PORT` | test this broker, which is running, and not our binary |
#![allow(clippy::print_stderr, reason = "a skipped test has to say so")]

mod broker;
mod client;
mod process;

use broker::Broker;
use client::{Client, Message, Program, Session, Subscription, Version, Will};

/// One module of tests for each client program and protocol version.
macro_rules! for_each_client {
    ($($name:ident: $program:ident $version:ident,)*) => {$(
        mod $name {
            use super::{Client, Program, Version};

            fn run(test: impl FnOnce(Client)) {
                super::run(Program::$program, Version::$version, test);
            }

            #[test]
            fn two_sensors_qos_0() {
                run(|client| super::two_sensors(client, 0));
            }

            #[test]
            fn two_sensors_qos_1() {
                run(|client| super::two_sensors(client, 1));
            }

            #[test]
            fn two_sensors_qos_2() {
                run(|client| super::two_sensors(client, 2));
            }

            #[test]
            fn a_late_subscriber_sees_the_retained_message() {
                run(super::a_late_subscriber_sees_the_retained_message);
            }

            #[test]
            fn messages_wait_for_a_persistent_session_qos_1() {
                run(|client| super::messages_wait_for_a_persistent_session(client, 1));
            }

            #[test]
            fn messages_wait_for_a_persistent_session_qos_2() {
                run(|client| super::messages_wait_for_a_persistent_session(client, 2));
            }

            #[test]
            fn nothing_waits_for_a_clean_session() {
                run(super::nothing_waits_for_a_clean_session);
            }

            #[test]
            fn the_will_follows_a_cut_connection() {
                run(super::the_will_follows_a_cut_connection);
            }

            #[test]
            fn no_will_follows_a_disconnect() {
                run(super::no_will_follows_a_disconnect);
            }
        }
    )*};
}

for_each_client! {
    mosquitto_v31: Mosquitto V31,
    mosquitto_v311: Mosquitto V311,
    mosquitto_v5: Mosquitto V5,
    paho_v31: Paho V31,
    paho_v311: Paho V311,
    paho_v5: Paho V5,
}

#[test]
fn a_session_of_a_mosquitto_v5_client_expires() {
    run(Program::Mosquitto, Version::V5, a_session_expires);
}

#[test]
fn a_session_of_a_paho_v5_client_expires() {
    run(Program::Paho, Version::V5, a_session_expires);
}

/// Runs a test if the client it needs is installed.
fn run(program: Program, version: Version, test: impl FnOnce(Client)) {
    if let Some(client) = Client::find(program, version) {
        test(client);
    }
}

/// Two sensors publish while one client watches `sensor/+/temperature`.
fn two_sensors(client: Client, qos: u8) {
    let broker = Broker::start();
    let mut watcher = client.subscribe(
        &broker,
        Subscription { filter: "sensor/+/temperature", qos, ..Subscription::new("watcher") },
    );
    assert_eq!(watcher.granted, qos, "granted QoS");

    // Acknowledged before the rest is sent, so that it would be seen first if it were routed.
    client.publish(&broker, "sensor/kitchen/humidity", &["40"], 1);
    client.publish(&broker, "sensor/kitchen/temperature", &["21.5", "21.6"], qos);
    client.publish(&broker, "sensor/cellar/temperature", &["12.5", "12.4"], qos);

    // Order holds for each topic of a publisher, not between two connections.
    let mut seen = watcher.receive(4);
    seen.sort_by(|left, right| left.topic.cmp(&right.topic));
    let expected = [
        Message::new("sensor/cellar/temperature", "12.5", qos),
        Message::new("sensor/cellar/temperature", "12.4", qos),
        Message::new("sensor/kitchen/temperature", "21.5", qos),
        Message::new("sensor/kitchen/temperature", "21.6", qos),
    ];
    assert_eq!(seen, expected);
}

/// A retained message waits for whoever subscribes, and an empty one removes it.
fn a_late_subscriber_sees_the_retained_message(client: Client) {
    let broker = Broker::start();
    let topic = "sensor/roof/state";
    client.publish_retained(&broker, topic, "closed", 1);
    client.publish_retained(&broker, topic, "open", 1);

    let wanted = || Subscription { filter: "sensor/+/state", qos: 1, ..Subscription::new("late") };
    let mut late = client.subscribe(&broker, wanted());
    assert_eq!(late.receive(1), [Message::new(topic, "open", 1).retained()]);

    // To a subscription that stands already, the same message is an ordinary one.
    client.publish_retained(&broker, topic, "closed", 1);
    assert_eq!(late.receive(1), [Message::new(topic, "closed", 1)]);
    late.cut();

    client.publish_retained(&broker, topic, "", 1);
    let mut later = client.subscribe(&broker, wanted());
    client.publish(&broker, topic, &["moved"], 1);
    assert_eq!(later.receive(1), [Message::new(topic, "moved", 1)]);
}

/// Three messages are queued while a client with a persistent session is away.
fn messages_wait_for_a_persistent_session(client: Client, qos: u8) {
    let broker = Broker::start();
    let wanted = |count| Subscription {
        filter: "sensor/+/temperature",
        qos,
        session: client.lasting_session(3600),
        leave_after: Some(count),
        ..Subscription::new("traveller")
    };
    let mut traveller = client.subscribe(&broker, wanted(1));
    client.publish(&broker, "sensor/hall/temperature", &["19.0"], qos);
    assert_eq!(traveller.receive(1), [Message::new("sensor/hall/temperature", "19.0", qos)]);
    traveller.wait_until_gone();

    client.publish(&broker, "sensor/hall/temperature", &["19.1", "19.2"], qos);
    client.publish(&broker, "sensor/attic/temperature", &["27.3"], qos);

    // It leaves after one more, and not with the SUBACK still unread: then its acknowledgements
    // would be lost with the connection.
    let mut traveller = client.subscribe(&broker, wanted(4));
    client.publish(&broker, "sensor/attic/temperature", &["27.4"], qos);
    let expected = [
        Message::new("sensor/hall/temperature", "19.1", qos),
        Message::new("sensor/hall/temperature", "19.2", qos),
        Message::new("sensor/attic/temperature", "27.3", qos),
        Message::new("sensor/attic/temperature", "27.4", qos),
    ];
    assert_eq!(traveller.receive(4), expected);
    traveller.wait_until_gone();

    // What was acknowledged is not sent again.
    let mut traveller = client.subscribe(&broker, wanted(1));
    client.publish(&broker, "sensor/hall/temperature", &["19.3"], qos);
    assert_eq!(traveller.receive(1), [Message::new("sensor/hall/temperature", "19.3", qos)]);
}

/// A clean session ends with its connection: neither subscription nor message is kept.
fn nothing_waits_for_a_clean_session(client: Client) {
    let broker = Broker::start();
    let wanted = |filter| Subscription {
        filter,
        qos: 1,
        leave_after: Some(1),
        ..Subscription::new("passer-by")
    };
    let mut visitor = client.subscribe(&broker, wanted("sensor/+/temperature"));
    client.publish(&broker, "sensor/hall/temperature", &["19.0"], 1);
    assert_eq!(visitor.receive(1), [Message::new("sensor/hall/temperature", "19.0", 1)]);
    visitor.wait_until_gone();

    client.publish(&broker, "sensor/hall/temperature", &["19.1"], 1);

    let mut visitor = client.subscribe(&broker, wanted("sensor/+/humidity"));
    client.publish(&broker, "sensor/hall/temperature", &["19.2"], 1);
    client.publish(&broker, "sensor/hall/humidity", &["51"], 1);
    assert_eq!(visitor.receive(1), [Message::new("sensor/hall/humidity", "51", 1)]);
}

/// A client that is killed with no word is spoken for by its will.
fn the_will_follows_a_cut_connection(client: Client) {
    let broker = Broker::start();
    let mut watcher = client.subscribe(
        &broker,
        Subscription { filter: "status/+", qos: 2, ..Subscription::new("watcher") },
    );
    let patient = client.subscribe(
        &broker,
        Subscription {
            filter: "sensor/none",
            will: Some(Will { topic: "status/patient", payload: "lost", qos: 1, delay: 0 }),
            ..Subscription::new("patient")
        },
    );
    client.publish(&broker, "status/patient", &["alive"], 1);
    assert_eq!(watcher.receive(1), [Message::new("status/patient", "alive", 1)]);

    patient.cut();
    assert_eq!(watcher.receive(1), [Message::new("status/patient", "lost", 1)]);
}

/// A client that says DISCONNECT takes its will with it.
fn no_will_follows_a_disconnect(client: Client) {
    let broker = Broker::start();
    let mut watcher = client.subscribe(
        &broker,
        Subscription { filter: "status/+", qos: 1, ..Subscription::new("watcher") },
    );
    let guest = client.subscribe(
        &broker,
        Subscription {
            filter: "guests/out",
            qos: 1,
            will: Some(Will { topic: "status/guest", payload: "lost", qos: 1, delay: 0 }),
            leave_after: Some(1),
            ..Subscription::new("guest")
        },
    );
    client.publish(&broker, "guests/out", &["please"], 1);
    guest.wait_until_gone();
    // A second connection of that id: the broker is done with the first when it answers.
    let again = Subscription { filter: "guests/in", ..Subscription::new("guest") };
    let _again = client.subscribe(&broker, again);
    client.publish(&broker, "status/guest", &["left"], 1);
    assert_eq!(watcher.receive(1), [Message::new("status/guest", "left", 1)]);
}

/// A session of MQTT 5.0 ends when its expiry interval has passed, and with it a longer will delay.
fn a_session_expires(client: Client) {
    let broker = Broker::start();
    let mut watcher = client.subscribe(
        &broker,
        Subscription { filter: "status/+", qos: 1, ..Subscription::new("watcher") },
    );
    let wanted = |filter, will| Subscription {
        filter,
        qos: 1,
        session: Session::Expiring(1),
        will,
        ..Subscription::new("mayfly")
    };
    let will = Will { topic: "status/mayfly", payload: "ended", qos: 1, delay: 3600 };
    let mayfly = client.subscribe(&broker, wanted("sensor/+/temperature", Some(will)));
    mayfly.cut();
    client.publish(&broker, "sensor/hall/temperature", &["19.1"], 1);
    assert_eq!(watcher.receive(1), [Message::new("status/mayfly", "ended", 1)]);

    client.publish(&broker, "sensor/hall/temperature", &["19.2"], 1);
    let mut mayfly = client.subscribe(&broker, wanted("sensor/+/humidity", None));
    client.publish(&broker, "sensor/hall/humidity", &["51"], 1);
    assert_eq!(mayfly.receive(1), [Message::new("sensor/hall/humidity", "51", 1)]);
}

/// Both programs in every version, all at once: each sees what each of them publishes.
#[test]
fn every_version_talks_to_every_other() {
    let broker = Broker::start();
    let clients: Vec<Client> = [Program::Mosquitto, Program::Paho]
        .into_iter()
        .flat_map(|program| Version::ALL.map(|version| Client::find(program, version)))
        .flatten()
        .collect();
    let mut watchers: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(index, client)| {
            let id = format!("watcher-{index}");
            client.subscribe(
                &broker,
                Subscription { filter: "news/#", qos: 1, ..Subscription::new(&id) },
            )
        })
        .collect();
    let mut expected = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        let topic = format!("news/{index}");
        client.publish(&broker, &topic, &["hello"], 2);
        expected.push(Message::new(&topic, "hello", 1));
    }
    for watcher in &mut watchers {
        assert_eq!(watcher.receive(clients.len()), expected);
    }
}

/// A broker that is told to stop says so to its clients of MQTT 5.0: DISCONNECT 0x8B.
#[test]
fn a_broker_that_stops_says_so() {
    run(Program::Paho, Version::V5, |client| {
        let mut broker = Broker::start();
        if !broker.is_ours() {
            eprintln!("skipped: a broker that is not ours is not stopped");
            return;
        }
        let wanted = Subscription { filter: "sensor/#", ..Subscription::new("watcher") };
        let mut watcher = client.subscribe(&broker, wanted);
        broker.stop();
        assert_eq!(watcher.disconnect_reason(), 0x8B);
    });
}
