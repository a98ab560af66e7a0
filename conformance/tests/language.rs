//! What is wrong with a scenario's text is said with its place.

use std::time::Duration;

use codec::{PacketType, ProtocolVersion};
use conformance::lang::{Action, Expected, Level, Pattern, RawItem, Value, parse};

#[track_caller]
fn wrong(statement: &str, column: usize, because: &str) {
    let text = format!("[T-1] v5 MUST\n{statement}\n");
    let error = parse(&text).expect_err("it must not parse");
    assert!(error.message.contains(because), "expected `{because}` in `{}`", error.message);
    assert_eq!((error.at.line, error.at.column), (2, column), "{error}");
}

#[test]
fn a_wrong_statement_is_named_with_its_place() {
    wrong("Alice > PINGREQ", 1, "expected a client's name");
    wrong("alice ? PINGREQ", 7, "expected >, < or !");
    wrong("alice > PINGREX", 9, "found `PINGREX`");
    wrong("alice > PUBLISH a colour=1", 19, "PUBLISH has no field `colour`");
    wrong("alice > PUBLISH a \"x\" \"y\"", 23, "expected `field=value`");
    wrong("alice > PUBLISH a qos=3", 19, "above 2");
    wrong("alice > PUBLISH a qos=one", 19, "expected a number");
    wrong("alice > PUBLISH a qos=1", 9, "needs `id=`");
    wrong("alice > PUBLISH a id=1", 9, "needs no `id=`");
    wrong("alice > PUBLISH a qos=0 qos=0", 25, "written twice");
    wrong("alice > PUBLISH a \"x", 21, "closing `\"`");
    wrong("alice > PUBLISH a x'0'", 23, "even number");
    wrong("alice > PUBLISH a \"\\q\"", 21, "expected one of");
    wrong("alice > PUBLISH a/b=c", 17, "in quotes");
    wrong("alice > PUBLISH a user=v", 19, "`name:\"value\"`");
    wrong("alice > PUBACK id=1..2", 16, "needs a value");
    wrong("alice > PUBACK 0x00", 9, "needs `id=`");
    wrong("alice > SUBSCRIBE qos=1 id=1 a", 19, "behind the filter");
    wrong("alice < PUBLISH !topic", 17, "never absent");
    wrong("alice > raw 1", 14, "pairs of hexadecimal digits");
    wrong("alice > raw 10 [ 00", 20, "expected `]`");
    wrong("alice > raw 10 ]", 17, "has no `[`");
    wrong("alice < closed now", 16, "expected a number");
    wrong("alice < nothing more", 17, "end of the line");
    wrong("alice ! jump", 9, "open or drop");
    wrong("wait 5", 6, "expected a time");
    wrong("config receive_maximum=1", 8, "core-only");
    wrong("crash", 1, "core-only");
    wrong("rights deny_publish=a", 1, "core-only");
    wrong("end", 1, "to end");
    wrong("either\nalice < nothing", 1, "expected an `end`");
    wrong("unordered\nor\nend", 1, "`or` belongs to `either`");
    wrong("@v4 alice < nothing", 2, "expected versions");
}

#[test]
fn a_wrong_header_is_named() {
    for (text, because) in [
        ("alice > PINGREQ", "expected a header"),
        ("[A B] v5 MUST", "no id"),
        ("[A v5 MUST", "expected `]`"),
        ("[A] v6 MUST", "expected v3.1"),
        ("[A] MUST", "expected a version"),
        ("[A] v5 MUST loud", "expected core-only"),
        ("[A] v5 MUST", "expected statements"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.message.contains(because), "{text}: {error}");
    }
}

#[test]
fn a_scenario_is_what_it_says() {
    let text = "[MQTT-1] [U5-1] v5 MUST exact-names\n[U3-1] v3.1.1 v3.1 SHOULD core-only\n\
                | What is\n| proved.\n\nconfig durable=1\n\
                | a remark\nalice > SUBSCRIBE id=1 $share/g/a qos=1 \"a b\" no_local\n\
                @v3.1,v5 alice < SUBACK id=$i 0x01|0x02 *\n  wait 500ms\n";
    let scenario = parse(text).expect("it parses");
    assert_eq!(scenario.headers[0].ids, ["MQTT-1", "U5-1"]);
    assert_eq!(scenario.headers[1].level, Level::Should);
    let all = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];
    assert_eq!(scenario.versions(), all);
    assert!(scenario.core_only && scenario.exact_names);
    assert_eq!(scenario.about, "What is\nproved.");
    let [subscribe, suback, wait] = &scenario.body[..] else { panic!("three statements") };
    let Action::Send(name, packet) = &subscribe.action else { panic!("it is sent") };
    assert_eq!((name.as_str(), packet.packet), ("alice", PacketType::Subscribe));
    let fields: Vec<_> = packet.fields.iter().map(|f| (f.field.name, &f.pattern)).collect();
    let text = |text: &str| Pattern::Is(Value::Bytes(text.as_bytes().to_vec()));
    let one = Pattern::Is(Value::Number(1));
    assert_eq!(
        fields,
        [
            ("id", &one),
            ("filter", &text("$share/g/a")),
            ("qos", &one),
            ("filter", &text("a b")),
            ("no_local", &one),
        ]
    );
    assert!(!suback.is_for(ProtocolVersion::V311) && suback.is_for(ProtocolVersion::V5));
    let Action::Expect(_, Expected::Packet(packet)) = &suback.action else { panic!("expected") };
    let patterns: Vec<_> = packet.fields.iter().map(|field| &field.pattern).collect();
    let codes = Pattern::OneOf(vec![1, 2]);
    assert_eq!(patterns, [&Pattern::Variable("i".into()), &codes, &Pattern::Any]);
    assert_eq!(wait.action, Action::Wait(Duration::from_millis(500)));
}

#[test]
fn raw_bytes_count_themselves() {
    let text = "[T-1] v5 MUST\na > raw 10 [ s\"MQTT\" 0502 [ ] c\"a\" ] x'ff'*2 s'c080' t\"t/u\"\n";
    let scenario = parse(text).expect("it parses");
    let Action::SendRaw(_, items) = &scenario.body[0].action else { panic!("it is raw") };
    assert_eq!(
        *items,
        [
            RawItem::Bytes(vec![0x10]),
            RawItem::Counted(vec![
                RawItem::Text(b"MQTT".to_vec()),
                RawItem::Bytes(vec![5, 2]),
                RawItem::Counted(vec![]),
                RawItem::ClientId("a".into()),
            ]),
            RawItem::Bytes(vec![0xFF, 0xFF]),
            RawItem::Text(vec![0xC0, 0x80]),
            RawItem::Topic("t/u".into()),
        ]
    );
}
