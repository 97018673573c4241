//! The page: what was measured where, how, tables, plots.

use std::fmt::Write;

use crate::machine::Machine;

use super::plane::{Plane, Shown};
use super::plot::{self, escape};
use super::record::Record;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1240px;padding:0 1rem;color:#222}\
    table{border-collapse:collapse;margin:1rem 0;font-size:13px}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #ddd}\
    td:nth-child(-n+4),th:nth-child(-n+4){text-align:left}td:nth-child(3){max-width:24rem}svg{width:400px;max-width:100%;font:12px system-ui,sans-serif}\
    .title{font-weight:600;font-size:14px}.grid{stroke:#ddd}pre{background:#f4f4f4;padding:.6rem;overflow:auto;font-size:12px}";

/// What holds for every figure, whoever is asked.
const HONESTY: &str = "Every process runs on this machine, which also asks: nothing else should run. Sides take turns, \
    and who is first changes from round to round. Times are from the question to the whole answer; the least and the \
    median of the rounds are shown. CPU is what the kernel counts for the process, user's and system's; memory is the \
    most that was resident, reset before each question (before the first round for ingestion). Ratios are medians, \
    against uru's: above 1 the other side takes more. Beyond a million series growth is only sampled: a sample \
    each ten minutes instead of each minute, two rounds, uru alone.";

/// A part of the page: one measurement.
pub struct Section {
    /// What was measured.
    pub plane: &'static Plane,
    /// The command lines that do it again.
    pub commands: Vec<String>,
    /// Why comparisons broke off, after which they went on without the peer that is named, or without any.
    pub broken: Vec<String>,
    /// What was found.
    pub records: Vec<Record>,
}

/// The page as HTML that needs nothing else.
pub fn html(machine: &Machine, notes: &[String], sections: &[Section]) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>uru: measurements</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>uru: measurements</h1>\n<p>{}.</p>\n<p>{HONESTY}</p>\n<ul>\n",
        escape(&machine.describe()),
    );
    if machine.is_busy() {
        text.push_str("<li>Other programs were at work when this began: figures are worse than they could be.</li>\n");
    }
    notes.iter().for_each(|note| push(&mut text, &format!("<li>{}</li>", escape(note))));
    text.push_str("</ul>\n");
    for section in sections {
        push(&mut text, &format!("<h2>{}</h2>\n<p>{}</p>", section.plane.title, escape(section.plane.text)));
        push(&mut text, &format!("<pre>{}</pre>", escape(&section.commands.join("\n"))));
        for why in &section.broken {
            push(
                &mut text,
                &format!(
                    "<p>Broke off, and was run again without the peer that this names, or without any: {}</p>",
                    escape(why)
                ),
            );
        }
        text.extend(section.plane.drawn(&section.records).iter().map(plot::svg));
        text.push_str(&growth(section));
        text.push_str(&table(section));
    }
    text + "</body></html>\n"
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// How many times as much each side takes of the most series as of the fewest.
fn growth(section: &Section) -> String {
    let mut text = String::new();
    for question in section.plane.growth {
        let mut sides: Vec<&str> = Vec::new();
        let asked: Vec<&Record> = section.records.iter().filter(|record| record.question == *question).collect();
        asked.iter().for_each(|record| {
            if !sides.contains(&record.side.as_str()) {
                sides.push(&record.side);
            }
        });
        for side in sides {
            let mut own = asked.iter().filter(|record| record.side == side);
            let (Some(first), Some(last)) = (own.next(), own.next_back()) else { continue };
            let times = |pointer: &str| times(last.figure(pointer), first.figure(pointer));
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "<tr><td>{}</td><td>{side}</td><td>{} to {}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(question),
                first.scale,
                last.scale,
                times_of(last.scale as f64 / first.scale as f64),
                times("/wall_ms/median"),
                times("/cpu_ms/median"),
                times("/peak_mib"),
            );
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "<table><tr><th>growth of</th><th>side</th><th>series</th><th>series</th><th>time</th><th>CPU</th>\
         <th>memory</th></tr>\n{text}</table>\n"
    )
}

fn times(own: Option<f64>, other: Option<f64>) -> String {
    match (own, other.filter(|other| *other > 0.0)) {
        (Some(own), Some(other)) => times_of(own / other),
        _ => "-".into(),
    }
}

fn times_of(ratio: f64) -> String {
    format!("{ratio:.1}x")
}

fn table(section: &Section) -> String {
    let extra = |cell: &dyn Fn(&Shown) -> String| section.plane.columns.iter().map(cell).collect::<String>();
    let mut text = format!(
        "<table><tr><th>series</th><th>question</th><th>answer</th><th>side</th><th>least ms</th><th>median ms</th>\
         <th>CPU ms</th><th>peak MiB</th>{}<th>time</th><th>CPU</th><th>memory</th></tr>\n",
        extra(&|shown| format!("<th>{}</th>", shown.title))
    );
    for record in &section.records {
        let is_same = |other: &&Record| other.question == record.question && other.scale == record.scale;
        let first = section.records.iter().find(is_same).unwrap_or(record);
        let figure = |pointer: &str, digits: usize| {
            record.figure(pointer).map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
        };
        let to_first = |pointer: &str| times(record.figure(pointer), first.figure(pointer));
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td>{}<td>{}</td><td>{}</td><td>{}</td></tr>",
            record.scale,
            escape(&record.question),
            escape(&record.answer),
            escape(&record.side),
            figure("/wall_ms/min", 2),
            figure("/wall_ms/median", 2),
            figure("/cpu_ms/median", 2),
            figure("/peak_mib", 0),
            extra(&|shown| format!("<td>{}</td>", figure(shown.pointer, 2))),
            to_first("/wall_ms/median"),
            to_first("/cpu_ms/median"),
            to_first("/peak_mib"),
        );
    }
    text + "</table>\n"
}

#[cfg(test)]
mod tests {
    use super::super::plane::PLANES;
    use super::*;

    #[test]
    fn the_page_says_who_was_left_out_and_how_cost_grows() {
        let record = |side: &str, scale: usize, ms: f64| {
            let line = format!(
                r#"{{"question":"compact","answer":"a<b","side":"{side}","wall_ms":{{"min":{ms},"median":{ms}}}}}"#
            );
            Record::parse(&line, scale).unwrap()
        };
        let records = vec![record("uru", 10_000, 2.0), record("uru", 100_000, 16.0), record("thanos", 100_000, 64.0)];
        let section = Section {
            plane: &PLANES[3],
            commands: vec!["perf compact".into()],
            broken: vec!["peer ended".into()],
            records,
        };
        let text = html(&Machine::default(), &["Left out: prometheus".into()], &[section]);
        assert!(text.contains("or without any: peer ended"), "{text}");
        assert!(text.contains("Left out: prometheus") && text.contains("a&lt;b") && !text.contains("NaN"));
        assert!(text.contains("<td>10000 to 100000</td><td>10.0x</td><td>8.0x</td>"), "{text}");
        assert!(text.contains("<td>thanos</td><td>64.00</td>") && text.contains("<td>4.0x</td>"), "{text}");
        assert!(text.contains("<td>64.00</td><td>-</td><td>-</td>"), "what was not measured is no figure: {text}");
    }
}
