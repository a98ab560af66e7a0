//! Who subscribes to one filter: nearly always one session.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::slice;

use super::{msg::SessionRef, ordered::Ordered, session::Subscription, table::reserve_sparingly};

/// One subscription in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subscriber {
    pub(super) who: SessionRef,
    pub(super) subscription: Subscription,
}

/// The members of one share group of a filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// The whole filter, `$share/group/filter`.
    pub(super) share: Arc<str>,
    /// Sorted by session.
    pub(super) members: Vec<Subscriber>,
    /// Whose turn it is.
    pub(super) next: usize,
}

/// All subscriptions to one filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Subscribers {
    /// None, as long as the first is on its way in or the last on its way out.
    #[default]
    None,
    /// One, and it is not shared.
    One(Subscriber),
    /// More, or shared ones.
    Many(Box<Lists>),
}

const _: () = assert!(size_of::<Subscribers>() <= 24, "it lies in each filter's node");

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lists {
    /// Sorted by session, so that one of a million is found quickly.
    plain: Ordered<Subscriber>,
    groups: Vec<Group>,
}

impl Subscribers {
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Those that are not shared, in order.
    #[inline]
    pub(super) fn plain(&self) -> impl Iterator<Item = &Subscriber> {
        let (one, many) = match self {
            Self::None => (&[][..], None),
            Self::One(one) => (slice::from_ref(one), None),
            Self::Many(lists) => (&[][..], Some(&lists.plain)),
        };
        one.iter().chain(many.into_iter().flat_map(Ordered::iter))
    }

    pub(super) fn groups(&self) -> &[Group] {
        match self {
            Self::Many(lists) => &lists.groups,
            _ => &[],
        }
    }

    /// The group of a filter, `$share/` included.
    pub(super) fn group_mut(&mut self, share: &str) -> Option<&mut Group> {
        let Self::Many(lists) = self else { return None };
        lists.groups.iter_mut().find(|group| *group.share == *share)
    }

    /// Adds a subscription or replaces that of the same session `[MQTT-3.8.4-3]`.
    pub(super) fn put(&mut self, new: Subscriber) {
        match self {
            Self::None => *self = Self::One(new),
            Self::One(old) if old.who == new.who => *old = new,
            _ => self.change(|lists| {
                match lists.plain.find(|subscriber| subscriber.who.cmp(&new.who)) {
                    Ok(at) => {
                        if let Some(old) = lists.plain.get_mut(at) {
                            *old = new;
                        }
                    }
                    Err(at) => lists.plain.insert(at, new),
                }
            }),
        }
    }

    pub(super) fn remove(&mut self, who: SessionRef) {
        self.change(|lists| {
            if let Ok(at) = lists.plain.find(|subscriber| subscriber.who.cmp(&who)) {
                lists.plain.remove(at);
            }
        });
    }

    /// The same for a member of a share group.
    pub(super) fn put_shared(&mut self, share: Arc<str>, new: Subscriber) {
        self.change(|lists| {
            let at = lists.groups.iter().position(|group| group.share == share);
            let at = at.unwrap_or_else(|| {
                lists.groups.push(Group { share, members: Vec::new(), next: 0 });
                lists.groups.len().saturating_sub(1)
            });
            let Some(group) = lists.groups.get_mut(at) else { return };
            match group.members.binary_search_by_key(&new.who, |member| member.who) {
                Ok(at) => {
                    if let Some(old) = group.members.get_mut(at) {
                        *old = new;
                    }
                }
                Err(at) => {
                    reserve_sparingly(&mut group.members);
                    group.members.insert(at, new);
                }
            }
        });
    }

    pub(super) fn remove_shared(&mut self, share: &str, who: SessionRef) {
        self.change(|lists| {
            for group in lists.groups.iter_mut().filter(|group| *group.share == *share) {
                if let Ok(at) = group.members.binary_search_by_key(&who, |member| member.who) {
                    group.members.remove(at);
                }
            }
            lists.groups.retain(|group| !group.members.is_empty());
        });
    }

    /// Changes the lists, whatever they are kept as before and after.
    fn change(&mut self, change: impl FnOnce(&mut Lists)) {
        if let Self::None | Self::One(_) = self {
            let plain = Ordered::Few(self.plain().copied().collect());
            *self = Self::Many(Box::new(Lists { plain, groups: Vec::new() }));
        }
        let Self::Many(lists) = self else { return };
        change(lists);
        if lists.groups.is_empty() {
            if let Some(one) = lists.plain.only() {
                *self = Self::One(*one);
            } else if lists.plain.is_empty() {
                *self = Self::None;
            }
        }
    }
}
