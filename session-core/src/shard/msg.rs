//! What shards say to one another, and what waits inside one.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use codec::{Message, QoS, ReasonCode, SubscriptionOptions};

use super::{session::Ids, table::SessionId};
use crate::{ConnId, ShardId, Subject, Time};

/// A session anywhere in the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionRef {
    /// Its owner.
    pub shard: ShardId,
    /// Its name there.
    pub session: SessionId,
}

/// A publication that a shard owes. Names are never used again, whatever crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgId {
    /// How often the number of shards has changed.
    pub epoch: u32,
    /// The shard that named it; after such a change another one may owe it.
    pub shard: ShardId,
    /// In the order in which the shard routed its publications.
    pub number: u64,
}

/// Who waits for a publish to be stored with all its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flight {
    /// Nobody: QoS 0, a Will, the broker itself.
    Unwatched,
    /// A PUBACK. It belongs to the connection that the publish came on, never to the session: a
    /// later connection may use the identifier anew.
    Ack {
        /// The connection.
        conn: ConnId,
        /// The number of the waiting PUBACK.
        number: u32,
    },
    /// A publication that its shard owes until it is stored everywhere.
    Outgoing {
        /// Its name.
        id: MsgId,
        /// The lowest number of its epoch and shard that is not stored everywhere; 0 if a crash
        /// would end it, so that nobody need remember it.
        floor: u64,
        /// It may have been routed before a crash.
        again: bool,
    },
}

/// A message on its way to its receivers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Publication {
    /// The message.
    pub message: Message,
    /// QoS as published.
    pub qos: QoS,
    /// RETAIN as published.
    pub retain: bool,
    /// When the broker got it.
    pub at: Time,
    /// The publishing session, for No Local `[MQTT-3.8.3-3]`.
    pub publisher: Option<SessionRef>,
    /// Whose right it rests on; only of messages that are to be retained.
    pub by: Option<Arc<Subject>>,
    /// The shard that waits.
    pub origin: ShardId,
    /// Who waits there.
    pub flight: Flight,
}

/// One receiver of a publication.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The session.
    pub who: SessionRef,
    /// The highest QoS granted by its matching subscriptions `[MQTT-3.3.4-2]`.
    pub qos: QoS,
    /// RETAIN as it is to be sent.
    pub retain: bool,
    /// Subscription Identifiers.
    pub ids: Ids,
    /// The Shared Subscription, if it is one.
    pub share: Option<Arc<str>>,
}

/// A publication and its receivers on one shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// The publication.
    pub publication: Publication,
    /// A receiver.
    pub first: Target,
    /// Further receivers, all of the same shard. Most publications have none, and so no list.
    pub others: Vec<Target>,
    /// One of them did not take it.
    pub refused: bool,
}

impl Delivery {
    /// How many receivers there are.
    pub(super) fn count(&self) -> usize {
        self.others.len().saturating_add(1)
    }

    /// The receiver of this number.
    pub(super) fn target(&self, number: usize) -> Option<&Target> {
        match number.checked_sub(1) {
            None => Some(&self.first),
            Some(number) => self.others.get(number),
        }
    }
}

/// A member of a Shared Subscription that did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Declined {
    /// The member.
    pub who: SessionRef,
    /// Whether it is connected at all.
    pub connected: bool,
}

/// A publication that looks for a member of a Shared Subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    /// The publication.
    pub publication: Publication,
    /// `$share/group/filter`.
    pub share: Arc<str>,
    /// Who was asked already.
    pub declined: Vec<Declined>,
}

/// A retained message as its owner keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retained {
    /// The message.
    pub message: Message,
    /// QoS as published.
    pub qos: QoS,
    /// When the broker got it; its expiry counts from here.
    pub at: Time,
    /// Whose right it rests on, if anybody was asked about it.
    pub by: Option<Arc<Subject>>,
}

impl Retained {
    /// When it goes by itself; `None` for never.
    pub(super) fn expires(&self) -> Option<Time> {
        Some(self.at.plus_s(self.message.expiry_interval_s()?))
    }
}

/// What shards say to one another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ShardMsg {
    /// The sender has said all subscriptions it recovered. Publishes wait for it, since one that
    /// overtook such a subscription would be acknowledged and lost.
    Announced,
    /// To a topic's owner: add or replace a subscription.
    Subscribe {
        /// Of this session.
        who: SessionRef,
        /// The whole filter, `$share/` included.
        filter: Arc<str>,
        /// The options as granted.
        options: SubscriptionOptions,
        /// Subscription Identifier, 0 for none.
        id: u32,
        /// Whether retained messages are wanted.
        replay: bool,
        /// The waiting SUBSCRIBE; `None` if nobody waits.
        request: Option<u32>,
    },
    /// To a topic's owner: remove a subscription.
    Unsubscribe {
        /// Of this session.
        who: SessionRef,
        /// The whole filter.
        filter: Arc<str>,
        /// The waiting UNSUBSCRIBE; `None` if nobody waits.
        request: Option<u32>,
    },
    /// The answer to the two above.
    Done {
        /// Whose.
        who: SessionRef,
        /// The waiting request.
        request: u32,
        /// The filter of the subscription.
        filter: Arc<str>,
        /// The retained messages that it matches, with the QoS that it gives them.
        retained: Vec<Retained>,
    },
    /// To a topic's owner: route this.
    Publish(Publication),
    /// To the origin: so many shards will say [`ShardMsg::Stored`].
    Routed {
        /// Who waits.
        flight: Flight,
        /// How many.
        shards: u16,
        /// The reason for the publisher, success or not.
        reason: ReasonCode,
    },
    /// To a session's owner: deliver this.
    Deliver(Delivery),
    /// To the origin: the receivers here have it.
    Stored {
        /// Who waits.
        flight: Flight,
        /// A receiver did not take it.
        refused: bool,
    },
    /// To a session's owner: deliver this to a member of a Shared Subscription if it is ready.
    Offer {
        /// The member.
        target: Box<Target>,
        /// The publication and its history.
        offer: Box<Offer>,
    },
    /// To a topic's owner: the member asked last declined (it stands last in the history), or the
    /// member that had the message is gone.
    Declined(Box<Offer>),
    /// The sender worked off so many publishes and deliveries.
    Credit(u32),
}

/// What waits until every shard has announced its subscriptions and every link has room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Unrouted {
    Publication(Box<Publication>),
    /// News about a subscription; what was owed at the start does not go to who subscribes now.
    News(Box<ShardMsg>),
}

impl Unrouted {
    /// A publication that may have been routed before a crash.
    pub(super) fn is_again(&self) -> bool {
        matches!(self, Self::Publication(publication) if publication.is_again())
    }

    pub(super) const fn is_news(&self) -> bool {
        matches!(self, Self::News(_))
    }
}

/// Work inside a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// A message of a shard, perhaps of this one.
    Msg(ShardId, ShardMsg),
    /// The rest of a delivery that was too large for one turn.
    Rest(ShardId, Box<Delivery>, usize),
}
