//! Rights as plain data, evaluated in the shard for each message with no question to anyone.

use alloc::{boxed::Box, sync::Arc};

use codec::QoS;

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Send a message to it.
    Publish,
    /// Receive messages from it.
    Subscribe,
}

/// One rule of a list; the first that fits decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Whether the rule allows or forbids.
    pub allow: bool,
    /// The action it speaks of; `None` means both.
    pub action: Option<Action>,
    /// The Topic Filter it speaks of.
    pub filter: Box<str>,
    /// The rule fits only up to this QoS.
    pub qos_max: QoS,
    /// Whether it fits messages with RETAIN.
    pub retain: bool,
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

impl Grants {
    /// Whether a message may be sent to this topic.
    pub fn may_publish(&self, topic: &str, qos: QoS, retain: bool) -> bool {
        self.decide(Action::Publish, |rule| {
            codec::topic::matches(&rule.filter, topic)
                && qos <= rule.qos_max
                && (rule.retain || !retain)
        })
    }

    /// Whether messages of this topic may be received.
    pub fn may_receive(&self, topic: &str) -> bool {
        self.decide(Action::Subscribe, |rule| codec::topic::matches(&rule.filter, topic))
    }

    /// Whether a subscription to this filter may be made: an allowing rule must cover the whole
    /// filter, and a forbidding one forbids what it covers. What an overlapping rule forbids
    /// beyond that is held back at delivery by [`Grants::may_receive`].
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.decide(Action::Subscribe, |rule| codec::topic::covers(&rule.filter, filter))
    }

    fn decide(&self, action: Action, fits: impl Fn(&Rule) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Rules(rules) => rules
                .iter()
                .find(|rule| rule.action.is_none_or(|a| a == action) && fits(rule))
                .is_some_and(|rule| rule.allow),
        }
    }
}
