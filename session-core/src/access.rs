//! Rights as plain data, evaluated in the shard for each message with no question to anyone.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{fmt, hash};

use codec::QoS;

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// Send a message to it.
    Publish = 1,
    /// Make a subscription that matches it.
    Subscribe = 2,
    /// Get a message of it.
    Receive = 4,
}

/// A set of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actions(u8);

impl Actions {
    /// Every action.
    pub const ALL: Self = Self::of(&[Action::Publish, Action::Subscribe, Action::Receive]);

    /// These actions.
    pub const fn of(mut actions: &[Action]) -> Self {
        let mut bits = 0;
        while let [action, rest @ ..] = actions {
            bits |= *action as u8;
            actions = rest;
        }
        Self(bits)
    }

    /// Whether an action is one of them.
    pub const fn contains(self, action: Action) -> bool {
        self.0 & action as u8 != 0
    }
}

/// One level of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Exactly this text. What a client says of itself is put here, and is text whatever it holds:
    /// a `+` is no wildcard, and a text with `/` fits no level at all.
    Is(Box<str>),
    /// Any one level.
    Any,
    /// All levels from here on, and none; only the last.
    Rest,
    /// A level that passes a test.
    Passes(LevelTest),
}

/// A pure test of one level that is known by its text, such as a regular expression: tests of equal texts
/// are equal.
#[derive(Clone)]
pub struct LevelTest {
    text: Arc<str>,
    passes: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl LevelTest {
    /// A test and the text that says all of it.
    pub fn new(text: &str, passes: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { text: text.into(), passes: Arc::new(passes) }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn passes(&self, level: &str) -> bool {
        (self.passes)(level)
    }
}

impl fmt::Debug for LevelTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl PartialEq for LevelTest {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for LevelTest {}

impl hash::Hash for LevelTest {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// Which topics a rule speaks of: a Topic Filter, level by level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Box<[Level]>);

impl Pattern {
    /// A pattern of these levels. [`Level::Rest`] before the end makes it one that fits nothing.
    pub fn new(levels: impl Into<Box<[Level]>>) -> Self {
        Self(levels.into())
    }

    /// The pattern that a Topic Filter is.
    pub fn of_filter(filter: &str) -> Self {
        let level = |level| match level {
            "+" => Level::Any,
            "#" => Level::Rest,
            text => Level::Is(text.into()),
        };
        Self(filter.split('/').map(level).collect())
    }

    /// Its levels.
    pub fn levels(&self) -> &[Level] {
        &self.0
    }

    /// Whether it fits a Topic Name; wildcards at the beginning do not fit a `$` topic `[MQTT-4.7.2-1]`.
    pub fn matches(&self, topic: &str) -> bool {
        !(topic.starts_with('$') && self.begins_open()) && self.fits(topic.split('/'), |_| false)
    }

    /// Whether it fits every Topic Name that a Topic Filter matches.
    pub fn covers(&self, filter: &str) -> bool {
        if filter.starts_with('$') && self.begins_open() {
            return false;
        }
        // A name has at least one character, so "#" alone matches the same names as "+/#", and "/#"
        // the same as "/+/#".
        let filter = match filter {
            "#" => "+/#",
            "/#" => "/+/#",
            other => other,
        };
        self.fits(filter.split('/'), |level| matches!(level, "+" | "#"))
    }

    fn begins_open(&self) -> bool {
        matches!(self.0.first(), Some(Level::Any | Level::Rest | Level::Passes(_)))
    }

    /// `is_wild` says which of the levels stand for more than themselves.
    fn fits<'a>(
        &self,
        mut levels: impl Iterator<Item = &'a str>,
        is_wild: impl Fn(&str) -> bool,
    ) -> bool {
        let mut pattern = self.0.iter();
        while let Some(wanted) = pattern.next() {
            if *wanted == Level::Rest {
                return pattern.next().is_none();
            }
            let Some(level) = levels.next() else { return false };
            let fits = match wanted {
                Level::Any => level != "#" || !is_wild(level),
                _ if is_wild(level) => false,
                Level::Is(text) => **text == *level,
                Level::Passes(test) => test.passes(level),
                Level::Rest => false,
            };
            if !fits {
                return false;
            }
        }
        levels.next().is_none()
    }
}

/// One rule of a list; the first that fits decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Whether the rule allows or forbids.
    pub allow: bool,
    /// The actions it speaks of.
    pub actions: Actions,
    /// The topics it speaks of.
    pub pattern: Pattern,
    /// The rule fits only from this QoS on: that of a message sent, or the one asked for by a subscription.
    pub qos_min: QoS,
    /// The rule fits only up to this QoS.
    pub qos_max: QoS,
    /// The rule fits only messages sent with RETAIN, or only those without; both if absent.
    pub retain: Option<bool>,
    /// What it is called where a decision is explained, such as `rules.toml:12`.
    pub source: Arc<str>,
}

impl Rule {
    /// A rule without conditions.
    pub fn new(allow: bool, actions: Actions, pattern: Pattern, source: &str) -> Self {
        let (qos_min, qos_max) = (QoS::AtMostOnce, QoS::ExactlyOnce);
        Self { allow, actions, pattern, qos_min, qos_max, retain: None, source: source.into() }
    }

    fn takes(&self, qos: QoS) -> bool {
        self.qos_min <= qos && qos <= self.qos_max
    }
}

/// What a principal may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Grants {
    /// Everything.
    #[default]
    All,
    /// What the first fitting rule says; nothing if none fits.
    Rules(Arc<[Rule]>),
}

/// What was decided, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether it may be done.
    pub allowed: bool,
    /// The rule that said so; absent if everything is allowed, or no rule fits.
    pub rule: Option<&'a Rule>,
}

impl Grants {
    /// Nothing.
    pub fn none() -> Self {
        Self::Rules(Vec::new().into())
    }

    /// Whether a message may be sent to this topic.
    pub fn may_publish(&self, topic: &str, qos: QoS, retain: bool) -> bool {
        self.judge_publish(topic, qos, retain).allowed
    }

    /// Whether messages of this topic may be received.
    pub fn may_receive(&self, topic: &str) -> bool {
        self.judge_receive(topic).allowed
    }

    /// Whether a subscription to this filter may be made: an allowing rule must cover the whole
    /// filter, and a forbidding one forbids what it covers. What an overlapping rule forbids
    /// beyond that is held back at delivery by [`Grants::may_receive`].
    pub fn may_subscribe(&self, filter: &str, qos: QoS) -> bool {
        self.judge_subscribe(filter, qos).allowed
    }

    /// [`Grants::may_publish`] with its reason.
    pub fn judge_publish(&self, topic: &str, qos: QoS, retain: bool) -> Verdict<'_> {
        self.decide(Action::Publish, |rule| {
            rule.takes(qos)
                && rule.retain.is_none_or(|wanted| wanted == retain)
                && rule.pattern.matches(topic)
        })
    }

    /// [`Grants::may_receive`] with its reason.
    pub fn judge_receive(&self, topic: &str) -> Verdict<'_> {
        self.decide(Action::Receive, |rule| rule.pattern.matches(topic))
    }

    /// [`Grants::may_subscribe`] with its reason.
    pub fn judge_subscribe(&self, filter: &str, qos: QoS) -> Verdict<'_> {
        self.decide(Action::Subscribe, |rule| rule.takes(qos) && rule.pattern.covers(filter))
    }

    fn decide(&self, action: Action, fits: impl Fn(&Rule) -> bool) -> Verdict<'_> {
        let Self::Rules(rules) = self else { return Verdict { allowed: true, rule: None } };
        let rule = rules.iter().find(|rule| rule.actions.contains(action) && fits(rule));
        Verdict { allowed: rule.is_some_and(|rule| rule.allow), rule }
    }
}
