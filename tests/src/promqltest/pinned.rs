//! The same query with its time pinned by `@`, so that it gives the same whenever it is asked.

use engine::promql::syntax::ast::{At, Expr, VectorSelector};

/// Functions whose result depends on the time they are evaluated at, whatever their arguments.
const TIME_DEPENDENT: [&str; 14] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
];

/// Times at which the pinned form of a query that was asked at `time` is asked.
pub fn other_times(time: i64) -> [i64; 5] {
    if time == 0 { [-1000, 0, 1000, 0, 0] } else { [-10 * time, 0, time / 5, time, 10 * time] }
}

/// `expr` with every selector and subquery that says no time pinned to `time` (Unix milliseconds);
/// `None` where that does not fix its result.
pub fn pin(mut expr: Expr, time: i64) -> Option<Expr> {
    walk(&mut expr, time).then_some(expr)
}

fn walk(expr: &mut Expr, time: i64) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(selector) => pin_selector(selector, time),
        Expr::Matrix(matrix) => pin_selector(&mut matrix.selector, time),
        // What is inside of a subquery is pinned with it.
        Expr::Subquery(subquery) => {
            subquery.at.get_or_insert(At::Time(time));
            true
        }
        Expr::Paren(paren) => walk(&mut paren.expr, time),
        Expr::Unary(unary) => walk(&mut unary.expr, time),
        Expr::Binary(binary) => walk(&mut binary.lhs, time) && walk(&mut binary.rhs, time),
        Expr::Aggregate(aggregate) => {
            aggregate.param.as_mut().is_none_or(|param| walk(param, time)) && walk(&mut aggregate.expr, time)
        }
        Expr::Call(call) => {
            let name = call.function.name;
            let depends = TIME_DEPENDENT.contains(&name) || name == "timestamp";
            !depends && call.args.iter_mut().all(|argument| walk(argument, time))
        }
    }
}

fn pin_selector(selector: &mut VectorSelector, time: i64) -> bool {
    selector.at.get_or_insert(At::Time(time));
    true
}
