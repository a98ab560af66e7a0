//! A scenario that must fail does fail, for each kind of expectation, and says why.

use codec::ProtocolVersion;
use conformance::{
    lang::{self, Setting},
    play::{self, Names, Outcome},
    sim::{Run, Sim, sweep},
    world::{Connection, World, WorldError},
};

/// Plays these statements against the core, behind two clients that are connected.
fn play(statements: &str) -> Outcome {
    let text = format!(
        "[T-1] v5 MUST core-only\nalice > CONNECT clean\nalice < CONNACK\nbob > CONNECT clean\n\
         bob < CONNACK\nbob > SUBSCRIBE id=1 a qos=1\nbob < SUBACK id=1 0x01\n{statements}\n"
    );
    let scenario = lang::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    sweep(&scenario, ProtocolVersion::V5, &[Run { shards: 1, seed: 0 }])
}

#[track_caller]
fn fails(statements: &str, because: &str) {
    let outcome = play(statements);
    let failure = outcome.failure.unwrap_or_else(|| panic!("passed:\n{}", outcome.trace));
    let shown = failure.to_string();
    assert!(shown.contains(because), "expected `{because}` in:\n{shown}");
}

#[track_caller]
fn passes(statements: &str) {
    let outcome = play(statements);
    assert_eq!(outcome.failure.map(|failure| failure.to_string()), None);
}

#[test]
fn another_packet() {
    fails("alice > PINGREQ\nalice < SUBACK id=1", "received: PINGRESP");
    fails("alice > PUBLISH a \"x\" qos=1 id=1\nalice < PUBREC id=1", "received: PUBACK 0x00 id=1");
}

#[test]
fn no_packet() {
    fails("alice < PINGRESP", "received: nothing");
}

#[test]
fn another_value() {
    let publish = "alice > PUBLISH a \"x\" user=k:\"v\"\n";
    fails(&format!("{publish}bob < PUBLISH b \"x\""), "topic: expected b, it is a");
    fails(&format!("{publish}bob < PUBLISH a \"y\""), "payload: expected \"y\", it is \"x\"");
    fails(&format!("{publish}bob < PUBLISH a qos=1"), "qos: expected 1, it is 0");
    fails(&format!("{publish}bob < PUBLISH a qos=1..2"), "qos: expected 1..2, it is 0");
    fails(&format!("{publish}bob < PUBLISH a message_expiry=*"), "any value, it is absent");
    fails(&format!("{publish}bob < PUBLISH a !user"), "to be absent, it is k:\"v\"");
    fails(&format!("{publish}bob < PUBLISH a user=k:\"w\""), "user: expected k:\"w\"");
    fails(&format!("{publish}bob < PUBLISH a user=k:\"v\" user=k:\"v\""), "exactly 2 of it");
    passes(&format!("{publish}bob < PUBLISH a \"x\" user=k:\"v\" qos=0..1 !message_expiry"));
}

#[test]
fn another_code() {
    fails("alice > SUBSCRIBE id=1 a b\nalice < SUBACK id=1 0x00", "exactly 1 of it");
    fails("alice > SUBSCRIBE id=1 a b\nalice < SUBACK id=1 0x00 0x01", "expected 0x01");
    fails("alice > SUBSCRIBE id=1 a\nalice < SUBACK id=1 0x01|0x02", "expected 0x01|0x02");
    passes("alice > SUBSCRIBE id=1 a b\nalice < SUBACK id=1 0x00 0x00|0x01");
}

#[test]
fn an_error_where_success_goes_without_saying() {
    fails(
        "carol > CONNECT clean auth_method=none\ncarol < CONNACK",
        "code: expected success, it is 0x8C",
    );
}

#[test]
fn another_value_than_was_bound() {
    let two = "alice > PUBLISH a \"x\" qos=1 id=1\nalice < PUBACK id=1\n\
               alice > PUBLISH a \"y\" qos=1 id=2\nalice < PUBACK id=2\n\
               bob < PUBLISH a \"x\" id=$m\n";
    fails(&format!("{two}bob < PUBLISH a \"y\" id=$m"), "id: expected $m as bound before");
    passes(&format!("{two}bob < PUBLISH a \"y\" id=$n"));
    fails("bob > PUBACK id=$unknown", "$unknown is not bound yet");
}

#[test]
fn something_where_nothing_is_expected() {
    fails("alice > PUBLISH a \"x\"\nbob < nothing", "received: PUBLISH a \"x\"");
    fails("alice > DISCONNECT\nalice < nothing", "received: closed");
}

#[test]
fn something_unread_at_the_end() {
    fails("alice > PUBLISH a \"x\"", "bob < PUBLISH a \"x\", unexpected");
    fails("alice > raw c1 00\nbob > PINGREQ\nbob < PINGRESP", "alice < DISCONNECT 0x81");
    passes("alice > DISCONNECT");
}

#[test]
fn no_close_another_code_or_a_packet_before_it() {
    fails("alice < closed", "received: nothing");
    fails("alice > PINGREQ\nalice < closed 0x82", "received: PINGRESP");
    fails("alice > CONNECT clean\nalice < closed 0x81", "received: DISCONNECT 0x82");
    fails("alice > CONNECT clean\nalice < closed", "received: DISCONNECT 0x82");
    passes("alice > CONNECT clean\nalice < closed 0x81|0x82");
}

#[test]
fn other_bytes() {
    fails("alice > PINGREQ\nalice < raw d0 01", "received: x'd000'");
    fails("alice > PINGREQ\nalice < raw d0 00 00", "received: x'd000'");
    passes("alice > PINGREQ\nalice < raw d0 ..");
}

#[test]
fn no_branch() {
    let either = "either\n alice < PINGRESP\nor\n alice < closed\nend";
    fails(either, "not met: alice < PINGRESP");
    fails(&format!("alice > SUBSCRIBE id=1 b\n{either}"), "alice received: SUBACK id=1 0x00");
    passes(&format!("alice > PINGREQ\n{either}"));
    passes("either\n alice < PINGRESP\nor\n alice < nothing\nend");
    fails(
        "alice > PINGREQ\neither\n alice < PINGRESP\n alice < PINGRESP\nor\n alice < closed\nend",
        "received: nothing",
    );
}

#[test]
fn one_too_few_in_any_order() {
    let two = "alice > PUBLISH a \"1\"\nalice > PUBLISH a \"2\"\n";
    let lines = "unordered\n bob < PUBLISH a \"2\"\n bob < PUBLISH a \"1\"\n";
    passes(&format!("{two}{lines}end"));
    fails(&format!("{two}{lines} bob < PUBLISH a \"3\"\nend"), "received: nothing");
    fails(&format!("{two}unordered\n bob < PUBLISH a \"2\"\nend"), "still expected: bob < PUBLISH");
}

#[test]
fn a_client_without_a_connection() {
    fails("carol > PINGREQ", "carol has no connection");
    fails("carol < PINGRESP", "carol has no connection");
    fails("alice ! open", "alice has a connection already");
}

#[test]
fn a_guard_keeps_a_statement_from_other_versions() {
    passes("@v3 alice < PINGRESP");
    fails("@v3.1,v5 alice < PINGRESP", "received: nothing");
}

#[test]
fn a_promise_that_no_statement_speaks_of() {
    let accepted = [0x20, 0x03, 0x00, 0x00, 0x00];
    let publish = |id| vec![0x32, 0x06, 0x00, 0x01, b'a', 0x00, id, 0x00];
    let early = "alice > CONNECT clean\nalice < PINGRESP";
    assert_broken(early, vec![0xD0, 0x00], "a packet before CONNACK");
    let one = "alice > CONNECT clean receive_maximum=1\nalice < CONNACK\nalice < PUBLISH a\n";
    let twice = [accepted.to_vec(), publish(1), publish(2)].concat();
    assert_broken(&format!("{one}alice < PUBLISH a"), twice, "the Receive Maximum of 1");
    let same = [accepted.to_vec(), publish(7), publish(7)].concat();
    assert_broken(&format!("{one}alice < PUBLISH a"), same, "identifier 7 is still in use");
    let large = [accepted.to_vec(), publish(1)].concat();
    let small = "alice > CONNECT clean maximum_packet_size=7\nalice < CONNACK\nalice < PUBLISH a";
    assert_broken(small, large, "above the client's maximum of 7");
    let broken = [accepted.to_vec(), vec![0xD1, 0x00]].concat();
    let any = "alice > CONNECT clean\nalice < CONNACK\nalice < PINGRESP";
    assert_broken(any, broken, "bytes that break");
    let again = "alice > CONNECT clean\nalice < CONNACK\nalice < CONNACK";
    assert_broken(again, [accepted, accepted].concat(), "a second CONNACK");
    let aliased = vec![0x30, 0x07, 0x00, 0x01, b'a', 0x03, 0x23, 0x00, 0x02];
    let high = [accepted.to_vec(), aliased].concat();
    let one = "alice > CONNECT clean topic_alias_maximum=1\nalice < CONNACK\nalice < PUBLISH a";
    assert_broken(one, high, "topic alias 2, above the client's maximum of 1");
}

#[test]
fn a_connack_that_no_client_takes() {
    let connack = |rule: &str, bytes: &[u8]| {
        let statements = "alice > CONNECT clean\nalice < CONNACK *";
        assert_broken(statements, bytes.to_vec(), &breaks(rule));
    };
    // A reserved flag, Session Present with a refusal, codes of other packets, and none.
    connack("MQTT-3.2.2-1", &[0x20, 0x03, 0x02, 0x00, 0x00]);
    connack("MQTT-3.2.2-6", &[0x20, 0x03, 0x01, 0x87, 0x00]);
    connack("MQTT-3.2.2-8", &[0x20, 0x03, 0x00, 0x10, 0x00]);
    connack("MQTT-3.2.2-8", &[0x20, 0x03, 0x00, 0x8E, 0x00]);
    connack("MQTT-3.2.2-8", &[0x20, 0x03, 0x00, 0x05, 0x00]);
    // Receive Maximum twice, and 0; Maximum QoS 2; a property of another packet.
    connack("U5-3.1.2.11.3-a", &[0x20, 0x09, 0x00, 0x00, 0x06, 0x21, 0x00, 0x05, 0x21, 0x00, 0x05]);
    connack("U5-3.1.2.11.3-a", &[0x20, 0x06, 0x00, 0x00, 0x03, 0x21, 0x00, 0x00]);
    connack("U5-3.2.2.3.4-a", &[0x20, 0x05, 0x00, 0x00, 0x02, 0x24, 0x02]);
    connack("U5-2.2.2.2-a", &[0x20, 0x08, 0x00, 0x00, 0x05, 0x02, 0x00, 0x00, 0x00, 0x01]);
}

#[test]
fn a_publish_that_no_client_takes() {
    let publish = |rule: &str, bytes: &[u8]| {
        let says = [&[0x20, 0x03, 0x00, 0x00, 0x00], bytes].concat();
        let statements = "alice > CONNECT clean topic_alias_maximum=5\nalice < CONNACK\n\
                          alice < PUBLISH *";
        assert_broken(statements, says, &breaks(rule));
    };
    // DUP with QoS 0, QoS 3, no identifier, no topic, a wildcard, no UTF-8.
    publish("MQTT-3.3.1-2", &[0x38, 0x04, 0x00, 0x01, b'a', 0x00]);
    publish("MQTT-3.3.1-4", &[0x36, 0x06, 0x00, 0x01, b'a', 0x00, 0x01, 0x00]);
    publish("MQTT-2.2.1-3", &[0x32, 0x06, 0x00, 0x01, b'a', 0x00, 0x00, 0x00]);
    publish("U5-3.3.2.1-a", &[0x30, 0x03, 0x00, 0x00, 0x00]);
    publish("MQTT-3.3.2-2", &[0x30, 0x04, 0x00, 0x01, b'+', 0x00]);
    publish("MQTT-1.5.4-1", &[0x30, 0x04, 0x00, 0x01, 0xFF, 0x00]);
    // Topic Alias 0, Subscription Identifier 0, a Response Topic with a wildcard, Content Type and
    // Response Topic that are no UTF-8, Content Type twice.
    publish("MQTT-3.3.2-8", &[0x30, 0x07, 0x00, 0x01, b'a', 0x03, 0x23, 0x00, 0x00]);
    publish("U5-3.3.2.3.8-a", &[0x30, 0x06, 0x00, 0x01, b'a', 0x02, 0x0B, 0x00]);
    publish("MQTT-3.3.2-14", &[0x30, 0x08, 0x00, 0x01, b'a', 0x04, 0x08, 0x00, 0x01, b'#']);
    publish("MQTT-1.5.4-1", &[0x30, 0x08, 0x00, 0x01, b'a', 0x04, 0x08, 0x00, 0x01, 0xFF]);
    publish("MQTT-1.5.4-1", &[0x30, 0x08, 0x00, 0x01, b'a', 0x04, 0x03, 0x00, 0x01, 0xFF]);
    let twice = [0x03, 0x00, 0x00, 0x03, 0x00, 0x00];
    publish("U5-3.3.2.3.5-a", &[&[0x30, 0x0A, 0x00, 0x01, b'a', 0x06], &twice[..]].concat());
}

#[test]
fn an_acknowledgement_that_no_client_takes() {
    let ack = |rule: &str, packet: &str, bytes: &[u8]| {
        let says = [&[0x20, 0x03, 0x00, 0x00, 0x00], bytes].concat();
        let statements = format!("alice > CONNECT clean\nalice < CONNACK\nalice < {packet} *");
        assert_broken(&statements, says, &breaks(rule));
    };
    // Codes of other packets.
    ack("MQTT-3.4.2-1", "PUBACK", &[0x40, 0x03, 0x00, 0x01, 0x92]);
    ack("MQTT-3.5.2-1", "PUBREC", &[0x50, 0x03, 0x00, 0x01, 0x82]);
    ack("MQTT-3.6.2-1", "PUBREL", &[0x62, 0x03, 0x00, 0x01, 0x10]);
    ack("MQTT-3.7.2-1", "PUBCOMP", &[0x70, 0x03, 0x00, 0x01, 0x97]);
    // Wrong flags, identifier 0, Reason String twice.
    ack("MQTT-3.6.1-1", "PUBREL", &[0x60, 0x02, 0x00, 0x01]);
    ack("MQTT-2.2.1-3", "PUBACK", &[0x40, 0x02, 0x00, 0x00]);
    ack(
        "U5-3.4.2.2.2-a",
        "PUBACK",
        &[0x40, 0x0A, 0x00, 0x01, 0x00, 0x06, 0x1F, 0x00, 0x00, 0x1F, 0x00, 0x00],
    );
}

fn breaks(rule: &str) -> String {
    format!("bytes that break {rule}:")
}

#[track_caller]
fn assert_broken(statements: &str, says: Vec<u8>, because: &str) {
    let scenario = lang::parse(&format!("[T-1] v5 MUST\n{statements}\n")).expect("it parses");
    let mut broker = Parrot { says };
    let outcome = play::play(&scenario, ProtocolVersion::V5, &mut broker, &Names::exact());
    let shown = outcome.failure.expect("the broker broke a promise").to_string();
    assert!(shown.contains(because), "expected `{because}` in:\n{shown}");
}

/// A broker that says the same to everybody, whatever it hears.
struct Parrot {
    says: Vec<u8>,
}

impl World for Parrot {
    fn open(&mut self) -> Result<Connection, WorldError> {
        Ok(Connection(0))
    }

    fn send(&mut self, _: Connection, _: &[u8]) {}

    fn close(&mut self, _: Connection) {}

    fn receive(&mut self, _: Connection, inbox: &mut Vec<u8>) -> bool {
        inbox.append(&mut self.says);
        false
    }

    fn advance(&mut self) -> Result<bool, WorldError> {
        Ok(false)
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        Ok(())
    }

    fn wait(&mut self, _: std::time::Duration) -> Result<(), WorldError> {
        Ok(())
    }

    fn crash(&mut self) -> Result<(), WorldError> {
        Ok(())
    }

    fn change_rights(&mut self, _: &[Setting]) -> Result<(), WorldError> {
        Ok(())
    }

    fn is_live(&self) -> bool {
        false
    }
}

#[test]
fn runs_that_look_different_fail() {
    let text = "[T-1] v5 MUST core-only\na > CONNECT clean\na < CONNACK\nb > CONNECT clean\n\
                b < CONNACK\nc > CONNECT clean\nc < CONNACK\nc > SUBSCRIBE id=1 t\n\
                c < SUBACK id=1 0x00\na > PUBLISH t \"a\"\nb > PUBLISH t \"b\"\n\
                either\n c < PUBLISH t \"a\"\n c < PUBLISH t \"b\"\nor\n c < PUBLISH t \"b\"\n \
                c < PUBLISH t \"a\"\nend\n";
    let scenario = lang::parse(text).expect("it parses");
    let runs: Vec<Run> = (0..20).map(|seed| Run { shards: 1, seed }).collect();
    let failure = sweep(&scenario, ProtocolVersion::V5, &runs).failure.expect("seeds differ");
    assert_eq!(failure.statement, "every run must give the same trace");
}

#[test]
fn a_seed_names_a_run() {
    let scenario = lang::parse("[T-1] v5 MUST\na > CONNECT clean\na < CONNACK\n").expect("parses");
    let play = |seed| {
        let mut sim = Sim::new(5, seed, &[]).expect("no setting is wrong");
        play::play(&scenario, ProtocolVersion::V5, &mut sim, &Names::exact());
        format!("{sim:?}")
    };
    assert_eq!(play(3), play(3));
}

#[test]
fn a_crash_keeps_what_is_durable() {
    let text = "[T-1] v5 MUST core-only\nconfig durable=1\n\
                alice > CONNECT keep\nalice < CONNACK session=0\n\
                alice > SUBSCRIBE id=1 a qos=1\nalice < SUBACK id=1 0x01\n\
                bob > CONNECT clean\nbob < CONNACK\ncrash\n\
                bob > CONNECT clean\nbob < CONNACK\n\
                bob > PUBLISH a \"x\" qos=1 id=1\nbob < PUBACK id=1 0x00\ncrash\n\
                alice > CONNECT keep\nalice < CONNACK session=1\n\
                alice < PUBLISH a \"x\" qos=1 id=$m\nalice > PUBACK id=$m\n";
    let scenario = lang::parse(text).expect("it parses");
    let runs: Vec<Run> = [1, 2, 5]
        .into_iter()
        .flat_map(|shards| (0..5).map(move |seed| Run { shards, seed }))
        .collect();
    let failure = sweep(&scenario, ProtocolVersion::V5, &runs).failure;
    assert_eq!(failure.map(|failure| failure.to_string()), None);
}
