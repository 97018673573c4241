//! `info(v, selector)`: labels of info series added to the series that they describe.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::batch::{StepGrid, bitmap};
use crate::model::labels::METRIC_NAME;
use crate::model::matcher::{MatchKind, Matcher};
use crate::model::{Error, LabelsBuilder, TimeRange};

use super::super::plan::{Extension, InfoTime, Node, Select};
use super::super::source::Hints;
use super::super::value::{Matrix, RowLabels};
use super::group::Merged;
use super::stepwise::Stepwise;
use super::{Evaluator, selector};

/// Labels that tell which info series belong to a series.
const IDENTIFYING: [&str; 2] = ["instance", "job"];
/// The info metric that is meant when none is named.
const TARGET_INFO: &str = "target_info";

/// The rows of the first argument, with labels of their info series.
pub fn eval(
    eval: &Evaluator<'_>,
    input: &Node,
    (matchers, time): (Option<&[Matcher]>, InfoTime),
) -> Result<Matrix, Error> {
    let rows = eval.eval(input)?;
    let wanted = Wanted::new(matchers)?;
    let ignored: Vec<bool> = rows
        .rows
        .iter()
        .map(|row| wanted.names.iter().all(|matcher| matcher.matches(row.labels.metric_name())))
        .collect();
    let infos = fetch(eval, &rows, &ignored, &wanted, time)?;
    let mut join = Join { eval, rows: &rows, wanted: &wanted, infos: &infos, out: Merged::new(eval.count()) };
    for (row, ignored) in ignored.iter().enumerate() {
        if *ignored {
            join.out.add(&rows.rows[row], &rows, row)?;
        } else {
            join.enrich(row)?;
        }
    }
    let out = join.out.rows;
    let mut work = Stepwise::new(eval, 0);
    work.take(&rows);
    work.take(&infos.rows);
    work.give(&out);
    work.pass(eval)?;
    Ok(out)
}

/// What the second argument asks for.
struct Wanted {
    /// Matchers of the info metric's name.
    names: Vec<Matcher>,
    /// Matchers of the labels that are taken; empty when all are.
    labels: Vec<Matcher>,
}

impl Wanted {
    fn new(matchers: Option<&[Matcher]>) -> Result<Self, Error> {
        let all = matchers.unwrap_or_default();
        let (mut names, labels): (Vec<Matcher>, Vec<Matcher>) =
            all.iter().cloned().partition(|matcher| matcher.name() == METRIC_NAME);
        let positive = names.iter().any(|matcher| matches!(matcher.kind(), MatchKind::Eq | MatchKind::Re));
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if !positive {
            names.insert(0, Matcher::new(MatchKind::Re, METRIC_NAME, ".+_info")?);
        }
        Ok(Self { names, labels })
    }

    fn takes(&self, label: &str) -> bool {
        self.labels.is_empty() || self.labels.iter().any(|matcher| matcher.name() == label)
    }
}

/// Info series: values are the times of their samples in milliseconds.
struct Infos {
    rows: Matrix,
    /// Rows by metric name and identifying labels.
    by_identity: HashMap<(String, [String; 2]), Vec<usize>>,
    /// Metric names, ascending.
    metrics: BTreeSet<String>,
}

fn identity(row: &RowLabels) -> [String; 2] {
    IDENTIFYING.map(|name| row.labels.get(name).unwrap_or("").to_owned())
}

fn fetch(
    eval: &Evaluator<'_>,
    rows: &Matrix,
    ignored: &[bool],
    wanted: &Wanted,
    time: InfoTime,
) -> Result<Infos, Error> {
    let mut infos = Infos { rows: Matrix::new(eval.count()), by_identity: HashMap::new(), metrics: BTreeSet::new() };
    if eval.count() == 0 {
        return Ok(infos);
    }
    let reference = eval.steps.shifted(time.offset, time.at);
    let times = TimeRange::new(reference.start - eval.query.lookback + 1, reference.end());
    for identifying in identifying_matchers(rows, ignored)? {
        let asked = wanted.labels.iter().chain(&wanted.names).chain(&eval.query.info_matchers);
        let matchers: Vec<Matcher> = identifying.into_iter().chain(asked.cloned()).collect();
        let select = Select {
            matchers,
            offset: time.offset,
            at: time.at,
            times,
            extension: Extension::None,
            hints: Hints { function: "info".to_owned(), step_ms: eval.steps.interval, ..Hints::default() },
            text: String::new(),
            position: 0,
        };
        fetch_set(eval, (&select, &reference), &mut infos)?;
    }
    for (row, labels) in infos.rows.rows.iter().enumerate() {
        let name = labels.labels.metric_name().to_owned();
        infos.metrics.insert(name.clone());
        infos.by_identity.entry((name, identity(labels))).or_default().push(row);
    }
    Ok(infos)
}

/// Appends the series of `select` with the times of their samples at the steps of `reference`.
fn fetch_set(eval: &Evaluator<'_>, (select, reference): (&Select, &StepGrid), infos: &mut Infos) -> Result<(), Error> {
    let lookback = eval.query.lookback;
    let mut picks = Vec::new();
    selector::fetch(eval, select, select.times, &mut |batch| {
        let mut queried = 0;
        for series in batch.iter() {
            crate::batch::align::latest(reference, lookback, series.timestamps, &mut picks);
            let row = infos.rows.push_row(RowLabels::plain(Arc::clone(series.labels)));
            let (values, valid) = infos.rows.cells.row_mut(row);
            crate::batch::align::gather(&picks, series.values, values, valid);
            for step in bitmap::ones(valid) {
                values[step] = series.timestamps[picks[step] as usize] as f64;
            }
            queried += bitmap::count(valid);
            if !bitmap::any(valid) {
                infos.rows.rows.pop();
                infos.rows.cells.pop_row();
            }
            crate::batch::align::latest(reference, lookback, series.histogram_timestamps, &mut picks);
            if picks.iter().any(|pick| *pick != crate::batch::align::NONE) {
                let labels = series.labels;
                return Err(Error::invalid(format!("this should be an info metric, with float samples: {labels}")));
            }
        }
        eval.count_queried(queried);
        eval.account.hold_samples(queried)
    })
}

/// Matchers that find the info series of all rows: one set for each combination of identifying
/// labels that rows have.
fn identifying_matchers(rows: &Matrix, ignored: &[bool]) -> Result<Vec<Vec<Matcher>>, Error> {
    let mut sets: BTreeMap<[bool; 2], [BTreeSet<&str>; 2]> = BTreeMap::new();
    for (row, _) in rows.rows.iter().zip(ignored).filter(|(_, ignored)| !**ignored) {
        let values = IDENTIFYING.map(|name| row.labels.get(name).unwrap_or(""));
        let has = values.map(|value| !value.is_empty());
        if has == [false; 2] {
            continue;
        }
        let set = sets.entry(has).or_default();
        for (known, value) in set.iter_mut().zip(values) {
            known.insert(value);
        }
    }
    let matcher = |name: &str, has: bool, values: &BTreeSet<&str>| {
        if !has {
            return Ok(Matcher::equal(name, ""));
        }
        let pattern: Vec<String> = values.iter().map(|value| quote(value)).collect();
        Matcher::new(MatchKind::Re, name, pattern.join("|"))
    };
    let set_matchers = |(has, values): (&[bool; 2], &[BTreeSet<&str>; 2])| {
        (0..2).map(|at| matcher(IDENTIFYING[at], has[at], &values[at])).collect::<Result<Vec<_>, Error>>()
    };
    sets.iter().map(set_matchers).collect()
}

/// `text` as a pattern that matches nothing else.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if r"\.+*?()|[]{}^$".contains(char) {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

struct Join<'a> {
    eval: &'a Evaluator<'a>,
    rows: &'a Matrix,
    wanted: &'a Wanted,
    infos: &'a Infos,
    out: Merged,
}

impl Join<'_> {
    /// Adds a row with the labels of its info series, which may differ from step to step.
    fn enrich(&mut self, row: usize) -> Result<(), Error> {
        let labels = &self.rows.rows[row];
        let own = identity(labels);
        let mut steps_of: BTreeMap<Vec<usize>, Vec<u64>> = BTreeMap::new();
        let present = self.rows.cells.present(row);
        for step in bitmap::ones(&present) {
            let mut chosen = Vec::new();
            for metric in &self.infos.metrics {
                let candidates = self.infos.by_identity.get(&(metric.clone(), own.clone()));
                chosen.extend(self.newest(candidates.map_or(&[], Vec::as_slice), step)?);
            }
            bitmap::set(steps_of.entry(chosen).or_insert_with(|| vec![0; present.len()]), step);
        }
        for (chosen, steps) in steps_of {
            if let Some(enriched) = self.enriched(labels, &chosen)? {
                let mut part = Matrix::new(self.eval.count());
                let mut valid = self.rows.cells.valid(row).to_vec();
                bitmap::intersect(&mut valid, &steps);
                let histograms = self.rows.cells.histograms(row).iter();
                let histograms: Vec<_> =
                    histograms.filter(|(step, _)| bitmap::get(&steps, *step as usize)).cloned().collect();
                part.rows.push(enriched.clone());
                part.cells.push_parts(self.rows.cells.values(row), &valid, &histograms);
                self.out.add(&enriched, &part, 0)?;
            }
        }
        Ok(())
    }

    /// The info series of `candidates` with the newest sample at `step`.
    fn newest(&self, candidates: &[usize], step: usize) -> Result<Option<usize>, Error> {
        let cells = &self.infos.rows.cells;
        let mut best: Option<(usize, f64)> = None;
        for row in candidates.iter().filter(|row| bitmap::get(cells.valid(**row), step)) {
            let time = cells.values(*row)[step];
            match best {
                Some((other, known)) if known == time => {
                    let label = |row: usize| &self.infos.rows.rows[row].labels;
                    return Err(Error::invalid(format!(
                        "found duplicate series for info metric: existing {} @ {known}, new {} @ {time}",
                        label(other),
                        label(*row)
                    )));
                }
                Some((_, known)) if known > time => {}
                _ => best = Some((*row, time)),
            }
        }
        Ok(best.map(|(row, _)| row))
    }

    /// Labels with those of info series added; `None` when the row is to be left out.
    fn enriched(&self, base: &RowLabels, chosen: &[usize]) -> Result<Option<RowLabels>, Error> {
        if chosen.is_empty() && !self.wanted.labels.iter().all(|matcher| matcher.matches("")) {
            return Ok(None);
        }
        let mut added = LabelsBuilder::default();
        for info in chosen {
            for (name, value) in self.infos.rows.rows[*info].labels.iter() {
                if name == METRIC_NAME || !self.wanted.takes(name) {
                    continue;
                }
                if added.get(name).is_some_and(|known| known != value) {
                    return Err(Error::invalid(format!("conflicting label: {name}")));
                }
                if base.labels.get(name).is_none() {
                    added.set(name, value);
                }
            }
        }
        let mut all = LabelsBuilder::from_labels(&base.labels);
        for (name, value) in added.build().iter() {
            all.set(name, value);
        }
        Ok(Some(RowLabels { labels: Arc::new(all.build()), drop_name: base.drop_name }))
    }
}
