//! Trees to text over several lines, as Prometheus formats queries.

use std::fmt::{Display, Write};

use super::ast::{Aggregate, Binary, Expr};
use super::print::{Grouping, Operator, SubqueryTimes};

/// What is longer is split over lines.
const LINE_BYTES_MAX: usize = 100;

/// The expression as Prometheus' `format_query` lays it out.
pub fn prettify(expr: &Expr) -> String {
    let mut out = String::new();
    pretty(expr, 0, &mut out);
    out
}

fn pretty(expr: &Expr, level: usize, out: &mut String) {
    let line = line(expr);
    match (expr, line) {
        (Expr::Unary(node), _) => {
            let mut inner = String::new();
            pretty(&node.expr, level, &mut inner);
            indent(level, out);
            out.push_str(node.op.as_str());
            out.push_str(inner.trim());
        }
        (Expr::Subquery(_), Some(line)) => out.push_str(&line),
        (Expr::Subquery(node), None) => {
            pretty(&node.expr, level, out);
            push(SubqueryTimes(node), out);
        }
        (_, Some(line)) => {
            indent(level, out);
            out.push_str(&line);
        }
        (Expr::Matrix(_) | Expr::Number(_) | Expr::String(_) | Expr::Vector(_), None) => {
            indent(level, out);
            push(expr, out);
        }
        (Expr::Aggregate(node), None) => aggregate(node, level, out),
        (Expr::Binary(node), None) => binary(node, level, out),
        (Expr::Call(node), None) => {
            indent(level, out);
            out.push_str(node.function.name);
            out.push_str("(\n");
            for (at, arg) in node.args.iter().enumerate() {
                out.push_str(if at > 0 { ",\n" } else { "" });
                pretty(arg, level + 1, out);
            }
            close(level, out);
        }
        (Expr::Paren(node), None) => {
            indent(level, out);
            out.push_str("(\n");
            pretty(&node.expr, level + 1, out);
            close(level, out);
        }
    }
}

/// The expression on one line, if it has room there. One of many nodes is not printed to find out: each is
/// a letter at least.
fn line(expr: &Expr) -> Option<String> {
    let nodes = nodes_up_to(LINE_BYTES_MAX + 1, expr);
    if nodes > LINE_BYTES_MAX {
        return None;
    }
    Some(expr.to_string()).filter(|line| line.len() <= LINE_BYTES_MAX)
}

/// How many nodes the expression consists of, if these are fewer than `most`, and otherwise `most`.
fn nodes_up_to(most: usize, expr: &Expr) -> usize {
    let (mut left, mut seen) = (vec![expr], 0);
    while seen < most
        && let Some(next) = left.pop()
    {
        seen += 1;
        left.extend(next.children());
    }
    #[cfg(test)]
    tests::SEEN.with(|all| all.set(all.get() + seen));
    seen
}

fn aggregate(node: &Aggregate, level: usize, out: &mut String) {
    indent(level, out);
    push(Grouping(node), out);
    out.push_str("(\n");
    if let Some(param) = &node.param {
        pretty(param, level + 1, out);
        out.push_str(",\n");
    }
    pretty(&node.expr, level + 1, out);
    close(level, out);
}

fn binary(node: &Binary, level: usize, out: &mut String) {
    pretty(&node.lhs, level + 1, out);
    out.push('\n');
    indent(level, out);
    push(Operator(node), out);
    out.push('\n');
    pretty(&node.rhs, level + 1, out);
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn close(level: usize, out: &mut String) {
    out.push('\n');
    indent(level, out);
    out.push(')');
}

fn push(part: impl Display, out: &mut String) {
    write!(out, "{part}").expect("writing to a string can't fail");
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::{HEIGHT_MAX, Options, parse, with_room};
    use super::*;

    thread_local! {
        /// Nodes that this thread has looked at to find out what has room on a line.
        pub(super) static SEEN: Cell<usize> = const { Cell::new(0) };
    }

    /// Lays out a chain of `terms`; gives how many nodes were looked at for it.
    fn seen_in_chain(terms: u32) -> usize {
        let query = format!("a{}", " + a".repeat(terms as usize - 1));
        let expr = parse(&query, Options::ALL).unwrap();
        let work = || {
            let before = SEEN.get();
            (prettify(&expr), SEEN.get() - before)
        };
        let (text, seen) = with_room(terms, work).unwrap();
        assert!(text.len() > (terms as usize).pow(2));
        assert_eq!(parse(&text, Options::ALL).unwrap().to_string(), query);
        seen
    }

    #[test]
    fn a_chain_of_twice_the_length_takes_twice_the_looks() {
        let (half, whole) = (seen_in_chain(HEIGHT_MAX / 2), seen_in_chain(HEIGHT_MAX));
        assert!(half > HEIGHT_MAX as usize && whole < 2 * half + half / 4, "{half}, then {whole}");
    }
}
