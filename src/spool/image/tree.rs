//! Walks a tree of a redb file in the order of its keys, around whatever can't be read.
//!
//! A page is *sure* when it has the checksum that a sure parent holds, and so is all that it holds. Where a page is not the
//! one that its parent means, the walk reports a hole and goes on: from a branch to those children whose checksums prove them,
//! from a leaf to the entries that stand in order. What an entry of such a leaf is worth its own checksum has to tell.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::pages::{Leaf, Node, Pages, Root, Widths, array, u32_at};

/// No tree of redb's is as deep.
const DEPTH: usize = 32;

/// Holes that are told apart; the last of more reaches to the end.
const HOLES: usize = 4_096;

/// What the keys of a table are.
pub(super) trait Key: Ord + Clone {
    const WIDTH: Option<usize>;
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl Key for u64 {
    const WIDTH: Option<usize> = Some(8);
    fn read(bytes: &[u8]) -> Option<u64> {
        bytes.try_into().ok().map(u64::from_le_bytes)
    }
}

impl Key for u32 {
    const WIDTH: Option<usize> = Some(4);
    fn read(bytes: &[u8]) -> Option<u32> {
        bytes.try_into().ok().map(u32::from_le_bytes)
    }
}

impl Key for (u32, u64) {
    const WIDTH: Option<usize> = Some(12);
    fn read(bytes: &[u8]) -> Option<(u32, u64)> {
        Some((u32::from_le_bytes(array(bytes, 0)?), u64::from_le_bytes(array(bytes, 4)?)))
    }
}

impl Key for String {
    const WIDTH: Option<usize> = None;
    fn read(bytes: &[u8]) -> Option<String> {
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }
}

/// Bytes of which nobody needs to know what they mean.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Any;

impl Key for Any {
    const WIDTH: Option<usize> = None;
    fn read(_: &[u8]) -> Option<Any> {
        Some(Any)
    }
}

/// What a walk comes across.
pub(super) enum Step<'a, K> {
    Entry {
        key: K,
        value: &'a [u8],
        /// The page is whole, and with it the key.
        sure: bool,
    },
    /// What should be here can't be read.
    Hole,
}

/// Walks until the end, or until `visit` breaks.
pub(super) fn walk<K: Key>(
    pages: &Pages,
    root: Option<Root>,
    widths: Widths,
    visit: &mut dyn FnMut(Step<'_, K>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    // Each page has one parent; more visits than pages would mean a circle.
    let mut walk = Walk { pages, widths, left: pages.len() / super::pages::PAGE, visit };
    match root {
        Some(root) => walk.descend(root, true, DEPTH),
        None => ControlFlow::Continue(()),
    }
}

struct Walk<'w, K> {
    pages: &'w Pages,
    widths: Widths,
    left: u64,
    visit: &'w mut dyn FnMut(Step<'_, K>) -> ControlFlow<()>,
}

impl<K: Key> Walk<'_, K> {
    fn descend(&mut self, root: Root, parent_is_sure: bool, depth: usize) -> ControlFlow<()> {
        let node = self.pages.node(root, self.widths).filter(|_| self.left > 0 && depth > 0);
        self.left = self.left.saturating_sub(1);
        let Some((node, sure)) = node.filter(|(_, sure)| parent_is_sure || *sure) else {
            return (self.visit)(Step::Hole);
        };
        if !sure {
            (self.visit)(Step::Hole)?;
        }
        match node {
            Node::Leaf(leaf) => ordered(&leaf, sure, self.visit),
            Node::Branch(branch) => {
                branch.children().try_for_each(|child| self.descend(child, sure, depth - 1))
            }
        }
    }
}

/// The entries of a leaf: of one that is not sure those whose keys stand in order.
pub(super) fn ordered<K: Key>(
    leaf: &Leaf,
    sure: bool,
    visit: &mut dyn FnMut(Step<'_, K>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let key = |n: usize| leaf.entry(n).and_then(|(key, _)| K::read(key));
    let mut before = None;
    let mut here = key(0);
    for n in 0..leaf.len() {
        let after = if n + 1 < leaf.len() { key(n + 1) } else { None };
        let in_order = || {
            here.as_ref().is_some_and(|here| {
                before.as_ref().is_none_or(|before| before < here)
                    && after.as_ref().is_none_or(|after| here < after)
            })
        };
        if (sure || in_order())
            && let (Some(key), Some((_, value))) = (here.clone(), leaf.entry(n))
        {
            visit(Step::Entry { key, value, sure })?;
        } else if sure {
            visit(Step::Hole)?;
        }
        (before, here) = (here, after);
    }
    ControlFlow::Continue(())
}

/// Where in the order of its keys a tree could not be read.
#[derive(Debug)]
pub(super) struct Holes<K> {
    before: Option<K>,
    is_open: bool,
    /// Disjoint and ascending; neither end is part of a hole.
    closed: Vec<(Option<K>, Option<K>)>,
}

impl<K: Key> Holes<K> {
    pub(super) fn none() -> Holes<K> {
        Holes { before: None, is_open: false, closed: Vec::new() }
    }

    /// Nothing could be read.
    pub(super) fn everywhere() -> Holes<K> {
        Holes { before: None, is_open: false, closed: vec![(None, None)] }
    }

    pub(super) fn hole(&mut self) {
        self.is_open = true;
    }

    /// A sure key.
    pub(super) fn key(&mut self, key: K) {
        if self.is_open && self.closed.len() < HOLES {
            self.closed.push((self.before.take(), Some(key.clone())));
            self.is_open = false;
        }
        if !self.is_open {
            self.before = Some(key);
        }
    }

    /// The tree has come to its end.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.closed.push((self.before.take(), None));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        let next = self.closed.partition_point(|(from, _)| from.as_ref().is_none_or(|from| from < key));
        let hole = next.checked_sub(1).and_then(|at| self.closed.get(at));
        hole.is_some_and(|(_, to)| to.as_ref().is_none_or(|to| key < to))
    }
}

/// A table as the tree of tables has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) root: Option<Root>,
    pub(super) widths: Widths,
    is_multimap: bool,
}

impl Table {
    /// `None`: no definition of a table.
    pub(super) fn read(bytes: &[u8]) -> Option<Table> {
        let flag = |at: usize| bytes.get(at).filter(|flag| **flag <= 1).map(|flag| *flag == 1);
        let width = |at: usize| Some(if flag(at)? { Some(u32_at(bytes, at + 1)?) } else { None });
        let kind = *bytes.first().filter(|kind| matches!(kind, 3 | 4))?;
        let root = if flag(9)? { Some(Root::read(bytes, 10)?) } else { None };
        let widths = Widths { key: width(42)?, value: width(47)? };
        // Behind these come the alignments, which are 1, and the names of the types.
        let is_whole = u32_at(bytes, 52)? == 1 && u32_at(bytes, 56)? == 1 && bytes.len() > 64;
        is_whole.then_some(Table { root, widths, is_multimap: kind == 4 })
    }

    /// Whether its keys and values are as long as those of ours.
    pub(super) fn is_of<K: Key>(&self, value: Option<usize>) -> bool {
        !self.is_multimap && self.widths == Widths { key: K::WIDTH, value }
    }
}

/// The tables under a root; those that can be read.
pub(super) fn tables(pages: &Pages, root: Option<Root>) -> (BTreeMap<String, Table>, bool) {
    let (mut tables, mut whole) = (BTreeMap::new(), true);
    let _ = walk::<String>(pages, root, Widths::default(), &mut |step| {
        match step {
            Step::Entry { key, value, sure } => match Table::read(value) {
                Some(table) => _ = tables.insert(key, table),
                None => whole &= !sure,
            },
            Step::Hole => whole = false,
        }
        ControlFlow::Continue(())
    });
    (tables, whole)
}

/// How many pages of all the trees under a root can't be read; a hole may have any number behind it.
pub(super) fn holes_under(pages: &Pages, root: Option<Root>) -> u64 {
    let (tables, whole) = tables(pages, root);
    let mut holes = u64::from(!whole);
    for table in tables.values() {
        let _ = walk::<Any>(pages, table.root, table.widths, &mut |step| {
            holes += u64::from(matches!(step, Step::Hole));
            ControlFlow::Continue(())
        });
    }
    holes
}
