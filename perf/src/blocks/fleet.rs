//! Pods and their series.

use std::collections::HashMap;

use engine::index::tsdb::{SymbolRef, Symbols};
use engine::model::Histogram;

use crate::random::Random;

const SERIES_PER_POD: usize = 100;
const HANDLERS: usize = 3;
const BOUNDS: [&str; 12] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];

/// How the values of a series move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Grows by about `rate` a second; by whole numbers when `rate` is at least 1.
    Counter {
        /// Growth in a second.
        rate: f64,
    },
    /// Grows by 1 in one of twenty scrapes.
    Errors,
    /// Wanders by multiples of 4096 in half of the scrapes.
    Bytes,
    /// Anything from 0 to 1.
    Ratio,
    /// Never changes.
    Constant,
    /// A native histogram that sees three observations a scrape.
    Native,
}

/// One series and where its values have got to.
#[derive(Debug)]
pub struct Series {
    /// Names and values, interned, in no order.
    labels: Box<[(u32, u32)]>,
    /// How its values move.
    pub kind: Kind,
    /// Its last value.
    pub value: f64,
    /// Its last histogram, of native histograms.
    pub histogram: Option<Box<Histogram>>,
    /// Number of its pod, with which it is scraped.
    pub pod: u64,
    /// What tells its random numbers from those of others.
    pub seed: u64,
}

impl Series {
    /// Its labels in a block in whose symbol table interned strings have these places.
    pub fn labels(&self, places: &[SymbolRef]) -> Box<[(SymbolRef, SymbolRef)]> {
        let mut labels: Box<[_]> =
            self.labels.iter().map(|&(name, value)| (places[name as usize], places[value as usize])).collect();
        labels.sort_unstable();
        labels
    }
}

/// All pods.
#[derive(Debug)]
pub struct Fleet {
    strings: Interner,
    pods: Vec<Vec<Series>>,
    generations: Vec<usize>,
    series_max: usize,
    native: f64,
    seed: u64,
}

impl Fleet {
    /// A fleet of `series_max` series, rounded down to whole pods; `native` is the part of the plain
    /// metrics that are native histograms.
    pub fn new(series_max: usize, native: f64, seed: u64) -> Self {
        let pods = (series_max / SERIES_PER_POD).max(1);
        let generations = vec![0; pods];
        let mut fleet = Self { strings: Interner::default(), pods: Vec::new(), generations, series_max, native, seed };
        for pod in 0..pods {
            let series = fleet.pod(pod);
            fleet.pods.push(series);
        }
        fleet
    }

    /// Replaces about the part `churn` of the pods by new ones; `number` tells this time from others.
    pub fn churn(&mut self, churn: f64, number: u64) {
        let mut random = Random::new(&[self.seed, number, 0xc4]);
        for pod in 0..self.pods.len() {
            if random.unit() < churn {
                self.generations[pod] += 1;
                self.pods[pod] = self.pod(pod);
            }
        }
    }

    /// All series.
    pub fn series_mut(&mut self) -> impl Iterator<Item = &mut Series> {
        self.pods.iter_mut().flatten()
    }

    /// The symbol table of all series there are, and the place in it of each interned string.
    pub fn symbols(&self) -> (Symbols, Vec<SymbolRef>) {
        let mut used = vec![false; self.strings.texts.len()];
        for (name, value) in self.pods.iter().flatten().flat_map(|series| &series.labels) {
            used[*name as usize] = true;
            used[*value as usize] = true;
        }
        let mut order: Vec<usize> = (0..used.len()).filter(|id| used[*id]).collect();
        order.sort_unstable_by_key(|id| self.strings.texts[*id].as_str());
        let mut places = vec![SymbolRef::default(); used.len()];
        for (place, id) in order.iter().enumerate() {
            places[*id] = SymbolRef(place as u32);
        }
        (Symbols::from_sorted(order.iter().map(|id| &self.strings.texts[*id])), places)
    }

    fn pod(&mut self, pod: usize) -> Vec<Series> {
        let generation = self.generations[pod];
        let job = format!("svc-{:03}", pod % 211);
        let hash = (pod as u64).wrapping_mul(2_654_435_761) as u32;
        let base = [
            ("namespace", format!("team-{:02}", pod % 37)),
            ("pod", format!("{job}-{hash:08x}-{:05x}", pod * 7 + generation)),
            ("instance", format!("10.{}.{}.{}:8080", pod >> 16 & 255, pod >> 8 & 255, pod & 255)),
            ("job", job),
            ("container", "app".to_owned()),
        ];
        let base = base.map(|(name, value)| (self.strings.id(name), self.strings.id(&value)));
        let mut random = Random::new(&[self.seed, pod as u64, generation as u64]);
        let mut series = Vec::with_capacity(SERIES_PER_POD);
        for handler in 0..HANDLERS {
            self.histogram(handler, &base, &mut random, &mut series);
        }
        let room = SERIES_PER_POD.min(self.series_max.saturating_sub(pod * SERIES_PER_POD));
        for metric in 0.. {
            if series.len() >= room {
                break;
            }
            series.push(self.plain(metric, &base, &mut random));
        }
        for (at, series) in series.iter_mut().enumerate() {
            series.pod = pod as u64;
            series.seed = (pod as u64) << 32 | (generation as u64) << 16 | at as u64;
        }
        series
    }

    /// The series of a classic histogram.
    fn histogram(&mut self, handler: usize, base: &[(u32, u32)], random: &mut Random, series: &mut Vec<Series>) {
        const NAME: &str = "http_request_duration_seconds";
        let handler = format!("/api/v1/h{handler}");
        for bound in BOUNDS {
            let kind = Kind::Counter { rate: random.below(40) as f64 };
            let more = [("__name__", format!("{NAME}_bucket")), ("handler", handler.clone()), ("le", bound.to_owned())];
            series.push(self.series(kind, base, &more));
        }
        for (suffix, rate) in [("count", random.below(40) as f64), ("sum", random.unit() * 3.0)] {
            let more = [("__name__", format!("{NAME}_{suffix}")), ("handler", handler.clone())];
            series.push(self.series(Kind::Counter { rate }, base, &more));
        }
    }

    fn plain(&mut self, metric: usize, base: &[(u32, u32)], random: &mut Random) -> Series {
        let named = |name: &str| ("__name__", format!("{name}_{metric:02}"));
        if random.unit() < self.native {
            return self.series(Kind::Native, base, &[named("rpc_latency_seconds")]);
        }
        let mut series = match metric % 5 {
            0 => self.series(Kind::Bytes, base, &[named("process_bytes")]),
            1 => self.series(Kind::Constant, base, &[named("config_info")]),
            2 => {
                let kind = Kind::Counter { rate: random.unit() * 2.0 };
                self.series(kind, base, &[named("container_cpu_usage_seconds_total")])
            }
            3 => self.series(Kind::Errors, base, &[named("errors_total"), ("code", (200 + metric).to_string())]),
            _ => self.series(Kind::Ratio, base, &[named("queue_ratio")]),
        };
        series.value = match series.kind {
            Kind::Bytes => random.below(1 << 30) as f64,
            Kind::Constant => random.below(2) as f64,
            Kind::Ratio => random.unit(),
            _ => 0.0,
        };
        series
    }

    fn series(&mut self, kind: Kind, base: &[(u32, u32)], more: &[(&str, String)]) -> Series {
        let more = more.iter().map(|(name, value)| (self.strings.id(name), self.strings.id(value)));
        let labels = base.iter().copied().chain(more).collect();
        Series { labels, kind, value: 0.0, histogram: None, pod: 0, seed: 0 }
    }
}

/// Strings by number.
#[derive(Debug, Default)]
struct Interner {
    ids: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Interner {
    fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = self.texts.len() as u32;
        self.ids.insert(text.to_owned(), id);
        self.texts.push(text.to_owned());
        id
    }
}
