//! The index of a block with the labels of a Kubernetes fleet: a hundred series for each pod, of
//! counters, gauges and classic histograms, in the shape of `shared/tools/genblocks`.

use std::collections::BTreeSet;
use std::io::Write;

use engine::codec::varint;
use engine::index::ChunkMeta;
use engine::index::tsdb::{Symbols, Version, Writer};
use engine::model::{ChunkRef, Error, Labels};

/// Unix milliseconds at which blocks start.
const START: i64 = 1_789_984_800_000;

/// Milliseconds between samples: two hours are one chunk of 120 samples.
const INTERVAL: i64 = 60_000;

/// Series of a pod.
const PER_POD: usize = 100;

const LES: [&str; 12] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];

/// The labels of all series, ascending.
pub fn labels(series: usize) -> Vec<Labels> {
    let mut all: Vec<Labels> = (0..series).map(one).collect();
    all.sort_unstable();
    all
}

fn one(at: usize) -> Labels {
    let (pod, place) = (at / PER_POD, at % PER_POD);
    let mut pairs = vec![
        ("namespace", format!("team-{:02}", pod % 37)),
        ("pod", format!("svc-{:03}-{:08x}-{:05x}", pod % 211, (pod as u32).wrapping_mul(2_654_435_761), pod * 7)),
        ("instance", format!("10.{}.{}.{}:8080", pod >> 16 & 255, pod >> 8 & 255, pod & 255)),
        ("job", format!("svc-{:03}", pod % 211)),
        ("container", "app".to_owned()),
    ];
    // Three handlers of fourteen series each come first.
    let (handler, part) = (place / 14, place % 14);
    let name = if handler < 3 {
        pairs.push(("handler", format!("/api/v1/h{handler}")));
        match part {
            12 => "http_request_duration_seconds_count".to_owned(),
            13 => "http_request_duration_seconds_sum".to_owned(),
            le => {
                pairs.push(("le", LES[le].to_owned()));
                "http_request_duration_seconds_bucket".to_owned()
            }
        }
    } else {
        let metric = place - 42;
        match metric % 5 {
            0 => format!("process_bytes_{metric:02}"),
            1 => format!("config_info_{metric:02}"),
            2 => format!("container_cpu_usage_seconds_total_{metric:02}"),
            3 => {
                pairs.push(("code", (200 + metric).to_string()));
                format!("errors_total_{metric:02}")
            }
            _ => format!("queue_ratio_{metric:02}"),
        }
    };
    pairs.push(("__name__", name));
    Labels::from_pairs(pairs)
}

/// Writes the TSDB index of `series`, which ascend; each has one chunk of two hours.
pub fn write_index<W: Write>(series: &[Labels], out: W) -> Result<(), Error> {
    let texts: BTreeSet<&str> =
        series.iter().flat_map(|labels| labels.iter().flat_map(|(name, value)| [name, value])).collect();
    let mut content = (texts.len() as u32).to_be_bytes().to_vec();
    for text in texts {
        varint::encode_u64(text.len() as u64, &mut content);
        content.extend_from_slice(text.as_bytes());
    }
    let mut writer = Writer::create(out, Symbols::decode(&content, 0, Version::V2)?)?;
    let (mut random, mut place) = (Random(7), 8);
    for labels in series {
        let pod =
            labels.get("pod").unwrap_or("").bytes().fold(0, |hash: i64, byte| hash.wrapping_mul(31) + i64::from(byte));
        let min_time = START + pod.rem_euclid(INTERVAL) + random.below(8) as i64;
        let max_time = START + pod.rem_euclid(INTERVAL) + 119 * INTERVAL + random.below(8) as i64;
        writer.add_labels(labels, &[ChunkMeta { min_time, max_time, chunk_ref: ChunkRef(place) }])?;
        place += 60 + random.below(600);
    }
    writer.finish().map(drop)
}

/// A sequence of numbers that look random and are the same in every run (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
