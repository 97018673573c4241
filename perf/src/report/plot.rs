//! Plots as SVG: lines over two logarithmic axes.

use std::fmt::Write;

/// Width and height of a plot.
const SIZE: (f64, f64) = (560.0, 340.0);

/// Room for the axes' numbers: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (64.0, 150.0, 34.0, 46.0);

/// Colours of lines, in their order; told apart by most eyes.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A line and what it is called.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Points, both coordinates positive.
    pub points: Vec<(f64, f64)>,
}

/// What a plot shows.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Above the plot.
    pub title: String,
    /// What the horizontal axis counts.
    pub x: &'static str,
    /// What the vertical axis measures, with its unit.
    pub y: &'static str,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One logarithmic axis: the powers of ten that it spans, and where they lie.
struct Axis {
    first: f64,
    last: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Self {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (least, most) = (least.min(value.log10()), most.max(value.log10()));
        }
        let (first, last) = if least.is_finite() { (least.floor(), most.ceil()) } else { (0.0, 1.0) };
        Self { first, last: if last > first { last } else { first + 1.0 }, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.first) / (self.last - self.first) * (self.to - self.from)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.first as i32..=self.last as i32).map(|power| 10f64.powi(power))
    }
}

/// The plot as an SVG element.
pub fn svg(plot: &Plot) -> String {
    let points = || plot.lines.iter().flat_map(|line| &line.points);
    let x = Axis::new(points().map(|point| point.0), (MARGIN.0, SIZE.0 - MARGIN.1));
    let y = Axis::new(points().map(|point| point.1), (SIZE.1 - MARGIN.3, MARGIN.2));
    let mut text = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n<text x=\"{}\" y=\"18\" class=\"title\">{}</text>\n",
        SIZE.0,
        SIZE.1,
        escape(&plot.title),
        MARGIN.0,
        escape(&plot.title)
    );
    text.push_str(&axes(plot, &x, &y));
    for (at, line) in plot.lines.iter().enumerate() {
        text.push_str(&drawn(line, COLOURS[at % COLOURS.len()], (&x, &y)));
        let (left, top) = (SIZE.0 - MARGIN.1 + 12.0, MARGIN.2 + 16.0 * at as f64);
        let colour = COLOURS[at % COLOURS.len()];
        // Writing to a string does not fail.
        let _ = writeln!(text, "<text x=\"{left}\" y=\"{top}\" fill=\"{colour}\">{}</text>", escape(&line.name));
    }
    text + "</svg>\n"
}

fn axes(plot: &Plot, x: &Axis, y: &Axis) -> String {
    let mut text = String::new();
    for power in x.powers() {
        let at = x.at(power);
        let _ =
            writeln!(text, "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{}\" class=\"grid\"/>", y.from, y.to);
        let below = y.from + 16.0;
        let _ = writeln!(text, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", number(power));
    }
    for power in y.powers() {
        let at = y.at(power);
        let _ =
            writeln!(text, "<line x1=\"{}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"grid\"/>", x.from, x.to);
        let (left, base) = (x.from - 6.0, at + 4.0);
        let _ = writeln!(text, "<text x=\"{left}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>", number(power));
    }
    let middle = (x.from + x.to) / 2.0;
    let _ = writeln!(text, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", SIZE.1 - 8.0, plot.x);
    let _ = writeln!(text, "<text x=\"4\" y=\"{}\">{}</text>", MARGIN.2 - 4.0, plot.y);
    text
}

fn drawn(line: &Line, colour: &str, (x, y): (&Axis, &Axis)) -> String {
    let places: Vec<(f64, f64)> = line.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let mut text =
        format!("<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n", path.join(" "));
    for (x, y) in places {
        let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    text
}

/// A power of ten as people write it.
fn number(power: f64) -> String {
    match power {
        power if power >= 1e6 => format!("{}M", power / 1e6),
        power if power >= 1e3 => format!("{}k", power / 1e3),
        power => format!("{power}"),
    }
}

/// Text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_within_the_axes() {
        let line = Line { name: "a<b".into(), points: vec![(10.0, 0.5), (1000.0, 70.0)] };
        let text = svg(&Plot { title: "t".into(), x: "series", y: "ms", lines: vec![line] });
        assert_eq!(text.matches("<circle").count(), 2);
        assert!(text.contains("a&lt;b") && !text.contains("NaN"));
        let axis = Axis::new([10.0, 1000.0].into_iter(), (0.0, 100.0));
        assert_eq!((axis.at(10.0), axis.at(100.0), axis.at(1000.0)), (0.0, 50.0, 100.0));
    }

    #[test]
    fn a_plot_of_nothing_is_empty_and_whole() {
        let text = svg(&Plot { title: String::new(), x: "", y: "", lines: Vec::new() });
        assert!(text.ends_with("</svg>\n") && !text.contains("NaN"));
    }
}
