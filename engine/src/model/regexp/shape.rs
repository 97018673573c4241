//! What can be said of all strings that a regexp matches, so that the automaton need not run.

use super::compile::cases;
use super::node::{Look, Node};

/// Most strings that a set is made of.
pub(super) const SET_MAX: usize = 256;

/// Ways to match without an automaton.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One of these, ascending.
    Set(Vec<String>),
    /// At least so many bytes of anything (0 or 1) on each side that has a number, around a literal:
    /// `.*`, `.+`, `a.*`, `.+a`, `.*a.*`.
    Around { before: Option<usize>, literal: String, after: Option<usize> },
    /// Anything else, of strings that start and end so.
    Other { prefix: String, suffix: String },
}

/// The shape of a whole regexp.
pub(super) fn shape(node: &Node) -> Shape {
    let nodes = top_level(node);
    if let Some(mut set) = product(&nodes) {
        set.sort_unstable();
        set.dedup();
        return Shape::Set(set);
    }
    let (before, rest) = match nodes.split_first() {
        Some((first, rest)) if anything(first).is_some() => (anything(first), rest),
        _ => (None, &nodes[..]),
    };
    let (after, middle) = match rest.split_last() {
        Some((last, middle)) if anything(last).is_some() => (anything(last), middle),
        _ => (None, rest),
    };
    let literal = literal_run(middle.iter());
    if literal.chars().count() == middle.len() {
        match (before, after) {
            (None, None) => {}
            // `.+.+` wants two characters, of which bytes tell nothing.
            (Some(before), Some(after)) if literal.is_empty() => {
                if before + after <= 1 {
                    return Shape::Around { before: Some(before + after), literal, after: None };
                }
            }
            _ => return Shape::Around { before, literal, after },
        }
    }
    let prefix = literal_run(nodes.iter());
    let suffix: String = literal_run(nodes.iter().rev()).chars().rev().collect();
    Shape::Other { prefix, suffix }
}

/// The parts of a regexp one after the other, without anchors around them, which say nothing new.
fn top_level(node: &Node) -> Vec<Node> {
    let mut nodes = Vec::new();
    flatten(node, &mut nodes);
    if matches!(nodes.first(), Some(Node::Look(Look::TextStart))) {
        nodes.remove(0);
    }
    if matches!(nodes.last(), Some(Node::Look(Look::TextEnd))) {
        nodes.pop();
    }
    nodes
}

fn flatten(node: &Node, nodes: &mut Vec<Node>) {
    match node.without_captures() {
        Node::Concat(parts) => parts.iter().for_each(|part| flatten(part, nodes)),
        Node::Empty => {}
        other => nodes.push(other.clone()),
    }
}

/// The least number of characters of `.*` (0) and `.+` (1).
fn anything(node: &Node) -> Option<usize> {
    match node {
        Node::Repeat { min: min @ (0 | 1), max: None, node, .. }
            if matches!(node.without_captures(), Node::AnyChar) =>
        {
            Some(*min as usize)
        }
        _ => None,
    }
}

/// The literals that come first.
fn literal_run<'a>(nodes: impl Iterator<Item = &'a Node>) -> String {
    nodes.map_while(literal).collect()
}

fn literal(node: &Node) -> Option<char> {
    match node {
        Node::Literal { char, fold } if !*fold || cases(*char).iter().map(|range| range.len()).sum::<usize>() == 1 => {
            Some(*char)
        }
        _ => None,
    }
}

/// All strings that the parts match one after the other, when they are few.
fn product(nodes: &[Node]) -> Option<Vec<String>> {
    let mut set = vec![String::new()];
    for node in nodes {
        let next = strings(node)?;
        if set.len().saturating_mul(next.len()) > SET_MAX {
            return None;
        }
        if let [tail] = next.as_slice() {
            // Long literals are made in place.
            set.iter_mut().for_each(|head| head.push_str(tail));
            continue;
        }
        set = set.iter().flat_map(|head| next.iter().map(move |tail| format!("{head}{tail}"))).collect();
    }
    Some(set)
}

/// All strings that `node` matches, when they are few.
fn strings(node: &Node) -> Option<Vec<String>> {
    match node {
        Node::Empty => Some(vec![String::new()]),
        Node::Literal { .. } => Some(vec![literal(node)?.to_string()]),
        Node::Class(class) => {
            let ranges = class.ranges();
            let total: usize = ranges.iter().map(|range| range.len()).sum();
            let all = || ranges.iter().flat_map(|range| range.start()..=range.end()).map(String::from).collect();
            (total <= SET_MAX && total > 0).then(all)
        }
        Node::Capture(_, node) => strings(node),
        Node::Concat(nodes) => product(nodes),
        Node::Alternate(nodes) => {
            let mut all = Vec::new();
            for node in nodes {
                all.extend(strings(node)?);
                if all.len() > SET_MAX {
                    return None;
                }
            }
            Some(all)
        }
        Node::AnyChar | Node::AnyCharButNewline | Node::Look(_) | Node::Repeat { .. } => None,
    }
}

impl Shape {
    /// Bytes that its strings take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Set(set) => set.iter().map(|known| size_of::<String>() + known.len()).sum(),
            Self::Around { literal, .. } => literal.len(),
            Self::Other { prefix, suffix } => prefix.len() + suffix.len(),
        }
    }

    /// Whether the whole of `text` matches; `None` when only the automaton can tell.
    #[inline]
    pub fn matches(&self, text: &str) -> Option<bool> {
        match self {
            Self::Set(set) => Some(set.binary_search_by(|known| known.as_str().cmp(text)).is_ok()),
            Self::Around { before, literal, after } => Some(match (before, after) {
                (Some(before), Some(after)) => {
                    let inner = text.as_bytes().get(*before..text.len().saturating_sub(*after));
                    inner.is_some_and(|inner| memchr::memmem::find(inner, literal.as_bytes()).is_some())
                }
                (Some(before), None) => text.len() >= before + literal.len() && text.ends_with(literal.as_str()),
                (None, Some(after)) => text.len() >= after + literal.len() && text.starts_with(literal.as_str()),
                (None, None) => text == literal,
            }),
            Self::Other { prefix, suffix } => {
                let may = text.len() >= prefix.len().max(suffix.len())
                    && text.starts_with(prefix.as_str())
                    && text.ends_with(suffix.as_str());
                if may { None } else { Some(false) }
            }
        }
    }
}
