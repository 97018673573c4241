//! Several sides asked the same, in turn and often: least and median of each figure, and ratios.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

/// Figures of one side for one question, one of each run.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// Time until the answer was whole.
    pub wall: Vec<Duration>,
    /// CPU time of the process.
    pub cpu: Vec<Duration>,
    /// Most resident memory of the process in bytes.
    pub peak_bytes: Vec<u64>,
}

/// Least and median of a figure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle, or the mean of the two there.
    pub median: f64,
}

impl Spread {
    /// Of at least one figure; zeros of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |at: usize| sorted.get(at).copied().unwrap_or_default();
        let (below, above) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        Self { min: at(0), median: f64::midpoint(at(below), at(above)) }
    }
}

impl Runs {
    /// Adds a run.
    pub fn push(&mut self, wall: Duration, cpu: Duration, peak_bytes: u64) {
        self.wall.push(wall);
        self.cpu.push(cpu);
        self.peak_bytes.push(peak_bytes);
    }

    /// Milliseconds until the answer was whole.
    pub fn wall_ms(&self) -> Spread {
        Spread::of(self.wall.iter().map(|wall| wall.as_secs_f64() * 1e3))
    }

    /// Milliseconds of CPU.
    pub fn cpu_ms(&self) -> Spread {
        Spread::of(self.cpu.iter().map(|cpu| cpu.as_secs_f64() * 1e3))
    }

    /// Whether there was a process whose CPU and memory could be counted.
    pub fn are_counted(&self) -> bool {
        self.peak_bytes.iter().any(|bytes| *bytes > 0)
    }

    /// The most memory of all runs in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.peak_bytes.iter().max().copied().unwrap_or_default() as f64 / f64::from(1 << 20)
    }
}

/// One question and the figures of each side, the first of which the others are held against.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was asked.
    pub question: String,
    /// What the answer holds, in words.
    pub answer: String,
    /// Names of sides and their figures.
    pub sides: Vec<(String, Runs)>,
}

/// Asks every side in turn, `rounds` times; who is first changes from round to round.
pub fn interleave<S>(
    sides: &mut [S],
    rounds: usize,
    mut ask: impl FnMut(&mut S) -> Result<(Duration, Duration, u64), String>,
) -> Result<Vec<Runs>, String> {
    let mut runs = vec![Runs::default(); sides.len()];
    for round in 0..rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let (wall, cpu, peak_bytes) = ask(&mut sides[at])?;
            runs[at].push(wall, cpu, peak_bytes);
        }
    }
    Ok(runs)
}

/// Those of `questions` whose names contain one of `only`, or all. Refuses a choice of none.
pub fn chosen<Q>(mut questions: Vec<Q>, name: impl Fn(&Q) -> &str, only: &[String]) -> Result<Vec<Q>, String> {
    let all: Vec<String> = questions.iter().map(|question| name(question).to_owned()).collect();
    questions.retain(|question| only.is_empty() || only.iter().any(|part| name(question).contains(part.as_str())));
    if questions.is_empty() {
        return Err(format!("--only {}: there is no such question among: {}", only.join(", "), all.join("; ")));
    }
    Ok(questions)
}

/// Refuses rows of which every answer is empty: what was timed is then the answering of nothing.
pub fn check_answers(rows: &[Row]) -> Result<(), String> {
    if rows.iter().all(|row| row.answer.starts_with("0 ")) {
        return Err("every answer is empty: the data holds nothing between --start and --end".into());
    }
    Ok(())
}

/// The rows as a table for people: medians, and how many times the first side's the others' are.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        ["question", "answer", "side", "min ms", "median ms", "CPU ms", "peak MiB", "ratios"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for row in rows {
        for (at, (name, runs)) in row.sides.iter().enumerate() {
            let (wall, cpu) = (runs.wall_ms(), runs.cpu_ms());
            let ratios = match row.sides.first() {
                Some((_, first)) if at > 0 => ratios(first, runs),
                _ => String::new(),
            };
            let figure = |figure: f64| format!("{figure:.2}");
            let once = |text: &str| if at == 0 { text.to_owned() } else { String::new() };
            let (min, median) = (figure(wall.min), figure(wall.median));
            let counted = |text: String| if runs.are_counted() { text } else { "-".to_owned() };
            let (cpu, peak) = (counted(figure(cpu.median)), counted(format!("{:.0}", runs.peak_mib())));
            lines.push(vec![once(&row.question), once(&row.answer), name.clone(), min, median, cpu, peak, ratios]);
        }
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut cells = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let is_number = (3..7).contains(&column);
            // Writing to a string does not fail.
            let _ = if is_number { write!(cells, "{cell:>width$}  ") } else { write!(cells, "{cell:<width$}  ") };
        }
        text.push_str(cells.trim_end());
        text.push('\n');
    }
    text
}

fn ratios(first: &Runs, other: &Runs) -> String {
    let times = |ours: f64, theirs: f64| {
        if ours.min(theirs) > 0.0 { format!("{:.1}x", theirs / ours) } else { "-".to_owned() }
    };
    let wall = times(first.wall_ms().median, other.wall_ms().median);
    let cpu = times(first.cpu_ms().median, other.cpu_ms().median);
    format!("{wall} time, {cpu} CPU, {} memory", times(first.peak_mib(), other.peak_mib()))
}

/// The rows for programs: one JSON object for each question and side.
pub fn lines(rows: &[Row]) -> Vec<Value> {
    let line = |row: &Row, (name, runs): &(String, Runs)| {
        let (wall, cpu) = (runs.wall_ms(), runs.cpu_ms());
        let mut line = json!({
            "question": row.question, "answer": row.answer, "side": name, "runs": runs.wall.len(),
            "wall_ms": {"min": wall.min, "median": wall.median},
        });
        if runs.are_counted() {
            line["cpu_ms"] = json!({"min": cpu.min, "median": cpu.median});
            line["peak_mib"] = json!(runs.peak_mib());
        }
        line
    };
    rows.iter().flat_map(|row| row.sides.iter().map(move |side| line(row, side))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_and_are_held_against_the_first() {
        let mut order = Vec::new();
        let mut sides = [1u64, 10];
        let runs = interleave(&mut sides, 3, |side| {
            order.push(*side);
            Ok((Duration::from_millis(*side), Duration::from_millis(2 * *side), *side << 20))
        });
        let runs = runs.unwrap();
        assert_eq!(order, [1, 10, 10, 1, 1, 10]);
        assert_eq!(runs[1].wall_ms(), Spread { min: 10.0, median: 10.0 });
        let sides = ["uru", "peer"].iter().map(|name| (*name).to_owned()).zip(runs).collect();
        let rows = [Row { question: "all".into(), answer: "5 series".into(), sides }];
        let text = table(&rows);
        assert!(
            text.ends_with("peer   10.00      10.00   20.00        10  10.0x time, 10.0x CPU, 10.0x memory\n"),
            "{text}"
        );
        assert_eq!(lines(&rows).len(), 2);
        assert_eq!(Spread::of([4.0, 1.0, 9.0, 2.0]), Spread { min: 1.0, median: 3.0 });
    }

    #[test]
    fn what_could_not_be_counted_is_not_told() {
        let runs = |peak_bytes: u64| {
            let mut runs = Runs::default();
            runs.push(Duration::from_millis(2), Duration::from_millis(peak_bytes), peak_bytes);
            runs
        };
        let sides = vec![("uru".to_owned(), runs(1 << 20)), ("peer".to_owned(), runs(0))];
        let rows = [Row { question: "all".into(), answer: "5 series".into(), sides }];
        let text = table(&rows);
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last.join(" "), "peer 2.00 2.00 - - 1.0x time, - CPU, - memory");
        let lines = lines(&rows);
        assert!(lines[0].get("cpu_ms").is_some() && lines[1].get("cpu_ms").is_none());
        assert_eq!((lines[0]["peak_mib"].as_f64(), lines[1].get("peak_mib")), (Some(1.0), None));
    }

    #[test]
    fn choices_of_no_question_and_empty_answers_are_refused() {
        let only = |part: &str| chosen(vec!["one", "two"], |name| name, &[part.to_owned()]);
        assert_eq!(only("w").unwrap(), ["two"]);
        assert!(only("x").unwrap_err().contains("one; two"));
        let row = |answer: &str| Row { question: "q".into(), answer: answer.into(), sides: Vec::new() };
        assert!(check_answers(&[row("0 items, 0.00 MiB")]).is_err());
        assert!(check_answers(&[row("0 series, 0 samples"), row("10 items")]).is_ok());
    }
}
