//! A tree of topic levels, for subscriptions by name and for retained messages by filter.
//!
//! Nothing here is recursive: a filter of thousands of levels costs memory, never stack.

mod node;

use alloc::vec::Vec;
use core::cmp::Ordering;

use self::node::{Children, Index, Name, Node, ROOT, Spot};
use super::memo::{Memo, TopicMemo};

/// Values at paths of levels separated by `/`; `+` and `#` are levels like others to
/// [`Tree::entry`] and wildcards to the two searches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tree<V> {
    nodes: Vec<Option<Node<V>>>,
    free: Vec<Index>,
    /// The nodes whose values match topics that were looked up lately.
    memo: Memo<TopicMemo>,
    room: Memo<Room>,
}

/// Room for one search, so that none asks for memory.
#[derive(Clone, Debug, Default)]
struct Room {
    /// Nodes to look at, each with the number of the level that is looked for below it.
    stack: Vec<(Index, usize)>,
    found: Vec<Index>,
}

/// Most names have fewer levels.
const FEW: usize = 8;

/// The levels of a Topic Name, split once: a search that meets wildcards comes to each several times.
struct Levels<'a> {
    first: [Name<'a>; FEW],
    others: Vec<Name<'a>>,
    count: usize,
}

impl<'a> Levels<'a> {
    fn of(name: &'a [u8]) -> Self {
        let mut levels = Self { first: [Name::EMPTY; FEW], others: Vec::new(), count: 0 };
        for level in name.split(|byte| *byte == b'/').map(Name::new) {
            match levels.first.get_mut(levels.count) {
                Some(place) => *place = level,
                None => levels.others.push(level),
            }
            levels.count = levels.count.saturating_add(1);
        }
        levels
    }

    #[inline]
    fn get(&self, level: usize) -> Option<&Name<'a>> {
        if level >= self.count {
            return None;
        }
        self.first.get(level).or_else(|| self.others.get(level.checked_sub(FEW)?))
    }
}

/// Splits off the first level: the level, and what follows its `/` if there is one.
fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(at) => {
            (path.get(..at).unwrap_or(&[]), Some(path.get(at.saturating_add(1)..).unwrap_or(&[])))
        }
        None => (path, None),
    }
}

impl<V> Tree<V> {
    /// What a node takes in memory, one without a value too.
    pub(super) const NODE_BYTES: usize = size_of::<Option<Node<V>>>();

    pub(super) fn new() -> Self {
        let nodes = Vec::from([Some(Node::new(ROOT, &[]))]);
        Self { nodes, free: Vec::new(), memo: Memo::default(), room: Memo::default() }
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&V> {
        self.node(self.find(path)?)?.value()
    }

    pub(super) fn get_mut(&mut self, path: &[u8]) -> Option<&mut V> {
        let index = self.find(path)?;
        self.node_mut(index)?.value_mut()
    }

    /// The value at a path, made by `make` if there is none.
    pub(super) fn entry(&mut self, path: &[u8], make: impl FnOnce() -> V) -> Option<&mut V> {
        let mut at = ROOT;
        let mut rest = Some(path);
        while let Some(path) = rest {
            let (level, after) = split(path);
            rest = after;
            at = match self.child(self.node(at)?.children(), level) {
                Ok(child) => child,
                Err(spot) => self.add(at, level, spot),
            };
        }
        if self.value(at).is_none() {
            self.memo.0.clear();
            self.node_mut(at)?.put(make());
        }
        self.node_mut(at)?.value_mut()
    }

    /// Removes the value at a path, and the nodes that only led to it: the tree is then equal in
    /// what it answers to one that never held the value.
    pub(super) fn remove(&mut self, path: &[u8]) -> Option<V> {
        let mut at = self.find(path)?;
        let value = self.node_mut(at)?.take()?;
        self.memo.0.clear();
        while at != ROOT && self.node(at).is_some_and(Node::is_bare) {
            let node = self.node(at)?;
            let parent = node.parent;
            let children = self.node(parent)?.children();
            let name = node.level().name();
            let spot = children.spot(at, |child| self.compare(child, &name));
            self.node_mut(parent)?.edit_children(|children| children.remove(spot));
            *self.nodes.get_mut(at as usize)? = None;
            self.free.push(at);
            at = parent;
        }
        Some(value)
    }

    /// Visits the value of every filter in the tree that matches a Topic Name, which is remembered for
    /// the next time.
    #[inline]
    pub(super) fn matching(&mut self, name: &[u8], visit: impl FnMut(&V)) {
        let Some(known) = self.memo.0.get(name) else { return self.find_matching(name, visit) };
        known.iter().filter_map(|index| self.value(*index)).for_each(visit);
    }

    fn find_matching(&mut self, name: &[u8], visit: impl FnMut(&V)) {
        let mut room = core::mem::take(&mut self.room.0);
        self.search(name, &mut room);
        self.memo.0.put(name, &room.found);
        room.found.iter().filter_map(|index| self.value(*index)).for_each(visit);
        room.found.clear();
        self.room.0 = room;
    }

    /// Whether what is remembered is what a search finds.
    pub(super) fn remembers_well(&self) -> bool {
        self.memo.0.iter().all(|(name, known)| {
            let mut room = Room::default();
            self.search(name, &mut room);
            room.found == known
        })
    }

    /// Finds the node of every filter in the tree that has a value and matches a Topic Name.
    fn search(&self, name: &[u8], room: &mut Room) {
        let levels = Levels::of(name);
        let mut next = Some((ROOT, 0));
        // [MQTT-4.7.2-1]: a wildcard in the first level does not match a name that begins with $.
        let dollar = name.first() == Some(&b'$');
        while let Some((at, level)) = next.take().or_else(|| room.stack.pop()) {
            let Some(node) = self.node(at) else { continue };
            let children = node.children();
            let wild = !(dollar && at == ROOT);
            let (plus, hash) = if wild { children.wild() } else { (None, None) };
            // `a/#` matches `a` itself too.
            room.found.extend(hash.filter(|hash| self.value(*hash).is_some()));
            let Some(name) = levels.get(level) else {
                if node.value().is_some() {
                    room.found.push(at);
                }
                continue;
            };
            let below = level.saturating_add(1);
            room.stack.extend(plus.map(|plus| (plus, below)));
            if children.has_named() {
                let child = children.find(|child| self.compare(child, name));
                next = child.ok().map(|child| (child, below));
            }
        }
    }

    /// Visits the value of every Topic Name in the tree that a filter matches.
    pub(super) fn matched_by<'a>(&'a self, filter: &[u8], mut visit: impl FnMut(&'a V)) {
        let mut stack: Vec<(Index, Option<&[u8]>)> = Vec::from([(ROOT, Some(filter))]);
        while let Some((at, rest)) = stack.pop() {
            let Some(node) = self.node(at) else { continue };
            let Some(rest) = rest else {
                node.value().into_iter().for_each(&mut visit);
                continue;
            };
            let (level, after) = split(rest);
            // [MQTT-4.7.2-1]
            let visible = |child: &Index| !(at == ROOT && self.is_own(*child));
            match level {
                b"#" => {
                    node.value().into_iter().for_each(&mut visit);
                    let below = node.children().descending().filter(visible);
                    stack.extend(below.map(|child| (child, Some(rest))));
                }
                b"+" => {
                    let below = node.children().descending().filter(visible);
                    stack.extend(below.map(|child| (child, after)));
                }
                _ => {
                    let child = self.named(node.children(), level).ok();
                    stack.extend(child.map(|child| (child, after)));
                }
            }
        }
    }

    /// Visits the values in some of the nodes, beginning with this one; where to go on.
    pub(super) fn page(&self, from: u32, max: u32, visit: impl FnMut(&V)) -> Option<u32> {
        let len = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let end = from.saturating_add(max).min(len);
        let nodes = self.nodes.get(from as usize..end as usize).unwrap_or_default();
        nodes.iter().flatten().filter_map(Node::value).for_each(visit);
        (end < len).then_some(end)
    }

    /// Visits every value, in no particular order.
    pub(super) fn each<'a>(&'a self, visit: impl FnMut(&'a V)) {
        self.nodes.iter().flatten().filter_map(Node::value).for_each(visit);
    }

    fn find(&self, path: &[u8]) -> Option<Index> {
        let mut at = ROOT;
        let mut rest = Some(path);
        while let Some(path) = rest {
            let (level, after) = split(path);
            at = self.child(self.node(at)?.children(), level).ok()?;
            rest = after;
        }
        Some(at)
    }

    /// The child of this name, wildcards included; the error says where it would be.
    fn child(&self, children: &Children, level: &[u8]) -> Result<Index, Spot> {
        match level {
            b"+" => children.wild().0.ok_or(Spot::Plus),
            b"#" => children.wild().1.ok_or(Spot::Hash),
            _ => self.named(children, level),
        }
    }

    #[inline]
    fn named(&self, children: &Children, level: &[u8]) -> Result<Index, Spot> {
        if !children.has_named() {
            return Err(Spot::FIRST);
        }
        let name = Name::new(level);
        children.find(|child| self.compare(child, &name))
    }

    #[inline]
    fn compare(&self, child: Index, name: &Name<'_>) -> Ordering {
        self.node(child).map_or(Ordering::Less, |node| node.level().compare(name))
    }

    /// Whether a level is one of the broker's own.
    fn is_own(&self, index: Index) -> bool {
        self.node(index).is_some_and(|node| node.level().is_own())
    }

    fn add(&mut self, parent: Index, level: &[u8], spot: Spot) -> Index {
        let node = Some(Node::new(parent, level));
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(place) = self.nodes.get_mut(index as usize) {
                    *place = node;
                }
                index
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len().saturating_sub(1)).unwrap_or(u32::MAX)
            }
        };
        if let Some(parent) = self.node_mut(parent) {
            parent.edit_children(|children| children.add(spot, index));
        }
        index
    }

    #[inline]
    fn value(&self, index: Index) -> Option<&V> {
        self.node(index)?.value()
    }

    #[inline]
    fn node(&self, index: Index) -> Option<&Node<V>> {
        self.nodes.get(index as usize)?.as_ref()
    }

    fn node_mut(&mut self, index: Index) -> Option<&mut Node<V>> {
        self.nodes.get_mut(index as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec, vec::Vec};

    use super::*;

    fn tree(paths: &[&str]) -> Tree<String> {
        let mut tree = Tree::new();
        for path in paths {
            tree.entry(path.as_bytes(), || String::from(*path)).expect("made");
        }
        tree
    }

    /// What a tree finds when it searches; it remembers that, or nothing.
    fn matching(tree: &mut Tree<String>, name: &str) -> Vec<String> {
        let mut found = vec![];
        tree.matching(name.as_bytes(), |value| found.push(value.clone()));
        let mut again = vec![];
        tree.matching(name.as_bytes(), |value| again.push(value.clone()));
        assert_eq!(found, again, "{name}");
        found.sort();
        found
    }

    /// Every string up to a length over an alphabet.
    fn strings(alphabet: &[char], length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..length {
            let to = all.len();
            for index in from..to {
                for letter in alphabet {
                    all.push(format!("{}{letter}", all[index]));
                }
            }
            from = to;
        }
        all
    }

    #[test]
    fn filters_match_names_as_the_naive_matcher_says() {
        let filters: Vec<_> = strings(&['a', '/', '+', '#', '$'], 5)
            .into_iter()
            .filter(|filter| codec::topic::is_valid_filter(filter))
            .collect();
        let names: Vec<_> = strings(&['a', 'b', '/', '$'], 5)
            .into_iter()
            .filter(|name| codec::topic::is_valid_name(name))
            .collect();
        let mut filter_tree = tree(&filters.iter().map(String::as_str).collect::<Vec<_>>());
        let name_tree = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for name in &names {
            let mut expected: Vec<_> =
                filters.iter().filter(|f| codec::topic::matches(f, name)).cloned().collect();
            expected.sort();
            assert_eq!(matching(&mut filter_tree, name), expected, "filters matching {name}");
        }
        for filter in &filters {
            let mut found = vec![];
            name_tree.matched_by(filter.as_bytes(), |value| found.push(value.clone()));
            found.sort();
            let mut expected: Vec<_> =
                names.iter().filter(|n| codec::topic::matches(filter, n)).cloned().collect();
            expected.sort();
            assert_eq!(found, expected, "names matched by {filter}");
        }
    }

    #[test]
    fn removing_leaves_no_nodes_behind() {
        let mut tree = tree(&["a/+/c", "a/b", "a/#", "a"]);
        for path in ["a/#", "a/+/c", "a", "a/b"] {
            assert_eq!(tree.remove(path.as_bytes()).as_deref(), Some(path));
            assert_eq!(tree.get(path.as_bytes()), None);
            assert!(tree.remove(path.as_bytes()).is_none());
        }
        assert_eq!(tree.nodes.iter().flatten().count(), 1);
        assert!(tree.nodes[0].as_ref().is_some_and(Node::is_bare));
    }

    /// Levels of all lengths around what fits in a node, many of them below one parent.
    #[test]
    fn children_without_number_are_found_and_visited_in_order() {
        let name = |number: u32| format!("{}{:04}", "x".repeat(number as usize % 14), number);
        let scattered: Vec<u32> = (0..2000).map(|number| number * 7919 % 2003).collect();
        let mut tree = tree(&["p/+/z", "p/#"]);
        let mut names = alloc::collections::BTreeSet::new();
        for (step, number) in scattered.iter().enumerate() {
            names.insert(format!("p/{}", name(*number)));
            let path = format!("p/{}", name(*number));
            tree.entry(path.as_bytes(), || path.clone());
            if step % 3 == 0 {
                let path = format!("p/{}", name(scattered[step / 2]));
                let known = names.remove(&path);
                assert_eq!(tree.remove(path.as_bytes()).is_some(), known, "{path}");
            }
        }
        let mut found = vec![];
        tree.matched_by(b"p/+", |value| found.push(value.clone()));
        assert!(found.iter().eq(&names), "what a wildcard finds is in order");
        for number in &scattered {
            let path = format!("p/{}", name(*number));
            assert_eq!(tree.get(path.as_bytes()).is_some(), names.contains(&path), "{path}");
            tree.remove(path.as_bytes());
        }
        assert_eq!(tree.nodes.iter().flatten().count(), 5, "`p`, its wildcards and the root");
        assert_eq!(matching(&mut tree, "p/a/z"), ["p/#", "p/+/z"]);
    }

    #[test]
    fn a_node_has_children_and_a_value_in_any_order() {
        let paths = ["a", "a/b", "a/+", "a/#", "a/c"];
        for first in 0..paths.len() {
            let mut turned = paths;
            turned.rotate_left(first);
            let mut tree = tree(&turned);
            for (at, path) in turned.iter().enumerate() {
                let left = &turned[at..];
                for path in paths {
                    assert_eq!(tree.get(path.as_bytes()).is_some(), left.contains(&path));
                }
                assert_eq!(tree.remove(path.as_bytes()).as_deref(), Some(*path));
            }
            assert_eq!(tree.nodes.iter().flatten().count(), 1);
        }
    }

    #[test]
    fn what_is_remembered_does_not_outlive_a_change() {
        let mut tree = tree(&["a/+"]);
        assert_eq!(matching(&mut tree, "a/b"), ["a/+"]);
        tree.entry(b"a/b", || String::from("a/b"));
        assert_eq!(matching(&mut tree, "a/b"), ["a/+", "a/b"]);
        assert!(tree.remembers_well());
        tree.remove(b"a/+");
        assert_eq!(matching(&mut tree, "a/b"), ["a/b"]);
        // A node that is used anew is not taken for what it was.
        tree.remove(b"a/b");
        tree.entry(b"c/d", || String::from("c/d"));
        assert_eq!(matching(&mut tree, "a/b"), [""; 0]);
        assert!(tree.remembers_well());
        tree.memo.0.put(b"a/b", &[1]);
        assert!(!tree.remembers_well());
    }

    #[test]
    fn a_path_of_65535_levels_needs_no_stack() {
        let deep = "/".repeat(65_535);
        let mut tree = tree(&[&deep, "#"]);
        assert_eq!(matching(&mut tree, &deep).len(), 2);
        assert!(tree.remove(deep.as_bytes()).is_some());
    }
}
