//! Rows as a table, as comma-separated and as tab-separated values; sorted as Thanos sorts them.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::cli::TimeOrDuration;
use crate::cli::parse::{parse_duration, parse_time};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Columns of equal width between bars.
    Table,
    /// Separated by commas.
    Csv,
    /// Separated by tabs.
    Tsv,
}

impl Layout {
    /// The layout that `--output` names.
    pub fn parse(word: &str) -> Self {
        match word {
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            _ => Self::Table,
        }
    }
}

/// A header and rows of as many cells.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names of the columns.
    pub header: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Sorts the rows by `columns`, of which each is in the header, then by the first one.
    pub fn sort(&mut self, columns: &[String]) {
        let place = |name: &String| self.header.iter().position(|column| column == name);
        let mut places: Vec<usize> =
            columns.iter().map(|name| place(name).expect("rows are sorted by columns that there are")).collect();
        places.push(0);
        self.rows.sort_by(|left, right| {
            let orders = places.iter().map(|at| compare(&left[*at], &right[*at]));
            orders.fold(Ordering::Equal, Ordering::then)
        });
    }

    /// The text of all rows.
    pub fn to_text(&self, layout: Layout) -> String {
        match layout {
            Layout::Table => self.to_columns(),
            Layout::Csv => self.to_separated(','),
            Layout::Tsv => self.to_separated('\t'),
        }
    }

    fn to_columns(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.header[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = String>| {
            cells.for_each(|cell| text.push_str(&format!("|{cell}")));
            text.push_str("|\n");
        };
        line(&mut self.header.iter().zip(&widths).map(|(name, width)| format!(" {name:^width$} ")));
        line(&mut widths.iter().map(|width| "-".repeat(width + 2)));
        for row in &self.rows {
            line(&mut row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} ")));
        }
        text
    }

    fn to_separated(&self, separator: char) -> String {
        let mut text = String::new();
        let header: Vec<String> = self.header.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            for (at, cell) in row.iter().enumerate() {
                if at > 0 {
                    text.push(separator);
                }
                let is_plain = !cell.contains([separator, '"', '\r', '\n']) && !cell.starts_with(' ');
                // Writing to a string can't fail.
                let _ =
                    if is_plain { write!(text, "{cell}") } else { write!(text, "\"{}\"", cell.replace('"', "\"\"")) };
            }
            text.push('\n');
        }
        text
    }
}

/// Cells are times, durations, numbers with commas, or text.
fn compare(left: &str, right: &str) -> Ordering {
    fn both<T>(left: &str, right: &str, read: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
        Some((read(left)?, read(right)?))
    }
    let time = |text: &str| match parse_time(text) {
        Ok(TimeOrDuration::At(ms)) => Some(ms),
        _ => None,
    };
    let length = |text: &str| {
        let (sign, rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
        parse_duration(rest).ok().map(|duration| sign * duration.as_secs_f64())
    };
    let number = |text: &str| text.replace(',', "").parse::<u64>().ok();
    if let Some((left, right)) = both(left, right, time) {
        return left.cmp(&right);
    }
    if let Some((left, right)) = both(left, right, length) {
        return left.total_cmp(&right);
    }
    both(left, right, number).map_or_else(|| left.cmp(right), |(left, right)| left.cmp(&right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = vec![row(["B", "10h0m0s", "1,000"]), row(["C", "9h0m0s", "20"]), row(["A", "9h0m0s", "a,\"b\""])];
        Table { header: vec!["ID", "RANGE", "#N"], rows }
    }

    #[test]
    fn rows_are_sorted_by_what_their_cells_mean() {
        let mut table = table();
        table.sort(&["RANGE".into()]);
        assert_eq!(table.rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["A", "C", "B"]);
        assert_eq!(compare("1,000", "20"), Ordering::Greater);
        assert_eq!(compare("-1h0m0s", "5m0s"), Ordering::Less);
    }

    #[test]
    fn each_layout_is_that_of_thanos() {
        let text = table().to_text(Layout::Table);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "| ID |  RANGE  |  #N   |");
        assert_eq!(lines[1], "|----|---------|-------|");
        assert_eq!(lines[2], "| B  | 10h0m0s | 1,000 |");
        assert_eq!(table().to_text(Layout::Csv).lines().nth(3).unwrap(), "A,9h0m0s,\"a,\"\"b\"\"\"");
        assert_eq!(table().to_text(Layout::Tsv).lines().nth(1).unwrap(), "B\t10h0m0s\t1,000");
    }
}
