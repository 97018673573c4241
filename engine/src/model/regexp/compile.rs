//! A tree to an automaton.

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::hir::{self, Class, ClassUnicode, ClassUnicodeRange, Dot, Hir, Repetition};

use super::node::{Look, Node};

/// Bytes that the states of one regexp may take.
const AUTOMATON_BYTES_MAX: usize = 32 << 20;

/// The automaton of `node`, anchored on both sides; `None` when it would be too large.
pub(super) fn compile(node: &Node) -> Option<meta::Regex> {
    let whole = Hir::concat(vec![Hir::look(hir::Look::Start), to_hir(node), Hir::look(hir::Look::End)]);
    let config = meta::Config::new().nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
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
