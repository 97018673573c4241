//! Work on syntax trees: printing, and narrowing to a tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use engine::model::matcher::Matcher;
use engine::model::{Allowance, Error};
use engine::promql::syntax::ast::Expr;
use engine::promql::syntax::{height, parse_within, prettify, to_json, with_room};
use serde_json::Value;

use super::Api;
use super::params::{Params, Told};
use super::respond::{Failure, enveloped, success};

pub(super) async fn format(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let text = made_of_query(&api, (&params, NAMED), |expr| with_room(height(&expr), || prettify(&expr))).await?;
    Ok(success(&Value::from(text), &[]))
}

pub(super) async fn parsed_tree(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let tree = made_of_query(&api, (&params, NAMED), |expr| with_room(height(&expr), || to_json(&expr))).await?;
    Ok(enveloped(&tree))
}

/// How a query that is not understood is told to most requests.
pub(super) const NAMED: Told = Told::Named("query");

/// What `make` makes of the query of a request, where that is parsed.
pub(super) async fn made_of_query<T: Send + 'static>(
    api: &Api,
    (params, told): (&Params, Told),
    make: impl FnOnce(Expr) -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    let options = api.syntax;
    let parse = move |text: &str, allowance: &mut Allowance| -> Result<T, Failure> {
        let expr = parse_within(text, options, allowance).map_err(|error| told.failure(error))?;
        Ok(make(expr)?)
    };
    api.parsing.parse(params.first("query"), &mut api.parsing.allowance(), parse).await
}

/// Gives every selector below `expr` the matcher `tenant` in place of its own for that label; but not the one that
/// says which labels `info` adds, whose series are found by what the query's context says.
pub(super) fn narrow(expr: &mut Expr, tenant: &Matcher) {
    let selector = match expr {
        Expr::Vector(selector) => Some(selector.as_mut()),
        Expr::Matrix(matrix) => Some(&mut matrix.selector),
        _ => None,
    };
    if let Some(selector) = selector {
        narrow_matchers(&mut selector.matchers, tenant);
    }
    match expr {
        Expr::Aggregate(aggregate) => {
            narrow(&mut aggregate.expr, tenant);
            aggregate.param.iter_mut().for_each(|param| narrow(param, tenant));
        }
        Expr::Binary(binary) => {
            narrow(&mut binary.lhs, tenant);
            narrow(&mut binary.rhs, tenant);
        }
        Expr::Call(call) => {
            let written = if call.function.name == "info" { 1 } else { call.args.len() };
            call.args.iter_mut().take(written).for_each(|argument| narrow(argument, tenant));
        }
        Expr::Subquery(subquery) => narrow(&mut subquery.expr, tenant),
        Expr::Paren(paren) => narrow(&mut paren.expr, tenant),
        Expr::Unary(unary) => narrow(&mut unary.expr, tenant),
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => {}
    }
}

/// The matchers of every selector of `expr`.
pub(crate) fn selectors_of(expr: &Expr) -> Vec<Vec<Matcher>> {
    match expr {
        Expr::Vector(selector) => vec![selector.matchers.clone()],
        Expr::Matrix(matrix) => vec![matrix.selector.matchers.clone()],
        other => other.children().into_iter().flat_map(selectors_of).collect(),
    }
}

/// Puts the matcher `tenant` in the place of those for its label.
pub(super) fn narrow_matchers(matchers: &mut Vec<Matcher>, tenant: &Matcher) {
    matchers.retain(|matcher| matcher.name() != tenant.name());
    matchers.push(tenant.clone());
}

#[cfg(test)]
mod tests {
    use engine::promql::syntax::parse;

    use super::*;

    #[test]
    fn selectors_are_found_wherever_they_are() {
        let query = "sum(rate(a{b=\"c\"}[5m])) / max_over_time(d[1h:1m]) + quantile(scalar(e), f)";
        let expr = parse(query, engine::promql::syntax::Options::default()).unwrap();
        let names = selectors_of(&expr);
        assert_eq!(names.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
    }

    #[test]
    fn every_selector_is_narrowed_and_another_tenant_is_replaced() {
        let query = "sum(rate(a{tenant=\"b\"}[5m])) / on () max_over_time(c[1h:1m]) + -(d)";
        let mut expr = parse(query, engine::promql::syntax::Options::default()).unwrap();
        narrow(&mut expr, &Matcher::equal("tenant", "a"));
        let narrowed = expr.to_string();
        assert_eq!(narrowed.matches("tenant=\"a\"").count(), 3, "{narrowed}");
        assert_eq!(narrowed.matches("tenant=").count(), 3, "{narrowed}");
    }
}
