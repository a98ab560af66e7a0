//! Rights that end while they are used: whoever asks the outside gets the answer that holds now.

mod again;
#[path = "../common/mod.rs"]
mod common;
mod world;

use std::sync::Arc;

use codec::{Ack, Connect, Packet, Property, ProtocolVersion, QoS, ReasonCode, Will};
use proptest::prelude::*;
use session_core::{
    Action, Actions, Answer, Command, DeniedPublish, Exchange, Grants, Input, Level, Pattern,
    Request, Subject, Ticket, Time,
};

use world::*;

/// CVE-2021-34434: a subscription was kept after the right to it was gone.
#[test]
fn a_subscription_ends_with_the_right_to_it() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("reader"));
    world.packet(1, subscribe(&["a", "b", "$share/g/a", "$share/g/b"]));
    world.connect(2, v5("writer"));
    assert_eq!(world.packet(2, publish("b", QoS::AtMostOnce, 0)), ["1 PUBLISH b", "1 PUBLISH b"]);

    assert_eq!(world.rights_change(only("a")), [""; 0]);
    assert_eq!(world.shard.view().subscriptions(), 2);
    assert_eq!(world.packet(2, publish("a", QoS::AtMostOnce, 0)), ["1 PUBLISH a", "1 PUBLISH a"]);
    let denied = "2 denied Publish b by no rule, untold 0";
    assert_eq!(world.packet(2, publish("b", QoS::AtMostOnce, 0)), [denied]);
}

/// A message that waited is not delivered once its topic may not be read any more.
#[test]
fn a_queued_message_is_judged_when_it_is_sent() {
    let mut world = World::new(|config| config.limits.send_window_max = 1);
    world.connect(1, v5("reader"));
    world.packet(1, subscribe(&["+"]));
    world.connect(2, v5("writer"));
    for (number, topic) in [(1, "a"), (2, "b"), (3, "a")] {
        world.packet(2, publish(topic, QoS::AtLeastOnce, number));
    }
    // The filter may still be had; one of its topics may not.
    let mut rules = vec![rule(false, Actions::of(&[Action::Receive]), "b")];
    rules.push(rule(true, Actions::ALL, "#"));
    world.rights_change(Grants::Rules(rules.into()));
    let next = world.packet(1, Packet::PubAck(Ack::success(id(1))));
    assert_eq!(next, ["1 PUBLISH a"], "b waited before it");
}

/// And neither is one that waited for a client that was away.
#[test]
fn messages_of_an_absent_client_are_judged_when_it_returns() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("reader"));
    world.packet(1, subscribe(&["a", "b"]));
    world.input(Input::Closed { conn: conn(1) });
    world.connect(2, v5("writer"));
    world.packet(2, publish("b", QoS::AtLeastOnce, 1));
    world.packet(2, publish("a", QoS::AtLeastOnce, 2));
    world.grants = only("a");
    assert_eq!(world.connect(3, v5("reader")), ["3 ConnAck Success", "3 PUBLISH a"]);
    assert_eq!(world.shard.view().subscriptions(), 1);
}

/// And neither is one that was sent before, and not acknowledged. Of QoS 2 the receiver may have the message: it ends
/// with PUBREL, or the next message with its identifier would be taken for the same one.
#[test]
fn what_was_sent_is_judged_when_it_is_sent_again() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::new(|_| {});
        world.connect(1, v5("reader"));
        world.packet(1, subscribe_at(&["a", "b"], qos));
        world.connect(2, v5("writer"));
        for (number, topic) in [(1, "b"), (2, "a")] {
            world.packet(2, publish(topic, qos, number));
            world.packet(2, Packet::PubRel(Ack::success(id(number))));
        }
        world.input(Input::Closed { conn: conn(1) });
        world.grants = only("a");
        let released = (qos == QoS::ExactlyOnce).then_some("3 PubRel Success");
        let expected = ["3 ConnAck Success"].into_iter().chain(released).chain(["3 PUBLISH a"]);
        assert_eq!(world.connect(3, v5("reader")), expected.collect::<Vec<_>>(), "{qos:?}");
        if released.is_some() {
            world.packet(3, Packet::PubComp(Ack::success(id(1))));
        }
        assert_eq!(world.shard.view().queued(), 1, "only what was sent");
    }
}

/// A QoS 2 message that was taken goes to nobody if its publisher loses the right before PUBREL.
#[test]
fn a_message_that_is_held_is_judged_again_when_it_is_released() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("reader"));
    world.packet(1, subscribe(&["a", "b"]));
    world.connect(2, v5("writer"));
    for (number, topic) in [(1, "a"), (2, "b")] {
        world.packet(2, publish(topic, QoS::ExactlyOnce, number));
    }
    let all = [
        rule(true, Actions::of(&[Action::Subscribe, Action::Receive]), "#"),
        rule(true, Actions::ALL, "a"),
    ];
    world.rights_change(Grants::Rules(all.into()));
    let release =
        |world: &mut World, number| world.packet(2, Packet::PubRel(Ack::success(id(number))));
    let denied = "2 denied Publish b by no rule, untold 0";
    assert_eq!(release(&mut world, 2), [denied, "2 PubComp Success"]);
    assert_eq!(release(&mut world, 1), ["1 PUBLISH a", "2 PubComp Success"]);
}

#[test]
fn a_will_without_a_right_to_it_lets_nobody_in_and_is_told_with_its_rule() {
    let will = Will { qos: QoS::AtMostOnce, retain: false, delay_s: 0, message: message("last") };
    for (version, answer) in
        [(ProtocolVersion::V5, "NotAuthorized"), (ProtocolVersion::V311, "NotAuthorized")]
    {
        let mut world = World::new(|_| {});
        let rules = [rule(false, Actions::ALL, "last"), rule(true, Actions::ALL, "#")];
        world.grants = Grants::Rules(rules.into());
        let connect = Connect { will: Some(Box::new(will.clone())), ..client(version, "mortal") };
        assert_eq!(
            world.connect(1, connect),
            [
                "1 denied Publish last by rule of last, untold 0",
                &format!("1 ConnAck {answer}"),
                "1 closed Refused(NotAuthorized)"
            ]
        );
        assert_eq!(world.shard.view().sessions(), 0);
    }
}

#[test]
fn a_will_that_may_not_be_published_any_more_is_not() {
    for (allowed, expected) in [("last", vec!["1 PUBLISH last"]), ("other", vec![])] {
        let mut world = World::new(|_| {});
        world.connect(1, v5("reader"));
        world.packet(1, subscribe(&["last"]));
        let will =
            Will { qos: QoS::AtMostOnce, retain: false, delay_s: 0, message: message("last") };
        world.connect(2, Connect { will: Some(Box::new(will)), ..v5("mortal") });
        let reading = rule(true, Actions::of(&[Action::Subscribe, Action::Receive]), "#");
        world.rights_change(Grants::Rules(vec![reading, rule(true, Actions::ALL, allowed)].into()));
        assert_eq!(world.input(Input::Closed { conn: conn(2) }), expected, "{allowed}");
    }
}

/// Who may not even be there leaves no last word.
#[test]
fn a_client_that_is_turned_out_leaves_no_will() {
    for is_refused in [true, false] {
        let mut world = World::new(|_| {});
        world.connect(1, v5("reader"));
        world.packet(1, subscribe(&["last"]));
        let (qos, retain) = (QoS::AtMostOnce, false);
        let will = Will { qos, retain, delay_s: 0, message: message("last") };
        world.connect(2, Connect { will: Some(Box::new(will)), ..v5("mortal") });
        world.is_silent = true;
        world.rights_change(Grants::All);
        let questions = world.asked.iter().rev().take(2);
        let about_it = questions.filter_map(|(ticket, request)| match request {
            Request::Judge { subject } if &*subject.client_id == "mortal" => Some(*ticket),
            _ => None,
        });
        let ticket = about_it.last().expect("a question");
        let said = if is_refused {
            let reason = ReasonCode::Banned;
            world.input(Input::Answer { ticket, answer: Box::new(Answer::Refuse { reason }) })
        } else {
            world.wait(10_000)
        };
        assert!(said.contains(&"2 closed Refused(NotAuthorized)".to_owned()), "{said:?}");
        assert!(!said.iter().any(|line| line.contains("PUBLISH")), "{said:?}");
    }
}

#[test]
fn a_will_that_waits_is_judged_when_it_is_published() {
    for (allowed, expected) in [("last", vec!["1 PUBLISH last"]), ("other", vec![])] {
        let mut world = World::new(|_| {});
        world.connect(1, v5("reader"));
        world.packet(1, subscribe(&["last"]));
        let message = message("last");
        let will = Will { qos: QoS::AtMostOnce, retain: true, delay_s: 5, message };
        world.connect(2, Connect { will: Some(Box::new(will)), ..v5("mortal") });
        world.input(Input::Closed { conn: conn(2) });
        let reading = rule(true, Actions::of(&[Action::Subscribe, Action::Receive]), "#");
        world.rights_change(Grants::Rules(
            vec![reading.clone(), rule(true, Actions::ALL, allowed)].into(),
        ));
        assert_eq!(world.wait(5_000), expected, "{allowed}");
        // What it left behind rests on the same right.
        world.rights_change(Grants::Rules(vec![reading].into()));
        world.connect(3, v5("late"));
        assert_eq!(world.packet(3, subscribe(&["last"])), ["3 SubAck [GrantedQoS1]"]);
    }
}

#[test]
fn who_may_not_stay_is_told_and_ends() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("new"));
    world.connect(2, client(ProtocolVersion::V311, "old"));
    world.is_silent = true;
    world.rights_change(Grants::All);
    let questions: Vec<Ticket> =
        world.asked.iter().rev().take(2).map(|(ticket, _)| *ticket).collect();
    let refuse = || Box::new(Answer::Refuse { reason: ReasonCode::Banned });
    let mut said = Vec::new();
    for ticket in questions {
        said.extend(world.input(Input::Answer { ticket, answer: refuse() }));
    }
    said.sort();
    assert_eq!(
        said,
        [
            "1 Disconnect NotAuthorized",
            "1 closed Refused(NotAuthorized)",
            "2 closed Refused(NotAuthorized)"
        ]
    );
}

/// Fail closed: a question that nobody answers is a no.
#[test]
fn an_unanswered_question_about_rights_ends_the_connection() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("c"));
    world.is_silent = true;
    assert_eq!(world.rights_change(Grants::All), [""; 0]);
    assert_eq!(world.wait(9_999), [""; 0]);
    let ended = ["1 Disconnect NotAuthorized", "1 closed Refused(NotAuthorized)"];
    assert_eq!(world.wait(1), ended);
    assert_eq!(world.shard.view().connections(), 0);
}

/// As many as there are, a call asks about a bounded number.
#[test]
fn many_clients_are_asked_about_in_parts() {
    let mut world = World::new(|_| {});
    world.checks = false;
    for slot in 0..2_500 {
        world.connect(slot, v5(&format!("c{slot}")));
    }
    let mut effects = Vec::new();
    let command = Box::new(Command::RightsChanged);
    let input = Input::Command { ticket: Ticket(0), command };
    world.shard.handle(world.now, input, &mut effects);
    let mut counts = vec![effects.len() - 1];
    while world.shard.next_timeout() == Some(Time(0)) {
        let mut effects = Vec::new();
        world.shard.handle(world.now, Input::Tick, &mut effects);
        counts.push(effects.len());
    }
    assert_eq!(counts, [1000, 1000, 500]);
}

#[test]
fn a_denied_publish_is_answered_by_its_version() {
    for (version, setting, expected) in [
        (ProtocolVersion::V5, DeniedPublish::Disconnect, vec!["1 PubAck NotAuthorized"]),
        (ProtocolVersion::V311, DeniedPublish::Acknowledge, vec!["1 PubAck NotAuthorized"]),
        (ProtocolVersion::V311, DeniedPublish::Disconnect, vec!["1 closed Refused(NotAuthorized)"]),
        (ProtocolVersion::V31, DeniedPublish::Disconnect, vec!["1 closed Refused(NotAuthorized)"]),
    ] {
        for (qos, kind) in
            [(QoS::AtLeastOnce, "PubAck"), (QoS::ExactlyOnce, "PubRec"), (QoS::AtMostOnce, "")]
        {
            let mut world = World::new(|config| config.denied_publish_v3 = setting);
            world.grants = only("a");
            world.connect(1, client(version, "c"));
            let said = world.packet(1, publish("b", qos, u16::from(qos != QoS::AtMostOnce)));
            assert_eq!(said[0], "1 denied Publish b by no rule, untold 0");
            let expected: Vec<String> =
                expected.iter().map(|line| line.replace("PubAck", kind)).collect();
            let closes = expected[0].contains("closed");
            match qos {
                QoS::AtMostOnce if !closes => assert_eq!(said.len(), 1, "{said:?}"),
                _ => assert_eq!(said[1..], expected, "{version:?} {setting:?} {qos:?}"),
            }
        }
    }
}

#[test]
fn a_denied_subscription_is_refused_and_told_with_its_rule() {
    for (version, reason) in
        [(ProtocolVersion::V5, "NotAuthorized"), (ProtocolVersion::V311, "NotAuthorized")]
    {
        let mut world = World::new(|_| {});
        world.grants = Grants::Rules(Arc::new([
            rule(false, Actions::ALL, "b/#"),
            rule(true, Actions::ALL, "#"),
        ]));
        world.connect(1, client(version, "c"));
        let said = world.packet(1, subscribe(&["a", "b/c"]));
        assert_eq!(
            said,
            [
                "1 denied Subscribe b/c by rule of b/#, untold 0",
                &format!("1 SubAck [GrantedQoS1, {reason}]")
            ]
        );
    }
}

#[test]
fn denials_are_told_now_and_then() {
    let mut world = World::new(|_| {});
    world.grants = Grants::none();
    world.connect(1, v5("c"));
    let denials =
        |said: Vec<String>| said.into_iter().filter(|line| line.contains("denied")).count();
    assert_eq!(denials(world.packet(1, publish("b", QoS::AtMostOnce, 0))), 1);
    for _ in 0..5 {
        assert_eq!(denials(world.packet(1, publish("b", QoS::AtMostOnce, 0))), 0);
    }
    world.wait(10_000);
    let said = world.packet(1, publish("b", QoS::AtMostOnce, 0));
    assert_eq!(said, ["1 denied Publish b by no rule, untold 5"]);
}

#[test]
fn a_lapsed_client_has_a_moment_to_prove_itself_anew() {
    let mut world = World::new(|config| config.limits.reauthenticate_grace_ms = 500);
    world.expires = Some(Time(2000));
    world.connect(1, with_method("c"));
    assert_eq!(world.wait(1000), [""; 0], "it may still go on");
    world.expires = Some(Time(5000));
    assert_eq!(world.packet(1, auth(ReasonCode::ReAuthenticate)), ["1 Auth Success"]);
    let Some((_, Request::Continue { again: true, exchange: Some(exchange), .. })) =
        world.asked.last()
    else {
        panic!("{:?}", world.asked.last())
    };
    assert_eq!((&*exchange.subject.provider, exchange.state.len()), ("test", 0));
    assert_eq!(world.wait(2999), [""; 0], "within the session");
    assert_eq!(world.wait(1), [""; 0]);
    let ended = ["1 Disconnect NotAuthorized", "1 closed Refused(NotAuthorized)"];
    assert_eq!(world.wait(500), ended, "the moment is over");
}

#[test]
fn who_cannot_prove_itself_anew_ends_when_its_token_lapses() {
    for (connect, said) in [
        (v5("c"), vec!["1 Disconnect NotAuthorized", "1 closed Refused(NotAuthorized)"]),
        (client(ProtocolVersion::V311, "c"), vec!["1 closed Refused(NotAuthorized)"]),
    ] {
        let mut world = World::new(|_| {});
        world.expires = Some(Time(2000));
        world.connect(1, connect);
        assert_eq!(world.wait(999), [""; 0]);
        assert_eq!(world.wait(1), said);
    }
}

/// What a provider wants to see again comes with the client's next step, and only with it.
#[test]
fn an_exchange_comes_back_with_the_next_step() {
    let mut world = World::new(|_| {});
    world.is_silent = true;
    world.connect(1, with_method("c"));
    let (ticket, _) = world.asked[0];
    let subject = Arc::new(Subject { provider: "scram".into(), ..Subject::default() });
    let exchange = Exchange { subject, state: "nonce".into() };
    let answer = Box::new(Answer::Continue { data: None, exchange: Some(exchange.clone()) });
    assert_eq!(world.input(Input::Answer { ticket, answer }), ["1 Auth ContinueAuthentication"]);
    world.packet(1, auth(ReasonCode::ContinueAuthentication));
    let (_, Request::Continue { again: false, exchange: Some(found), .. }) = &world.asked[1] else {
        panic!("{:?}", world.asked)
    };
    assert_eq!(*found, exchange);
}

#[test]
fn retained_messages_are_judged_by_whom_they_go_to() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("writer"));
    for topic in ["a", "b"] {
        world.packet(1, retained(topic));
    }
    let mut rules = vec![rule(false, Actions::of(&[Action::Receive]), "b")];
    rules.push(rule(true, Actions::ALL, "#"));
    world.grants = Grants::Rules(rules.into());
    world.connect(2, v5("reader"));
    assert_eq!(world.packet(2, subscribe(&["#"])), ["2 SubAck [GrantedQoS1]", "2 PUBLISH a"]);
}

/// CVE-2018-12546: a retained message was delivered after its publisher had lost the right to it.
#[test]
fn a_retained_message_goes_to_nobody_while_its_publisher_may_not_publish_it() {
    let mut world = World::new(|_| {});
    world.connect(1, v5("writer"));
    for topic in ["a", "b"] {
        world.packet(1, retained(topic));
    }
    world.input(Input::Closed { conn: conn(1) });
    let reading = || rule(true, Actions::of(&[Action::Subscribe, Action::Receive]), "#");
    let look = |world: &mut World, slot| {
        world.connect(slot, v5(&format!("reader-{slot}")));
        world.packet(slot, subscribe(&["#"]))
    };
    let granted = |slot: u32| format!("{slot} SubAck [GrantedQoS1]");
    world.rights_change(Grants::Rules(vec![reading(), rule(true, Actions::ALL, "a")].into()));
    assert_eq!(look(&mut world, 2), [granted(2), "2 PUBLISH a".into()]);
    // A block may end: nothing is lost.
    world.rights_change(Grants::All);
    assert_eq!(look(&mut world, 3), [granted(3), "3 PUBLISH a".into(), "3 PUBLISH b".into()]);
    // No answer is a no.
    world.is_silent = true;
    world.rights_change(Grants::All);
    world.wait(10_000);
    world.is_silent = false;
    assert_eq!(look(&mut world, 4), [granted(4)]);
}

#[test]
fn credentials_never_appear_in_debug_output() {
    let properties = [
        Property::AuthenticationMethod("M".into()),
        Property::AuthenticationData(b"geheim-1".to_vec().into()),
    ];
    let password = Some(b"geheim-2".to_vec().into());
    let connect = Connect { password, properties: properties.into_iter().collect(), ..v5("c") };
    let packet = Packet::Connect(Box::new(connect.clone()));
    let subject = Arc::new(Subject::default());
    let exchange = Some(Exchange { subject, state: b"geheim-3".to_vec().into() });
    let request = Request::Continue {
        client_id: "c".into(),
        method: "M".into(),
        data: Some(b"geheim-4".to_vec().into()),
        again: false,
        exchange,
    };
    let mut world = World::new(|_| {});
    world.is_silent = true;
    world.connect(1, connect);
    // Bytes are shown as text or as numbers; both begin with a "g" that is followed by an "e".
    for shown in [
        format!("{packet:?}"),
        format!("{request:?}"),
        format!("{:?}", world.asked),
        format!("{:?}", world.shard),
    ] {
        assert!(!shown.contains("geheim") && !shown.contains("103, 101"), "{shown}");
    }
}

#[test]
fn what_a_client_says_of_itself_is_no_wildcard() {
    for text in ["+", "#", "a/b", "$SYS", ""] {
        let pattern = Pattern::new([Level::Is("u".into()), Level::Is(text.into())]);
        for topic in ["u/x", "u", "u/a/b", "u/x/y", "x", "#", "u/+/x"] {
            assert!(!pattern.matches(topic), "{text} {topic}");
        }
        for filter in ["u/+", "u/#", "#", "+/+", "u/a/b"] {
            assert!(!pattern.covers(filter), "{text} {filter}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A pattern without places is the Topic Filter that it was written as.
    #[test]
    fn a_pattern_is_its_filter(
        filter in "(([ab$]?|\\+)/){0,3}([ab]|#|\\+)", name in "[ab$/]{1,5}",
        other in "(([ab$]?|\\+)/){0,3}([ab]|#|\\+)",
    ) {
        prop_assert!(codec::topic::is_valid_filter(&filter) && codec::topic::is_valid_filter(&other));
        let pattern = Pattern::of_filter(&filter);
        prop_assert_eq!(pattern.matches(&name), codec::topic::matches(&filter, &name));
        prop_assert_eq!(pattern.covers(&other), codec::topic::covers(&filter, &other));
    }
}
