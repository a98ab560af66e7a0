//! What explains a difference. A rule changes what the peer sent into what our broker would have
//! sent, packet by packet, and only where its reason holds; what is left has to be equal.

use codec::{PacketType, QoS, SubscribeFilter};

use super::{
    compare::Scene,
    event::{Delivery, Event},
    model::{ClientModel, Subscribed, matches},
    script::{Act, Hello, Publication},
};

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The standard allows both.
    BothLegal,
    /// The peer breaks the statement.
    TheirsWrong,
}

/// One known reason for a difference.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Who is right.
    pub verdict: Verdict,
    /// The statement of the standard that it is about.
    pub statement: &'static str,
    /// What it does about it.
    pub effect: Effect,
}

/// What one link saw of a lane in one step, as far as no rule has explained it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sides {
    /// From our broker.
    pub ours: Vec<Event>,
    /// From the other one.
    pub theirs: Vec<Event>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// Takes what it explains out of both sides, or makes it equal; how many packets that were.
    Explains(fn(&Scene<'_>, &mut Sides) -> usize),
    /// Whether the brokers are in different states after this step, even if nobody has seen it yet.
    /// Nothing behind it is compared.
    Parts(fn(&Scene<'_>) -> bool),
}

impl Sides {
    /// Leaves these out on both sides; how many they were.
    fn drop_if(&mut self, mut is_explained: impl FnMut(&Event) -> bool) -> usize {
        let before = self.ours.len() + self.theirs.len();
        self.ours.retain(|event| !is_explained(event));
        self.theirs.retain(|event| !is_explained(event));
        before - self.ours.len() - self.theirs.len()
    }
}

/// The rules for Debian's mosquitto 2.0.11.
pub const MOSQUITTO: [Rule; 12] = [
    Rule {
        name: "taken over without DISCONNECT 0x8E",
        verdict: Verdict::TheirsWrong,
        statement: "MQTT-3.1.4-3",
        effect: Effect::Explains(taken_over_without_a_word),
    },
    Rule {
        name: "no Will at take-over when the session goes on",
        verdict: Verdict::TheirsWrong,
        statement: "MQTT-3.1.2-8",
        effect: Effect::Explains(no_will_at_take_over),
    },
    Rule {
        name: "no retained Will at take-over when the session goes on",
        verdict: Verdict::TheirsWrong,
        statement: "MQTT-3.1.2-8",
        effect: Effect::Parts(no_retained_will_at_take_over),
    },
    Rule {
        name: "a Will at take-over goes to the connection that is about to be closed",
        verdict: Verdict::TheirsWrong,
        statement: "MQTT-3.1.2-8",
        effect: Effect::Explains(will_to_the_dying),
    },
    Rule {
        name: "subscribing again does not change Retain As Published",
        verdict: Verdict::TheirsWrong,
        statement: "MQTT-3.8.4-3",
        effect: Effect::Explains(keeps_retain_as_published),
    },
    Rule {
        name: "subscribing again does not change No Local",
        verdict: Verdict::TheirsWrong,
        statement: "MQTT-3.8.4-3",
        effect: Effect::Parts(keeps_no_local),
    },
    Rule {
        name: "a copy for each of several matching subscriptions",
        verdict: Verdict::BothLegal,
        statement: "MQTT-3.3.4-2",
        effect: Effect::Explains(copy_for_each_subscription),
    },
    Rule {
        name: "retained messages for shared subscriptions",
        verdict: Verdict::TheirsWrong,
        statement: "U5-3.8.4-a",
        effect: Effect::Explains(retained_for_shared),
    },
    Rule {
        name: "more messages than Receive Maximum",
        verdict: Verdict::TheirsWrong,
        statement: "MQTT-3.3.4-9",
        effect: Effect::Explains(above_receive_maximum),
    },
    Rule {
        name: "windows that are filled beyond Receive Maximum",
        verdict: Verdict::TheirsWrong,
        statement: "MQTT-3.3.4-9",
        effect: Effect::Parts(|scene| scene.theirs.iter().any(|seen| is_too_much(&seen.event))),
    },
    Rule {
        name: "a refused message of QoS 2 keeps its place in the window",
        verdict: Verdict::TheirsWrong,
        statement: "U5-4.9-a",
        effect: Effect::Parts(refused_in_a_window),
    },
    Rule {
        name: "what follows from copies that were explained",
        verdict: Verdict::BothLegal,
        statement: "MQTT-4.3.3-4",
        effect: Effect::Explains(follows_from_explained),
    },
];

/// The rules for our own broker with another number of shards.
pub const SHARDS: [Rule; 1] = [Rule {
    name: "a Will of QoS 0 at take-over, to the session that was taken over",
    verdict: Verdict::BothLegal,
    statement: "MQTT-4.3.1-1",
    effect: Effect::Explains(own_will_at_take_over),
}];

/// The topic's owner may be so quick that the session has no connection yet.
fn own_will_at_take_over(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    let op = scene.op();
    let Some(taken_over) = &scene.before().client(op.client).online else { return 0 };
    let is_taken_over = matches!(op.act, Act::Connect(_)) && op.client == scene.client;
    let Some(will) = taken_over.hello.will.as_ref().filter(|_| is_taken_over) else { return 0 };
    sides.drop_if(|event| match event {
        Event::Publish(copy) => copy.qos == QoS::AtMostOnce && copy.label == Some(will.label),
        _ => false,
    })
}

fn taken_over_without_a_word(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    let before = scene.before().client(scene.op().client);
    let is_taken_over = matches!(scene.op().act, Act::Connect(_))
        && before.online.as_ref().is_some_and(|online| online.link == scene.link);
    let is_it = is_taken_over && sides.ours == [Event::Disconnect(0x8E)] && sides.theirs.is_empty();
    if is_it {
        sides.ours.clear();
    }
    is_it.into()
}

fn no_will_at_take_over(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    let lost = lost_wills(scene);
    let before = sides.ours.len();
    sides.ours.retain(|event| event.label().is_none_or(|label| !lost.contains(&label)));
    before - sides.ours.len()
}

fn no_retained_will_at_take_over(scene: &Scene<'_>) -> bool {
    lost_will(scene, scene.step).is_some_and(|will| will.retain)
}

/// The session ends with the connection, and the Will finds its subscription still there.
fn will_to_the_dying(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    let Some(dying) = &scene.before().client(scene.client).online else { return 0 };
    let Act::Connect(hello) = &scene.op().act else { return 0 };
    let ends = hello.clean || dying.hello.expiry_s() == 0;
    let label = dying.hello.will.as_ref().map(|will| will.label);
    if dying.link != scene.link || !ends || !sides.ours.is_empty() {
        return 0;
    }
    let before = sides.theirs.len();
    sides.theirs.retain(|event| event.label().is_none() || event.label() != label);
    before - sides.theirs.len()
}

/// The labels of Wills that were not published when their connections were taken over.
fn lost_wills(scene: &Scene<'_>) -> Vec<u32> {
    let wills = (0..=scene.step).filter_map(|step| lost_will(scene, step));
    wills.map(|will| will.label).collect()
}

/// The Will that was lost in a step.
fn lost_will<'a>(scene: &Scene<'a>, step: usize) -> Option<&'a Publication> {
    let op = &scene.script.ops[step];
    let Act::Connect(Hello { clean: false, .. }) = &op.act else { return None };
    let taken_over = scene.history[step].client(op.client).online.as_ref()?;
    taken_over.hello.will.as_ref().filter(|_| taken_over.hello.expiry_s() > 0)
}

/// RETAIN is as the options say with which the subscription came into being.
fn keeps_retain_as_published(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    if sides.ours.len() != sides.theirs.len() {
        return 0;
    }
    let mut count = 0;
    for (ours, theirs) in sides.ours.iter().zip(&mut sides.theirs) {
        let (Event::Publish(ours), Event::Publish(theirs)) = (ours, theirs) else { continue };
        let is_kept = moments(scene, ours).iter().any(|(_, client)| {
            client.matching(&ours.topic).iter().any(|(_, subscribed)| {
                let (now, first) = (subscribed.options, subscribed.first);
                now.retain_as_published == ours.retain && first.retain_as_published == theirs.retain
            })
        });
        if is_kept && ours.retain != theirs.retain {
            theirs.retain = ours.retain;
            count += 1;
        }
    }
    count
}

fn keeps_no_local(scene: &Scene<'_>) -> bool {
    let session = scene.after().client(scene.op().client).session.iter();
    let mut subscribed = session.flat_map(|session| session.subscriptions.values());
    matches!(scene.op().act, Act::Subscribe { .. })
        && subscribed.any(|entry| entry.options.no_local != entry.first.no_local)
}

/// Who published a message, and what its receiver was at every moment since.
fn moments<'a>(scene: &Scene<'a>, copy: &Delivery) -> Vec<(usize, &'a ClientModel)> {
    let published = copy.label.and_then(|label| scene.step_of(label));
    let Some((step, publisher)) = published else { return Vec::new() };
    let models = scene.history[step..=scene.step + 1].iter();
    models.map(|model| (publisher, model.client(scene.client))).collect()
}

fn copy_for_each_subscription(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    // What is sent again and what is sent for the first time may come together.
    let mut kinds: Vec<_> = sides.theirs.iter().filter_map(kind_of_copy).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut count = 0;
    for kind in kinds {
        let (one, many) = (copies(&sides.ours, kind), copies(&sides.theirs, kind));
        if one.is_empty() || one == many || !is_the_same_in_parts(scene, &one, &many) {
            continue;
        }
        count += (many.len() - one.len()).max(1);
        let mut left = one.into_iter();
        sides.theirs.retain_mut(|event| {
            if kind_of_copy(event) != Some(kind) {
                return true;
            }
            left.next().map(|ours| *event = Event::Publish(ours)).is_some()
        });
    }
    count
}

/// What copies have in common: the label, and whether they are sent again.
fn kind_of_copy(event: &Event) -> Option<(u32, bool)> {
    match event {
        Event::Publish(copy) => Some((copy.label?, copy.dup)),
        _ => None,
    }
}

/// Whether these are copies of the same message, as many as the subscriptions make, with the same
/// highest QoS and the same Subscription Identifiers in all.
fn is_the_same_in_parts(scene: &Scene<'_>, one: &[Delivery], many: &[Delivery]) -> bool {
    let highest = |copies: &[Delivery]| copies.iter().map(|copy| copy.qos).max();
    let identifiers = |copies: &[Delivery], others: &[u32]| {
        let mut all: Vec<_> = copies.iter().flat_map(|copy| copy.identifiers.clone()).collect();
        all.extend(others);
        all.sort_unstable();
        all
    };
    let rest = |copy: &Delivery| Delivery {
        identifiers: Vec::new(),
        qos: QoS::AtMostOnce,
        retain: false,
        ..copy.clone()
    };
    let first = rest(&one[0]);
    let is_expected = moments(scene, &one[0]).into_iter().any(|(publisher, client)| {
        let expected = Expected::of(client, &one[0].topic, publisher == scene.client);
        let lost_identifiers: Vec<_> =
            expected.lost.iter().filter_map(|subscribed| subscribed.identifier).collect();
        let has_flag = |copy: &Delivery| {
            let mut lost = expected.lost.iter();
            many.iter().any(|other| other.retain == copy.retain)
                || copy.retain && lost.any(|subscribed| subscribed.options.retain_as_published)
        };
        (expected.one, expected.many) == (one.len(), many.len())
            && (one.len() < many.len() || !expected.lost.is_empty())
            && identifiers(one, &[]) == identifiers(many, &lost_identifiers)
            && one.iter().all(has_flag)
    });
    is_expected
        && highest(one) == highest(many)
        && one.iter().chain(many).all(|copy| rest(copy) == first)
}

/// What comes of a message for the subscriptions of one moment.
struct Expected {
    /// Copies if there is one for all subscriptions that are not shared.
    one: usize,
    /// Copies if there is one for each.
    many: usize,
    /// Subscriptions that make no copy, since that had QoS 0 and the client is not there.
    lost: Vec<Subscribed>,
}

impl Expected {
    fn of(client: &ClientModel, topic: &str, is_own: bool) -> Self {
        let (mut plain, mut shared, mut lost) = (0, 0, Vec::new());
        for (is_shared, subscribed) in client.matching(topic) {
            let options = subscribed.options;
            if options.no_local && is_own {
                continue;
            }
            if options.qos == QoS::AtMostOnce && client.online.is_none() {
                lost.extend((!is_shared).then_some(subscribed));
                continue;
            }
            plain += usize::from(!is_shared);
            shared += usize::from(is_shared);
        }
        Self { one: plain.min(1) + shared, many: plain + shared, lost }
    }
}

fn copies(events: &[Event], kind: (u32, bool)) -> Vec<Delivery> {
    let of_kind = events.iter().filter_map(|event| match event {
        Event::Publish(copy) if kind_of_copy(event) == Some(kind) => Some(copy.clone()),
        _ => None,
    });
    of_kind.collect()
}

/// Beyond what ours sends at SUBSCRIBE, one copy for each shared subscription that matches.
fn retained_for_shared(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    let Act::Subscribe { filters, .. } = &scene.op().act else { return 0 };
    let mut expected = sides.ours.clone();
    let mut unused: Vec<&SubscribeFilter> = filters.iter().collect();
    let before = sides.theirs.len();
    sides.theirs.retain(|event| {
        if let Some(at) = expected.iter().position(|ours| ours == event) {
            expected.remove(at);
            return true;
        }
        let Event::Publish(copy) = event else { return true };
        let sender = unused.iter().position(|entry| {
            entry.filter.starts_with("$share/")
                && matches(&entry.filter, &copy.topic)
                && copy.qos == copy.published.min(entry.options.qos)
                && copy.retain
        });
        sender.map(|sender| unused.remove(sender)).is_none()
    });
    before - sides.theirs.len()
}

/// A link on which the peer exceeded Receive Maximum in this step: what it sent beyond ours, in the
/// order in which ours would have come next.
fn above_receive_maximum(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    let mut here = scene.theirs.iter().filter(|seen| seen.link == scene.link);
    let is_exceeded = here.any(|seen| is_too_much(&seen.event));
    let Some(early) = sides.theirs.strip_prefix(&*sides.ours) else { return 0 };
    let is_early = |event: &Event| match event {
        Event::Publish(copy) => copy.qos > QoS::AtMostOnce && !copy.again,
        other => is_too_much(other),
    };
    if !is_exceeded || !early.iter().all(is_early) {
        return 0;
    }
    let count = early.len();
    sides.theirs.truncate(sides.ours.len());
    count
}

fn is_too_much(event: &Event) -> bool {
    *event == Event::Broken(Event::ABOVE_RECEIVE_MAXIMUM.to_owned())
}

fn refused_in_a_window(scene: &Scene<'_>) -> bool {
    let online = scene.before().client(scene.op().client).online.as_ref();
    let has_window = online.is_some_and(|it| it.hello.properties.receive_maximum().is_some());
    matches!(scene.op().act, Act::Refuse) && has_window
}

/// Copies of which one broker sent more are sent again, and released, more often.
fn follows_from_explained(scene: &Scene<'_>, sides: &mut Sides) -> usize {
    let follows = |event: &Event| {
        let label = match event {
            Event::Answer { packet: PacketType::PubRel, of, .. } => {
                of.strip_prefix('m').and_then(|label| label.parse().ok())
            }
            Event::Publish(copy) if copy.dup && copy.again => copy.label,
            _ => None,
        };
        label.is_some_and(|label| scene.unequal.contains(&(scene.client, label)))
    };
    let count = sides.ours.len().abs_diff(sides.theirs.len());
    sides.drop_if(follows);
    count
}
