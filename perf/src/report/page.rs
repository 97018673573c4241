//! The page: what was measured where, tables, plots.

use std::fmt::Write;

use super::plot::{self, Plot, escape};
use super::{Machine, Record};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1240px;padding:0 1rem;color:#222}\
    table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}\
    td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}svg{width:600px;max-width:100%;font:12px system-ui,sans-serif}\
    .title{font-weight:600;font-size:14px}.grid{stroke:#ddd}pre{background:#f4f4f4;padding:.6rem;overflow:auto}";

/// A part of the page: one comparison.
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What was done: warm-up, caches, order.
    pub text: String,
    /// The command line that does it again.
    pub command: String,
    /// What was found.
    pub records: Vec<Record>,
    /// Plots of it.
    pub plots: Vec<Plot>,
}

/// The page as HTML that needs nothing else.
pub fn html(machine: &Machine, sections: &[Section]) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>uru: measurements</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>uru: measurements</h1>\n<p>Commit {}, {} cores of {}, {:.1} GiB of memory, Linux {}. Sides take turns; \
         medians of the runs; memory is the most that was resident.</p>\n",
        escape(&machine.commit),
        machine.cores,
        escape(&machine.cpu),
        machine.memory_gib,
        escape(&machine.kernel)
    );
    for section in sections {
        // Writing to a string does not fail.
        let _ = writeln!(text, "<h2>{}</h2>\n<p>{}</p>", escape(&section.title), escape(&section.text));
        let _ = writeln!(text, "<pre>{}</pre>", escape(&section.command));
        text.extend(section.plots.iter().map(plot::svg));
        text.push_str(&table(&section.records));
    }
    text + "</body></html>\n"
}

fn table(records: &[Record]) -> String {
    let mut text = "<table><tr><th>question</th><th>answer</th><th>side</th><th>min ms</th><th>median ms</th>\
        <th>CPU ms</th><th>peak MiB</th><th>time to uru's</th><th>CPU to uru's</th></tr>\n"
        .to_owned();
    for record in records {
        let first = records.iter().find(|first| first.question == record.question && first.scale == record.scale);
        let times = |figure: fn(&Record) -> f64| match first.map(figure) {
            Some(ours) if ours > 0.0 => format!("{:.1}x", figure(record) / ours),
            _ => "-".into(),
        };
        let (wall, cpu) = (times(|record| record.wall_ms), times(|record| record.cpu_ms));
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.0}</td><td>{wall}</td><td>{cpu}</td></tr>",
            escape(&record.question),
            escape(&record.answer),
            escape(&record.side),
            record.wall_min_ms,
            record.wall_ms,
            record.cpu_ms,
            record.peak_mib,
        );
    }
    text + "</table>\n"
}
