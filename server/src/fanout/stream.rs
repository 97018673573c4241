//! The frames of one endpoint's Series call, as owned series that share the frames' bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use engine::chunk::{Encoding, reencode_for_storeapi};
use engine::model::{Budget, Error, ErrorKind, Labels, Reservation};
use engine::select::{Aggregate, ChunkData, ChunkSet, ShardInfo};
use prometheus_client::metrics::counter::Counter;
use prost::Message;
use proto::series::{AggrChunkView, AggrPart, ChunkKind, ChunkView, ResponseView, SeriesView, scan};
use proto::wire::Malformed;
use tokio::time::Instant;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status, Streaming};

use super::ahead::{LAZY, WITHOUT_MEMORY};
use super::dial;
use super::endpoints::Peer;

/// One series of an endpoint.
#[derive(Clone, Debug)]
pub struct RemoteSeries {
    /// Labels, ascending.
    pub labels: Arc<Labels>,
    /// Chunks in the order in which they came.
    pub chunks: Vec<RemoteChunk>,
}

/// The chunks of one range of time; they share the bytes of their frame. Copies are equal, whoever sent them.
#[derive(Clone, Debug)]
pub struct RemoteChunk {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// Raw, count, sum, min, max, counter.
    pub parts: [Option<(ChunkKind, Bytes)>; 6],
    /// The number of the endpoint that sent it.
    pub endpoint: usize,
}

impl PartialEq for RemoteChunk {
    fn eq(&self, other: &Self) -> bool {
        (self.min_time, self.max_time) == (other.min_time, other.max_time) && self.parts == other.parts
    }
}

impl Eq for RemoteChunk {}

impl RemoteSeries {
    /// Bytes of its labels, of its chunks with the room that their list has for more, and of their data.
    pub fn bytes(&self) -> u64 {
        let labels = size_of::<(Labels, [usize; 2])>() + self.labels.heap_bytes();
        let slots = self.chunks.capacity() * size_of::<RemoteChunk>();
        (labels + slots) as u64 + self.chunks.iter().map(RemoteChunk::data_bytes).sum::<u64>()
    }
}

const PARTS: [AggrPart; 6] =
    [AggrPart::Raw, AggrPart::Count, AggrPart::Sum, AggrPart::Min, AggrPart::Max, AggrPart::Counter];

impl RemoteChunk {
    /// Bytes of its data.
    pub fn data_bytes(&self) -> u64 {
        self.parts.iter().flatten().map(|(_, data)| data.len() as u64).sum()
    }

    /// First and last time, and how raw samples are encoded, where there are some.
    pub fn outline(&self) -> (i64, i64, Option<Encoding>) {
        (self.min_time, self.max_time, self.parts[0].as_ref().map(|(kind, _)| encoding(*kind)))
    }

    /// The data of raw samples, where there are some.
    pub fn raw_data(&self) -> Option<&[u8]> {
        self.parts[0].as_ref().map(|(_, data)| data.as_ref())
    }

    /// All of it, borrowed.
    pub fn as_set(&self) -> ChunkSet<'_> {
        let mut set = ChunkSet::empty(self.min_time, self.max_time);
        for (part, found) in set.parts.iter_mut().zip(&self.parts) {
            *part = found.as_ref().map(|(kind, data)| ChunkData { encoding: encoding(*kind), data });
        }
        set
    }
}

fn encoding(kind: ChunkKind) -> Encoding {
    match kind {
        ChunkKind::Xor => Encoding::Xor,
        ChunkKind::Histogram => Encoding::Histogram,
        ChunkKind::FloatHistogram => Encoding::FloatHistogram,
    }
}

/// The series of one endpoint, read frame by frame.
pub struct SeriesStream {
    address: String,
    /// The endpoint's number among those of its merge.
    number: usize,
    frames: Streaming<Bytes>,
    /// Counts frames that are too large.
    memory: Arc<Budget>,
    ahead: Ahead,
    waiting: VecDeque<RemoteSeries>,
    /// What the frame that they came in takes, and they beside its bytes.
    held: Tally,
    frame_timeout: Option<Duration>,
    /// When the last frame was taken, or the call began.
    silent_since: Instant,
    last: Option<Arc<Labels>>,
    dropped_labels: Vec<String>,
    shard: Option<ShardInfo>,
    hashed: Vec<u8>,
    /// Counted when the endpoint ends without a frame; taken by its first.
    if_empty: Option<Counter>,
    /// Bytes of warnings that may still come; none when there were too many.
    warning_bytes_left: Option<usize>,
    /// Whether it was said that chunks are left out.
    told_of_unread: bool,
}

/// Frames that have been read before they were asked for.
#[derive(Debug)]
struct Ahead {
    frames: VecDeque<Bytes>,
    /// The process' memory that they take.
    held: Reservation,
    /// How much that is of what may be read ahead, and a little more.
    share: Reservation,
    /// Bytes of them that are not accounted for yet.
    pending: u64,
    /// How the answer ended behind them.
    end: Option<Result<(), Status>>,
}

impl Ahead {
    fn new(limits: &StreamLimits) -> Result<Self, Error> {
        let (held, share) = (limits.memory.reserve(0)?, limits.ahead.reserve(0)?);
        Ok(Self { frames: VecDeque::new(), held, share, pending: 0, end: None })
    }

    /// Bytes that a frame which is kept takes.
    fn bytes(frame: &Bytes) -> u64 {
        (frame.len() + size_of::<Bytes>()) as u64
    }

    /// The first of them with what it is accounted for, or the end; `None` where nothing was read ahead.
    fn take(&mut self) -> Option<Result<Option<(Bytes, Reservation)>, Status>> {
        let Some(frame) = self.frames.pop_front() else {
            return self.end.as_ref().map(|end| end.clone().map(|()| None));
        };
        let bytes = Self::bytes(&frame);
        let held = self.held.split(bytes);
        self.pending = self.pending.saturating_sub(bytes - held.bytes());
        let surplus = self.share.bytes() - self.held.bytes();
        if surplus >= TALLY_BYTES || self.frames.is_empty() {
            self.share.shrink(surplus);
        }
        Some(Ok(Some((frame, held))))
    }

    /// Accounts for what has been read, once that is much; whether there is room for it.
    fn settle(&mut self) -> bool {
        if self.pending < TALLY_BYTES {
            return true;
        }
        if !self.share.try_grow(self.pending) {
            return false;
        }
        if !self.held.try_grow(self.pending) {
            self.share.shrink(self.pending);
            return false;
        }
        self.pending = 0;
        true
    }
}

/// Memory of a frame, accounted for as it is taken: a frame of a few bytes for each chunk or label becomes
/// many times as large.
#[derive(Debug)]
struct Tally {
    held: Reservation,
    /// Bytes of it that a series of the frame before takes, which whoever asks for the next one may not have
    /// accounted for yet.
    before: u64,
    /// Bytes of the frame.
    frame: u64,
    /// Bytes that are taken and not accounted for yet.
    pending: u64,
    /// Why no more is to be taken, and how many bytes were too many.
    refusal: Option<(Error, u64)>,
}

/// Bytes that are accounted for at a time.
const TALLY_BYTES: u64 = 64 << 10;

/// Bytes of a frame and its series from which on its last series is accounted for until the frame after the next one.
const LARGE_BYTES: u64 = 1 << 20;

/// Chunks that a list of them has room for at first.
const FIRST_CHUNKS: usize = 4;

impl Tally {
    /// Takes a frame of so many bytes in place of the one before. What a small one leaves of it is kept, so that
    /// frames of one series each do not come to a lock that all share.
    fn begin(&mut self, frame_bytes: u64) -> Result<(), Error> {
        (self.pending, self.frame) = (0, frame_bytes);
        let (held, wanted) = (self.held.bytes(), frame_bytes + self.before);
        if (wanted..=wanted + TALLY_BYTES).contains(&held) { Ok(()) } else { self.held.resize(wanted) }
    }

    /// Gives back all.
    fn end(&mut self) {
        (self.before, self.pending) = (0, 0);
        self.held.shrink(self.held.bytes());
    }

    /// Notes that `series` is the last of its frame, all of which stays as long as data of its chunks does.
    fn hand_over(&mut self, series: &RemoteSeries) {
        let is_large = self.held.bytes() - self.before.min(self.held.bytes()) >= LARGE_BYTES;
        self.before = 0;
        if is_large {
            let data: u64 = series.chunks.iter().map(RemoteChunk::data_bytes).sum();
            let rest = if data > 0 { self.frame.saturating_sub(data) } else { 0 };
            self.before = series.bytes() + rest;
        }
    }

    /// Whether there is room for so many bytes.
    fn take(&mut self, bytes: u64) -> bool {
        self.pending += bytes;
        if self.pending >= TALLY_BYTES && self.refusal.is_none() {
            let wanted = std::mem::take(&mut self.pending);
            self.refusal = self.held.grow(wanted).err().map(|error| (error, wanted));
        }
        self.refusal.is_none()
    }

    /// Whether there is room for a `T`.
    fn add<T>(&mut self) -> bool {
        self.take(size_of::<T>() as u64)
    }

    /// Whether there is room for one more in `chunks`. One that is full takes its old and its new room until all have
    /// moved, and only the new one from then on.
    fn make_room(&mut self, chunks: &mut Vec<RemoteChunk>) -> bool {
        let count = chunks.capacity();
        if chunks.len() < count {
            return self.refusal.is_none();
        }
        let slots = |count: usize| (count * size_of::<RemoteChunk>()) as u64;
        let more = count.max(FIRST_CHUNKS);
        if !self.take(slots(count + more)) {
            return false;
        }
        chunks.reserve_exact(more);
        match self.pending.checked_sub(slots(count)) {
            Some(pending) => self.pending = pending,
            // It was accounted for just now.
            None => self.held.shrink(slots(count)),
        }
        true
    }
}

/// Most bytes of warnings of one call.
pub(super) const WARNING_BYTES_MAX: usize = 1 << 20;

/// What ends a stream before its end.
#[derive(Clone, Debug)]
pub struct StreamLimits {
    /// Longest time between two frames; none for any.
    pub frame_timeout: Option<Duration>,
    /// Most bytes of a frame.
    pub frame_bytes_max: usize,
    /// The memory that frames are to fit in.
    pub memory: Arc<Budget>,
    /// The part of it that frames may take which are read before they are asked for.
    pub ahead: Arc<Budget>,
}

/// Time in which a frame that has arrived is handed over.
const PROMPT: Duration = Duration::from_millis(20);

/// That nothing has come for so long.
pub(super) fn silence(timeout: Duration) -> String {
    format!("failed to receive any data in {timeout:?} (--store.response-timeout)")
}

/// What a stream gives.
#[derive(Debug)]
pub enum Item {
    /// A series.
    Series(RemoteSeries),
    /// A warning of the endpoint.
    Warning(String),
    /// There is no memory for a frame beside what else is held: no answer is whole without it.
    NoMemory(Error),
}

impl SeriesStream {
    /// Calls Series of `peer`. Labels of `dropped` are taken out of every series that has them.
    pub async fn open(
        peer: &Peer,
        request: Request<proto::thanos::SeriesRequest>,
        limits: StreamLimits,
        dropped: Vec<String>,
    ) -> Result<Self, Error> {
        let ahead = Ahead::new(&limits)?;
        let StreamLimits { frame_timeout, frame_bytes_max, memory, .. } = limits;
        let failed = |status: Status| failure("receive series", &peer.address, &status, &memory);
        let silent_since = Instant::now();
        let mut client = tonic::client::Grpc::new(peer.channel.clone()).max_decoding_message_size(frame_bytes_max);
        client.ready().await.map_err(|error| failed(Status::unavailable(error.to_string())))?;
        let path = http::uri::PathAndQuery::from_static("/thanos.Store/Series");
        let call = client.server_streaming(request, path, RawCodec::default());
        let answer = match frame_timeout {
            None => call.await,
            Some(timeout) => {
                let late = |_| Status::deadline_exceeded(silence(timeout));
                tokio::time::timeout(timeout, call).await.map_err(late).and_then(|answer| answer)
            }
        };
        Ok(Self {
            address: peer.address.clone(),
            number: 0,
            frames: answer.map_err(failed)?.into_inner(),
            held: Tally { held: memory.reserve(0)?, before: 0, frame: 0, pending: 0, refusal: None },
            ahead,
            memory,
            waiting: VecDeque::new(),
            frame_timeout,
            silent_since,
            last: None,
            dropped_labels: dropped,
            shard: None,
            hashed: Vec::new(),
            if_empty: None,
            warning_bytes_left: Some(WARNING_BYTES_MAX),
            told_of_unread: false,
        })
    }

    /// The same stream without series of other shares than `shard`, for an endpoint that gives all of them.
    pub fn narrowed_to(self, shard: Option<ShardInfo>) -> Self {
        Self { shard, ..self }
    }

    /// The same stream, as the one of endpoint `number` of its merge.
    pub fn numbered(self, number: usize) -> Self {
        Self { number, ..self }
    }

    /// The same stream, counted by `empty` if it ends without a frame.
    pub fn counting_empty(self, empty: &Counter) -> Self {
        Self { if_empty: Some(empty.clone()), ..self }
    }

    /// The address of the endpoint.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Notes that it was said of endpoint `number` that chunks are left out.
    pub fn note_told(&mut self, number: usize) {
        self.told_of_unread |= self.number == number;
    }

    /// The next item; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(series) = self.waiting.pop_front() {
                if self.waiting.is_empty() {
                    self.held.hand_over(&series);
                }
                self.check_order(&series)?;
                if self.shard.as_ref().is_some_and(|shard| !shard.contains(series.labels.iter(), &mut self.hashed)) {
                    continue;
                }
                return Ok(Some(Item::Series(series)));
            }
            let frame = self.frame().await;
            let if_empty = self.if_empty.take();
            let failed = |status| failure("receive series", &self.address, &status, &self.memory);
            let Some(frame) = frame.map_err(failed)? else {
                self.held.end();
                if_empty.inspect(|empty| {
                    empty.inc();
                });
                return Ok(None);
            };
            let warning = self.read(&frame)?.and_then(|warning| self.admit(warning));
            // A frame that is too large by itself is its endpoint's fault, and all others' answers are one.
            if let Some((refusal, wanted)) = self.held.refusal.take() {
                let refusal = refusal.within(format!("endpoint {}", self.address));
                let frame = self.held.held.bytes().saturating_add(wanted).saturating_sub(self.held.before);
                let is_too_large = frame > self.memory.limit() / 4;
                self.waiting.clear();
                self.held.end();
                return if is_too_large { Err(refusal) } else { Ok(Some(Item::NoMemory(refusal))) };
            }
            if let Some(warning) = warning {
                return Ok(Some(Item::Warning(warning)));
            }
        }
    }

    /// The next frame, be it one that was read ahead.
    async fn frame(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(taken) = self.ahead.take() {
            return Ok(taken?.map(|(frame, held)| {
                self.held.held.join(held);
                frame
            }));
        }
        // What was sent while nobody looked lies ready, so silence counts from the last frame on: of
        // several endpoints that hang, each is waited for at the same time.
        let frame = match self.frame_timeout {
            None => self.frames.message().await,
            Some(timeout) => {
                let late = |_| Status::deadline_exceeded(silence(timeout));
                let end = (self.silent_since + timeout).max(Instant::now() + PROMPT);
                tokio::time::timeout_at(end, self.frames.message()).await.map_err(late).and_then(|frame| frame)
            }
        };
        self.silent_since = Instant::now();
        if let Ok(None) = frame {
            self.ahead.end = Some(Ok(()));
        }
        frame
    }

    /// Whether the endpoint may send more.
    pub fn sends(&self) -> bool {
        self.ahead.end.is_none()
    }

    /// Reads frames before they are asked for, as long as this is polled. Comes back with Limit when meanwhile there
    /// was no memory for them for long. Nothing is lost when the future is dropped.
    pub async fn read_ahead(&mut self) -> Error {
        let mut short_since = None;
        while self.ahead.end.is_none() {
            if !self.ahead.settle() {
                let short_since = *short_since.get_or_insert_with(Instant::now);
                if short_since.elapsed() >= WITHOUT_MEMORY.max(self.frame_timeout.unwrap_or_default()) {
                    let whose = format_args!("no room for what {} sends while others are waited for", self.address);
                    return self.memory.refuse(whose);
                }
                tokio::time::sleep(LAZY).await;
                continue;
            }
            short_since = None;
            match self.frames.message().await {
                Ok(Some(frame)) => {
                    self.silent_since = Instant::now();
                    self.ahead.pending += Ahead::bytes(&frame);
                    self.ahead.frames.push_back(frame);
                }
                end => self.ahead.end = Some(end.map(|_| ())),
            }
        }
        std::future::pending().await
    }

    /// `warning`, while there is room for it; in place of the first that is too much it is said that it and
    /// all behind it are left out.
    fn admit(&mut self, warning: String) -> Option<String> {
        // Also those without words take memory.
        self.warning_bytes_left = self.warning_bytes_left?.checked_sub(warning.len() + size_of::<String>());
        Some(self.warning_bytes_left.map_or_else(
            || format!("endpoint {}: warnings beyond {WARNING_BYTES_MAX} bytes are left out", self.address),
            |_| warning,
        ))
    }

    /// Takes the series of `frame`; gives its warning, if it is one, or one of chunks that are left out. Without memory
    /// for all of them the tally says why.
    fn read(&mut self, frame: &Bytes) -> Result<Option<String>, Error> {
        let whose = |error: Error| error.within(format!("endpoint {}", self.address));
        let bad = |error: &dyn std::fmt::Display| whose(Error::new(ErrorKind::Corrupt, error.to_string()));
        if let Err(refusal) = self.held.begin(frame.len() as u64) {
            self.held.refusal = Some((refusal, 0));
            return Ok(None);
        }
        let (sent, dropped, held) = ((frame, self.number), &self.dropped_labels, &mut self.held);
        let mut unread: Option<String> = None;
        match scan(frame).map_err(|error| bad(&error))? {
            ResponseView::Series(view) => {
                self.waiting.push_back(owned(sent, view, dropped, held, &mut unread).map_err(|error| bad(&error))?);
            }
            ResponseView::Batch(batch) => {
                for view in batch {
                    let series = view.and_then(|view| owned(sent, view, dropped, held, &mut unread));
                    self.waiting.push_back(series.map_err(|error| bad(&error))?);
                    if held.refusal.is_some() {
                        break;
                    }
                }
            }
            ResponseView::Warning(text) => return Ok(Some(text.to_owned())),
            ResponseView::Hints(_) | ResponseView::Unknown => {}
        }
        // Said once, as every frame may have some.
        let unread = unread.filter(|_| !std::mem::replace(&mut self.told_of_unread, true));
        Ok(unread.map(|first| left_out(&self.address) + &first))
    }

    /// The next series where it has come already and nothing is wrong with it. Most come so, many in a frame.
    pub fn ready(&mut self) -> Option<RemoteSeries> {
        let next = self.waiting.front()?;
        if self.shard.is_some() || self.before(next).is_some() {
            return None;
        }
        if self.waiting.len() == 1 {
            self.held.hand_over(next);
        }
        self.last = Some(Arc::clone(&next.labels));
        self.waiting.pop_front()
    }

    /// The labels before `series`, if they should come behind it.
    fn before(&self, series: &RemoteSeries) -> Option<&Labels> {
        let last = self.last.as_deref().filter(|_| self.dropped_labels.is_empty());
        last.filter(|last| *series.labels < **last)
    }

    fn check_order(&mut self, series: &RemoteSeries) -> Result<(), Error> {
        if let Some(last) = self.before(series) {
            let (labels, last) = (brief(&series.labels), brief(last));
            let message = format!("endpoint {}: series {labels} came after {last}: they must ascend", self.address);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        self.last = Some(Arc::clone(&series.labels));
        Ok(())
    }
}

/// What is said before the first chunk of the endpoint `address` that cannot be read.
pub(super) fn left_out(address: &str) -> String {
    format!("endpoint {address}: chunks that cannot be read are left out, ")
}

/// What is said of a chunk that cannot be read.
pub(super) fn one_of(labels: &Labels, why: &dyn fmt::Display) -> String {
    format!("one of series {}: {why}", brief(labels))
}

/// Most bytes of the labels of a series in a warning.
const TOLD_LABELS_BYTES: usize = 1 << 10;

/// The beginning of a text.
struct Beginning(String);

impl fmt::Write for Beginning {
    /// Fails at what is too much.
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = part.floor_char_boundary(TOLD_LABELS_BYTES - self.0.len());
        self.0.push_str(&part[..end]);
        if end == part.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// `labels` as a warning tells them, cut where they are long.
fn brief(labels: &Labels) -> String {
    let mut text = Beginning(String::new());
    if write!(text, "{labels}").is_err() {
        text.0.push_str("...");
    }
    text.0
}

/// The series that `view` of a frame of an endpoint is, without labels of `dropped`; a part of it once there is no more
/// memory, as `held` tells. Chunks that cannot be read are left out, and `unread` says why, if it says nothing yet.
fn owned(
    sent: (&Bytes, usize),
    view: SeriesView<'_>,
    dropped: &[String],
    held: &mut Tally,
    unread: &mut Option<String>,
) -> Result<RemoteSeries, Malformed> {
    let mut why_unread = None;
    let mut pairs: Vec<(&[u8], &[u8])> = Vec::with_capacity(16);
    let mut chunks = Vec::new();
    // Its labels are an allocation of their own, with counts in front.
    held.add::<(RemoteSeries, Labels, [usize; 4])>();
    let room = RefCell::new(held);
    view.read(
        |name, value| {
            if !dropped.iter().any(|dropped| dropped.as_bytes() == name) && room.borrow_mut().add::<(&[u8], &[u8])>() {
                pairs.push((name, value));
            }
        },
        |set| {
            let mut held = room.borrow_mut();
            if held.make_room(&mut chunks) {
                match owned_chunk(sent, &set, &mut held) {
                    Ok(chunk) => chunks.push(chunk),
                    Err(why) => why_unread = Some(why),
                }
            }
        },
    )?;
    let labels = labels_of(&pairs)?;
    if let Some(why) = why_unread {
        unread.get_or_insert_with(|| one_of(&labels, &why));
    }
    Ok(RemoteSeries { labels: Arc::new(labels), chunks })
}

/// The chunks that `set` of `frame` of an endpoint is; else why one of them cannot be read.
fn owned_chunk(
    (frame, endpoint): (&Bytes, usize),
    set: &AggrChunkView<'_>,
    held: &mut Tally,
) -> Result<RemoteChunk, String> {
    let mut parts: [Option<(ChunkKind, Bytes)>; 6] = Default::default();
    for (part, owned) in PARTS.into_iter().zip(&mut parts) {
        *owned = match set.part(part) {
            Some(ChunkView { kind: Ok(kind), data, .. }) => Some((kind, frame.slice_ref(data))),
            Some(ChunkView { kind: Err(number), data, .. }) => Some(recoded(number, data, held)?),
            None => None,
        };
    }
    Ok(RemoteChunk { min_time: set.min_time, max_time: set.max_time, parts, endpoint })
}

/// A chunk of another encoding of Prometheus as one of StoreAPI; else why it cannot be read. Thanos' sidecar passes
/// such chunks on, under Prometheus' number of the encoding less one.
fn recoded(number: u64, data: &[u8], held: &mut Tally) -> Result<(ChunkKind, Bytes), String> {
    let (encoding, kind) = match number {
        3 => (Encoding::Xor2, ChunkKind::Xor),
        4 => (Encoding::HistogramSt, ChunkKind::Histogram),
        5 => (Encoding::FloatHistogramSt, ChunkKind::FloatHistogram),
        _ => return Err(format!("chunk encoding {number} is not known")),
    };
    let mut plain = Vec::new();
    reencode_for_storeapi(encoding, data, &mut plain).map_err(|corrupt| corrupt.to_string())?;
    plain.shrink_to_fit();
    held.take(plain.capacity() as u64);
    Ok((kind, plain.into()))
}

/// The labels that `pairs` are, which need not ascend.
fn labels_of(pairs: &[(&[u8], &[u8])]) -> Result<Labels, Malformed> {
    let malformed = Malformed { message: "Label", reason: "string is not UTF-8" };
    if pairs.is_sorted_by(|left, right| left.0 < right.0) {
        return Labels::decode_sorted(pairs).ok_or(malformed);
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| malformed.clone());
    let pairs = pairs.iter().map(|(name, value)| Ok((text(name)?, text(value)?)));
    Ok(Labels::from_pairs(pairs.collect::<Result<Vec<_>, Malformed>>()?))
}

/// What tonic says of a message that is larger than it was told to take.
const TOO_LARGE: &str = "decoded message length too large";

/// What went wrong with an endpoint while `what` was done. A message that was larger than is taken is refused
/// by `memory`.
pub fn failure(what: &str, address: &str, status: &Status, memory: &Budget) -> Error {
    if status.code() == tonic::Code::OutOfRange && status.message().contains(TOO_LARGE) {
        return memory.refuse(format_args!("{what} from {address}: {}", status.message()));
    }
    let kind = match status.code() {
        tonic::Code::InvalidArgument => ErrorKind::Invalid,
        tonic::Code::ResourceExhausted => ErrorKind::Limit,
        // Also when the endpoint's time was over, or it gave up: the query's own time isn't.
        _ => ErrorKind::Unavailable,
    };
    let (code, words) = dial::explain(status);
    Error::new(kind, format!("{what} from {address}: rpc error: code = {code:?} desc = {words}"))
}

/// Sends a `Q`, and gives the messages of the answer as they are on the wire, to be read by hand.
#[derive(Debug)]
pub struct RawCodec<Q>(PhantomData<fn(Q)>);

impl<Q> Default for RawCodec<Q> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Q: Message + 'static> Codec for RawCodec<Q> {
    type Encode = Q;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<Q: Message> Encoder for RawCodec<Q> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, item: Q, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q> Decoder for RawCodec<Q> {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// An [`Aggregate`] of the engine as the wire numbers it.
pub fn aggregate_number(aggregate: Aggregate) -> i32 {
    match aggregate {
        Aggregate::Count => 1,
        Aggregate::Sum => 2,
        Aggregate::Min => 3,
        Aggregate::Max => 4,
        Aggregate::Counter => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(memory: &Arc<Budget>) -> Tally {
        Tally { held: memory.reserve(0).unwrap(), before: 0, frame: 0, pending: 0, refusal: None }
    }

    fn chunk() -> RemoteChunk {
        RemoteChunk { min_time: 1, max_time: 2, parts: Default::default(), endpoint: 0 }
    }

    #[test]
    fn a_list_of_chunks_is_accounted_for_beside_the_one_that_it_grows_out_of() {
        let memory = Budget::new("--query.memory-limit", 1 << 20);
        let (mut held, mut chunks) = (tally(&memory), Vec::new());
        while held.make_room(&mut chunks) {
            chunks.push(chunk());
            let slots = chunks.capacity() * size_of::<RemoteChunk>();
            assert_eq!(held.held.bytes() + held.pending, slots as u64);
        }
        // Some 256 KiB fit beside 512 KiB, and these not beside 1 MiB.
        assert_eq!((chunks.len(), chunks.capacity()), (2048, 2048));
        assert!(held.refusal.is_some() && !held.make_room(&mut chunks));
    }

    #[test]
    fn labels_that_are_told_are_cut_where_they_are_long() {
        assert_eq!(brief(&Labels::from_pairs([("a", "b"), ("c", "\"")])), r#"{a="b", c="\""}"#);
        let told = brief(&Labels::from_pairs([("a", "ü".repeat(1 << 20).as_str())]));
        assert_eq!(told, format!("{{a=\"{}...", "ü".repeat(510)));
        let fits = Labels::from_pairs([("a", "b".repeat(TOLD_LABELS_BYTES - 6).as_str())]);
        assert_eq!(brief(&fits), fits.to_string());
    }

    #[test]
    fn a_large_series_is_accounted_for_while_the_frame_behind_its_own_is_read() {
        let memory = Budget::new("--query.memory-limit", 16 << 20);
        let (mut held, mut chunks) = (tally(&memory), Vec::new());
        held.begin(1000).unwrap();
        for _ in 0..8192 {
            assert!(held.make_room(&mut chunks));
            chunks.push(chunk());
        }
        let series = RemoteSeries { labels: Arc::default(), chunks };
        held.hand_over(&series);
        held.begin(10).unwrap();
        assert!(held.held.bytes() >= 10 + series.bytes());
        held.hand_over(&RemoteSeries { labels: Arc::default(), chunks: vec![chunk()] });
        held.begin(10).unwrap();
        assert_eq!(held.held.bytes(), 10);
    }

    #[test]
    fn a_frame_is_accounted_for_as_long_as_its_last_series_has_a_part_of_it() {
        let memory = Budget::new("--query.memory-limit", 16 << 20);
        let (mut held, frame) = (tally(&memory), Bytes::from(vec![0; 4 << 20]));
        let mut last = chunk();
        last.parts[0] = Some((ChunkKind::Xor, frame.slice(..100)));
        held.begin(frame.len() as u64).unwrap();
        held.hand_over(&RemoteSeries { labels: Arc::default(), chunks: vec![last] });
        held.begin(10).unwrap();
        assert!(held.held.bytes() >= 10 + frame.len() as u64);
        held.hand_over(&RemoteSeries { labels: Arc::default(), chunks: Vec::new() });
        held.begin(10).unwrap();
        assert_eq!(held.held.bytes(), 10);
    }
}
