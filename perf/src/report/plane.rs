//! What the report measures: four measurements, each over data of several sizes, and which of its figures
//! become plots and columns.

use super::plot::{Line, Plot};
use super::record::Record;

/// A figure that is shown.
pub struct Shown {
    /// What it is called.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Where it stands in a line of figures.
    pub pointer: &'static str,
}

/// A measurement.
pub struct Plane {
    /// Its subcommand.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What is done, on which data, and what is checked.
    pub text: &'static str,
    /// Which data it needs.
    pub data: Data,
    /// Questions by which growth is shown, by their whole names.
    pub growth: &'static [&'static str],
    /// Flag that narrows to a question; empty where all are always asked.
    pub only: &'static str,
    /// Peers that it knows.
    pub peers: &'static [&'static str],
    /// What is plotted over the number of series.
    pub plots: &'static [Shown],
    /// Columns of its own in the table.
    pub columns: &'static [Shown],
}

/// What a measurement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// A bucket of blocks, given with this flag.
    Blocks {
        /// The flag.
        flag: &'static str,
        /// Number of blocks of two hours.
        count: usize,
        /// External labels, as `name=value`; empty for none.
        label: &'static str,
    },
    /// Nothing: it makes requests itself, of so many series.
    Requests,
}

const TIME: Shown = Shown { title: "time", unit: "ms", pointer: "/wall_ms/median" };
const CPU: Shown = Shown { title: "CPU", unit: "ms", pointer: "/cpu_ms/median" };
const MEMORY: Shown = Shown { title: "memory at most", unit: "MiB", pointer: "/peak_mib" };

/// All measurements.
pub const PLANES: [Plane; 4] = [
    Plane {
        name: "store",
        title: "Store gateway",
        text: "StoreAPI on loopback over one block of two hours. Before timing every side is asked once, and its \
               answer must hold the same series, chunks and samples, byte for byte, as uru's; then each question is \
               warmed up for half a second on each side, so that pages are in the system's cache and caches of the \
               programs are warm. The side called copy sends the answer's bytes from memory through the same stack: \
               no store can be faster.",
        data: Data::Blocks { flag: "--bucket", count: 1, label: "cluster=c1" },
        growth: &["everything", "everything, no chunks", "metric, all pods"],
        only: "--only",
        peers: &["thanos"],
        plots: &[TIME, CPU, MEMORY],
        columns: &[],
    },
    Plane {
        name: "query",
        title: "Queries",
        text: "PromQL over HTTP on loopback over one block of two hours: uru all-in-one, Thanos' querier before its \
               store gateway (both processes count), Prometheus over the same block as its own, VictoriaMetrics over \
               what vmctl imported of it, without its cache of answers. Before timing every \
               side is asked once, which warms it up, and answers are held against uru's: the same series and times, \
               and values that differ by no more than 1e-9 of them. Where a peer answers otherwise the answer says \
               so: before version 3 Prometheus' windows include their start, and VictoriaMetrics has a language of \
               its own.",
        data: Data::Blocks { flag: "--blocks", count: 1, label: "" },
        growth: &["range_sum_rate", "range_p99_by_ns", "range_raw_metric"],
        only: "--only",
        peers: &["thanos", "prometheus", "victoria-metrics"],
        plots: &[TIME, CPU, MEMORY],
        columns: &[],
    },
    Plane {
        name: "receive",
        title: "Ingestion",
        text: "Remote write 1 on loopback over four connections, 2,000 series a request, encoded before the clock \
               starts. Every series is sent once as a warm-up; then rounds of the series that are there, then rounds \
               of as many that never were. Afterwards every side must count as many samples as were sent. Receivers that \
               have taken the first rounds are killed and started again, which replays their logs, and ended and \
               started again, which reads a snapshot where there is one. uru \
               acknowledges when samples are on disk; Thanos and Prometheus when the system has them; \
               VictoriaMetrics when they are in memory.",
        data: Data::Requests,
        growth: &["steady series", "new series", "start after a kill", "start after an end"],
        only: "",
        peers: &["thanos", "prometheus", "victoria-metrics"],
        plots: &[
            Shown { title: "samples a second", unit: "1/s", pointer: "/samples_per_second/median" },
            Shown { title: "CPU of a million samples", unit: "s", pointer: "/cpu_seconds_per_million" },
            MEMORY,
        ],
        columns: &[
            Shown { title: "samples/s", unit: "", pointer: "/samples_per_second/median" },
            Shown { title: "CPU s a million", unit: "", pointer: "/cpu_seconds_per_million" },
            Shown { title: "p99 ms", unit: "", pointer: "/p99_ms" },
            Shown { title: "bytes a series", unit: "", pointer: "/bytes_a_series" },
        ],
    },
    Plane {
        name: "compact",
        title: "Compaction",
        text: "Eight consecutive blocks of two hours in a folder, compacted once by a process that starts with \
               nothing; each side works on a copy of its own, which was just written and is in the system's cache. \
               The answer tells what the bucket held before and after: the number of samples must be the same. The \
               side called plain copy copies the bucket's files: no compactor can be faster.",
        data: Data::Blocks { flag: "--bucket", count: 8, label: "cluster=c1" },
        growth: &["compact"],
        only: "",
        peers: &["thanos"],
        plots: &[TIME, CPU, MEMORY],
        columns: &[],
    },
];

impl Plane {
    /// A plot for each growth question and figure, with a line for each side.
    pub fn drawn(&self, records: &[Record]) -> Vec<Plot> {
        let mut plots = Vec::new();
        for question in self.growth {
            for shown in self.plots {
                plots.push(Plot {
                    title: format!("{question}: {}", shown.title),
                    x: "series",
                    y: shown.unit,
                    lines: lines(question, shown.pointer, records),
                });
            }
        }
        plots
    }
}

/// The figure of each side by the number of series.
fn lines(question: &str, pointer: &str, records: &[Record]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for record in records.iter().filter(|record| record.question == question) {
        let Some(figure) = record.figure(pointer).filter(|figure| *figure > 0.0) else { continue };
        let point = (record.scale as f64, figure);
        match lines.iter_mut().find(|line| line.name == record.side) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: record.side.clone(), points: vec![point] }),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_line_for_each_side() {
        let record = |side: &str, scale: usize| {
            let line = format!(
                r#"{{"question":"compact","answer":"","side":"{side}","wall_ms":{{"median":5.0}},"peak_mib":7.0}}"#
            );
            Record::parse(&line, scale).unwrap()
        };
        let records = [record("uru", 10), record("thanos", 10), record("uru", 100)];
        let plots = PLANES[3].drawn(&records);
        assert_eq!(plots.len(), 3);
        assert_eq!(plots[0].lines.iter().map(|line| line.points.len()).collect::<Vec<_>>(), [2, 1]);
        assert!(plots[1].lines.is_empty(), "nobody told CPU");
    }
}
