//! The clients, and the rounds they go through with the broker.

use std::{
    io,
    ops::RangeInclusive,
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use codec::{ProtocolVersion, QoS};
use conformance::sim::Rng;

use crate::{
    broker::Broker,
    churner::Churner,
    findings::Findings,
    keeper::Keeper,
    ledger::{Claim, Fate, Receiver, judge},
    link::Identity,
    message::{TOPICS, topic},
    publisher::Publisher,
    subscriber::Subscriber,
    world::{Client, Part, World, drive},
};

/// So long nothing more comes when all has come.
const QUIET: Duration = Duration::from_millis(100);

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;
const LEAST: QoS = QoS::AtLeastOnce;
const ONCE: QoS = QoS::ExactlyOnce;

/// Version, QoS and window of each publisher.
const PUBLISHERS: [(ProtocolVersion, QoS, usize); 8] = [
    (V5, LEAST, 32),
    (V5, ONCE, 32),
    (V311, LEAST, 16),
    (V311, ONCE, 16),
    (V311, LEAST, 32),
    (V5, ONCE, 4),
    (V5, LEAST, 1),
    (V5, ONCE, 1),
];

/// How the broker is treated.
pub(crate) struct Settings {
    /// How many worker threads it may have.
    pub(crate) workers: RangeInclusive<u16>,
    /// Whether its log may be torn at the end when it was killed.
    pub(crate) tears: bool,
}

/// Everything of one run.
pub(crate) struct Rounds {
    pub(crate) broker: Broker,
    settings: Settings,
    world: World,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    keeper: Keeper,
    churner: Churner,
    rng: Rng,
    rounds: u32,
    kills: u32,
    /// From the start of the broker to its first CONNACK.
    starts: Vec<Duration>,
}

impl Rounds {
    pub(crate) fn new(broker: Broker, settings: Settings, seed: u64) -> Self {
        let mut seeds = Rng::new(seed);
        let mut rng = move || Rng::new(seeds.below(usize::MAX) as u64);
        let publishers = PUBLISHERS.iter().enumerate().map(|(index, (version, qos, window))| {
            let identity = Identity::new(format!("publisher-{index}"), *version);
            Publisher::new(identity, index, *qos, *window, rng())
        });
        let publishers = publishers.collect();
        let mut receivers = Vec::new();
        let subscribers = subscribers(&mut receivers, &mut rng);
        let world = World {
            address: broker.address,
            part: Part::SetUp,
            findings: Findings::default(),
            is_killed: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            packets: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            publishers: PUBLISHERS.iter().map(|(_, qos, _)| *qos).collect(),
            begun: PUBLISHERS.iter().map(|_| AtomicU64::new(0)).collect(),
            gone: AtomicU64::new(0),
            receivers: receivers.into_iter().map(Mutex::new).collect(),
            backlog_max: AtomicU64::new(0),
        };
        Self {
            broker,
            settings,
            world,
            publishers,
            subscribers,
            keeper: Keeper::new(rng()),
            churner: Churner::new(rng()),
            rng: rng(),
            rounds: 0,
            kills: 0,
            starts: Vec::new(),
        }
    }

    /// Goes through all rounds, or until something is found.
    pub(crate) fn run(&mut self, rounds: u32, judge_every: u32) -> io::Result<()> {
        self.start()?;
        self.calm(Part::SetUp)?;
        for round in 1..=rounds {
            self.load()?;
            self.rounds = round;
            let is_wrong = !self.world.findings.is_empty();
            if is_wrong || round % judge_every == 0 || round == rounds {
                self.calm(Part::Drain)?;
                println!("round {round}: {} messages, {} kills", self.world.due(), self.kills);
            }
            if !self.world.findings.is_empty() {
                break;
            }
        }
        self.kill();
        Ok(())
    }

    pub(crate) fn findings(&self) -> &Findings {
        &self.world.findings
    }

    /// One round: the broker is killed in the middle of everything, and comes back.
    fn load(&mut self) -> io::Result<()> {
        self.world.part = Part::Load;
        let (publishers, subscribers, rng) =
            (&mut self.publishers, &mut self.subscribers, &mut self.rng);
        let publishers = publishers.iter_mut().filter(|_| rng.below(6) > 0);
        let mut clients: Vec<&mut dyn Client> = Vec::new();
        clients.extend(publishers.map(|client| client as &mut dyn Client));
        let there = |client: &&mut Subscriber| !client.is_often_away || rng.below(2) > 0;
        clients
            .extend(subscribers.iter_mut().filter(there).map(|client| client as &mut dyn Client));
        clients.extend([&mut self.keeper as &mut dyn Client, &mut self.churner]);
        let lasts = Duration::from_millis(30 + self.rng.below(370) as u64);
        let (world, broker) = (&self.world, &mut self.broker);
        thread::scope(|scope| {
            for client in clients {
                scope.spawn(move || drive(client, world));
            }
            thread::sleep(lasts);
            kill(broker, world);
        });
        self.kills += 1;
        self.start()
    }

    /// Lets all clients do what can be finished, while the broker stays. After the load all is
    /// judged, and it is killed then, or now and then asked to stop.
    fn calm(&mut self, part: Part) -> io::Result<()> {
        self.world.part = part;
        let mut clients: Vec<&mut dyn Client> = Vec::new();
        clients.extend(self.publishers.iter_mut().map(|client| client as &mut dyn Client));
        clients.extend(self.subscribers.iter_mut().map(|client| client as &mut dyn Client));
        clients.extend([&mut self.keeper as &mut dyn Client, &mut self.churner]);
        self.world.busy.store(clients.len() as u64, SeqCst);
        let world = &self.world;
        thread::scope(|scope| {
            for client in clients {
                scope.spawn(move || drive(client, world));
            }
            wait_until_calm(world);
            world.is_over.store(true, SeqCst);
        });
        world.is_over.store(false, SeqCst);
        if part == Part::SetUp {
            return Ok(());
        }
        let receivers: Vec<_> = (0..world.receivers.len()).map(|at| world.receiver(at)).collect();
        let sent = self.publishers.iter().map(|one| (one.index(), one.sent.as_slice()));
        judge(
            sent,
            &receivers.iter().map(|receiver| &**receiver).collect::<Vec<_>>(),
            &world.findings,
        );
        drop(receivers);
        self.keeper.look(V311, world)?;
        if self.rng.below(3) > 0 {
            self.kill();
        } else if !self.broker.stop() {
            world.findings.add("the broker does not stop", || "after SIGTERM".to_owned());
        }
        self.start()
    }

    /// Starts the broker, sometimes after a kill in the midst of starting, and looks what is
    /// retained before anybody changes it.
    fn start(&mut self) -> io::Result<()> {
        while self.kills > 0 && self.rng.below(5) == 0 {
            self.spawn()?;
            thread::sleep(Duration::from_millis(self.rng.below(60) as u64));
            kill(&mut self.broker, &self.world);
            self.kills += 1;
        }
        for complaint in self.broker.complaints() {
            self.world.findings.add("the broker complains", || complaint);
        }
        let began = Instant::now();
        self.spawn()?;
        self.world.is_killed.store(false, SeqCst);
        self.world.is_over.store(false, SeqCst);
        let version = if self.rng.below(2) == 0 { V311 } else { V5 };
        let connected = self.keeper.look(version, &self.world)?;
        self.starts.push(connected.duration_since(began));
        Ok(())
    }

    fn spawn(&mut self) -> io::Result<()> {
        if self.settings.tears && self.kills > 0 && self.rng.below(2) == 0 {
            self.broker.tear(&mut self.rng)?;
        }
        let (least, most) = self.settings.workers.clone().into_inner();
        let workers = least + self.rng.below(usize::from(most - least) + 1) as u16;
        self.broker.start(workers)
    }

    fn kill(&mut self) {
        kill(&mut self.broker, &self.world);
        self.kills += 1;
    }

    /// What was done, in figures.
    pub(crate) fn report(&mut self, took: Duration) -> String {
        let sent = || self.publishers.iter().flat_map(|publisher| &publisher.sent);
        let fates = |fate| sent().filter(|sent| sent.fate == fate).count();
        let resent = sent().filter(|sent| sent.times > 1).count();
        let (mut delivered, mut repeated, mut shared_twice) = (0, 0, 0);
        for at in 0..self.world.receivers.len() {
            let receiver = self.world.receiver(at);
            match receiver.claim {
                Claim::Group => shared_twice += receiver.repeated,
                Claim::All | Claim::Share => {
                    delivered += receiver.distinct;
                    repeated += receiver.repeated;
                }
            }
        }
        self.starts.sort_unstable();
        let ms = |at: usize| self.starts.get(at).map_or(0, Duration::as_millis);
        format!(
            "{} rounds in {} s, {} kills\n\
             messages: {} sent ({resent} more than once), {} acknowledged, {} refused\n\
             deliveries: {delivered} first, {repeated} QoS 1 copies; \
             {shared_twice} at QoS 2 to another of a share group, too\n\
             longest backlog of a session: {}\n\
             retained: {} changes acknowledged; subscriptions: {}\n\
             start to first CONNACK: median {} ms, at most {} ms; data {} KiB",
            self.rounds,
            took.as_secs(),
            self.kills,
            sent().count(),
            fates(Fate::Acknowledged),
            fates(Fate::Refused),
            self.world.backlog_max.load(SeqCst),
            self.keeper.acknowledged(),
            self.churner.acknowledged,
            ms(self.starts.len() / 2),
            ms(self.starts.len().saturating_sub(1)),
            self.broker.data_bytes() / 1024,
        )
    }
}

/// All subscribers, and a receiver for each and for what a share group gets together.
fn subscribers(receivers: &mut Vec<Receiver>, rng: &mut impl FnMut() -> Rng) -> Vec<Subscriber> {
    let everything = |qos| vec![("load/#".to_owned(), qos)];
    let topics = |qos| {
        let all = (0..PUBLISHERS.len()).flat_map(|one| (0..TOPICS).map(move |at| topic(one, at)));
        all.map(|topic| (topic, qos)).collect::<Vec<_>>()
    };
    let overlapping =
        vec![("load/#".to_owned(), ONCE), ("load/+".to_owned(), LEAST), ("+/1-0".to_owned(), ONCE)];
    let shared = || vec![("$share/pair/load/#".to_owned(), ONCE)];
    let mut add = |name: &str, claim| {
        receivers.push(Receiver::new(name, claim, PUBLISHERS.len()));
        receivers.len() - 1
    };
    let group = add("share group", Claim::Group);
    let mut subscriber = |name: &str, version, window, filters: Vec<(String, QoS)>| {
        let is_shared = filters.iter().any(|(filter, _)| filter.starts_with("$share"));
        let claim = if is_shared { Claim::Share } else { Claim::All };
        let mut receivers = vec![add(name, claim)];
        receivers.extend(is_shared.then_some(group));
        let identity = Identity { receive_maximum: window, ..Identity::new(name, version) };
        Subscriber::new(identity, filters, receivers, rng())
    };
    vec![
        subscriber("once-5", V5, None, everything(ONCE)),
        subscriber("once-311", V311, None, everything(ONCE)).lazy(),
        subscriber("least-311", V311, None, everything(LEAST)),
        subscriber("least-5", V5, Some(20), topics(LEAST)).lazy(),
        subscriber("narrow-1", V5, Some(1), everything(LEAST)),
        subscriber("narrow-3", V5, Some(3), topics(ONCE)),
        subscriber("overlapping", V5, None, overlapping),
        subscriber("away-311", V311, None, everything(ONCE)).often_away(),
        subscriber("away-5", V5, Some(50), everything(LEAST)).often_away(),
        subscriber("away-topics", V5, None, topics(ONCE)).often_away().lazy(),
        subscriber("shared-1", V5, None, shared()),
        subscriber("shared-2", V5, Some(10), shared()).often_away(),
    ]
}

/// Kills the broker; whether it was still there.
fn kill(broker: &mut Broker, world: &World) {
    if let Some(status) = broker.ended() {
        world.findings.add("the broker ended by itself", || status.to_string());
    }
    world.is_killed.store(true, SeqCst);
    broker.kill();
    world.is_over.store(true, SeqCst);
}

/// Waits until all have done their part and have got everything, or nothing happens any more.
fn wait_until_calm(world: &World) {
    let mut last = (world.packets.load(Relaxed), Instant::now());
    loop {
        thread::sleep(Duration::from_millis(5));
        let packets = world.packets.load(Relaxed);
        if packets != last.0 {
            last = (packets, Instant::now());
        }
        let is_done = world.busy.load(SeqCst) == 0 && world.waiting() == 0;
        if last.1.elapsed() > if is_done { QUIET } else { world.patience() } {
            return;
        }
    }
}
