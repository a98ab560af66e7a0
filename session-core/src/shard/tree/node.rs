//! What a tree is made of, as small as it can be: a session or a retained message on a topic of its
//! own has two nodes to itself.

use alloc::boxed::Box;
use core::{cmp::Ordering, num::NonZero};

use super::super::ordered::{At, Ordered};

/// A node's place in its tree.
pub(super) type Index = u32;
pub(super) const ROOT: Index = 0;

/// Bytes of a level that need no memory of their own.
const SHORT: usize = 14;

/// The name of a level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Level {
    /// The numbers that its bytes are, and their count.
    Short {
        first: u64,
        second: u32,
        third: u16,
        len: u8,
    },
    Long(Box<Box<[u8]>>),
}

const _: () = assert!(size_of::<Level>() <= 16, "two boxes keep the rare case thin");

/// A name as it is compared.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    /// Its first bytes as numbers, highest first, and below them how many bytes it has, if not too
    /// many. Two keys stand to one another as the names do, since what follows a name's end is
    /// below everything.
    key: (u64, u64),
    /// All of it if it is long: only then a key does not decide.
    long: Option<&'a [u8]>,
}

impl<'a> Name<'a> {
    pub(super) const EMPTY: Self = Self { key: (0, 0), long: None };

    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let (short, long) = match bytes.get(..SHORT) {
            Some(short) if bytes.len() > SHORT => (short, Some(bytes)),
            _ => (bytes, None),
        };
        let (first, rest) = short.split_at_checked(8).unwrap_or((short, &[]));
        let len = if long.is_none() { short.len() } else { usize::from(u8::MAX) };
        Self { key: (number(first), number(rest) | len as u64), long }
    }
}

/// Up to eight bytes as the highest ones of a number.
#[inline]
fn number(bytes: &[u8]) -> u64 {
    if let Some(all) = bytes.first_chunk() {
        return u64::from_be_bytes(*all);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // Where the two overlap they are the same.
        let behind = 8_usize.saturating_sub(bytes.len()).saturating_mul(8) as u32;
        let last = u64::from(u32::from_be_bytes(*last)).wrapping_shl(behind);
        return u64::from(u32::from_be_bytes(*first)) << 32 | last;
    }
    let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0));
    byte(0) << 56 | byte(1) << 48 | byte(2) << 40
}

impl Level {
    pub(super) fn new(name: &[u8]) -> Self {
        let Name { key: (first, rest), long } = Name::new(name);
        if let Some(long) = long {
            return Self::Long(Box::new(long.into()));
        }
        let (second, third, len) = ((rest >> 32) as u32, (rest >> 16) as u16, rest as u8);
        Self::Short { first, second, third, len }
    }

    #[inline]
    pub(super) fn name(&self) -> Name<'_> {
        match self {
            Self::Short { first, second, third, len } => {
                let rest = u64::from(*second) << 32 | u64::from(*third) << 16 | u64::from(*len);
                Name { key: (*first, rest), long: None }
            }
            Self::Long(name) => Name::new(name),
        }
    }

    /// How its name stands to another.
    #[inline]
    pub(super) fn compare(&self, other: &Name<'_>) -> Ordering {
        let by_key = self.name().key.cmp(&other.key);
        match self {
            Self::Short { .. } => by_key,
            Self::Long(name) => {
                by_key.then_with(|| (**name).as_ref().cmp(other.long.unwrap_or(name)))
            }
        }
    }

    /// Whether it is one of the broker's own: it begins with `$`.
    pub(super) fn is_own(&self) -> bool {
        self.name().key.0 >> 56 == u64::from(b'$')
    }
}

/// A node that is below another; the root is below none.
type Link = Option<NonZero<Index>>;

/// The nodes below one. The names are theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Children {
    /// At most one besides the wildcards.
    Few {
        named: Link,
        plus: Link,
        hash: Link,
    },
    Many(Box<Branch>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Branch {
    plus: Link,
    hash: Link,
    /// In the order of their names; two or more.
    named: Ordered<Index>,
}

/// Where among its siblings a child is or belongs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    Plus,
    Hash,
    Named(At),
}

impl Spot {
    /// Of the first child with a name.
    pub(super) const FIRST: Self = Self::Named(At::FIRST);
}

impl Branch {
    fn find(&self, mut compare: impl FnMut(Index) -> Ordering) -> Result<Index, Spot> {
        let at = self.named.find(|index| compare(*index)).map_err(Spot::Named)?;
        self.named.get(at).copied().ok_or(Spot::Named(at))
    }
}

impl Children {
    const NONE: Self = Self::Few { named: None, plus: None, hash: None };

    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::Few { named: None, plus: None, hash: None })
    }

    #[inline]
    pub(super) const fn has_named(&self) -> bool {
        !matches!(self, Self::Few { named: None, .. })
    }

    /// `+` and `#`.
    #[inline]
    pub(super) fn wild(&self) -> (Option<Index>, Option<Index>) {
        let (plus, hash) = match self {
            Self::Few { plus, hash, .. } => (*plus, *hash),
            Self::Many(branch) => (branch.plus, branch.hash),
        };
        (plus.map(NonZero::get), hash.map(NonZero::get))
    }

    /// The child with a name: `compare` tells how one stands to it. The error says where it would
    /// be.
    #[inline]
    pub(super) fn find(&self, mut compare: impl FnMut(Index) -> Ordering) -> Result<Index, Spot> {
        match self {
            Self::Few { named: None, .. } => Err(Spot::FIRST),
            Self::Few { named: Some(named), .. } => match compare(named.get()) {
                Ordering::Equal => Ok(named.get()),
                Ordering::Less => Err(Spot::Named(At::SECOND)),
                Ordering::Greater => Err(Spot::FIRST),
            },
            Self::Many(branch) => branch.find(compare),
        }
    }

    /// Where a child is: `compare` tells how another one stands to it.
    pub(super) fn spot(&self, child: Index, mut compare: impl FnMut(Index) -> Ordering) -> Spot {
        let (plus, hash) = self.wild();
        if plus == Some(child) {
            return Spot::Plus;
        }
        if hash == Some(child) {
            return Spot::Hash;
        }
        Spot::Named(match self {
            Self::Few { .. } => At::FIRST,
            Self::Many(branch) => {
                branch.named.find(|index| compare(*index)).unwrap_or_else(|at| at)
            }
        })
    }

    /// The children with names, in descending order, as a stack wants them.
    pub(super) fn descending(&self) -> impl Iterator<Item = Index> {
        let (one, many) = match self {
            Self::Few { named, .. } => (named.map(NonZero::get), None),
            Self::Many(branch) => (None, Some(&branch.named)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|named| named.iter().rev().copied()))
    }

    pub(super) fn add(&mut self, spot: Spot, index: Index) {
        let new = NonZero::new(index);
        match (&mut *self, spot) {
            (Self::Few { plus, .. }, Spot::Plus) => *plus = new,
            (Self::Few { hash, .. }, Spot::Hash) => *hash = new,
            (Self::Few { named, .. }, Spot::Named(_)) if named.is_none() => *named = new,
            (Self::Few { named, plus, hash }, Spot::Named(at)) => {
                let first = named.map(NonZero::get).into_iter().collect();
                let mut branch = Branch { plus: *plus, hash: *hash, named: Ordered::Few(first) };
                branch.named.insert(at, index);
                *self = Self::Many(Box::new(branch));
            }
            (Self::Many(branch), Spot::Plus) => branch.plus = new,
            (Self::Many(branch), Spot::Hash) => branch.hash = new,
            (Self::Many(branch), Spot::Named(at)) => branch.named.insert(at, index),
        }
    }

    pub(super) fn remove(&mut self, spot: Spot) {
        match (&mut *self, spot) {
            (Self::Few { plus, .. }, Spot::Plus) => *plus = None,
            (Self::Few { hash, .. }, Spot::Hash) => *hash = None,
            (Self::Few { named, .. }, Spot::Named(_)) => *named = None,
            (Self::Many(branch), Spot::Plus) => branch.plus = None,
            (Self::Many(branch), Spot::Hash) => branch.hash = None,
            (Self::Many(branch), Spot::Named(at)) => {
                branch.named.remove(at);
                let last = branch.named.only().copied();
                if let Some(last) = last {
                    let Branch { plus, hash, .. } = **branch;
                    *self = Self::Few { named: NonZero::new(last), plus, hash };
                }
            }
        }
    }
}

/// What a node without children has.
static NONE: Children = Children::NONE;

/// What a node has. Few have both children and a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Content<V> {
    Children(Children),
    Value(V),
    Both(Box<(Children, V)>),
}

/// A level of some path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node<V> {
    level: Level,
    content: Content<V>,
    pub(super) parent: Index,
}

impl<V> Node<V> {
    pub(super) fn new(parent: Index, level: &[u8]) -> Self {
        let content = Content::Children(Children::NONE);
        Self { level: Level::new(level), content, parent }
    }

    #[inline]
    pub(super) const fn level(&self) -> &Level {
        &self.level
    }

    #[inline]
    pub(super) fn children(&self) -> &Children {
        match &self.content {
            Content::Children(children) => children,
            Content::Value(_) => &NONE,
            Content::Both(both) => &both.0,
        }
    }

    pub(super) fn edit_children(&mut self, edit: impl FnOnce(&mut Children)) {
        if let Content::Children(children) = &mut self.content {
            return edit(children);
        }
        let value = self.take();
        self.edit_children(edit);
        value.into_iter().for_each(|value| self.put(value));
    }

    #[inline]
    pub(super) fn value(&self) -> Option<&V> {
        match &self.content {
            Content::Children(_) => None,
            Content::Value(value) => Some(value),
            Content::Both(both) => Some(&both.1),
        }
    }

    pub(super) fn value_mut(&mut self) -> Option<&mut V> {
        match &mut self.content {
            Content::Children(_) => None,
            Content::Value(value) => Some(value),
            Content::Both(both) => Some(&mut both.1),
        }
    }

    pub(super) fn put(&mut self, value: V) {
        self.content = match self.take_content() {
            Content::Value(_) => Content::Value(value),
            Content::Children(children) if children.is_none() => Content::Value(value),
            Content::Children(children) => Content::Both(Box::new((children, value))),
            Content::Both(both) => Content::Both(Box::new((both.0, value))),
        };
    }

    pub(super) fn take(&mut self) -> Option<V> {
        let (children, value) = match self.take_content() {
            Content::Children(children) => (children, None),
            Content::Value(value) => (Children::NONE, Some(value)),
            Content::Both(both) => (both.0, Some(both.1)),
        };
        self.content = Content::Children(children);
        value
    }

    /// Whether it has neither children nor a value.
    pub(super) fn is_bare(&self) -> bool {
        matches!(&self.content, Content::Children(children) if children.is_none())
    }

    fn take_content(&mut self) -> Content<V> {
        core::mem::replace(&mut self.content, Content::Children(Children::NONE))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    #[test]
    fn names_stand_to_one_another_as_their_bytes_do() {
        let mut names: Vec<Vec<u8>> =
            vec![vec![], vec![0], vec![0, 0], vec![255], vec![b'$', b'a']];
        for len in [1, 7, 8, SHORT - 1, SHORT, SHORT + 1, 300] {
            for last in [0, b'a', b'b', 255] {
                let mut name = vec![b'a'; len];
                name[len - 1] = last;
                names.push(name.clone());
                name.push(0);
                names.push(name);
            }
        }
        for one in &names {
            let level = Level::new(one);
            assert_eq!(level.is_own(), one.first() == Some(&b'$'));
            for other in &names {
                assert_eq!(level.compare(&Name::new(other)), one.cmp(other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn children_are_kept_as_small_as_they_can_be() {
        let mut children = Children::NONE;
        let order = |index: Index| move |child: Index| child.cmp(&index);
        for index in [5, 9, 7] {
            let spot = children.find(order(index)).expect_err("it is new");
            children.add(spot, index);
        }
        children.add(Spot::Plus, 1);
        children.add(Spot::Hash, 2);
        assert!(matches!(children, Children::Many(_)));
        assert_eq!(children.descending().collect::<Vec<_>>(), [9, 7, 5]);
        for index in [5, 9] {
            assert_eq!(children.find(order(index)).ok(), Some(index));
            let spot = children.spot(index, order(index));
            children.remove(spot);
            assert!(children.find(order(index)).is_err());
        }
        assert!(matches!(children, Children::Few { .. }));
        assert_eq!(children.wild(), (Some(1), Some(2)));
        assert_eq!(children.descending().collect::<Vec<_>>(), [7]);
        for spot in [Spot::Plus, Spot::Hash, children.spot(7, order(7))] {
            children.remove(spot);
        }
        assert!(children.is_none());
    }
}
