use std::{
    collections::HashSet,
    fs,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use bytes::Bytes;
use codec::{Connect, ProtocolVersion, QoS};
use session_core::{ClientLimits, Exchange, Grants, Origin, Subject, Transport};

use super::{judge::Gate, *};
use crate::{
    AnonymousProvider, Attempt, Chain, Identity, Link, PasswordFile, PasswordProvider, Policy,
    Provider, Secret, Step, Verdict, add_user,
};

// The keys of these tests: what a test wants is said by the name of the client, and what it costs by the name of
// the listener.

#[derive(Default)]
struct Asked {
    /// How often keys were asked.
    times: AtomicU64,
    /// Says when the client `slow` is looked at, and looks as long as nothing comes here.
    held: Option<(Sender<()>, Mutex<Receiver<()>>)>,
}

struct Keys {
    at: &'static str,
    asked: Arc<Asked>,
}

fn accepted(user: &str) -> Verdict {
    let user = (!user.is_empty()).then(|| user.into());
    Verdict::Accept(Box::new(Identity { user, ..Identity::default() }))
}

fn refuses(reason: ReasonCode) -> Verdict {
    Verdict::Refuse { reason, why: "says who".into() }
}

fn goes_on(state: &'static str) -> Verdict {
    Verdict::Continue { data: Bytes::from_static(b"more"), state: state.into() }
}

impl Provider for Keys {
    fn name(&self) -> &str {
        assert_ne!(self.at, "nameless", "a mistake");
        self.at
    }

    fn work(&self) -> Work {
        assert_ne!(self.at, "odd", "a mistake");
        match self.at {
            "slow" => Work::Compute,
            "far" => Work::Wait,
            _ => Work::None,
        }
    }

    fn begin(&self, now: Time, attempt: &Attempt) -> Verdict {
        self.asked.times.fetch_add(1, Ordering::SeqCst);
        match &*attempt.client_id {
            "wrong" => refuses(ReasonCode::BadUserNameOrPassword),
            "away" => Verdict::Failed { why: "is away".into() },
            "panics" => panic!("a mistake"),
            "scram" => goes_on("state"),
            "lapsed" => {
                Verdict::Accept(Box::new(Identity { expires: Some(now), ..Identity::default() }))
            }
            "limited" => Verdict::Accept(Box::new(Identity {
                groups: vec!["ops".into()],
                client_type: Some("device".into()),
                expires: Some(now.plus_s(60)),
                own: Some(Grants::none()),
                limits: Some(Arc::default()),
                data: Some(Bytes::from_static(b"final")),
                ..Identity::default()
            })),
            "slow" => {
                if let Some((begun, end)) = &self.asked.held {
                    begun.send(()).unwrap();
                    end.lock().unwrap().recv().unwrap();
                }
                accepted("alice")
            }
            _ => accepted(attempt.user_name.as_deref().unwrap_or_default()),
        }
    }

    fn step(&self, _: Time, step: &Step) -> Verdict {
        let data = step.data.as_ref().map(Secret::reveal).unwrap_or_default();
        match (step.again, data) {
            (true, b"more") | (false, b"even more") => goes_on("again"),
            (_, b"wrong") => refuses(ReasonCode::NotAuthorized),
            (again, user) => {
                let is_begun = *step.state == *b"state" || *step.state == *b"again";
                assert!(is_begun != again, "it does not get its state back: {step:?}");
                accepted(std::str::from_utf8(user).unwrap())
            }
        }
    }
}

const ALL: &str = "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = \"#\"";
const OWN: &str = "[[rule]]\nallow = [\"publish\", \"subscribe\"]\ntopics = \"own/${clientid}/#\"";
const NOBODY: &str = "[[rule]]\ndeny = [\"connect\"]";

fn judges_of(links: Vec<Link>, rules: &str) -> Judges {
    let policy = Policy::parse_rules("rules.toml", rules).unwrap();
    Judges { chain: Chain::new(links), policy, limits: vec![("door".into(), Arc::default())] }
}

/// Judges who ask keys at each of the listeners.
fn judges(asked: &Arc<Asked>, rules: &str) -> Judges {
    let link = |at: &'static str| Link {
        provider: Arc::new(Keys { at, asked: Arc::clone(asked) }),
        on_error_skip: false,
        listeners: Some([at.into()].into()),
    };
    judges_of(["door", "slow", "far"].map(link).into(), rules)
}

#[derive(Default)]
struct Porter {
    blocked: HashSet<Box<str>>,
    failed: Mutex<Vec<Box<str>>>,
}

impl Porter {
    fn blocking(names: &[&str]) -> Self {
        let blocked = names.iter().map(|name| (*name).into()).collect();
        Self { blocked, ..Self::default() }
    }
}

impl Gate for Porter {
    fn blocked(&self, _: Time, visitor: &Visitor) -> Option<Box<str>> {
        let names = [Some(&visitor.client_id), visitor.user.as_ref()];
        let is_blocked = names.into_iter().flatten().any(|name| self.blocked.contains(name));
        is_blocked.then(|| "blocked".into())
    }

    fn failed(&self, _: Time, visitor: &Visitor) {
        self.failed.lock().unwrap().push(visitor.client_id.clone());
    }
}

/// The login of alice, who always gives a password.
fn login_at(listener: &str, client_id: &str) -> Request {
    login_as(listener, client_id, Some(("alice", "geheim")), [192, 0, 2, 7])
}

/// At the listener that its name asks for.
fn login(client_id: &str) -> Request {
    let listener = match client_id {
        "slow" | "behind" => "slow",
        "far" => "far",
        _ => "door",
    };
    login_at(listener, client_id)
}

fn login_as(
    listener: &str,
    client_id: &str,
    user: Option<(&'static str, &'static str)>,
    peer: [u8; 4],
) -> Request {
    let connect = Connect {
        version: ProtocolVersion::V5,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id: client_id.into(),
        will: None,
        user_name: user.map(|(name, _)| name.into()),
        password: user.map(|(_, password)| password.into()),
        properties: std::iter::empty().collect(),
    };
    let origin = Origin {
        listener: listener.into(),
        peer: Some((peer, 1234).into()),
        transport: Transport::Tls,
        certificates: Vec::new(),
        server_name: None,
        proxied: None,
    };
    Request::Authenticate { connect: Box::new(connect), origin: Box::new(origin) }
}

fn step(exchange: Exchange, again: bool, data: &'static str) -> Request {
    Request::Continue {
        client_id: exchange.subject.client_id.clone(),
        method: "M".into(),
        data: Some(data.into()),
        again,
        exchange: Some(exchange),
    }
}

fn decide(gate: &Porter, judges: &Judges, now: u64, request: Request) -> Decision {
    Court { gate, judges }.decide(Time(now), request)
}

fn reason(answer: &Answer) -> Option<ReasonCode> {
    match answer {
        Answer::Refuse { reason } => Some(*reason),
        _ => None,
    }
}

/// Why somebody was turned away.
fn why(decision: Decision) -> (ReasonCode, String) {
    let refusal = decision.refusal.expect("it is refused");
    assert_eq!(reason(&decision.answer), Some(refusal.reason), "the client is told the same");
    (refusal.reason, refusal.why.into())
}

fn subject(answer: Answer) -> Arc<Subject> {
    match answer {
        Answer::Accept { principal, .. } => {
            principal.subject.expect("it stays with the connection")
        }
        other => panic!("{other:?}"),
    }
}

fn exchange(answer: Answer) -> Exchange {
    match answer {
        Answer::Continue { exchange, .. } => exchange.expect("something to go on with"),
        other => panic!("{other:?}"),
    }
}

// What is answered.

#[test]
fn who_is_accepted_gets_its_rights_and_is_known_by_what_was_proved() {
    let judges = judges(&Arc::default(), OWN);
    let decision = decide(&Porter::default(), &judges, 1000, login("c1"));
    assert_eq!(decision.refusal, None);
    let Answer::Accept { principal, data } = decision.answer else { panic!() };
    let subject = principal.subject.clone().unwrap();
    assert_eq!((principal.name.as_deref(), principal.expires), (Some("alice"), None));
    assert_eq!(data, None);
    assert!(principal.grants.may_receive("own/c1/x") && !principal.grants.may_receive("own/c2/x"));
    assert!(principal.limits.is_some(), "those of the listener");
    assert_eq!(
        *subject,
        Subject {
            client_id: "c1".into(),
            user: Some("alice".into()),
            address: Some([192, 0, 2, 7].into()),
            listener: "door".into(),
            provider: "door".into(),
            ..Subject::default()
        }
    );
}

#[test]
fn what_came_with_the_identity_arrives() {
    let mut judges = judges(&Arc::default(), ALL);
    let limits: Arc<ClientLimits> = Arc::default();
    judges.limits = vec![("door".into(), Arc::clone(&limits))];
    let decision = decide(&Porter::default(), &judges, 1000, login("limited"));
    let Answer::Accept { principal, data } = decision.answer else { panic!() };
    assert_eq!(principal.expires, Some(Time(61_000)));
    assert_eq!(data.as_deref(), Some(&b"final"[..]));
    assert!(!Arc::ptr_eq(&principal.limits.unwrap(), &limits), "its own go before the listener's");
    assert!(!principal.grants.may_publish("x", QoS::AtMostOnce, false), "its own rights hold");
    let subject = principal.subject.unwrap();
    assert_eq!(
        (&*subject.groups, subject.client_type.as_deref()),
        (&["ops".into()][..], Some("device"))
    );
}

#[test]
fn a_blocked_client_is_refused_before_its_credentials_are_looked_at() {
    let (asked, gate) = (Arc::default(), Porter::blocking(&["c1", "slow"]));
    let judges = judges(&asked, ALL);
    let decision = decide(&gate, &judges, 5, login("c1"));
    assert_eq!(why(decision), (ReasonCode::Banned, "blocked".into()));
    assert_eq!(asked.times.load(Ordering::SeqCst), 0);
    assert!(gate.failed.lock().unwrap().is_empty(), "that it is blocked is no new failure");
    let court = Court { gate: &gate, judges: &judges };
    assert_eq!(court.work(Time(5), &Question::new(login("slow"))), Work::None, "takes no thread");
    assert_eq!(court.work(Time(5), &Question::new(login("behind"))), Work::Compute);
}

/// The name that a certificate or a token proves need not be the one that was said.
#[test]
fn a_block_of_a_user_holds_for_the_name_that_was_proved() {
    let (judges, gate) = (judges(&Arc::default(), ALL), Porter::blocking(&["mallory"]));
    let begun = exchange(decide(&gate, &judges, 0, login("scram")).answer);
    let (reason, _) = why(decide(&gate, &judges, 0, step(begun.clone(), false, "mallory")));
    assert_eq!(reason, ReasonCode::Banned);
    subject(decide(&gate, &judges, 0, step(begun, false, "bob")).answer);
}

#[test]
fn a_refusal_says_who_and_why_and_nothing_secret() {
    let judges = judges(&Arc::default(), ALL);
    let refusal = decide(&Porter::default(), &judges, 7, login("wrong")).refusal.unwrap();
    assert_eq!(
        refusal,
        Refusal {
            at: Time(7),
            visitor: Visitor {
                client_id: "wrong".into(),
                user: Some("alice".into()),
                address: Some([192, 0, 2, 7].into()),
                peer: Some(([192, 0, 2, 7], 1234).into()),
                listener: "door".into(),
                transport: Some(Transport::Tls),
                has_secret: true,
            },
            provider: Some("door".into()),
            reason: ReasonCode::BadUserNameOrPassword,
            why: "door: says who".into(),
        }
    );
    assert!(!format!("{refusal:?}").contains("geheim"));
}

#[test]
fn wrong_credentials_count_as_failures_and_nothing_else_does() {
    let (gate, asked) = (Porter::default(), Arc::default());
    for client in ["wrong", "away", "panics", "c1"] {
        decide(&gate, &judges(&asked, ALL), 0, login(client));
    }
    let there = decide(&gate, &judges(&asked, ALL), 0, login("c2"));
    let subject = subject(there.answer);
    // The rules are no fault of whoever comes; with them a reload would keep out whole networks.
    decide(&gate, &judges(&asked, NOBODY), 0, login("c2"));
    decide(&gate, &judges(&asked, NOBODY), 0, Request::Judge { subject });
    assert_eq!(*gate.failed.lock().unwrap(), ["wrong".into()]);
}

#[test]
fn who_may_not_connect_by_the_rules_is_refused_whatever_its_credentials() {
    let (gate, judges) = (Porter::default(), judges(&Arc::default(), NOBODY));
    let denied = (ReasonCode::NotAuthorized, "denied to connect by rules.toml:1".to_owned());
    assert_eq!(why(decide(&gate, &judges, 0, login("c1"))), denied);
    let subject = Arc::new(Subject { provider: "door".into(), ..Subject::default() });
    assert_eq!(why(decide(&gate, &judges, 0, Request::Judge { subject })), denied);
}

#[test]
fn what_has_lapsed_lets_nobody_in() {
    let judges = judges(&Arc::default(), ALL);
    let (reason, _) = why(decide(&Porter::default(), &judges, 9, login("lapsed")));
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

/// Fail closed.
#[test]
fn a_provider_that_fails_or_panics_lets_nobody_in() {
    let judges = judges(&Arc::default(), ALL);
    for client in ["away", "panics"] {
        let (reason, _) = why(decide(&Porter::default(), &judges, 0, login(client)));
        assert_eq!(reason, ReasonCode::ServerUnavailable);
    }
}

#[test]
fn an_exchange_goes_on_with_what_the_provider_gave() {
    let (gate, judges) = (Porter::default(), judges(&Arc::default(), ALL));
    let begun = exchange(decide(&gate, &judges, 0, login("scram")).answer);
    assert_eq!(&*begun.subject.provider, "door");
    let on = decide(&gate, &judges, 1, step(begun.clone(), false, "even more"));
    let on = exchange(on.answer);
    let subject = subject(decide(&gate, &judges, 2, step(on, false, "bob")).answer);
    assert_eq!((&*subject.client_id, subject.user.as_deref()), ("scram", Some("bob")));
    let (reason, _) = why(decide(&gate, &judges, 1, step(begun, false, "wrong")));
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

/// Whoever re-authenticates cannot become somebody else and keep the session.
#[test]
fn a_re_authentication_that_proves_somebody_else_is_refused() {
    let (gate, judges) = (Porter::default(), judges(&Arc::default(), ALL));
    let connected = |user: &str| {
        let user = (!user.is_empty()).then(|| user.into());
        let subject = Arc::new(Subject { user, provider: "door".into(), ..Subject::default() });
        Exchange { subject, state: Bytes::new() }
    };
    for user in ["alice", ""] {
        let (reason, _) = why(decide(&gate, &judges, 0, step(connected(user), true, "bob")));
        assert_eq!(reason, ReasonCode::NotAuthorized);
        // Nor by one that takes more steps.
        let on = decide(&gate, &judges, 0, step(connected(user), true, "more"));
        let (reason, _) = why(decide(&gate, &judges, 0, step(exchange(on.answer), false, "bob")));
        assert_eq!(reason, ReasonCode::NotAuthorized);
    }
    let renewed = decide(&gate, &judges, 0, step(connected("alice"), true, "alice"));
    assert_eq!(subject(renewed.answer).user.as_deref(), Some("alice"));
}

#[test]
fn a_step_of_nothing_that_was_begun_is_refused() {
    let (gate, judges) = (Porter::default(), judges(&Arc::default(), ALL));
    let subject: Arc<Subject> = Arc::default();
    for state in [&b""[..], b"\x02state", b"state"] {
        let exchange = Exchange { subject: Arc::clone(&subject), state: state.into() };
        let (reason, _) = why(decide(&gate, &judges, 0, step(exchange, false, "alice")));
        assert_eq!(reason, ReasonCode::ProtocolError);
    }
    let (client_id, method) = ("c1".into(), "M".into());
    let request = Request::Continue { client_id, method, data: None, again: false, exchange: None };
    assert_eq!(why(decide(&gate, &judges, 0, request)).0, ReasonCode::ProtocolError);
}

#[test]
fn who_is_there_is_judged_again_by_blocks_provider_and_rules() {
    let (gate, judges) = (Porter::default(), judges(&Arc::default(), ALL));
    let there = subject(decide(&gate, &judges, 0, login("c1")).answer);
    let judge = |subject: &Arc<Subject>| Request::Judge { subject: Arc::clone(subject) };
    assert_eq!(subject(decide(&gate, &judges, 0, judge(&there)).answer), there);
    let gone = Arc::new(Subject { provider: "gone".into(), ..(*there).clone() });
    let (reason, text) = why(decide(&gate, &judges, 0, judge(&gone)));
    assert_eq!(reason, ReasonCode::NotAuthorized);
    assert_eq!(text, "the provider that has let it in is gone");
    let gate = Porter::blocking(&["c1"]);
    assert_eq!(why(decide(&gate, &judges, 0, judge(&there))).0, ReasonCode::Banned);
}

// On which thread, and what happens meanwhile.

struct World {
    asked: Arc<Asked>,
    access: Arc<Access>,
    /// Milliseconds of the clock by which logins wait.
    waited_ms: Arc<AtomicU64>,
    answers: Receiver<Answer>,
    reply: Sender<Answer>,
    begun: Receiver<()>,
    end: Sender<()>,
}

fn world(config: AccessConfig) -> World {
    let ((begins, begun), (end, ends)) = (channel(), channel());
    let held = Some((begins, Mutex::new(ends)));
    let asked = Arc::new(Asked { held, ..Asked::default() });
    let waited_ms = Arc::<AtomicU64>::default();
    let (start, clock) = (Instant::now(), Arc::clone(&waited_ms));
    let clock = move || start + Duration::from_millis(clock.load(Ordering::SeqCst));
    let access = Access::with_clock(config, judges(&asked, ALL), Box::new(clock)).unwrap();
    let (reply, answers) = channel();
    World { asked, access, waited_ms, answers, reply, begun, end }
}

impl World {
    fn ask(&self, request: Request) -> Option<Answer> {
        let reply = self.reply.clone();
        self.access.ask(Time(1000), Box::new(request), move |answer| reply.send(answer).unwrap())
    }

    fn whys(&self) -> Vec<String> {
        let refusals = self.refusals();
        refusals.iter().map(|refusal| refusal.why.clone().into()).collect()
    }

    fn refusals(&self) -> Vec<Refusal> {
        match self.access.command(Time(1000), Command::Refusals { max: usize::MAX }) {
            Reply::Refusals(refusals) => refusals,
            other => panic!("{other:?}"),
        }
    }

    fn block(&self, client_id: &str) {
        let of = Blocked::ClientId(client_id.into());
        let block = Block { of, until: None, note: "".into() };
        assert_eq!(self.access.command(Time(1000), Command::Block(block)), Reply::Changed);
    }
}

fn one_thread(queue_max: usize) -> AccessConfig {
    AccessConfig { compute_threads: 1, waiting_max: 1, queue_max, ..AccessConfig::default() }
}

#[test]
fn what_takes_no_time_is_answered_at_once() {
    let world = world(AccessConfig::default());
    subject(world.ask(login("c1")).expect("at once"));
    let answer = world.ask(login("wrong")).expect("at once");
    assert_eq!(reason(&answer), Some(ReasonCode::BadUserNameOrPassword));
    assert_eq!(world.whys(), ["door: says who"]);
    let counts = AccessCounts { accepted: 1, refused: 1, ..AccessCounts::default() };
    assert_eq!(world.access.counts(), counts);
    assert!(world.answers.try_recv().is_err(), "and not once more");
}

#[test]
fn what_takes_time_is_answered_later_and_once() {
    let world = world(AccessConfig::default());
    assert_eq!(world.ask(login("slow")), None);
    assert_eq!(world.ask(login("far")), None);
    subject(world.answers.recv().unwrap());
    world.begun.recv().unwrap();
    world.end.send(()).unwrap();
    subject(world.answers.recv().unwrap());
    drop(world.reply);
    assert!(world.answers.recv().is_err(), "nobody is left who could reply");
}

/// A storm of logins is told that the server is busy, on the worker and at once, and does not push out what
/// administrators look for.
#[test]
fn a_storm_of_logins_does_not_stall_a_worker() {
    let world = world(one_thread(3));
    assert_eq!(world.ask(login("slow")), None);
    world.begun.recv().unwrap();
    for _ in 0..3 {
        assert_eq!(world.ask(login("behind")), None);
    }
    for _ in 0..1000 {
        let answer = world.ask(login("behind")).expect("at once");
        assert_eq!(reason(&answer), Some(ReasonCode::ServerBusy));
    }
    assert_eq!(world.access.counts().busy, 1000);
    assert!(world.whys().is_empty());
    subject(world.ask(login("c1")).expect("others are judged as always"));
    world.end.send(()).unwrap();
    for _ in 0..4 {
        subject(world.answers.recv().unwrap());
    }
}

#[test]
fn a_login_that_has_waited_too_long_costs_no_work() {
    let world = world(one_thread(10));
    assert_eq!(world.ask(login("slow")), None);
    world.begun.recv().unwrap();
    assert_eq!(world.ask(login("behind")), None);
    world.waited_ms.store(AccessConfig::default().patience_ms + 1, Ordering::SeqCst);
    world.end.send(()).unwrap();
    subject(world.answers.recv().unwrap());
    assert_eq!(reason(&world.answers.recv().unwrap()), Some(ReasonCode::ServerBusy));
    assert_eq!(world.asked.times.load(Ordering::SeqCst), 1, "nobody has looked at it");
}

/// Fail closed: whatever panics, the client is refused, gets its one answer, and the threads live on.
#[test]
fn a_judge_that_panics_lets_nobody_in() {
    for at in ["odd", "nameless"] {
        let provider = Arc::new(Keys { at, asked: Arc::default() });
        let link = Link { provider, on_error_skip: true, listeners: None };
        let access = Access::start(one_thread(10), judges_of(vec![link], ALL)).unwrap();
        let answer = access.ask(Time(0), Box::new(login("c1")), |_| panic!("at once"));
        assert_eq!(reason(&answer.unwrap()), Some(ReasonCode::ServerUnavailable), "{at}");
        let counts = AccessCounts { refused: 1, panicked: 1, ..AccessCounts::default() };
        assert_eq!(access.counts(), counts);
    }
}

/// The answer of a login that goes on while rights change is by the new rights.
#[test]
fn a_reload_during_a_login_is_not_missed() {
    let world = world(one_thread(10));
    assert_eq!(world.ask(login("slow")), None);
    world.begun.recv().unwrap();
    let others = Arc::default();
    world.access.replace(judges(&others, NOBODY));
    world.end.send(()).unwrap();
    assert_eq!(reason(&world.answers.recv().unwrap()), Some(ReasonCode::NotAuthorized));
    assert_eq!(others.times.load(Ordering::SeqCst), 1, "the new keys are asked too");
}

#[test]
fn a_block_during_a_login_is_not_missed() {
    let world = world(one_thread(10));
    assert_eq!(world.ask(login("slow")), None);
    world.begun.recv().unwrap();
    world.block("slow");
    world.end.send(()).unwrap();
    assert_eq!(reason(&world.answers.recv().unwrap()), Some(ReasonCode::Banned));
}

#[test]
fn by_default_half_of_the_processors_compute_and_one_at_least() {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = AccessConfig::default().compute_threads();
    assert!(threads >= 1 && threads <= processors.div_ceil(2), "{threads} of {processors}");
}

// With the providers, blocks and rules that there are.

fn link(provider: impl Provider + 'static) -> Link {
    Link { provider: Arc::new(provider), on_error_skip: false, listeners: None }
}

fn guarded() -> AccessConfig {
    let guard = GuardConfig { failures: 3, ..GuardConfig::default() };
    AccessConfig { guard, ..one_thread(8) }
}

fn anonymous() -> Vec<Link> {
    vec![link(AnonymousProvider::new("anonymous", None))]
}

fn request(client_id: &str, user: Option<(&'static str, &'static str)>, peer: [u8; 4]) -> Request {
    login_as("door", client_id, user, peer)
}

fn ask(access: &Arc<Access>, now: u64, request: Request) -> Answer {
    let (answer, answers) = channel();
    let at_once =
        access.ask(Time(now), Box::new(request), move |found| answer.send(found).unwrap());
    at_once.unwrap_or_else(|| answers.recv().unwrap())
}

#[test]
fn a_user_of_the_password_file_gets_in_by_the_password_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p");
    add_user(&path, "alice", b"secret").unwrap();
    let file = PasswordFile::parse("p", &fs::read_to_string(&path).unwrap()).unwrap();
    let links = vec![link(PasswordProvider::new("file", file))];
    let access = Access::start(guarded(), judges_of(links, OWN)).unwrap();
    let right = ask(&access, 0, request("c1", Some(("alice", "secret")), [10, 0, 0, 1]));
    assert_eq!(&*subject(right).provider, "file");
    let wrong = ask(&access, 0, request("c1", Some(("alice", "guess")), [10, 0, 0, 1]));
    assert_eq!(reason(&wrong), Some(ReasonCode::BadUserNameOrPassword));
    let Reply::Refusals(refusals) = access.command(Time(1), Command::Refusals { max: 10 }) else {
        panic!("no refusals")
    };
    let [one] = &*refusals else { panic!("{refusals:?}") };
    assert_eq!((one.provider.as_deref(), &*one.why), (Some("file"), "file: wrong password"));
    assert!(!format!("{refusals:?}").contains("guess"), "no secret is kept");
}

#[test]
fn without_a_provider_nobody_comes_in() {
    let access = Access::start(guarded(), Judges::default()).unwrap();
    let answer = ask(&access, 0, request("c", None, [10, 0, 0, 1]));
    assert_eq!(reason(&answer), Some(ReasonCode::NotAuthorized));
}

#[test]
fn blocks_come_before_providers_and_end_those_who_are_connected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks.toml");
    let config = AccessConfig { blocks: Some(path), ..guarded() };
    let access = Access::start(config.clone(), judges_of(anonymous(), ALL)).unwrap();
    let there = subject(ask(&access, 0, request("c", None, [10, 0, 0, 1])));
    let judge = || Request::Judge { subject: Arc::clone(&there) };
    assert!(matches!(ask(&access, 0, judge()), Answer::Accept { .. }));

    let of = Blocked::Address("10.0.0.0/24".parse().unwrap());
    let block = Block { of: of.clone(), until: Some(Time(1000)), note: "test".into() };
    assert_eq!(access.command(Time(0), Command::Block(block.clone())), Reply::Changed);
    assert_eq!(reason(&ask(&access, 1, judge())), Some(ReasonCode::Banned));
    let new = || request("d", None, [10, 0, 0, 2]);
    assert_eq!(reason(&ask(&access, 1, new())), Some(ReasonCode::Banned));
    assert_eq!(reason(&ask(&access, 1000, new())), None, "it has ended");

    let again = Access::start(config, judges_of(anonymous(), ALL)).unwrap();
    assert_eq!(again.command(Time(1), Command::Blocks), Reply::Blocks(vec![block]));
    assert_eq!(reason(&ask(&again, 1, new())), Some(ReasonCode::Banned), "it outlives the broker");
    assert_eq!(again.command(Time(1), Command::Unblock(of.clone())), Reply::Changed);
    assert_eq!(again.command(Time(1), Command::Unblock(of)), Reply::NotFound);
    assert_eq!(reason(&ask(&again, 1, new())), None);
}

#[test]
fn an_address_that_fails_too_often_is_kept_out_and_who_is_in_stays() {
    let access = Access::start(guarded(), judges_of(anonymous(), ALL)).unwrap();
    let there = subject(ask(&access, 0, request("d", None, [10, 0, 0, 9])));
    let wrong = || request("c", Some(("alice", "x")), [10, 0, 0, 9]);
    for _ in 0..3 {
        assert_eq!(reason(&ask(&access, 0, wrong())), Some(ReasonCode::BadUserNameOrPassword));
    }
    let right = |peer| request("c", None, peer);
    assert_eq!(reason(&ask(&access, 1, right([10, 0, 0, 9]))), Some(ReasonCode::Banned));
    assert_eq!(reason(&ask(&access, 1, right([10, 0, 0, 8]))), None);
    let judged = ask(&access, 1, Request::Judge { subject: there });
    assert_eq!(reason(&judged), None, "it is not to blame for its neighbours");
    assert_eq!(reason(&ask(&access, 60_000, right([10, 0, 0, 9]))), None);
}

/// CVE-2018-12546 and CVE-2021-34434: rights that are gone were still used.
#[test]
fn rules_that_are_replaced_hold_for_who_is_connected() {
    let access = Access::start(guarded(), judges_of(anonymous(), ALL)).unwrap();
    let there = subject(ask(&access, 0, request("c", None, [10, 0, 0, 1])));
    let judge = || Request::Judge { subject: Arc::clone(&there) };
    let policy = Policy::deny_all();
    access.replace(Judges { policy, ..judges_of(anonymous(), ALL) });
    let Answer::Accept { principal: now, .. } = ask(&access, 0, judge()) else { panic!("refused") };
    assert_eq!(now.grants, Grants::none());
    access.replace(judges_of(Vec::new(), ALL));
    assert_eq!(reason(&ask(&access, 0, judge())), Some(ReasonCode::NotAuthorized));
}
