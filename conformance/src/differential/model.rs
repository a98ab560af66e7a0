//! What a client knows, from what it has done alone: whether an operation is legal, and which
//! subscriptions and Wills there are. It knows nothing of what a broker sends.

use std::collections::{BTreeMap, BTreeSet};

use codec::{ProtocolVersion, QoS, ReasonCode, SubscriptionOptions, topic};

use super::script::{Act, Alias, Hello, Op, Publication, Script};

/// Unreleased QoS 2 messages of one client; below every broker's Receive Maximum.
const UNRELEASED_MAX: usize = 8;
/// Topic Aliases that every broker takes.
const ALIAS_MAX: u16 = 3;

/// All clients at one moment.
#[derive(Clone, Debug)]
pub struct Model {
    clients: Vec<ClientModel>,
    links: usize,
}

/// A client at one moment.
#[derive(Clone, Debug, Default)]
pub struct ClientModel {
    /// Its connection.
    pub online: Option<Online>,
    /// Its session.
    pub session: Option<Session>,
}

/// An open connection.
#[derive(Clone, Debug)]
pub struct Online {
    /// Its number: how many CONNECTs came before.
    pub link: usize,
    /// What it began with.
    pub hello: Hello,
    /// It holds its answers back.
    pub holds: bool,
    aliases: BTreeMap<u16, String>,
}

/// What outlives a connection.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// By filter.
    pub subscriptions: BTreeMap<String, Subscribed>,
    /// QoS 2 messages that wait for PUBREL, at most.
    unreleased: usize,
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Its options.
    pub options: SubscriptionOptions,
    /// Its identifier.
    pub identifier: Option<u32>,
    /// The options with which it came into being.
    pub first: SubscriptionOptions,
}

impl Model {
    /// Before anything has happened.
    pub fn new(clients: usize) -> Self {
        Self { clients: vec![ClientModel::default(); clients], links: 0 }
    }

    /// The models before each operation, and after the last.
    ///
    /// # Errors
    /// The first operation that is not legal.
    pub fn history(script: &Script) -> Result<Vec<Self>, String> {
        let mut model = Self::new(script.clients);
        let mut history = vec![model.clone()];
        for (step, op) in script.ops.iter().enumerate() {
            model.judge(op).map_err(|why| format!("step {step}, {op}: {why}"))?;
            model.apply(op);
            history.push(model.clone());
        }
        Ok(history)
    }

    /// A client.
    pub fn client(&self, client: usize) -> &ClientModel {
        &self.clients[client]
    }

    /// Every client.
    pub fn clients(&self) -> &[ClientModel] {
        &self.clients
    }

    /// Whether a client that keeps to the standard can do this now.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn judge(&self, op: &Op) -> Result<(), &'static str> {
        let client = self.clients.get(op.client).ok_or("there is no such client")?;
        if let Act::Connect(hello) = &op.act {
            return judge_connect(hello);
        }
        let online = client.online.as_ref().ok_or("it has no connection")?;
        let is_v5 = online.hello.version.is_v5();
        match &op.act {
            Act::Goodbye(reason, expiry_s) => {
                let is_plain = *reason == ReasonCode::Success && expiry_s.is_none();
                ensure(is_v5 || is_plain, "only 5.0 has a reason for DISCONNECT")?;
                ensure(
                    expiry_s.is_none_or(|expiry_s| expiry_s == 0 || online.hello.expiry_s() > 0),
                    "an expiry of 0 stays 0 [U5-3.14.2.2.2-b]",
                )
            }
            Act::Subscribe { filters, identifier } => {
                ensure(is_v5 || identifier.is_none(), "identifiers came with 5.0")?;
                ensure(!filters.is_empty(), "[MQTT-3.8.3-2]")?;
                filters.iter().try_for_each(|entry| {
                    ensure(topic::is_valid_filter(&entry.filter), "section 4.7")?;
                    let options = entry.options;
                    let plain = SubscriptionOptions { qos: options.qos, ..Default::default() };
                    ensure(is_v5 || options == plain, "options came with 5.0")?;
                    let is_shared = entry.filter.starts_with("$share/");
                    ensure(is_v5 || !is_shared, "shared subscriptions came with 5.0")?;
                    ensure(!is_shared || !options.no_local, "[MQTT-3.8.3-4]")
                })
            }
            Act::Refuse => ensure(is_v5, "PUBACK and PUBREC have a reason in 5.0"),
            Act::Unsubscribe(filters) => ensure(!filters.is_empty(), "[MQTT-3.10.3-2]"),
            Act::Publish { message, alias, vanish } => {
                judge_message(message, is_v5)?;
                judge_alias(*alias, message, online)?;
                let is_acknowledged = message.qos > QoS::AtMostOnce;
                ensure(!vanish || is_acknowledged, "nobody knows whether QoS 0 was read")?;
                ensure(!vanish || *alias == Alias::None, "an alias ends with its connection")?;
                let is_own = !client.matching(&message.topic).is_empty();
                ensure(!vanish || !is_own, "nobody knows whether its own copy was sent")?;
                let waiting = client.session.as_ref().map_or(0, |session| session.unreleased);
                let is_bounded = message.qos < QoS::ExactlyOnce || waiting < UNRELEASED_MAX;
                ensure(is_bounded, "[MQTT-3.3.4-7]")
            }
            _ => Ok(()),
        }
    }

    /// Carries out what [`Model::judge`] allowed.
    pub fn apply(&mut self, op: &Op) {
        let link = self.links;
        let client = &mut self.clients[op.client];
        if let Act::Connect(hello) = &op.act {
            self.links += 1;
            client.connect(hello.clone(), link);
        }
        let ClientModel { online: Some(online), session: Some(session) } = client else { return };
        match &op.act {
            Act::Goodbye(_, expiry_s) => client.leave(*expiry_s),
            Act::Vanish => client.leave(None),
            Act::Subscribe { filters, identifier } => {
                for entry in filters {
                    let key = entry.filter.to_string();
                    let before = session.subscriptions.get(&key);
                    let first = before.map_or(entry.options, |before| before.first);
                    let (options, identifier) = (entry.options, *identifier);
                    let subscribed = Subscribed { options, identifier, first };
                    session.subscriptions.insert(key, subscribed);
                }
            }
            Act::Unsubscribe(filters) => {
                session.subscriptions.retain(|filter, _| !filters.contains(filter));
            }
            Act::Publish { message, alias, vanish } => {
                let is_held = online.holds || *vanish;
                session.unreleased += usize::from(message.qos == QoS::ExactlyOnce && is_held);
                if let Alias::Explains(alias) = alias {
                    online.aliases.insert(*alias, message.topic.clone());
                }
                if *vanish {
                    client.leave(None);
                }
            }
            Act::Hold => online.holds = true,
            Act::Prompt => (online.holds, session.unreleased) = (false, 0),
            Act::Connect(_) | Act::Acknowledge { .. } | Act::Refuse => {}
        }
    }
}

impl ClientModel {
    /// The connection begins, and its predecessor and perhaps the session end.
    fn connect(&mut self, hello: Hello, link: usize) {
        self.leave(None);
        if hello.clean {
            self.session = None;
        }
        // What waits for PUBREL is released as soon as the session goes on.
        self.session.get_or_insert_default().unreleased = 0;
        self.online = Some(Online { link, hello, holds: false, aliases: BTreeMap::new() });
    }

    /// The connection ends, and with it a session that does not outlive it.
    fn leave(&mut self, expiry_s: Option<u32>) {
        let Some(online) = self.online.take() else { return };
        if expiry_s.unwrap_or(online.hello.expiry_s()) == 0 {
            self.session = None;
        }
    }

    /// The options of a subscription.
    pub fn options(&self, filter: &str) -> Option<SubscriptionOptions> {
        Some(self.session.as_ref()?.subscriptions.get(filter)?.options)
    }

    /// The subscriptions that match a topic, each with whether it is shared.
    pub fn matching(&self, topic: &str) -> Vec<(bool, Subscribed)> {
        let session = self.session.iter().flat_map(|session| &session.subscriptions);
        let matching = session.filter(|(filter, _)| matches(filter, topic));
        matching.map(|(filter, subscribed)| (filter.starts_with("$share/"), *subscribed)).collect()
    }
}

impl Online {
    /// The topic that the client has explained this alias with.
    pub fn alias(&self, alias: u16) -> Option<&str> {
        self.aliases.get(&alias).map(String::as_str)
    }
}

impl Hello {
    /// How long the session outlives its connection, in seconds; before 5.0 not at all or for ever.
    pub fn expiry_s(&self) -> u32 {
        match self.version {
            ProtocolVersion::V5 => self.properties.session_expiry_interval().unwrap_or(0),
            _ if self.clean => 0,
            _ => u32::MAX,
        }
    }
}

/// Whether a filter, shared or not, matches a topic.
pub fn matches(filter: &str, name: &str) -> bool {
    match topic::split_shared(filter) {
        Some(Ok((_, filter))) => topic::matches(filter, name),
        Some(Err(())) => false,
        None => topic::matches(filter, name),
    }
}

/// What is left of a script when everything is left out that is no longer legal.
pub fn legal_part(script: &Script) -> Script {
    let mut model = Model::new(script.clients);
    let mut labels = BTreeSet::new();
    let mut ops = script.ops.clone();
    ops.retain(|op| {
        let label = op.publication().map(|message| message.label);
        let is_legal = model.judge(op).is_ok() && label.is_none_or(|label| labels.insert(label));
        if is_legal {
            model.apply(op);
        }
        is_legal
    });
    Script { ops, ..*script }
}

fn judge_connect(hello: &Hello) -> Result<(), &'static str> {
    let is_v5 = hello.version.is_v5();
    ensure(is_v5 || hello.properties.is_empty(), "properties came with 5.0")?;
    ensure(hello.properties.receive_maximum() != Some(0), "section 3.1.2.11.3")?;
    hello.will.iter().try_for_each(|will| judge_message(will, is_v5))
}

fn judge_message(message: &Publication, is_v5: bool) -> Result<(), &'static str> {
    ensure(is_v5 || message.properties.is_empty(), "properties came with 5.0")?;
    ensure(topic::is_valid_name(&message.topic), "section 4.7")?;
    ensure(message.properties.response_topic().is_none_or(topic::is_valid_name), "[MQTT-3.3.2-14]")
}

fn judge_alias(alias: Alias, message: &Publication, online: &Online) -> Result<(), &'static str> {
    match alias {
        Alias::None => Ok(()),
        Alias::Explains(alias) => {
            ensure(online.hello.version.is_v5(), "aliases came with 5.0")?;
            ensure((1..=ALIAS_MAX).contains(&alias), "[MQTT-3.3.2-9]")
        }
        Alias::Uses(alias) => {
            ensure(online.aliases.get(&alias) == Some(&message.topic), "section 3.3.2.3.4")
        }
    }
}

fn ensure(holds: bool, rule: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(rule) }
}
