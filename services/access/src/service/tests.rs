use std::sync::mpsc::channel;

use codec::{Connect, Framer, Packet, Role};
use session_core::{Grants, Origin, Transport};

use super::*;
use crate::{AnonymousProvider, Link, PasswordFile, PasswordProvider, Provider, Verdict, add_user};

/// A CONNECT of 5.0, as a client sends it.
fn connect(client_id: &str, user: Option<(&str, &str)>) -> Box<Connect> {
    let text = |text: &str| {
        [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
    };
    let flags = if user.is_some() { 0xC2 } else { 2 };
    let mut body = [&text("MQTT")[..], &[5, flags, 0, 0, 0], &text(client_id)].concat();
    if let Some((user, password)) = user {
        body.extend([text(user), text(password)].concat());
    }
    let packet = [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat();
    let packet = Framer::new(Role::Server, 1000, 1000).decode(&mut &*packet);
    match packet.expect("valid").expect("whole") {
        Packet::Connect(connect) => connect,
        other => panic!("{other:?}"),
    }
}

fn origin(peer: [u8; 4]) -> Box<Origin> {
    Box::new(Origin {
        listener: "door".into(),
        peer: Some((peer, 1000).into()),
        transport: Transport::Tls,
        certificates: Vec::new(),
        server_name: None,
        proxied: None,
    })
}

fn request(client_id: &str, user: Option<(&str, &str)>, peer: [u8; 4]) -> Box<Request> {
    Box::new(Request::Authenticate { connect: connect(client_id, user), origin: origin(peer) })
}

fn password_file() -> PasswordFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p");
    add_user(&path, "alice", b"secret").unwrap();
    PasswordFile::parse("p", &fs::read_to_string(&path).unwrap()).unwrap()
}

fn link(provider: impl Provider + 'static) -> Link {
    Link { provider: Arc::new(provider), on_error_skip: false, listeners: None }
}

fn judges(links: Vec<Link>) -> Judges {
    let rules = "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = \"own/${clientid}/#\"";
    Judges {
        chain: Chain::new(links),
        policy: Policy::parse_rules("r", rules).unwrap(),
        limits: Vec::new(),
    }
}

fn config() -> AccessConfig {
    let guard = GuardConfig { failures: 3, ..GuardConfig::default() };
    AccessConfig { compute_threads: 1, waiting_max: 1, queue_max: 8, guard, blocks: None }
}

fn anonymous() -> Arc<Access> {
    Access::start(config(), judges(vec![link(AnonymousProvider::new("anonymous", None))])).unwrap()
}

fn ask(access: &Arc<Access>, now: u64, request: Box<Request>) -> Answer {
    let (answer, answers) = channel();
    let at_once = access.ask(Time(now), request, move |found| answer.send(found).unwrap());
    at_once.unwrap_or_else(|| answers.recv().unwrap())
}

fn refused(answer: &Answer) -> Option<ReasonCode> {
    match answer {
        Answer::Refuse { reason } => Some(*reason),
        _ => None,
    }
}

#[test]
fn who_proves_an_identity_gets_the_rights_of_the_rules() {
    let access =
        Access::start(config(), judges(vec![link(PasswordProvider::new("file", password_file()))]))
            .unwrap();
    let Answer::Accept { principal, data: None } =
        ask(&access, 0, request("c1", Some(("alice", "secret")), [10, 0, 0, 1]))
    else {
        panic!("refused")
    };
    assert_eq!(principal.name.as_deref(), Some("alice"));
    let subject = principal.subject.unwrap();
    assert_eq!((&*subject.provider, &*subject.listener), ("file", "door"));
    assert!(principal.grants.may_receive("own/c1/x") && !principal.grants.may_receive("own/c2/x"));

    let wrong = ask(&access, 0, request("c1", Some(("alice", "guess")), [10, 0, 0, 1]));
    assert_eq!(refused(&wrong), Some(ReasonCode::BadUserNameOrPassword));
    let Reply::Refusals(refusals) = access.command(Time(1), Command::Refusals { max: 10 }) else {
        panic!("no refusals")
    };
    let [one] = &*refusals else { panic!("{refusals:?}") };
    assert_eq!((&*one.client_id, one.user_name.as_deref()), ("c1", Some("alice")));
    assert!(one.password_given && one.transport == Transport::Tls);
    assert_eq!((one.provider.as_deref(), &*one.why), (Some("file"), "file: wrong password"));
    assert!(!format!("{refusals:?}").contains("guess"), "no secret is kept");
}

#[test]
fn without_a_provider_nobody_comes_in() {
    let access = Access::start(config(), Judges::default()).unwrap();
    let answer = ask(&access, 0, request("c", None, [10, 0, 0, 1]));
    assert_eq!(refused(&answer), Some(ReasonCode::NotAuthorized));
}

#[test]
fn blocks_come_before_providers_and_end_those_who_are_connected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks.toml");
    let config = AccessConfig { blocks: Some(path), ..config() };
    let links = || judges(vec![link(AnonymousProvider::new("anonymous", None))]);
    let access = Access::start(config.clone(), links()).unwrap();
    let Answer::Accept { principal, .. } = ask(&access, 0, request("c", None, [10, 0, 0, 1]))
    else {
        panic!("refused")
    };
    let judge = || Box::new(Request::Judge { subject: principal.subject.clone().unwrap() });
    assert!(matches!(ask(&access, 0, judge()), Answer::Accept { .. }));

    let of = Blocked::Address("10.0.0.0/24".parse().unwrap());
    let block = Block { of: of.clone(), until: Some(Time(1000)), note: "test".into() };
    assert_eq!(access.command(Time(0), Command::Block(block.clone())), Reply::Changed);
    assert_eq!(refused(&ask(&access, 1, judge())), Some(ReasonCode::Banned));
    let new = || request("d", None, [10, 0, 0, 2]);
    assert_eq!(refused(&ask(&access, 1, new())), Some(ReasonCode::Banned));
    assert_eq!(refused(&ask(&access, 1000, new())), None, "it has ended");

    let again = Access::start(config, links()).unwrap();
    assert_eq!(again.command(Time(1), Command::Blocks), Reply::Blocks(vec![block]));
    assert_eq!(refused(&ask(&again, 1, new())), Some(ReasonCode::Banned), "it outlives the broker");
    assert_eq!(again.command(Time(1), Command::Unblock(of.clone())), Reply::Changed);
    assert_eq!(again.command(Time(1), Command::Unblock(of)), Reply::NotFound);
    assert_eq!(refused(&ask(&again, 1, new())), None);
}

#[test]
fn an_address_that_fails_too_often_is_kept_out() {
    let access = anonymous();
    let wrong = || request("c", Some(("alice", "x")), [10, 0, 0, 9]);
    for _ in 0..3 {
        assert_eq!(refused(&ask(&access, 0, wrong())), Some(ReasonCode::BadUserNameOrPassword));
    }
    let right = |peer| request("c", None, peer);
    assert_eq!(refused(&ask(&access, 1, right([10, 0, 0, 9]))), Some(ReasonCode::Banned));
    assert_eq!(refused(&ask(&access, 1, right([10, 0, 0, 8]))), None);
    assert_eq!(refused(&ask(&access, 60_000, right([10, 0, 0, 9]))), None);
}

/// CVE-2018-12546 and CVE-2021-34434: rights that are gone were still used.
#[test]
fn rules_that_are_replaced_hold_for_who_is_connected() {
    let access = anonymous();
    let Answer::Accept { principal, .. } = ask(&access, 0, request("c", None, [10, 0, 0, 1]))
    else {
        panic!("refused")
    };
    let judge = || Box::new(Request::Judge { subject: principal.subject.clone().unwrap() });
    access.replace(Judges {
        policy: Policy::deny_all(),
        ..judges(vec![link(AnonymousProvider::new("anonymous", None))])
    });
    let Answer::Accept { principal: now, .. } = ask(&access, 0, judge()) else { panic!("refused") };
    assert_eq!(now.grants, Grants::none());
    access.replace(judges(Vec::new()));
    assert_eq!(refused(&ask(&access, 0, judge())), Some(ReasonCode::NotAuthorized));
}

struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

impl Provider for Stuck {
    fn name(&self) -> &str {
        "stuck"
    }
    fn work(&self) -> Work {
        Work::Compute
    }
    fn begin(&self, _: Time, _: &Attempt) -> Verdict {
        self.0.lock().unwrap().recv().unwrap();
        Verdict::Accept(Box::default())
    }
}

#[test]
fn a_storm_of_logins_is_turned_away_and_nobody_waits_for_it() {
    let (go, goes) = channel();
    let config = AccessConfig { queue_max: 2, ..config() };
    let access = Access::start(config, judges(vec![link(Stuck(Mutex::new(goes)))])).unwrap();
    let (answer, answers) = channel();
    let mut busy = 0;
    for _ in 0..10 {
        let answer = answer.clone();
        let at_once = access.ask(Time(0), request("c", None, [10, 0, 0, 1]), move |found| {
            answer.send(found).unwrap();
        });
        match at_once {
            None => {}
            Some(found) => {
                assert_eq!(refused(&found), Some(ReasonCode::ServerBusy));
                busy += 1;
            }
        }
    }
    assert!(busy >= 7, "one is at work, and two wait");
    for _ in busy..10 {
        go.send(()).unwrap();
        assert!(matches!(answers.recv().unwrap(), Answer::Accept { .. }));
    }
}

#[test]
fn lines_in_the_log_are_bounded() {
    let mut lines = Lines::default();
    let written = (0..LINES_MAX + 50).filter(|_| lines.take(Time(1)).is_some()).count();
    assert_eq!(written, LINES_MAX as usize);
    assert_eq!(lines.take(Time(LINES_WITHIN_MS)), Some(50));
    assert_eq!(lines.take(Time(LINES_WITHIN_MS)), Some(0));
}
