//! What a tree is made of, as small as it can be: a session or a retained message on a topic of its
//! own has two nodes to itself.

use alloc::boxed::Box;
use core::{cmp::Ordering, num::NonZero, slice};

use super::super::ordered::{At, Ordered};

/// A node's place in its tree.
pub(super) type Index = u32;
pub(super) const ROOT: Index = 0;

/// Bytes of a level that need no memory of their own.
const SHORT: usize = 14;

/// The name of a level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Level {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<Box<[u8]>>),
}

const _: () = assert!(size_of::<Level>() <= 16, "two boxes keep the rare case thin");

impl Level {
    pub(super) fn new(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match (u8::try_from(name.len()), bytes.get_mut(..name.len())) {
            (Ok(len), Some(room)) => {
                room.copy_from_slice(name);
                Self::Short { len, bytes }
            }
            _ => Self::Long(Box::new(name.into())),
        }
    }

    #[inline]
    pub(super) fn name(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(name) => name,
        }
    }
}

/// A node that is below another; the root is below none.
type Link = Option<NonZero<Index>>;

/// The nodes below one. The names are theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Children {
    None,
    /// Only one, with a name.
    Named(Index),
    /// Only `+`.
    Plus(Index),
    /// Only `#`.
    Hash(Index),
    /// Two or more.
    Many(Box<Branch>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Branch {
    plus: Link,
    hash: Link,
    /// In the order of their names.
    named: Ordered<Index>,
}

/// Where among its siblings a child is or belongs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    Plus,
    Hash,
    Named(At),
}

impl Children {
    #[inline]
    pub(super) fn plus(&self) -> Option<Index> {
        match self {
            Self::Plus(index) => Some(*index),
            Self::Many(branch) => branch.plus.map(NonZero::get),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn hash(&self) -> Option<Index> {
        match self {
            Self::Hash(index) => Some(*index),
            Self::Many(branch) => branch.hash.map(NonZero::get),
            _ => None,
        }
    }

    /// The child with a name: `compare` tells how one stands to it.
    #[inline]
    pub(super) fn named(&self, mut compare: impl FnMut(Index) -> Ordering) -> Option<Index> {
        match self {
            Self::Named(index) => compare(*index).is_eq().then_some(*index),
            Self::Many(branch) => {
                let at = branch.named.find(|index| compare(*index)).ok()?;
                branch.named.get(at).copied()
            }
            _ => None,
        }
    }

    /// Where a child with a name is or belongs.
    pub(super) fn spot(&self, mut compare: impl FnMut(Index) -> Ordering) -> Spot {
        Spot::Named(match self {
            Self::Many(branch) => {
                branch.named.find(|index| compare(*index)).unwrap_or_else(|at| at)
            }
            Self::Named(index) if compare(*index).is_lt() => At::SECOND,
            _ => At::FIRST,
        })
    }

    /// The children with names, in descending order, as a stack wants them.
    pub(super) fn descending(&self) -> impl Iterator<Item = Index> {
        let (one, many) = match self {
            Self::Named(index) => (slice::from_ref(index), None),
            Self::Many(branch) => (&[][..], Some(&branch.named)),
            _ => (&[][..], None),
        };
        one.iter().chain(many.into_iter().flat_map(|named| named.iter().rev())).copied()
    }

    pub(super) fn add(&mut self, spot: Spot, index: Index) {
        if matches!(self, Self::None) {
            *self = match spot {
                Spot::Plus => Self::Plus(index),
                Spot::Hash => Self::Hash(index),
                Spot::Named(_) => Self::Named(index),
            };
            return;
        }
        let mut branch = self.widen();
        match spot {
            Spot::Plus => branch.plus = NonZero::new(index),
            Spot::Hash => branch.hash = NonZero::new(index),
            Spot::Named(at) => branch.named.insert(at, index),
        }
        *self = Self::narrow(branch);
    }

    pub(super) fn remove(&mut self, spot: Spot) {
        let Self::Many(mut branch) = core::mem::replace(self, Self::None) else { return };
        match spot {
            Spot::Plus => branch.plus = None,
            Spot::Hash => branch.hash = None,
            Spot::Named(at) => drop(branch.named.remove(at)),
        }
        *self = Self::narrow(branch);
    }

    /// Takes the children out as if there were more.
    fn widen(&mut self) -> Box<Branch> {
        let mut branch = Branch::default();
        match core::mem::replace(self, Self::None) {
            Self::None => {}
            Self::Named(index) => branch.named.insert(At::FIRST, index),
            Self::Plus(index) => branch.plus = NonZero::new(index),
            Self::Hash(index) => branch.hash = NonZero::new(index),
            Self::Many(branch) => return branch,
        }
        Box::new(branch)
    }

    /// The least that holds these children.
    fn narrow(branch: Box<Branch>) -> Self {
        let named = {
            let mut named = branch.named.iter().copied();
            (named.next(), named.next())
        };
        match (branch.plus, branch.hash, named) {
            (None, None, (None, _)) => Self::None,
            (None, None, (Some(index), None)) => Self::Named(index),
            (Some(index), None, (None, _)) => Self::Plus(index.get()),
            (None, Some(index), (None, _)) => Self::Hash(index.get()),
            _ => Self::Many(branch),
        }
    }
}

/// What a node without children has.
static NONE: Children = Children::None;

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
        let content = Content::Children(Children::None);
        Self { level: Level::new(level), content, parent }
    }

    /// Its name.
    #[inline]
    pub(super) fn level(&self) -> &[u8] {
        self.level.name()
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
        let value = self.take();
        if let Content::Children(children) = &mut self.content {
            edit(children);
        }
        if let Some(value) = value {
            self.put(value);
        }
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
            Content::Children(Children::None) | Content::Value(_) => Content::Value(value),
            Content::Children(children) => Content::Both(Box::new((children, value))),
            Content::Both(both) => Content::Both(Box::new((both.0, value))),
        };
    }

    pub(super) fn take(&mut self) -> Option<V> {
        let (children, value) = match self.take_content() {
            Content::Children(children) => (children, None),
            Content::Value(value) => (Children::None, Some(value)),
            Content::Both(both) => (both.0, Some(both.1)),
        };
        self.content = Content::Children(children);
        value
    }

    /// Whether it has neither children nor a value.
    pub(super) fn is_bare(&self) -> bool {
        matches!(self.content, Content::Children(Children::None))
    }

    fn take_content(&mut self) -> Content<V> {
        core::mem::replace(&mut self.content, Content::Children(Children::None))
    }
}
