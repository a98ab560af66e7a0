//! Rights: the first rule that fits decides, and what no rule allows is forbidden.

use codec::QoS;
use session_core::{Action, Actions, Grants, Pattern, Rule};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn rule(allow: bool, action: Option<Action>, filter: &str) -> Rule {
    let actions = match action {
        None => Actions::ALL,
        Some(Action::Subscribe) => Actions::of(&[Action::Subscribe, Action::Receive]),
        Some(action) => Actions::of(&[action]),
    };
    Rule::new(allow, actions, Pattern::of_filter(filter), "test")
}

fn grants(rules: impl Into<Vec<Rule>>) -> Grants {
    Grants::Rules(rules.into().into())
}

fn may_publish(grants: &Grants, topic: &str) -> bool {
    grants.may_publish(topic, QoS::AtLeastOnce, false)
}

#[test]
fn without_rules_everything_is_allowed_and_without_a_fitting_one_nothing() {
    assert!(may_publish(&Grants::All, "a"));
    assert!(Grants::All.may_receive("a") && Grants::All.may_subscribe("#", QoS::AtMostOnce));
    for nothing in [grants([]), grants([rule(true, None, "b/#")])] {
        assert!(!may_publish(&nothing, "a"));
        assert!(!nothing.may_receive("a") && !nothing.may_subscribe("a", QoS::AtMostOnce));
    }
}

#[test]
fn the_first_fitting_rule_decides() {
    let rules = [rule(false, None, "a/secret"), rule(true, None, "a/#"), rule(false, None, "#")];
    let grants = grants(rules);
    for (topic, allowed) in [("a/secret", false), ("a/b", true), ("a", true), ("b", false)] {
        assert_eq!(may_publish(&grants, topic), allowed, "{topic}");
        assert_eq!(grants.may_receive(topic), allowed, "{topic}");
        assert_eq!(grants.may_subscribe(topic, QoS::AtMostOnce), allowed, "{topic}");
    }
}

#[test]
fn a_rule_speaks_of_its_action_only() {
    let publish = grants([rule(true, Some(Action::Publish), "a")]);
    assert!(may_publish(&publish, "a"));
    assert!(!publish.may_receive("a") && !publish.may_subscribe("a", QoS::AtMostOnce));
    let subscribe = grants([rule(true, Some(Action::Subscribe), "a")]);
    assert!(!may_publish(&subscribe, "a"));
    assert!(subscribe.may_receive("a") && subscribe.may_subscribe("a", QoS::AtMostOnce));
    let both = grants([rule(true, None, "a")]);
    assert!(
        may_publish(&both, "a")
            && both.may_receive("a")
            && both.may_subscribe("a", QoS::AtMostOnce)
    );
}

#[test]
fn a_rule_fits_up_to_its_qos() {
    for (max, qos_max) in QOS.into_iter().enumerate() {
        let grants = grants([Rule { qos_max, ..rule(true, None, "a") }]);
        for (level, qos) in QOS.into_iter().enumerate() {
            assert_eq!(grants.may_publish("a", qos, false), level <= max, "{qos:?} {qos_max:?}");
        }
        assert!(grants.may_receive("a"), "the QoS of a rule is about publishing");
    }
}

#[test]
fn a_rule_fits_retained_messages_if_it_says_so() {
    for retain in [false, true] {
        let grants = grants([Rule { retain: (!retain).then_some(false), ..rule(true, None, "a") }]);
        assert!(grants.may_publish("a", QoS::AtLeastOnce, false));
        assert_eq!(grants.may_publish("a", QoS::AtLeastOnce, true), retain);
    }
}

#[test]
fn a_subscription_needs_a_rule_that_covers_its_whole_filter() {
    let grants = grants([rule(false, None, "a/secret/#"), rule(true, None, "a/+/#")]);
    for (filter, allowed) in
        [("a/b", true), ("a/+/c", true), ("a/secret/x", false), ("a/#", false), ("#", false)]
    {
        assert_eq!(grants.may_subscribe(filter, QoS::AtMostOnce), allowed, "{filter}");
    }
    // What a wider filter brings of the forbidden is held back message by message.
    assert!(grants.may_subscribe("a/+/x", QoS::AtMostOnce) && !grants.may_receive("a/secret/x"));
}
