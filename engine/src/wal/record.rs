//! Records: what one request did to one tenant's head.
//!
//! ```text
//! record      kind u8 │ len uvarint in five bytes │ body
//!
//! 1 tenant      number uvarint │ name                        before anything else of the tenant
//! 2 series      tenant │ count │ (ref delta │ labels)…       labels: len uvarint, canonical form
//! 3 floats      tenant │ order u8 │ count │ ref deltas │ time deltas │ eight planes of count bytes
//! 4 histograms  tenant │ order u8 │ count │ (ref delta │ time delta │ histogram)…
//! 5 exemplars   tenant │ count │ (ref delta │ time delta │ value f64 LE │ labels)…
//! 6 metadata    tenant │ count │ (kind u8 │ name │ help │ unit)…
//! 7 cut         tenant │ phase u8 │ kind u8 │ until varint │ count │ (block id u128 LE)…
//! 8 removed     tenant
//! 9 chunks      tenant │ count │ (ref delta │ kind u8 │ encoding u8 │ first │ last │ end varint │ data │ tail)…     in snapshots
//! 10 state      tenant │ min valid time varint │ max time varint │ next ref uvarint                         in snapshots
//!
//! histogram     kind u8: 0 integer, 1 float │ reset u8 │ schema │ zero threshold f64 │ zero count │ count │ sum f64
//!               │ spans │ spans │ buckets │ buckets │ bounds
//! tail          delta varint │ value u64 LE │ above u8 │ below u8 │ used u8           of chunks of kind 3 alone
//! ```
//! Deltas are zigzag, to the value before in the record. Strings have their length in front. Plane `n`
//! of the floats holds byte `n` of each value, the least significant first: most are zero and
//! compress to nothing. The length of a body is known when its last byte is there, so that its place is as
//! wide as the longest one; readers take shorter ones too.

use crate::chunk::Encoding;
use crate::chunk::xor::TailState;
use crate::codec::{Corrupt, Cursor, EncodedLabels, varint};
use crate::model::{BlockId, HistogramValue};

use super::histogram;

const WHAT: &str = "WAL record";

const TENANT: u8 = 1;
const SERIES: u8 = 2;
const FLOATS: u8 = 3;
const HISTOGRAMS: u8 = 4;
const EXEMPLARS: u8 = 5;
const METADATA: u8 = 6;
const CUT: u8 = 7;
const REMOVED: u8 = 8;
const CHUNKS: u8 = 9;
const STATE: u8 = 10;

/// Whether samples came in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// After all samples of their series.
    Kept,
    /// Late.
    Broken,
}

/// How far a cut has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutPhase {
    /// The blocks are about to appear: done if they are there. Without blocks yet, which only late samples have: the
    /// samples of the cut are those before this.
    Intended,
    /// The blocks are there.
    Done,
}

/// Which samples a cut is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    /// Those in order.
    InOrder,
    /// Late ones that came before a cut without blocks was intended.
    OutOfOrder,
}

/// Samples leave a head for blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How far it has come.
    pub phase: CutPhase,
    /// Which samples.
    pub kind: CutKind,
    /// Samples in order from before this time (Unix milliseconds).
    pub until: i64,
    /// The blocks.
    pub blocks: Vec<BlockId>,
}

/// An exemplar: series, time, value, labels.
pub type ExemplarRecord<'a> = (u32, i64, f64, EncodedLabels<'a>);

/// What is said of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataRecord<'a> {
    /// The number of its type.
    pub kind: u8,
    /// The metric's name.
    pub name: &'a str,
    /// What it means.
    pub help: &'a str,
    /// In what it is counted.
    pub unit: &'a str,
}

/// What a chunk is to its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// It has ended.
    Closed,
    /// It grows.
    Open,
    /// Its samples came late.
    Late,
    /// It grows, from this state on: nothing need be decoded to go on.
    Growing(TailState),
}

impl ChunkKind {
    fn number(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Open => 1,
            Self::Late => 2,
            Self::Growing(_) => 3,
        }
    }
}

/// A chunk of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRecord<'a> {
    /// Its series.
    pub series: u32,
    /// What it is to its series.
    pub kind: ChunkKind,
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// When an open chunk is to end, in Unix milliseconds.
    pub next_at: i64,
    /// The chunk's data.
    pub data: &'a [u8],
}

/// What a snapshot says of a head besides its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadState {
    /// No sample before this is taken in order.
    pub min_valid_time: i64,
    /// Time of the latest sample.
    pub max_time: i64,
    /// The number of the next new series.
    pub next_ref: u32,
}

/// One record. Tenants and series go by the numbers that were given to them.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// From here on the tenant has this number.
    Tenant(u32, &'a str),
    /// From here on the series have these numbers.
    Series(u32, Vec<(u32, EncodedLabels<'a>)>),
    /// Floats: series, times, values, all of one length.
    Floats(u32, Order, FloatRows),
    /// Histograms: series, time, value.
    Histograms(u32, Order, Vec<(u32, i64, HistogramValue)>),
    /// Exemplars.
    Exemplars(u32, Vec<ExemplarRecord<'a>>),
    /// Metadata.
    Metadata(u32, Vec<MetadataRecord<'a>>),
    /// Samples leave the head.
    Cut(u32, Cut),
    /// The tenant is gone.
    Removed(u32),
    /// Chunks of a snapshot, those of a series in their order.
    Chunks(u32, Vec<ChunkRecord<'a>>),
    /// The head of a snapshot, before its series.
    State(u32, HeadState),
}

/// Floats of many series, in columns of one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatRows {
    /// Series.
    pub refs: Vec<u32>,
    /// Unix milliseconds.
    pub times: Vec<i64>,
    /// Values.
    pub values: Vec<f64>,
}

impl FloatRows {
    /// Appends a sample.
    #[inline]
    pub fn push(&mut self, series: u32, time: i64, value: f64) {
        self.refs.push(series);
        self.times.push(time);
        self.values.push(value);
    }

    /// Removes all samples and keeps the room.
    pub fn clear(&mut self) {
        self.refs.clear();
        self.times.clear();
        self.values.clear();
    }
}

/// Bytes of a body's length: 35 bits of it.
const LEN_BYTES: usize = 5;

/// Records in the making, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    out: Vec<u8>,
    /// Where the record in the making starts.
    record_at: usize,
    /// Bytes to have room for from the first record on: what was taken the last time, or half of what was
    /// expected then.
    expected: usize,
}

impl Recorder {
    /// The records so far.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Puts the next records into `room`, which is empty, unless there are some or is room.
    pub fn reuse(&mut self, room: impl FnOnce() -> Vec<u8>) {
        if self.out.capacity() == 0 {
            self.out = room();
        }
    }

    /// Takes the records so far.
    pub fn take(&mut self) -> Vec<u8> {
        self.expected = self.out.len().max(self.expected / 2);
        std::mem::take(&mut self.out)
    }

    /// Gives a tenant its number.
    pub fn tenant(&mut self, tenant: u32, name: &str) {
        self.begin(TENANT);
        varint::encode_u64(u64::from(tenant), &mut self.out);
        put_text(name.as_bytes(), &mut self.out);
        self.finish();
    }

    /// Gives series their numbers.
    pub fn series<'a>(&mut self, tenant: u32, series: impl ExactSizeIterator<Item = (u32, EncodedLabels<'a>)>) {
        if series.len() == 0 {
            return;
        }
        self.start(SERIES, tenant, None, series.len());
        let mut deltas = Deltas::default();
        for (number, labels) in series {
            deltas.put_ref(number, &mut self.out);
            put_text(labels.0, &mut self.out);
        }
        self.finish();
    }

    /// Appends floats.
    pub fn floats(&mut self, tenant: u32, order: Order, rows: &FloatRows) {
        if rows.refs.is_empty() {
            return;
        }
        self.start(FLOATS, tenant, Some(order), rows.refs.len());
        let mut deltas = Deltas::default();
        rows.refs.iter().for_each(|number| deltas.put_ref(*number, &mut self.out));
        rows.times.iter().for_each(|time| deltas.put_time(*time, &mut self.out));
        put_planes(&rows.values, &mut self.out);
        self.finish();
    }

    /// Appends histograms.
    pub fn histograms<'a>(
        &mut self,
        tenant: u32,
        order: Order,
        rows: impl ExactSizeIterator<Item = (u32, i64, &'a HistogramValue)>,
    ) {
        if rows.len() == 0 {
            return;
        }
        self.start(HISTOGRAMS, tenant, Some(order), rows.len());
        let mut deltas = Deltas::default();
        for (number, time, value) in rows {
            deltas.put_ref(number, &mut self.out);
            deltas.put_time(time, &mut self.out);
            histogram::encode(value, &mut self.out);
        }
        self.finish();
    }

    /// Appends exemplars.
    pub fn exemplars(&mut self, tenant: u32, rows: &[ExemplarRecord<'_>]) {
        if rows.is_empty() {
            return;
        }
        self.start(EXEMPLARS, tenant, None, rows.len());
        let mut deltas = Deltas::default();
        for (number, time, value, labels) in rows {
            deltas.put_ref(*number, &mut self.out);
            deltas.put_time(*time, &mut self.out);
            self.out.extend_from_slice(&value.to_le_bytes());
            put_text(labels.0, &mut self.out);
        }
        self.finish();
    }

    /// Says what metrics are.
    pub fn metadata(&mut self, tenant: u32, rows: &[MetadataRecord<'_>]) {
        if rows.is_empty() {
            return;
        }
        self.start(METADATA, tenant, None, rows.len());
        for row in rows {
            self.out.push(row.kind);
            [row.name, row.help, row.unit].iter().for_each(|text| put_text(text.as_bytes(), &mut self.out));
        }
        self.finish();
    }

    /// Notes a cut.
    pub fn cut(&mut self, tenant: u32, cut: &Cut) {
        self.begin(CUT);
        varint::encode_u64(u64::from(tenant), &mut self.out);
        self.out.push(cut.phase as u8);
        self.out.push(cut.kind as u8);
        varint::encode_i64(cut.until, &mut self.out);
        varint::encode_u64(cut.blocks.len() as u64, &mut self.out);
        cut.blocks.iter().for_each(|block| self.out.extend_from_slice(&block.0.to_le_bytes()));
        self.finish();
    }

    /// Notes that a tenant is gone.
    pub fn removed(&mut self, tenant: u32) {
        self.begin(REMOVED);
        varint::encode_u64(u64::from(tenant), &mut self.out);
        self.finish();
    }

    /// Appends chunks of a snapshot.
    pub fn chunks<'a>(&mut self, tenant: u32, chunks: impl ExactSizeIterator<Item = ChunkRecord<'a>>) {
        if chunks.len() == 0 {
            return;
        }
        self.start(CHUNKS, tenant, None, chunks.len());
        let mut deltas = Deltas::default();
        for chunk in chunks {
            deltas.put_ref(chunk.series, &mut self.out);
            self.out.extend_from_slice(&[chunk.kind.number(), chunk.encoding.byte()]);
            for time in [chunk.min_time, chunk.max_time, chunk.next_at] {
                varint::encode_i64(time, &mut self.out);
            }
            put_text(chunk.data, &mut self.out);
            if let ChunkKind::Growing(state) = chunk.kind {
                varint::encode_i64(state.delta, &mut self.out);
                self.out.extend_from_slice(&state.value.to_le_bytes());
                self.out.extend_from_slice(&[state.above, state.below, state.used]);
            }
        }
        self.finish();
    }

    /// Describes the head of a snapshot.
    pub fn state(&mut self, tenant: u32, state: &HeadState) {
        self.begin(STATE);
        varint::encode_u64(u64::from(tenant), &mut self.out);
        varint::encode_i64(state.min_valid_time, &mut self.out);
        varint::encode_i64(state.max_time, &mut self.out);
        varint::encode_u64(u64::from(state.next_ref), &mut self.out);
        self.finish();
    }

    /// Begins a record about `count` things of a tenant.
    fn start(&mut self, kind: u8, tenant: u32, order: Option<Order>, count: usize) {
        self.begin(kind);
        varint::encode_u64(u64::from(tenant), &mut self.out);
        self.out.extend(order.map(|order| order as u8));
        varint::encode_u64(count as u64, &mut self.out);
    }

    /// Begins a record, whose length is not known yet.
    fn begin(&mut self, kind: u8) {
        if self.out.is_empty() && self.out.capacity() < self.expected {
            self.out = Vec::with_capacity(self.expected + self.expected / 8);
        }
        self.record_at = self.out.len();
        self.out.push(kind);
        self.out.extend_from_slice(&[0; LEN_BYTES]);
    }

    /// Writes the length of the record in front of its body.
    fn finish(&mut self) {
        let (len, body) = self.out[self.record_at + 1..].split_at_mut(LEN_BYTES);
        assert!(body.len() >> (7 * LEN_BYTES) == 0, "a record of {} bytes fits no frame", body.len());
        for (at, byte) in len.iter_mut().enumerate() {
            let goes_on = if at + 1 < LEN_BYTES { 0x80 } else { 0 };
            *byte = (body.len() >> (7 * at)) as u8 & 0x7f | goes_on;
        }
    }
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    varint::encode_u64(text.len() as u64, out);
    out.extend_from_slice(text);
}

/// Appends the planes of `values`, eight values at a time.
fn put_planes(values: &[f64], out: &mut Vec<u8>) {
    let (start, count) = (out.len(), values.len());
    out.resize(start + 8 * count, 0);
    let mut parts = out[start..].chunks_exact_mut(count.max(1));
    let mut planes: [&mut [u8]; 8] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let (blocks, rest) = values.as_chunks::<8>();
    for (block, at) in blocks.iter().zip((0..).step_by(8)) {
        for (plane, bytes) in planes.iter_mut().zip(turned(block)) {
            plane[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
        }
    }
    for (value, at) in rest.iter().zip(count - rest.len()..) {
        planes.iter_mut().zip(value.to_le_bytes()).for_each(|(plane, byte)| plane[at] = byte);
    }
}

/// Byte `n` of each of eight values as number `n`, that of the first value lowest: squares of four by four bytes
/// change places, then squares within these, then bytes.
#[inline(always)]
fn turned(values: &[f64; 8]) -> [u64; 8] {
    let mut rows = values.map(f64::to_bits);
    swap_squares::<4>(&mut rows, 0x0000_0000_ffff_ffff);
    swap_squares::<2>(&mut rows, 0x0000_ffff_0000_ffff);
    swap_squares::<1>(&mut rows, 0x00ff_00ff_00ff_00ff);
    rows
}

/// Swaps squares of `SIDE` bytes: the upper one of two of a row, which `mask` leaves out, with the lower one of the
/// row that is as far behind.
#[inline(always)]
fn swap_squares<const SIDE: usize>(rows: &mut [u64; 8], mask: u64) {
    for at in 0..8 {
        if at & SIDE == 0 {
            let (row, behind) = (rows[at], rows[at + SIDE]);
            rows[at] = row & mask | (behind & mask) << (8 * SIDE);
            rows[at + SIDE] = row >> (8 * SIDE) & mask | behind & !mask;
        }
    }
}

/// The values before, which the next ones are differences to.
#[derive(Default)]
struct Deltas {
    number: i64,
    time: i64,
}

impl Deltas {
    fn put_ref(&mut self, number: u32, out: &mut Vec<u8>) {
        varint::encode_i64(i64::from(number) - self.number, out);
        self.number = i64::from(number);
    }

    fn put_time(&mut self, time: i64, out: &mut Vec<u8>) {
        varint::encode_i64(time.wrapping_sub(self.time), out);
        self.time = time;
    }

    fn take_ref(&mut self, cursor: &mut Cursor<'_>) -> Result<u32, Corrupt> {
        self.number = self.number.wrapping_add(cursor.varint()?);
        u32::try_from(self.number).map_err(|_| cursor.corrupt(format!("{} is no series", self.number)))
    }

    fn take_time(&mut self, cursor: &mut Cursor<'_>) -> Result<i64, Corrupt> {
        self.time = self.time.wrapping_add(cursor.varint()?);
        Ok(self.time)
    }
}

/// The records in `bytes`, which lie at byte `offset` of their frame; ends after an error.
pub fn records(bytes: &[u8], offset: u64) -> impl Iterator<Item = Result<Record<'_>, Corrupt>> {
    let mut cursor = Some(Cursor::new(WHAT, bytes, offset));
    std::iter::from_fn(move || {
        let reader = cursor.as_mut().filter(|reader| reader.remaining() > 0)?;
        let record = decode(reader);
        if record.is_err() {
            cursor = None;
        }
        Some(record)
    })
}

fn decode<'a>(cursor: &mut Cursor<'a>) -> Result<Record<'a>, Corrupt> {
    let kind = cursor.u8()?;
    let len = cursor.count()?;
    let offset = cursor.offset();
    let mut body = Cursor::new(WHAT, cursor.bytes(len)?, offset);
    let tenant = u32::try_from(body.uvarint()?).map_err(|_| body.corrupt("no such tenant"))?;
    let record = match kind {
        TENANT => Record::Tenant(tenant, body.string()?),
        SERIES => Record::Series(tenant, decode_series(&mut body)?),
        FLOATS => Record::Floats(tenant, decode_order(&mut body)?, decode_floats(&mut body)?),
        HISTOGRAMS => Record::Histograms(tenant, decode_order(&mut body)?, decode_histograms(&mut body)?),
        EXEMPLARS => Record::Exemplars(tenant, decode_exemplars(&mut body)?),
        METADATA => Record::Metadata(tenant, decode_metadata(&mut body)?),
        CUT => Record::Cut(tenant, decode_cut(&mut body)?),
        REMOVED => Record::Removed(tenant),
        CHUNKS => Record::Chunks(tenant, decode_chunks(&mut body)?),
        STATE => Record::State(tenant, decode_state(&mut body)?),
        _ => return Err(body.corrupt(format!("record of kind {kind} is not known"))),
    };
    match body.remaining() {
        0 => Ok(record),
        left => Err(body.corrupt(format!("{left} bytes behind the record's end"))),
    }
}

fn decode_order(body: &mut Cursor<'_>) -> Result<Order, Corrupt> {
    match body.u8()? {
        0 => Ok(Order::Kept),
        1 => Ok(Order::Broken),
        other => Err(body.corrupt(format!("order {other} is not known"))),
    }
}

fn decode_series<'a>(body: &mut Cursor<'a>) -> Result<Vec<(u32, EncodedLabels<'a>)>, Corrupt> {
    let (count, mut deltas) = (body.count()?, Deltas::default());
    (0..count)
        .map(|_| {
            let number = deltas.take_ref(body)?;
            let len = body.count()?;
            Ok((number, EncodedLabels::parse(body.bytes(len)?)?))
        })
        .collect()
}

fn decode_floats(body: &mut Cursor<'_>) -> Result<FloatRows, Corrupt> {
    let (count, mut deltas) = (body.count()?, Deltas::default());
    let refs = (0..count).map(|_| deltas.take_ref(body)).collect::<Result<_, _>>()?;
    let times = (0..count).map(|_| deltas.take_time(body)).collect::<Result<_, _>>()?;
    let planes = body.bytes(8 * count)?;
    let byte = |at: usize, plane: usize| u64::from(planes[plane * count + at]) << (8 * plane);
    let value = |at: usize| f64::from_bits((0..8).map(|plane| byte(at, plane)).sum());
    Ok(FloatRows { refs, times, values: (0..count).map(value).collect() })
}

fn decode_histograms(body: &mut Cursor<'_>) -> Result<Vec<(u32, i64, HistogramValue)>, Corrupt> {
    let (count, mut deltas) = (body.count()?, Deltas::default());
    (0..count).map(|_| Ok((deltas.take_ref(body)?, deltas.take_time(body)?, histogram::decode(body)?))).collect()
}

/// An exemplar whose labels are none is left out: heads once took them, and acknowledged what came with them.
fn decode_exemplars<'a>(body: &mut Cursor<'a>) -> Result<Vec<ExemplarRecord<'a>>, Corrupt> {
    let (count, mut deltas) = (body.count()?, Deltas::default());
    let mut row = || -> Result<Option<ExemplarRecord<'a>>, Corrupt> {
        let (number, time) = (deltas.take_ref(body)?, deltas.take_time(body)?);
        let value = f64::from_bits(body.u64_le()?);
        let len = body.count()?;
        let bytes = body.bytes(len)?;
        let labels = if len == 0 { Some(EncodedLabels(&[])) } else { EncodedLabels::parse(bytes).ok() };
        Ok(labels.map(|labels| (number, time, value, labels)))
    };
    (0..count).filter_map(|_| row().transpose()).collect()
}

fn decode_metadata<'a>(body: &mut Cursor<'a>) -> Result<Vec<MetadataRecord<'a>>, Corrupt> {
    let count = body.count()?;
    let row = |body: &mut Cursor<'a>| {
        Ok(MetadataRecord { kind: body.u8()?, name: body.string()?, help: body.string()?, unit: body.string()? })
    };
    (0..count).map(|_| row(body)).collect()
}

fn decode_cut(body: &mut Cursor<'_>) -> Result<Cut, Corrupt> {
    let phase = match body.u8()? {
        0 => CutPhase::Intended,
        1 => CutPhase::Done,
        other => return Err(body.corrupt(format!("phase {other} of a cut is not known"))),
    };
    let kind = match body.u8()? {
        0 => CutKind::InOrder,
        1 => CutKind::OutOfOrder,
        other => return Err(body.corrupt(format!("cut of kind {other} is not known"))),
    };
    let until = body.varint()?;
    let count = body.count()?;
    let block = |body: &mut Cursor<'_>| Ok(BlockId(u128::from(body.u64_le()?) | u128::from(body.u64_le()?) << 64));
    let blocks = (0..count).map(|_| block(body)).collect::<Result<_, Corrupt>>()?;
    Ok(Cut { phase, kind, until, blocks })
}

fn decode_chunks<'a>(body: &mut Cursor<'a>) -> Result<Vec<ChunkRecord<'a>>, Corrupt> {
    let (count, mut deltas) = (body.count()?, Deltas::default());
    let mut chunk = || {
        let series = deltas.take_ref(body)?;
        let kind = body.u8()?;
        let encoding = Encoding::parse(body.u8()?, body.offset())?;
        let (min_time, max_time, next_at) = (body.varint()?, body.varint()?, body.varint()?);
        let len = body.count()?;
        let data = body.bytes(len)?;
        let kind = match kind {
            0 => ChunkKind::Closed,
            1 => ChunkKind::Open,
            2 => ChunkKind::Late,
            3 => {
                let delta = body.varint()?;
                let value = body.u64_le()?;
                ChunkKind::Growing(TailState { delta, value, above: body.u8()?, below: body.u8()?, used: body.u8()? })
            }
            other => return Err(body.corrupt(format!("chunk of kind {other} is not known"))),
        };
        Ok(ChunkRecord { series, kind, encoding, min_time, max_time, next_at, data })
    };
    (0..count).map(|_| chunk()).collect()
}

fn decode_state(body: &mut Cursor<'_>) -> Result<HeadState, Corrupt> {
    let (min_valid_time, max_time) = (body.varint()?, body.varint()?);
    let next_ref = u32::try_from(body.uvarint()?).map_err(|_| body.corrupt("no such series"))?;
    Ok(HeadState { min_valid_time, max_time, next_ref })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same records, lengths as short as they can be.
    fn with_short_lengths(mut bytes: &[u8]) -> Vec<u8> {
        let mut short = Vec::new();
        while let Some((kind, rest)) = bytes.split_first() {
            let (len, width) = varint::decode_u64(rest).unwrap();
            assert_eq!(width, LEN_BYTES);
            let (body, behind) = rest[width..].split_at(len as usize);
            short.push(*kind);
            varint::encode_u64(len, &mut short);
            short.extend_from_slice(body);
            bytes = behind;
        }
        short
    }

    #[test]
    fn planes_hold_byte_after_byte_of_all_values() {
        let mut state = 7u64;
        let mut value = |_: i32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            f64::from_bits(state ^ state >> 29)
        };
        for count in 0..40 {
            let values: Vec<f64> = (0..count).map(&mut value).collect();
            let mut planes = vec![9];
            put_planes(&values, &mut planes);
            let bytes = (0..8).flat_map(|plane| values.iter().map(move |value| value.to_le_bytes()[plane]));
            assert_eq!(planes, [9].into_iter().chain(bytes).collect::<Vec<u8>>(), "{count} values");
        }
    }

    #[test]
    fn records_come_back_and_no_cut_of_them_is_taken_for_whole() {
        let mut labels = Vec::new();
        EncodedLabels::push(b"__name__", b"up", &mut labels);
        let series = vec![(7, EncodedLabels(&labels)), (3, EncodedLabels(&labels))];
        let mut rows = FloatRows::default();
        for at in 0..50 {
            rows.push(100 - at, 1_700_000_000_000 + i64::from(at % 3), f64::from(at) * 1.5);
        }
        let histograms: Vec<(u32, i64, HistogramValue)> =
            histogram::examples().into_iter().enumerate().map(|(at, value)| (at as u32, -5, value)).collect();
        let cut = Cut {
            phase: CutPhase::Done,
            kind: CutKind::OutOfOrder,
            until: -1,
            blocks: vec![BlockId::from_parts(1, 2), BlockId(u128::MAX >> 1)],
        };
        let exemplars = vec![(1, 2, 0.5, EncodedLabels(&labels)), (1, 2, 0.5, EncodedLabels(&[]))];
        let metadata = vec![MetadataRecord { kind: 2, name: "up", help: "é", unit: "" }];
        let mut recorder = Recorder::default();
        recorder.tenant(1, "team-a");
        recorder.series(1, series.clone().into_iter());
        recorder.floats(1, Order::Kept, &rows);
        recorder.floats(1, Order::Kept, &FloatRows::default());
        let borrowed: Vec<_> = histograms.iter().map(|(number, time, value)| (*number, *time, value)).collect();
        recorder.histograms(1, Order::Broken, borrowed.into_iter());
        recorder.exemplars(1, &exemplars);
        recorder.metadata(1, &metadata);
        recorder.cut(1, &cut);
        recorder.removed(1);
        let chunk = ChunkRecord {
            series: 9,
            kind: ChunkKind::Late,
            encoding: Encoding::Xor,
            min_time: -1,
            max_time: 5,
            next_at: i64::MAX,
            data: b"data",
        };
        let state = TailState { delta: -7, value: 1 << 63, above: 3, below: 50, used: 7 };
        let growing = ChunkRecord { series: 2, kind: ChunkKind::Growing(state), ..chunk };
        recorder.chunks(1, [chunk, growing].into_iter());
        let state = HeadState { min_valid_time: i64::MIN, max_time: 5, next_ref: 7 };
        recorder.state(1, &state);
        let expected = [
            Record::Tenant(1, "team-a"),
            Record::Series(1, series),
            Record::Floats(1, Order::Kept, rows),
            Record::Histograms(1, Order::Broken, histograms.clone()),
            Record::Exemplars(1, exemplars),
            Record::Metadata(1, metadata),
            Record::Cut(1, cut),
            Record::Removed(1),
            Record::Chunks(1, vec![chunk, growing]),
            Record::State(1, state),
        ];
        let bytes = recorder.bytes();
        assert_eq!(records(bytes, 0).collect::<Result<Vec<_>, _>>().unwrap(), expected);
        assert_eq!(records(&with_short_lengths(bytes), 0).collect::<Result<Vec<_>, _>>().unwrap(), expected);
        let whole = (0..bytes.len()).filter(|end| records(&bytes[..*end], 0).all(|record| record.is_ok())).count();
        assert_eq!(whole, expected.len());
    }

    #[test]
    fn records_in_memory_that_is_used_again_are_the_same_and_it_is_used_where_it_is_large_enough() {
        let mut rows = FloatRows::default();
        (0..100).for_each(|at| rows.push(at, 1_000, 0.5));
        let mut fresh = Recorder::default();
        fresh.floats(1, Order::Kept, &rows);
        let mut recorder = Recorder::default();
        let expected = fresh.take();
        for len in [4 * expected.len(), 0, 10, 4 * expected.len()] {
            recorder.reuse(|| Vec::with_capacity(len));
            recorder.floats(1, Order::Kept, &rows);
            // There are records.
            recorder.reuse(Vec::new);
            assert_eq!(recorder.bytes(), expected);
            let taken = recorder.take();
            assert_eq!((taken.capacity() >= 4 * expected.len(), taken.capacity() >= expected.len()), (len > 10, true));
        }
    }

    #[test]
    fn an_exemplar_whose_labels_are_none_is_left_out_and_hides_no_other() {
        let encode = |pairs: &[(&str, &str)]| {
            let mut out = Vec::new();
            pairs.iter().for_each(|(name, value)| EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut out));
            out
        };
        let bad = [&[("trace_id", "")][..], &[("", "a")], &[("b", "1"), ("a", "1")], &[("a", "1"), ("a", "2")]];
        let (good, bad) = (encode(&[("trace_id", "a")]), bad.map(encode));
        let first = (7, 100, 0.5, EncodedLabels(&good));
        let last = (9, 70, 1.5, EncodedLabels(&[]));
        let mut rows = vec![first];
        rows.extend(bad.iter().map(|labels| (3, 50, 2.5, EncodedLabels(labels))));
        rows.push(last);
        let mut recorder = Recorder::default();
        recorder.exemplars(1, &rows);
        let found = records(recorder.bytes(), 0).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(found, [Record::Exemplars(1, vec![first, last])]);
    }
}
