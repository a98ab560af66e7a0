use proptest::prelude::*;

use super::*;

fn subject(client_id: &str, user: Option<&str>) -> Subject {
    Subject {
        client_id: client_id.into(),
        user: user.map(Into::into),
        address: Some([10, 1, 2, 3].into()),
        listener: "devices".into(),
        ..Subject::default()
    }
}

fn rules(text: &str) -> Policy {
    Policy::parse_rules("r.toml", text).expect("valid rules")
}

fn acl(text: &str) -> Policy {
    Policy::parse_mosquitto("acl", text, SubscribeMode::Strict).expect("valid lines")
}

fn grants(policy: &Policy, who: &Subject) -> Grants {
    policy.judge(who).expect("it may connect")
}

fn publishes(policy: &Policy, who: &Subject, topic: &str) -> bool {
    grants(policy, who).may_publish(topic, QoS::AtLeastOnce, false)
}

fn subscribes(policy: &Policy, who: &Subject, filter: &str) -> bool {
    grants(policy, who).may_subscribe(filter, QoS::AtLeastOnce)
}

const EXAMPLE: &str = r##"
[patterns]
serial = "[A-Z]{2}[0-9]+"

[groups]
operators = ["alice", "bob"]

[[rule]]
deny = ["publish", "subscribe", "receive"]
topics = ["secret/#"]

[[rule]]
allow = ["publish", "subscribe"]
topics = ["devices/${clientid}/#", "lines/${~serial}/state"]

[[rule]]
allow = "subscribe"
group = "operators"
topics = "devices/+/state"

[[rule]]
allow = "publish"
user = "~serial"
address = "10.0.0.0/8"
qos_max = 1
retain = false
topics = "raw/${username}"
"##;

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = rules(EXAMPLE);
    let device = subject("d1", None);
    assert!(
        publishes(&policy, &device, "devices/d1/x") && !publishes(&policy, &device, "devices/d2/x")
    );
    assert!(
        subscribes(&policy, &device, "devices/d1/#")
            && !subscribes(&policy, &device, "devices/+/state")
    );
    assert!(
        publishes(&policy, &device, "lines/AB12/state")
            && !publishes(&policy, &device, "lines/ab/state")
    );
    assert!(!subscribes(&policy, &device, "lines/+/state"), "a test covers no wildcard");
    for secret in ["secret", "secret/x"] {
        assert!(
            !publishes(&policy, &device, secret) && !grants(&policy, &device).may_receive(secret)
        );
    }
    let alice = subject("a", Some("alice"));
    assert!(
        subscribes(&policy, &alice, "devices/+/state")
            && grants(&policy, &alice).may_receive("devices/d1/state")
    );
    let serial = subject("s", Some("AB1"));
    let grants = grants(&policy, &serial);
    assert!(grants.may_publish("raw/AB1", QoS::AtLeastOnce, false));
    assert!(!grants.may_publish("raw/AB1", QoS::ExactlyOnce, false), "qos_max");
    assert!(!grants.may_publish("raw/AB1", QoS::AtLeastOnce, true), "retain");
    let elsewhere = Subject { address: Some([11, 0, 0, 1].into()), ..serial };
    assert!(!publishes(&policy, &elsewhere, "raw/AB1"), "address");
}

#[test]
fn conditions_on_whom_have_to_hold_all() {
    let policy = rules(
        "[[rule]]\nallow = \"publish\"\nlistener = \"devices\"\ncertificate = \"cn\"\nclient_type = \"device\"\n\
         client_id = [\"a\", \"b\"]\ntopics = \"t\"",
    );
    let right = Subject {
        common_name: Some("cn".into()),
        client_type: Some("device".into()),
        ..subject("b", None)
    };
    assert!(publishes(&policy, &right, "t"));
    for wrong in [
        Subject { common_name: None, ..right.clone() },
        Subject { listener: "other".into(), ..right.clone() },
        Subject { client_type: None, ..right.clone() },
        Subject { client_id: "c".into(), ..right.clone() },
    ] {
        assert!(!publishes(&policy, &wrong, "t"), "{wrong:?}");
    }
}

/// CVE-2018-12550: an empty file meant that everything was allowed.
#[test]
fn an_empty_file_denies() {
    for policy in
        [rules(""), rules("# nothing\n"), acl(""), acl("# nothing\n\n"), Policy::deny_all()]
    {
        let who = subject("c", Some("alice"));
        assert!(
            policy.is_empty() && !publishes(&policy, &who, "t") && !subscribes(&policy, &who, "t")
        );
        assert!(!grants(&policy, &who).may_receive("t"));
    }
}

/// CVE-2017-7650: a client called `#` could read everything by a pattern that holds its name.
#[test]
fn a_name_that_holds_a_wildcard_widens_no_right() {
    let own = rules(
        "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = [\"u/${username}/#\", \"c/x${clientid}\"]",
    );
    let theirs = acl("pattern readwrite u/%u/#\npattern readwrite c/x%c\n");
    for policy in [own, theirs] {
        for name in ["#", "+", "a/#", "a/b", "+/+", "\0", ""] {
            let who = subject(name, Some(name));
            for topic in ["u/alice", "u/alice/x", "u/a/b", "u//x", "c/xa", "u/\0/x", "u/+/x"] {
                assert!(!publishes(&policy, &who, topic), "{name:?} {topic}");
                assert!(!grants(&policy, &who).may_receive(topic), "{name:?} {topic}");
            }
            for filter in ["#", "u/#", "u/+/#", "c/x#", "u/a/#"] {
                assert!(!subscribes(&policy, &who, filter), "{name:?} {filter}");
            }
        }
        let alice = subject("a", Some("alice"));
        assert!(subscribes(&policy, &alice, "u/alice/#") && publishes(&policy, &alice, "c/xa"));
    }
}

/// CVE-2018-20145: rules were ignored for some listeners.
#[test]
fn rules_hold_at_every_listener() {
    let policy = rules("[[rule]]\nallow = \"publish\"\nlistener = \"a\"\ntopics = \"t\"");
    let at = |listener: &str| Subject { listener: listener.into(), ..subject("c", None) };
    assert!(publishes(&policy, &at("a"), "t"));
    for other in ["", "A", "tcp://127.0.0.1:1883"] {
        assert!(!publishes(&policy, &at(other), "t"), "{other}");
    }
}

#[test]
fn a_missing_value_fits_nothing() {
    let policy = rules(
        "[[rule]]\nallow = \"publish\"\ntopics = [\"u/${username}\", \"n/${cn}\", \"c/${clientid}\"]",
    );
    let who = subject("c", None);
    for topic in ["u/", "u", "n/", "n"] {
        assert!(!publishes(&policy, &who, topic), "{topic}");
    }
    assert!(publishes(&policy, &who, "c/c"));
}

#[test]
fn connecting_is_judged_once_a_rule_speaks_of_it() {
    let policy = rules(
        "[[rule]]\ndeny = \"connect\"\nuser = \"mallory\"\n[[rule]]\nallow = \"connect\"\naddress = \"10.0.0.0/8\"\n",
    );
    assert!(policy.judge(&subject("c", Some("alice"))).is_ok());
    let denial = policy.judge(&subject("c", Some("mallory"))).unwrap_err();
    assert_eq!(denial.rule.as_deref(), Some("r.toml:1"));
    let far = Subject { address: None, ..subject("c", Some("alice")) };
    assert_eq!(policy.judge(&far), Err(Denial { rule: None }));
}

#[test]
fn rights_of_credentials_stand_behind_what_is_denied() {
    let policy = rules(EXAMPLE);
    let own =
        Grants::Rules(Arc::new([Rule::new(true, Actions::ALL, Pattern::of_filter("#"), "token")]));
    let who = Subject { own: Some(own), ..subject("d1", None) };
    assert!(publishes(&policy, &who, "anything") && !publishes(&policy, &who, "secret/x"));
    let nothing = Subject { own: Some(Grants::none()), ..subject("d1", None) };
    assert!(!publishes(&policy, &nothing, "devices/d1/x"), "no right of the rules is added");
}

#[test]
fn clients_of_whom_the_same_rules_speak_share_them() {
    let policy = rules(
        "[[rule]]\nallow = \"publish\"\ntopics = \"t\"\n[[rule]]\nallow = \"publish\"\nuser = \"alice\"\ntopics = \"a\"",
    );
    let pointer = |who: &Subject| match grants(&policy, who) {
        Grants::Rules(rules) => Arc::as_ptr(&rules),
        Grants::All => panic!("not everything"),
    };
    let (one, two) = (pointer(&subject("a", None)), pointer(&subject("b", Some("bob"))));
    assert!(std::ptr::eq(one, two));
    assert!(!std::ptr::eq(one, pointer(&subject("b", Some("alice")))));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "[patterns]\nbad = \"(\"\n[[rule]]\nallow = \"publsh\"\ntopics = [\"a/#/b\", \"${nam}\", \"a+\", \"${~no}\"]\n\
                [[rule]]\nallow = \"publish\"\ndeny = \"publish\"\n[[rule]]\ntopic = \"a\"\naddress = \"10.0.0.1/8\"\n";
    let problems = Policy::parse_rules("r.toml", text).unwrap_err().join("\n");
    for expected in [
        "r.toml:2:7: `(` is no regular expression",
        "r.toml:4:9: an action is `connect`, `publish`, `subscribe` or `receive`, not `publsh`",
        "r.toml:5:11: `#` in `a/#/b` is not its last level",
        "r.toml:5:20: `${nam}` in `${nam}` is none of",
        "r.toml:5:30: a wildcard in `a+` is not alone in its level",
        "r.toml:5:36: there is no `no` in [patterns]",
        "r.toml:6:1: a rule has either `allow` or `deny`",
        "r.toml:6:1: `topics` is missing",
        "r.toml:10:1: unknown key `topic` in [[rule]]; did you mean `topics`?",
        "r.toml:11:11: `10.0.0.1/8` names one address of a range; write 10.0.0.0/8",
    ] {
        assert!(problems.contains(expected), "{expected}\n---\n{problems}");
    }
}

#[test]
fn lines_of_mosquitto_mean_what_they_mean_there() {
    let policy = acl(
        "topic read public/#\ntopic deny public/secret\n\nuser alice\ntopic write a\ntopic readwrite b c\ntopic deny a\n\
         pattern read p/%u/%c\npattern deny p/bob/#\n",
    );
    let (nobody, alice, bob) =
        (subject("c", None), subject("c", Some("alice")), subject("c", Some("bob")));
    assert!(subscribes(&policy, &nobody, "public/x") && !publishes(&policy, &nobody, "public/x"));
    assert!(!grants(&policy, &nobody).may_receive("public/secret"), "what denies is asked first");
    assert!(
        !subscribes(&policy, &alice, "public/x"),
        "the first block is of clients without a name"
    );
    assert!(!publishes(&policy, &alice, "a"), "what denies is asked first");
    assert!(publishes(&policy, &alice, "b c") && subscribes(&policy, &alice, "b c"));
    assert!(subscribes(&policy, &alice, "p/alice/c") && !subscribes(&policy, &alice, "p/alice/d"));
    assert!(!subscribes(&policy, &bob, "p/bob/c") && !subscribes(&policy, &nobody, "p//c"));
    let problems =
        Policy::parse_mosquitto("acl", "topc a\nuser\ntopic a/#/b\n", SubscribeMode::Strict);
    assert_eq!(
        problems.unwrap_err(),
        [
            "acl:1: `topc` is none of `topic`, `user`, `pattern`",
            "acl:2: `user` has no name",
            "acl:3: `a/#/b` is no topic filter"
        ]
    );
}

/// Lines that look like a denial and are none would be rights.
#[test]
fn a_misspelt_word_of_access_is_an_error() {
    for line in [
        "topic Deny a/secret",
        "topic dney a",
        "topic READ a",
        "topic a b",
        "topic deny",
        "pattern reed a/%c",
    ] {
        let problems = Policy::parse_mosquitto("acl", line, SubscribeMode::Strict).unwrap_err();
        assert!(problems[0].starts_with("acl:1: `"), "{line}: {problems:?}");
    }
}

/// What cannot stand in a level must not make a denial disappear.
#[test]
fn a_name_does_not_get_around_what_is_denied() {
    let theirs = acl("pattern deny lock/%c/x\npattern readwrite #\n");
    assert!(publishes(&theirs, &subject("a", None), "zz"));
    assert!(!publishes(&theirs, &subject("a/b", None), "lock/a/b/x"));
    for name in ["a+", "#"] {
        assert!(
            !publishes(&theirs, &subject(name, None), "zz"),
            "{name}: as mosquitto, no line is for it"
        );
    }
    let own = rules(
        "[[rule]]\ndeny = \"publish\"\ntopics = \"lock/${clientid}/x\"\n[[rule]]\nallow = \"publish\"\ntopics = \"#\"",
    );
    for (name, topic) in [("a", "lock/a/x"), ("a/b", "lock/a/b/x"), ("/", "lock///x")] {
        assert!(!publishes(&own, &subject(name, None), topic), "{name}");
        assert!(publishes(&own, &subject(name, None), "lock/other/x"), "{name}");
    }
}

/// The broker's own topics are nobody's by name.
#[test]
fn no_name_makes_a_topic_of_the_broker() {
    let own = rules(
        "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = [\"${clientid}/#\", \"x/${clientid}\"]",
    );
    let theirs = acl("pattern readwrite %c/#\npattern readwrite x/%c\n");
    for policy in [own, theirs] {
        let who = subject("$SYS", None);
        assert!(
            !subscribes(&policy, &who, "$SYS/#")
                && !grants(&policy, &who).may_receive("$SYS/broker")
        );
        assert!(publishes(&policy, &who, "x/$SYS"));
    }
}

#[test]
fn what_is_denied_to_subscribe_to_is_held_back_from_a_wider_subscription() {
    let policy = rules(
        "[[rule]]\ndeny = \"subscribe\"\ntopics = \"secret/#\"\n[[rule]]\nallow = \"subscribe\"\ntopics = \"#\"",
    );
    let who = subject("c", None);
    assert!(subscribes(&policy, &who, "#") && !subscribes(&policy, &who, "secret/x"));
    assert!(
        !grants(&policy, &who).may_receive("secret/x") && grants(&policy, &who).may_receive("open")
    );
}

#[test]
fn rules_that_would_fit_nothing_or_too_much_are_refused() {
    for (rule, expected) in [
        ("allow = \"publish\"\nuser = []\ntopics = \"a\"", "`user` is empty"),
        ("allow = \"publish\"\nuser = \"ev*\"\ntopics = \"a\"", "`ev*` is a text"),
        ("allow = \"subscribe\"\ntopics = \"$share/g/a\"", "leave `$share/NAME/` away"),
        ("allow = \"publish\"\nqos_min = 2\nqos_max = 1\ntopics = \"a\"", "`qos_min` is above"),
        ("allow = \"connect\"\ntopics = \"a\"", "`connect` has no `topics`"),
        (
            "deny = [\"publish\", \"subscribe\"]\nretain = true\ntopics = \"a\"",
            "`retain` is a condition",
        ),
        ("deny = \"receive\"\nqos_max = 0\ntopics = \"a\"", "a QoS is a condition"),
        ("allow = \"publish\"\ntopics = \"x/${username}-${clientid}\"", "has two places"),
    ] {
        let problems =
            Policy::parse_rules("r", &format!("[[rule]]\n{rule}")).unwrap_err().join("\n");
        assert!(problems.contains(expected), "{rule}: {problems}");
    }
}

#[test]
fn rights_to_everything_stay_rights_to_everything() {
    let all = Subject { own: Some(Grants::All), ..subject("c", None) };
    assert_eq!(grants(&Policy::deny_all(), &all), Grants::All);
    let policy = rules("[[rule]]\ndeny = \"publish\"\ntopics = \"secret\"");
    assert!(
        grants(&policy, &all).may_receive("$SYS/broker") && !publishes(&policy, &all, "secret")
    );
}

/// A file with many users is looked at for one of them.
#[test]
fn rules_of_other_users_are_not_looked_at() {
    let text: String = (0..20_000).map(|n| format!("user u{n}\ntopic write t{n}\n")).collect();
    let policy = acl(&(text + "pattern read all\n"));
    let who = subject("c", Some("u17"));
    assert_eq!(policy.fitting(&who).len(), 2);
    assert!(publishes(&policy, &who, "t17") && !publishes(&policy, &who, "t18"));
    assert!(subscribes(&policy, &who, "all"));
}

#[test]
fn subscribing_may_be_judged_as_mosquitto_does() {
    let text = "topic read a\n";
    let policy = Policy::parse_mosquitto("acl", text, SubscribeMode::AsMosquitto).unwrap();
    let who = subject("c", None);
    assert!(subscribes(&policy, &who, "#") && subscribes(&policy, &who, "$SYS/#"));
    assert!(grants(&policy, &who).may_receive("a") && !grants(&policy, &who).may_receive("b"));
}

#[test]
fn a_decision_is_explained() {
    let policy = rules(EXAMPLE);
    let alice = subject("a", Some("alice"));
    let ask = |action, topic| {
        let question =
            Question { subject: &alice, action, topic, qos: QoS::AtLeastOnce, retain: false };
        policy.explain(&question)
    };
    let said = ask(Action::Subscribe, "devices/+/state");
    assert_eq!(
        said.to_string(),
        "allowed: subscribe devices/+/state (r.toml:16)\n  \
         r.toml:8: does not fit: topic, QoS or RETAIN\n  \
         r.toml:12: does not fit: topic, QoS or RETAIN\n  \
         r.toml:16: decides\n"
    );
    let said = ask(Action::Publish, "x/y");
    assert!(!said.allowed);
    assert_eq!(
        said.to_string(),
        "denied: publish x/y (no rule fits)\n  \
         r.toml:8: does not fit: topic, QoS or RETAIN\n  \
         r.toml:12: does not fit: topic, QoS or RETAIN\n  \
         r.toml:16: speaks of other actions\n  \
         r.toml:21: does not fit: `user` is another\n"
    );
    assert_eq!(ask(Action::Publish, "secret/x").verdict, "denied: publish secret/x (r.toml:8)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a client is called, what it may do lies below its name.
    #[test]
    fn names_are_text(name in "[a+#/$\\x00%{}]{0,4}", topic in "[a+#/$]{1,6}") {
        let policy = rules("[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = \"${clientid}/x\"");
        let who = subject(&name, None);
        let is_level = !name.is_empty() && !name.contains(['/', '+', '#', '\0']);
        let expected = is_level && topic == format!("{name}/x");
        prop_assert_eq!(publishes(&policy, &who, &topic), expected);
        prop_assert_eq!(subscribes(&policy, &who, &topic), expected);
        prop_assert_eq!(grants(&policy, &who).may_receive(&topic), expected);
    }

    #[test]
    fn no_text_is_a_mistake_of_a_parser(text in "(\\[\\[rule\\]\\]|allow|topics|=|\"|\\[|\\]|\\$\\{|[a-z ~#%\n]){0,40}") {
        let _ = Policy::parse_rules("r", &text);
        let _ = Policy::parse_mosquitto("a", &text, SubscribeMode::Strict);
    }
}
