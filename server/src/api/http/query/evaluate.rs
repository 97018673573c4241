//! `query`, `query_range` and their explanations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use engine::model::{Error, Matcher, Reservation};
use engine::promql::budget::Patience;
use engine::promql::json::text_bytes;
use engine::promql::pieces::Pieces;
use engine::promql::syntax::{self, Expr};
use engine::promql::{Context, Parsed, QueryResult, RangeSteps, When};
use serde_json::json;
use tokio::runtime::Handle;

use super::Api;
use super::backend::{Planned, Question, Scope};
use super::ending::{Ending, compute};
use super::json::{Completeness, analysis, plan, push_value_while};
use super::params::Params;
use super::respond::{Failure, OPENING, closed, success};
use super::timings::Slice;
use super::tree::{NAMED, made_of_query, narrow};
use crate::upkeep::now_ms;

/// Most steps of a range query.
const STEPS_MAX: i64 = 11_000;

/// A request that is understood.
pub(crate) struct Asked {
    /// The query as it was written.
    pub text: String,
    /// Its tree.
    pub expr: Expr,
    /// What the tenant's series must match, also those that the query finds without naming them.
    pub tenant: Option<Matcher>,
    /// When it is evaluated.
    pub when: When,
    /// How it wants its series.
    pub scope: Scope,
    /// Memory of the text and the tree, where they are long.
    pub held: Reservation,
}

pub(super) async fn instant(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let asked = asked(&api, &params, instant_when(&params)?).await?;
    answer(api, params, asked).await
}

pub(super) async fn range(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let when = range_when(&api, &params)?;
    if let When::Range(steps) = when {
        api.gate.range_asked(steps.end - steps.start);
    }
    let asked = asked(&api, &params, when).await?;
    answer(api, params, asked).await
}

pub(super) async fn explain_instant(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    check_engine(&params)?;
    let when = instant_when(&params)?;
    explain(api, params, when).await
}

pub(super) async fn explain_range(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    check_engine(&params)?;
    let when = range_when(&api, &params)?;
    explain(api, params, when).await
}

async fn explain(api: Arc<Api>, params: Params, when: When) -> Result<Response, Failure> {
    let wanted_ms = params.lookback()?;
    let asked = asked(&api, &params, when).await?;
    let runtime = Handle::current();
    let explained = compute(move |_| {
        let _held = &asked.held;
        syntax::with_room(syntax::height(&asked.expr), || -> Result<Response, Failure> {
            // Nobody is asked for anything.
            let (_entered, (ending, _caller)) = (runtime.enter(), Ending::at(Instant::now()));
            let lookback_ms = lookback(&api, wanted_ms, &asked.scope);
            let question = Question { expr: &asked.expr, when, lookback_ms };
            let Planned { left, .. } = api.backend.plan(question, &asked.scope, &ending);
            let expr = left.as_ref().map_or(&asked.expr, |left| &left.expr);
            let mut explained = api.engine.explain(expr, when)?;
            if let Some(left) = &left {
                left.explain(&mut explained);
            }
            Ok(success(&plan(&explained), &[]))
        })
    });
    explained.await?
}

/// Milliseconds that instant selectors look back for whoever wants `wanted_ms`, or says nothing with 0.
fn lookback(api: &Api, wanted_ms: i64, scope: &Scope) -> i64 {
    let by_default = || api.settings.lookback.ms(api.engine.options().lookback_ms, scope.max_resolution_ms);
    if wanted_ms > 0 { wanted_ms } else { by_default() }
}

/// One engine evaluates every query, whichever of Thanos' two is named.
fn check_engine(params: &Params) -> Result<(), Failure> {
    match params.first("engine") {
        "" | "prometheus" | "thanos" => Ok(()),
        other => Err(Failure::bad_data(format!("'{other}' bad engine"))),
    }
}

fn instant_when(params: &Params) -> Result<When, Failure> {
    Ok(When::Instant(params.time("time", now_ms())?))
}

fn range_when(api: &Api, params: &Params) -> Result<When, Failure> {
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(Failure::bad_data("invalid parameter \"end\": end timestamp must not be before start time"));
    }
    let length = end.saturating_sub(start);
    let seconds = (length / 1000 / 250).max(api.settings.default_step.as_secs() as i64);
    let step = params.duration("step", seconds * 1000)?;
    if step <= 0 {
        let text = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Failure::bad_data(format!("invalid parameter \"step\": {text}")));
    }
    if length / step > STEPS_MAX {
        return Err(Failure::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    Ok(When::Range(RangeSteps { start, end, step }))
}

async fn asked(api: &Api, params: &Params, when: When) -> Result<Asked, Failure> {
    let text = params.first("query").to_owned();
    let tenant = params.tenant_matcher(api)?;
    let own = tenant.clone();
    let narrowed = move |mut expr: Expr| {
        if let Some(tenant) = &own {
            narrow(&mut expr, tenant);
        }
        Ok(expr)
    };
    let expr = made_of_query(api, (params, NAMED), narrowed).await?;
    let held = api.parsing.hold(text.as_str())?;
    let auto_resolution_ms = match when {
        When::Instant(_) => api.settings.instant_resolution_ms,
        When::Range(steps) => steps.step / 5,
    };
    let scope = params.scope(api, auto_resolution_ms).await?;
    Ok(Asked { text, expr, tenant, when, scope, held })
}

async fn answer(api: Arc<Api>, params: Params, asked: Asked) -> Result<Response, Failure> {
    check_engine(&params)?;
    let limit = params.limit()?;
    let lookback_ms = params.lookback()?;
    let timeout_ms = params.duration("timeout", i64::MAX)?;
    let stats = params.first("stats").to_owned();
    let wants_analysis = matches!(params.first("analyze"), "true" | "1");
    let timeout = api.settings.timeout.min(Duration::from_millis(timeout_ms.max(0) as u64));
    let deadline = Instant::now() + timeout;
    let render = move |evaluated: Evaluated, patience: &Patience| {
        let result = &evaluated.result;
        result.memory.hold(text_bytes(&result.value))?;
        let mut text = Pieces::from(Vec::with_capacity(4096));
        text.last().extend_from_slice(OPENING);
        let completeness = push_value_while(&mut text, &result.value, limit, patience)?;
        let data = text.last();
        if !stats.is_empty() {
            data.extend_from_slice(format!(",\"stats\":{}", stats_json(&evaluated)).as_bytes());
        }
        data.extend_from_slice(b",\"analysis\":");
        if wants_analysis {
            data.extend_from_slice(analysis(&result.explained).to_string().as_bytes());
        } else {
            data.extend_from_slice(b"{}");
        }
        data.push(b'}');
        let QueryResult { mut warnings, infos, .. } = evaluated.result;
        if completeness == Completeness::Truncated {
            warnings.push("results truncated due to limit".to_owned());
        }
        Ok((text, warnings, infos))
    };
    let (text, warnings, infos) = evaluate(&api, asked, (deadline, lookback_ms), render).await?;
    Ok(closed(text, &warnings, &infos))
}

fn stats_json(evaluated: &Evaluated) -> serde_json::Value {
    let [queued, prepared, computed] =
        [evaluated.queued, evaluated.prepared, evaluated.computed].map(|time| time.as_secs_f64());
    let stats = &evaluated.result.stats;
    json!({
        "timings": {
            "evalTotalTime": prepared + computed,
            "resultSortTime": 0,
            "queryPreparationTime": prepared,
            "innerEvalTime": computed,
            "execQueueTime": queued,
            "execTotalTime": queued + prepared + computed,
        },
        "samples": {
            "totalQueryableSamples": stats.samples_queried,
            "peakSamples": stats.peak_samples,
        },
    })
}

/// The result of a query, and what it took.
pub(crate) struct Evaluated {
    /// The result.
    pub result: QueryResult,
    /// Waiting for its turn.
    queued: Duration,
    /// Planning.
    prepared: Duration,
    /// Reading and computing.
    computed: Duration,
}

/// Evaluates on a thread of its own, as a query computes and waits for sources, and makes of the result
/// there what `render` makes of it. When the caller goes away the query is told: what waits for endpoints
/// ends at once, what computes at its next batch.
pub(crate) async fn evaluate<T: Send + 'static>(
    api: &Arc<Api>,
    asked: Asked,
    (deadline, lookback_ms): (Instant, i64),
    render: impl FnOnce(Evaluated, &Patience) -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    let (ending, _caller) = Ending::at(deadline);
    let lookback_ms = lookback(api, lookback_ms, &asked.scope);
    let info_matchers = Vec::from_iter(asked.tenant.clone());
    let context = Context { patience: ending.patience(), lookback_ms: Some(lookback_ms), info_matchers };
    let turn = api.gate.enter(&asked.text, deadline).await?;
    context.patience.check()?;
    let shared = Arc::clone(api);
    let runtime = Handle::current();
    let work = move |asked: Asked, queued| {
        let (_entered, _held) = (runtime.enter(), asked.held);
        let metrics = &shared.gate.engine;
        let question = Question { expr: &asked.expr, when: asked.when, lookback_ms };
        let begin = Instant::now();
        let Planned { left, source } = shared.backend.plan(question, &asked.scope, &ending);
        let prepared = begin.elapsed();
        metrics.took(Slice::PrepareTime, prepared);
        let whole = Parsed { text: &asked.text, expr: &asked.expr };
        let result_of = |parsed, source| shared.engine.evaluate(parsed, asked.when, source, &context);
        let begin = Instant::now();
        let result = match &left {
            None => result_of(whole, source),
            Some(left) => match result_of(Parsed { expr: &left.expr, ..whole }, source) {
                Err(_) if left.others.gave_up() => result_of(whole, shared.backend.source(&asked.scope, &ending)),
                result => result.map(|result| left.complete(result)),
            },
        };
        let computed = begin.elapsed();
        metrics.took(Slice::InnerEval, computed);
        let result = result?;
        metrics.loaded(result.stats.samples_queried);
        if let When::Range(_) = asked.when {
            metrics.took(Slice::ResultSort, Duration::ZERO);
        }
        let evaluated = Evaluated { result, queued, prepared, computed };
        render(evaluated, &context.patience).map_err(Failure::from)
    };
    let running = turn.spend(move |queued| syntax::with_room(syntax::height(&asked.expr), move || work(asked, queued)));
    running.await.map_err(|error| error.within("the query failed"))??
}
