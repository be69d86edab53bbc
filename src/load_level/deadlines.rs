//! The order of the waiters under [`Discipline::earliest_deadline`](super::Discipline::earliest_deadline).

use super::state::CLASSES;
use crate::{
    clock::Nanos,
    waiters::{Backlog, WaiterId},
};
use std::{cmp::Ordering, iter};

/// The waiters in the order in which they are served. A higher class is first. Within a class, the waiter whose time to
/// wait ends earliest is first, and of two equal ones the older.
///
/// It is a weight-balanced tree (J. Nievergelt and E. M. Reingold, "Binary search trees of bounded balance", SIAM
/// Journal on Computing 2(1), 1973) with the parameters 3 and 2 of Y. Hirai and K. Yamamoto, Journal of Functional
/// Programming 21(3), 2011. A path has at most 2.5 log2(n) + 1 nodes. Joining, leaving and [`before`](Self::before)
/// each walk one path.
///
/// The node of a waiter has the number of its [`WaiterId`] as index. A tree therefore allocates only when a waiter
/// joins whose number is higher than those of all waiters before it.
#[derive(Debug)]
pub(super) struct Deadlines {
    nodes: Vec<Node>,
    root: u32,
    /// The number of waiters that have joined, which tells an older waiter from a newer one.
    joined: u64,
}

/// A waiter, and the tree below it. One side of its tree weighs at most three times as much as the other, where a tree
/// of n waiters weighs n + 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    turn: Turn,
    /// How much the waiter takes of the queue's weight limit. Not the weight of its tree.
    weight: u64,
    /// The root of the tree of earlier turns, or [`NONE`].
    left: u32,
    /// The root of the tree of later turns, or [`NONE`].
    right: u32,
    /// This waiter and all waiters below it.
    all: Backlog,
}

/// The key of the order: a waiter is served before those of later turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// [`CLASSES`] minus its class, so that a higher class sorts first.
    rank: usize,
    /// The end of its time to wait.
    until: Nanos,
    /// How many waiters had joined when this one did, itself included. An older waiter has a lower number.
    number: u64,
}

/// The index of no node. No waiter has this number.
const NONE: u32 = u32::MAX;
/// The largest ratio of the weights of two sides.
const BALANCE: usize = 3;
/// An inner grandchild that weighs at least this many times as much as the outer one is raised by a double rotation.
const DOUBLE: usize = 2;

impl Node {
    /// The node of an index without a waiter.
    const ABSENT: Self = Self {
        turn: Turn { rank: 0, until: Nanos::ZERO, number: 0 },
        weight: 0,
        left: NONE,
        right: NONE,
        all: Backlog { calls: 0, weight: 0 },
    };
}

fn rank(class: usize) -> usize {
    CLASSES.saturating_sub(class)
}

impl Deadlines {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), root: NONE, joined: 0 }
    }

    /// Adds this waiter, which may wait until `until`.
    pub(super) fn join(&mut self, id: WaiterId, class: usize, weight: u64, until: Nanos) {
        let WaiterId(id) = id;
        self.joined = self.joined.wrapping_add(1);
        let turn = Turn { rank: rank(class), until, number: self.joined };
        if self.nodes.len() <= id as usize {
            self.nodes.resize(id as usize + 1, Node::ABSENT);
        }
        self.link(id, Node { turn, weight, ..Node::ABSENT });
        self.root = self.with(self.root, id);
    }

    /// Removes this waiter.
    pub(super) fn leave(&mut self, WaiterId(id): WaiterId) {
        self.root = self.without(self.root, self.node(id).turn);
    }

    /// Returns the waiter that is served first.
    pub(super) fn first(&self) -> Option<WaiterId> {
        self.path(|node| node.left).last()
    }

    /// Returns the waiter that is served last.
    pub(super) fn last(&self) -> Option<WaiterId> {
        self.path(|node| node.right).last()
    }

    /// Returns the waiter of a class that is served first.
    pub(super) fn first_of(&self, class: usize) -> Option<WaiterId> {
        let rank = rank(class);
        let path = self.path(|node| if node.turn.rank < rank { node.right } else { node.left });
        path.filter(|WaiterId(id)| self.node(*id).turn.rank == rank).last()
    }

    /// Returns the waiters that are served before a newcomer of this class that may wait until `until`.
    pub(super) fn before(&self, class: usize, until: Nanos) -> Backlog {
        let turn = Turn { rank: rank(class), until, number: u64::MAX };
        let (mut at, mut before) = (self.root, Backlog::default());
        while at != NONE {
            let node = self.node(at);
            if node.turn > turn {
                at = node.left;
            } else {
                let itself = Backlog { calls: 1, weight: node.weight.into() };
                before = before.plus(self.node(node.left).all).plus(itself);
                at = node.right;
            }
        }
        before
    }

    /// Returns the waiters of a path from the root, each followed by its `next` one.
    fn path(&self, next: impl Fn(&Node) -> u32) -> impl Iterator<Item = WaiterId> {
        let present = |id: u32| (id != NONE).then_some(id);
        iter::successors(present(self.root), move |id| present(next(&self.node(*id)))).map(WaiterId)
    }

    fn node(&self, at: u32) -> Node {
        self.nodes.get(at as usize).copied().unwrap_or(Node::ABSENT)
    }

    /// Stores a node above its children, and sums up its tree.
    fn link(&mut self, at: u32, mut node: Node) {
        let itself = Backlog { calls: 1, weight: node.weight.into() };
        node.all = self.node(node.left).all.plus(itself).plus(self.node(node.right).all);
        if let Some(slot) = self.nodes.get_mut(at as usize) {
            *slot = node;
        }
    }

    /// Adds a node to a tree. Returns the new root.
    fn with(&mut self, root: u32, new: u32) -> u32 {
        if root == NONE {
            return new;
        }
        let mut node = self.node(root);
        if self.node(new).turn < node.turn {
            node.left = self.with(node.left, new);
        } else {
            node.right = self.with(node.right, new);
        }
        self.balanced(root, node)
    }

    /// Removes the node of this turn from a tree. Returns the new root.
    fn without(&mut self, root: u32, turn: Turn) -> u32 {
        if root == NONE {
            return NONE;
        }
        let mut node = self.node(root);
        match turn.cmp(&node.turn) {
            Ordering::Less => node.left = self.without(node.left, turn),
            Ordering::Greater => node.right = self.without(node.right, turn),
            Ordering::Equal if node.left == NONE => return node.right,
            Ordering::Equal if node.right == NONE => return node.left,
            Ordering::Equal => {
                let (first, right) = self.without_first(node.right);
                return self.balanced(first, Node { left: node.left, right, ..self.node(first) });
            }
        }
        self.balanced(root, node)
    }

    /// Splits a tree. Returns its first node, and the root of all others.
    fn without_first(&mut self, root: u32) -> (u32, u32) {
        let mut node = self.node(root);
        if node.left == NONE {
            return (root, node.right);
        }
        let (first, left) = self.without_first(node.left);
        node.left = left;
        (first, self.balanced(root, node))
    }

    /// Restores the balance of a node, one of whose trees has one node more or less than before. Returns the root.
    fn balanced(&mut self, at: u32, mut node: Node) -> u32 {
        let (left, right) = (self.node(node.left), self.node(node.right));
        if self.weighs(node.right) > BALANCE * self.weighs(node.left) {
            if self.weighs(right.left) >= DOUBLE * self.weighs(right.right) {
                node.right = self.raise_left(node.right, right);
            }
            self.raise_right(at, node)
        } else if self.weighs(node.left) > BALANCE * self.weighs(node.right) {
            if self.weighs(left.right) >= DOUBLE * self.weighs(left.left) {
                node.left = self.raise_right(node.left, left);
            }
            self.raise_left(at, node)
        } else {
            self.link(at, node);
            at
        }
    }

    fn weighs(&self, root: u32) -> usize {
        self.node(root).all.calls + 1
    }

    /// Puts the right child of a node above it.
    fn raise_right(&mut self, at: u32, mut node: Node) -> u32 {
        let raised = node.right;
        let above = self.node(raised);
        node.right = above.left;
        self.link(at, node);
        self.link(raised, Node { left: at, ..above });
        raised
    }

    /// Puts the left child of a node above it.
    fn raise_left(&mut self, at: u32, mut node: Node) -> u32 {
        let raised = node.left;
        let above = self.node(raised);
        node.left = above.right;
        self.link(at, node);
        self.link(raised, Node { right: at, ..above });
        raised
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests;
