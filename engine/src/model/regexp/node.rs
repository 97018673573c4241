//! A regexp as a tree.

use regex_syntax::hir::ClassUnicode;

/// One construct of a regexp.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// The empty string.
    Empty,
    /// A character; with `fold`, its other cases too.
    Literal { char: char, fold: bool },
    /// One of a set of characters.
    Class(ClassUnicode),
    /// `.` under the flag `s`.
    AnyChar,
    /// `.` without the flag `s`.
    AnyCharButNewline,
    /// A condition on the place.
    Look(Look),
    /// `max` of `None` is no bound.
    Repeat { min: u32, max: Option<u32>, greedy: bool, node: Box<Node> },
    /// A group with its number.
    Capture(u32, Box<Node>),
    /// One after the other.
    Concat(Vec<Node>),
    /// One or the other, the first that matches.
    Alternate(Vec<Node>),
}

/// A condition on the place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    TextStart,
    TextEnd,
    LineStart,
    LineEnd,
    WordBoundary,
    NotWordBoundary,
}

impl Node {
    /// The node inside all groups around it.
    pub fn without_captures(&self) -> &Node {
        let mut node = self;
        while let Node::Capture(_, inner) = node {
            node = inner;
        }
        node
    }
}
