//! Trees to text over several lines, as Prometheus formats queries.

use super::ast::{Aggregate, Binary, Expr};
use super::print::{Grouping, Operator, SubqueryTimes};

/// What is longer is split over lines.
const LINE_BYTES_MAX: usize = 100;

/// The expression as Prometheus' `format_query` lays it out.
pub fn prettify(expr: &Expr) -> String {
    pretty(expr, 0)
}

fn pretty(expr: &Expr, level: usize) -> String {
    let indent = "  ".repeat(level);
    let line = expr.to_string();
    let fits = line.len() <= LINE_BYTES_MAX;
    match expr {
        Expr::Unary(node) => format!("{indent}{}{}", node.op.as_str(), pretty(&node.expr, level).trim()),
        Expr::Subquery(_) if fits => line,
        Expr::Subquery(node) => format!("{}{}", pretty(&node.expr, level), SubqueryTimes(node)),
        Expr::Matrix(_) | Expr::Number(_) | Expr::String(_) | Expr::Vector(_) => indent + &line,
        _ if fits => indent + &line,
        Expr::Aggregate(node) => aggregate(node, level),
        Expr::Binary(node) => binary(node, level),
        Expr::Call(node) => {
            let args: Vec<String> = node.args.iter().map(|arg| pretty(arg, level + 1)).collect();
            format!("{indent}{}(\n{}\n{indent})", node.function.name, args.join(",\n"))
        }
        Expr::Paren(node) => format!("{indent}(\n{}\n{indent})", pretty(&node.expr, level + 1)),
    }
}

fn aggregate(node: &Aggregate, level: usize) -> String {
    let indent = "  ".repeat(level);
    let param = node.param.as_ref().map_or_else(String::new, |param| format!("{},\n", pretty(param, level + 1)));
    format!("{indent}{}(\n{param}{}\n{indent})", Grouping(node), pretty(&node.expr, level + 1))
}

fn binary(node: &Binary, level: usize) -> String {
    let indent = "  ".repeat(level);
    format!("{}\n{indent}{}\n{}", pretty(&node.lhs, level + 1), Operator(node), pretty(&node.rhs, level + 1))
}
