//! A tree to an automaton.

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::hir::{self, Class, ClassUnicode, ClassUnicodeRange, Dot, Hir, Repetition};

use super::super::budget::Reservation;
use super::super::error::Error;
use super::allowance::Allowance;
use super::node::{Look, Node};

/// Bytes that the states of one regexp may take in one direction. Nearly all regexps are content with the first, and
/// the next are tried in turn: each is to be had only while there is memory for it.
const AUTOMATON_BYTES: [usize; 4] = [128 << 10, 1 << 20, 8 << 20, 32 << 20];

/// Automata in the making take at most so often what the states of one may: one for each direction, and what the
/// second is made of.
const MAKING: usize = 3;

/// An automaton, and the memory that it counts with where that counts.
pub(super) type Compiled = (meta::Regex, Option<Reservation>);

/// The automaton of `node`, anchored on both sides; `None` when it would be too large whatever `allowance` has.
pub(super) fn compile(node: &Node, allowance: &mut Allowance) -> Result<Option<Compiled>, Error> {
    for (tried, bytes_max) in AUTOMATON_BYTES.into_iter().enumerate() {
        let mut held = allowance.hold(if tried > 0 { (MAKING * bytes_max) as u64 } else { 0 })?;
        if let Some(automaton) = build(node, bytes_max) {
            allowance.take(&mut held, automaton.memory_usage() as u64)?;
            return Ok(Some((automaton, held)));
        }
    }
    Ok(None)
}

fn build(node: &Node, bytes_max: usize) -> Option<meta::Regex> {
    let whole = Hir::concat(vec![Hir::look(hir::Look::Start), to_hir(node), Hir::look(hir::Look::End)]);
    let config = meta::Config::new().nfa_size_limit(Some(bytes_max));
    meta::Builder::new().configure(config).syntax(syntax::Config::new()).build_from_hir(&whole).ok()
}

fn to_hir(node: &Node) -> Hir {
    match node {
        Node::Empty => Hir::empty(),
        Node::Literal { char, fold: false } => Hir::literal(char.encode_utf8(&mut [0; 4]).as_bytes()),
        Node::Literal { char, fold: true } => Hir::class(Class::Unicode(cases(*char))),
        Node::Class(class) => Hir::class(Class::Unicode(class.clone())),
        Node::AnyChar => Hir::dot(Dot::AnyChar),
        Node::AnyCharButNewline => Hir::dot(Dot::AnyCharExceptLF),
        Node::Look(look) => Hir::look(match look {
            Look::TextStart => hir::Look::Start,
            Look::TextEnd => hir::Look::End,
            Look::LineStart => hir::Look::StartLF,
            Look::LineEnd => hir::Look::EndLF,
            Look::WordBoundary => hir::Look::WordAscii,
            Look::NotWordBoundary => hir::Look::WordAsciiNegate,
        }),
        Node::Repeat { min, max, greedy, node } => {
            Hir::repetition(Repetition { min: *min, max: *max, greedy: *greedy, sub: Box::new(to_hir(node)) })
        }
        Node::Capture(index, node) => {
            Hir::capture(hir::Capture { index: *index, name: None, sub: Box::new(to_hir(node)) })
        }
        Node::Concat(nodes) => Hir::concat(nodes.iter().map(to_hir).collect()),
        Node::Alternate(nodes) => Hir::alternation(nodes.iter().map(to_hir).collect()),
    }
}

/// The character in all its cases.
pub(super) fn cases(char: char) -> ClassUnicode {
    let mut class = ClassUnicode::new([ClassUnicodeRange::new(char, char)]);
    class.case_fold_simple();
    class
}
