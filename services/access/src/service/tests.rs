use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use codec::{Connect, ProtocolVersion};
use session_core::{ClientLimits, Exchange, Grants, Origin, Subject, Transport};

use super::*;
use crate::{Attempt, Identity, Step};

// The judges of these tests: everything that a test wants is said by the name of the client.

#[derive(Default)]
struct Fake {
    blocked: Mutex<Vec<Box<str>>>,
    failed: Mutex<Vec<Box<str>>>,
    refusals: Mutex<Vec<Refusal>>,
    /// How often keys were asked.
    asked: AtomicU64,
    /// Says when the client `slow` is looked at, and looks as long as nothing comes here.
    held: Option<(Sender<()>, Mutex<Receiver<()>>)>,
    /// What clients may do.
    allows: bool,
}

impl Gate for Fake {
    fn blocked(&self, _: Time, visitor: &Visitor) -> Option<Box<str>> {
        let is_blocked = self.blocked.lock().unwrap().contains(&visitor.client_id);
        is_blocked.then(|| "blocked by client id".into())
    }

    fn failed(&self, _: Time, visitor: &Visitor) {
        self.failed.lock().unwrap().push(visitor.client_id.clone());
    }
}

fn accepted(user: &str) -> Outcome {
    let user = (!user.is_empty()).then(|| user.into());
    let identity = Box::new(Identity { user, ..Identity::default() });
    Outcome::Accepted { provider: "keys".into(), identity }
}

fn refused(reason: ReasonCode) -> Outcome {
    Outcome::Refused { provider: Some("keys".into()), reason, why: "says who".into() }
}

impl Keys for Fake {
    fn work(&self, attempt: &Attempt) -> Work {
        match &*attempt.client_id {
            "slow" | "behind" => Work::Compute,
            "far" => Work::Wait,
            "odd" => panic!("a mistake"),
            _ => Work::None,
        }
    }

    fn work_of_step(&self, _: &Step) -> Work {
        Work::None
    }

    fn begin(&self, now: Time, attempt: &Attempt) -> Outcome {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match &*attempt.client_id {
            "wrong" => refused(ReasonCode::BadUserNameOrPassword),
            "away" => refused(ReasonCode::ServerUnavailable),
            "panics" => panic!("a mistake"),
            "scram" => {
                let (data, state) = (Bytes::from_static(b"more"), Bytes::from_static(b"state"));
                Outcome::Continued { provider: "keys".into(), data, state }
            }
            "lapsed" => {
                let identity = Box::new(Identity { expires: Some(now), ..Identity::default() });
                Outcome::Accepted { provider: "keys".into(), identity }
            }
            "limited" => {
                let identity = Identity {
                    groups: vec!["ops".into()],
                    client_type: Some("device".into()),
                    expires: Some(now.plus_s(60)),
                    own: Some(Grants::none()),
                    limits: Some(Arc::default()),
                    data: Some(Bytes::from_static(b"final")),
                    ..Identity::default()
                };
                Outcome::Accepted { provider: "keys".into(), identity: Box::new(identity) }
            }
            "slow" => {
                if let Some((begun, end)) = &self.held {
                    begun.send(()).unwrap();
                    end.lock().unwrap().recv().unwrap();
                }
                accepted("alice")
            }
            _ => accepted(attempt.user_name.as_deref().unwrap_or_default()),
        }
    }

    fn step(&self, _: Time, step: &Step) -> Outcome {
        let data = step.data.as_ref().map(crate::Secret::reveal).unwrap_or_default();
        match (step.again, data) {
            (true, b"more") | (false, b"even more") => {
                let (data, state) = (Bytes::from_static(b"more"), Bytes::from_static(b"again"));
                Outcome::Continued { provider: "keys".into(), data, state }
            }
            (_, b"wrong") => refused(ReasonCode::NotAuthorized),
            (false, user) if *step.state == *b"state" || *step.state == *b"again" => {
                accepted(std::str::from_utf8(user).unwrap())
            }
            (true, user) => accepted(std::str::from_utf8(user).unwrap()),
            (false, _) => panic!("it does not get its state back: {step:?}"),
        }
    }

    fn has(&self, provider: &str) -> bool {
        provider == "keys"
    }
}

impl Rights for Fake {
    fn judge(&self, subject: &Subject) -> Result<Grants, Box<str>> {
        assert_ne!(&*subject.client_id, "strange", "a mistake");
        match self.allows {
            true => Ok(subject.own.clone().unwrap_or_default()),
            false => Err("denied to connect by rules.toml:3".into()),
        }
    }
}

impl RefusalLog for Fake {
    fn record(&self, refusal: Refusal) {
        self.refusals.lock().unwrap().push(refusal);
    }
}

fn fake() -> Arc<Fake> {
    Arc::new(Fake { allows: true, ..Fake::default() })
}

fn judges(fake: &Arc<Fake>) -> Judges {
    Judges {
        gate: Arc::clone(fake) as _,
        keys: Arc::clone(fake) as _,
        rights: Arc::clone(fake) as _,
        limits: vec![("door".into(), Arc::default())],
    }
}

fn login(client_id: &str) -> Request {
    let connect = Connect {
        version: ProtocolVersion::V5,
        bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        client_id: client_id.into(),
        will: None,
        user_name: Some("alice".into()),
        password: Some(Bytes::from_static(b"geheim")),
        properties: std::iter::empty().collect(),
    };
    let origin = Origin {
        listener: "door".into(),
        peer: Some(([192, 0, 2, 7], 1234).into()),
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
    let judges = judges(&fake());
    let decision = judges.decide(Time(1000), login("c1"));
    assert_eq!(decision.refusal, None);
    let Answer::Accept { principal, data } = decision.answer else { panic!() };
    let subject = principal.subject.clone().unwrap();
    assert_eq!((principal.name.as_deref(), principal.expires), (Some("alice"), None));
    assert_eq!((principal.grants, data), (Grants::All, None));
    assert!(principal.limits.is_some(), "those of the listener");
    assert_eq!(
        *subject,
        Subject {
            client_id: "c1".into(),
            user: Some("alice".into()),
            address: Some([192, 0, 2, 7].into()),
            listener: "door".into(),
            provider: "keys".into(),
            ..Subject::default()
        }
    );
}

#[test]
fn what_came_with_the_identity_arrives() {
    let mut judges = judges(&fake());
    let limits: Arc<ClientLimits> = Arc::default();
    judges.limits = vec![("door".into(), Arc::clone(&limits))];
    let Answer::Accept { principal, data } = judges.decide(Time(1000), login("limited")).answer
    else {
        panic!()
    };
    assert_eq!(principal.expires, Some(Time(61_000)));
    assert_eq!(data.as_deref(), Some(&b"final"[..]));
    assert!(!Arc::ptr_eq(&principal.limits.unwrap(), &limits), "its own go before the listener's");
    assert_eq!(principal.grants, Grants::none());
    let subject = principal.subject.unwrap();
    assert_eq!(
        (&*subject.groups, &*subject.client_type.clone().unwrap()),
        (&["ops".into()][..], "device")
    );
}

#[test]
fn a_blocked_client_is_refused_before_its_credentials_are_looked_at() {
    let fake = fake();
    fake.blocked.lock().unwrap().push("c1".into());
    let judges = judges(&fake);
    let decision = judges.decide(Time(5), login("c1"));
    assert_eq!(why(decision), (ReasonCode::Banned, "blocked by client id".into()));
    assert_eq!(fake.asked.load(Ordering::SeqCst), 0);
    assert!(fake.failed.lock().unwrap().is_empty(), "that it is blocked is no new failure");
    assert_eq!(judges.work(Time(5), &Question::new(login("c1"))), Work::None);
    fake.blocked.lock().unwrap().push("slow".into());
    assert_eq!(judges.work(Time(5), &Question::new(login("slow"))), Work::None, "takes no thread");
}

#[test]
fn a_refusal_says_who_and_why_and_nothing_secret() {
    let refusal = judges(&fake()).decide(Time(7), login("wrong")).refusal.unwrap();
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
            provider: Some("keys".into()),
            reason: ReasonCode::BadUserNameOrPassword,
            why: "says who".into(),
        }
    );
    assert!(!format!("{refusal:?}").contains("geheim"));
    let long = "x".repeat(60_000);
    let fake = fake();
    fake.blocked.lock().unwrap().push(long.as_str().into());
    let refusal = judges(&fake).decide(Time(7), login(&long)).refusal.unwrap();
    assert_eq!(refusal.visitor.client_id.len(), 128);
}

#[test]
fn wrong_credentials_count_as_failures_and_a_server_that_is_away_does_not() {
    let fake = fake();
    let judges = judges(&fake);
    for client in ["wrong", "away", "c1"] {
        judges.decide(Time(0), login(client));
    }
    assert_eq!(*fake.failed.lock().unwrap(), ["wrong".into()]);
}

#[test]
fn who_may_not_connect_by_the_rules_is_refused_whatever_its_credentials() {
    let judges = judges(&Arc::default());
    let denied = (ReasonCode::NotAuthorized, "denied to connect by rules.toml:3".to_owned());
    assert_eq!(why(judges.decide(Time(0), login("c1"))), denied);
    let subject = Arc::new(Subject { provider: "keys".into(), ..Subject::default() });
    assert_eq!(why(judges.decide(Time(0), Request::Judge { subject })), denied);
}

#[test]
fn what_has_lapsed_lets_nobody_in() {
    let (reason, _) = why(judges(&fake()).decide(Time(9), login("lapsed")));
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

#[test]
fn an_exchange_goes_on_with_what_the_provider_gave() {
    let judges = judges(&fake());
    let begun = exchange(judges.decide(Time(0), login("scram")).answer);
    assert_eq!(&*begun.subject.provider, "keys");
    let on = exchange(judges.decide(Time(1), step(begun.clone(), false, "even more")).answer);
    let subject = subject(judges.decide(Time(2), step(on, false, "bob")).answer);
    assert_eq!((&*subject.client_id, subject.user.as_deref()), ("scram", Some("bob")));
    let (reason, _) = why(judges.decide(Time(1), step(begun, false, "wrong")));
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

/// Whoever re-authenticates cannot become somebody else and keep the session.
#[test]
fn a_re_authentication_that_proves_somebody_else_is_refused() {
    let judges = judges(&fake());
    for user in ["alice", ""] {
        let user = (!user.is_empty()).then(|| user.into());
        let subject = Arc::new(Subject { user, provider: "keys".into(), ..Subject::default() });
        let exchange = Exchange { subject, state: Bytes::new() };
        let (reason, _) = why(judges.decide(Time(0), step(exchange.clone(), true, "bob")));
        assert_eq!(reason, ReasonCode::NotAuthorized);
        // Nor by one that takes more steps.
        let on = self::exchange(judges.decide(Time(0), step(exchange, true, "more")).answer);
        let (reason, _) = why(judges.decide(Time(0), step(on, false, "bob")));
        assert_eq!(reason, ReasonCode::NotAuthorized);
    }
    let subject = Arc::new(Subject {
        user: Some("alice".into()),
        provider: "keys".into(),
        ..Subject::default()
    });
    let exchange = Exchange { subject, state: Bytes::new() };
    let renewed = judges.decide(Time(0), step(exchange, true, "alice"));
    assert_eq!(self::subject(renewed.answer).user.as_deref(), Some("alice"));
}

#[test]
fn a_step_of_nothing_that_was_begun_is_refused() {
    let judges = judges(&fake());
    let subject: Arc<Subject> = Arc::default();
    for state in [&b""[..], b"\x02state", b"state"] {
        let exchange = Exchange { subject: Arc::clone(&subject), state: state.into() };
        let (reason, _) = why(judges.decide(Time(0), step(exchange, false, "alice")));
        assert_eq!(reason, ReasonCode::ProtocolError);
    }
    let (client_id, method) = ("c1".into(), "M".into());
    let request = Request::Continue { client_id, method, data: None, again: false, exchange: None };
    assert_eq!(why(judges.decide(Time(0), request)).0, ReasonCode::ProtocolError);
}

#[test]
fn who_is_there_is_judged_again_by_blocks_provider_and_rules() {
    let fake = fake();
    let judges = judges(&fake);
    let there = subject(judges.decide(Time(0), login("c1")).answer);
    let judge = |subject: &Arc<Subject>| {
        judges.decide(Time(0), Request::Judge { subject: Arc::clone(subject) })
    };
    assert_eq!(subject(judge(&there).answer), there);
    let gone = Arc::new(Subject { provider: "gone".into(), ..(*there).clone() });
    let (reason, text) = why(judge(&gone));
    assert_eq!(
        (reason, &*text),
        (ReasonCode::NotAuthorized, "the provider that has let it in is gone")
    );
    fake.blocked.lock().unwrap().push("c1".into());
    assert_eq!(why(judge(&there)).0, ReasonCode::Banned);
}

// On which thread, and what happens meanwhile.

struct World {
    fake: Arc<Fake>,
    access: Arc<Access>,
    now: Arc<AtomicU64>,
    answers: Receiver<Answer>,
    reply: Sender<Answer>,
    begun: Receiver<()>,
    end: Sender<()>,
}

fn world(config: &AccessConfig) -> World {
    let ((begins, begun), (end, ends)) = (channel(), channel());
    let held = Some((begins, Mutex::new(ends)));
    let fake = Arc::new(Fake { allows: true, held, ..Fake::default() });
    let now = Arc::new(AtomicU64::new(1000));
    let clock = Arc::clone(&now);
    let clock: Clock = Arc::new(move || Time(clock.load(Ordering::SeqCst)));
    let access = Access::new(config, clock, judges(&fake), Arc::clone(&fake) as _);
    let (reply, answers) = channel();
    World { fake, access, now, answers, reply, begun, end }
}

impl World {
    fn ask(&self, request: Request) -> Option<Answer> {
        let reply = self.reply.clone();
        let now = Time(self.now.load(Ordering::SeqCst));
        self.access.answer(now, Box::new(request), move |answer| reply.send(answer).unwrap())
    }

    fn whys(&self) -> Vec<String> {
        let refusals = self.fake.refusals.lock().unwrap();
        refusals.iter().map(|refusal| refusal.why.clone().into()).collect()
    }
}

fn one_thread(queue_max: usize) -> AccessConfig {
    AccessConfig { compute_threads: 1, waiting_threads: 1, queue_max, ..AccessConfig::default() }
}

#[test]
fn what_takes_no_time_is_answered_at_once() {
    let world = world(&AccessConfig::default());
    subject(world.ask(login("c1")).expect("at once"));
    let answer = world.ask(login("wrong")).expect("at once");
    assert_eq!(reason(&answer), Some(ReasonCode::BadUserNameOrPassword));
    assert_eq!(world.whys(), ["says who"]);
    let counts = AccessCounts { accepted: 1, refused: 1, ..AccessCounts::default() };
    assert_eq!(world.access.counts(), counts);
    assert!(world.answers.try_recv().is_err(), "and not once more");
}

#[test]
fn what_takes_time_is_answered_later_and_once() {
    let world = world(&AccessConfig::default());
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
    let world = world(&one_thread(3));
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
    let world = world(&one_thread(10));
    assert_eq!(world.ask(login("slow")), None);
    world.begun.recv().unwrap();
    assert_eq!(world.ask(login("behind")), None);
    world.now.fetch_add(AccessConfig::default().patience_ms + 1, Ordering::SeqCst);
    world.end.send(()).unwrap();
    subject(world.answers.recv().unwrap());
    assert_eq!(reason(&world.answers.recv().unwrap()), Some(ReasonCode::ServerBusy));
    assert_eq!(world.fake.asked.load(Ordering::SeqCst), 1, "nobody has looked at it");
}

/// Fail closed: whatever panics, the client is refused, gets its one answer, and the threads live on.
#[test]
fn a_judge_that_panics_lets_nobody_in() {
    let world = world(&one_thread(10));
    for client in ["odd", "panics", "strange"] {
        let answer = world.ask(login(client)).expect("at once");
        assert_eq!(reason(&answer), Some(ReasonCode::ServerUnavailable), "{client}");
    }
    assert_eq!(world.access.counts().panicked, 3);
    assert_eq!(world.whys().len(), 3);
    subject(world.ask(login("c1")).expect("at once"));
}

/// The answer of a login that goes on while rights change is by the new rights.
#[test]
fn a_reload_during_a_login_is_not_missed() {
    let world = world(&one_thread(10));
    assert_eq!(world.ask(login("slow")), None);
    world.begun.recv().unwrap();
    let denies: Arc<Fake> = Arc::default();
    world.access.reload(judges(&denies));
    world.end.send(()).unwrap();
    assert_eq!(reason(&world.answers.recv().unwrap()), Some(ReasonCode::NotAuthorized));
    assert_eq!(denies.asked.load(Ordering::SeqCst), 1, "the new keys are asked too");
}

#[test]
fn a_block_during_a_login_is_not_missed() {
    let world = world(&one_thread(10));
    assert_eq!(world.ask(login("slow")), None);
    world.begun.recv().unwrap();
    world.access.change(|_| world.fake.blocked.lock().unwrap().push("slow".into()));
    world.end.send(()).unwrap();
    assert_eq!(reason(&world.answers.recv().unwrap()), Some(ReasonCode::Banned));
}

/// What is written into the log meanwhile, on this thread.
fn logged(act: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let buffer = Buffer::default();
    let to = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || to.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, act);
    String::from_utf8(std::mem::take(&mut buffer.0.lock().unwrap())).unwrap()
}

#[test]
fn a_refusal_is_one_line_of_the_log_without_secrets_and_a_storm_is_few() {
    let world = world(&AccessConfig::default());
    let one = logged(|| {
        world.ask(login("wrong"));
    });
    assert_eq!(one.lines().count(), 1, "{one}");
    for part in ["wrong", "alice", "192.0.2.7", "door", "keys", "says who"] {
        assert!(one.contains(part), "{part}: {one}");
    }
    assert!(!one.contains("geheim"), "{one}");
    let storm = logged(|| {
        for _ in 0..1000 {
            world.ask(login("wrong"));
        }
    });
    assert!(storm.lines().count() < 10, "{storm}");
    assert_eq!(world.whys().len(), 1001, "administrators see all that fit");
}

/// A name with a line break cannot forge a line of the log.
#[test]
fn names_do_not_break_lines_of_the_log() {
    let world = world(&AccessConfig::default());
    let forged = "x\nINFO accepted client_id=root\u{1b}[2J";
    world.fake.blocked.lock().unwrap().push(forged.into());
    let line = logged(|| {
        world.ask(login(forged));
    });
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
}

#[test]
fn by_default_half_of_the_processors_compute_and_one_at_least() {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = AccessConfig::default().compute_threads();
    assert!(threads >= 1 && threads <= processors.div_ceil(2), "{threads} of {processors}");
}
