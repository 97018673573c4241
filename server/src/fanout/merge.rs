//! Several sorted streams of series as one; a series of several streams comes once, with all its
//! chunks, each once.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use engine::model::{Budget, Error, ErrorKind, Labels, Reservation};
use engine::select::chunks::arrange;

use super::ahead::{self, Laziness, Together};
use super::stream::{Item, RemoteChunk, RemoteSeries, SeriesStream, left_out, one_of};
use crate::api::http::query::backend::OnFailure;
use crate::telemetry::metrics::Counters;

/// Streams of endpoints, merged as they are read.
pub struct Merge {
    streams: Vec<Feed>,
    /// Address of each endpoint by its number, and whether it was said that chunks of it are left out.
    endpoints: Vec<(String, bool)>,
    heads: BinaryHeap<Head>,
    failing: Failing,
    /// Series and samples that were given.
    given: (u64, u64),
    dropped: Counters,
    warnings: Vec<String>,
    started: bool,
    laziness: Laziness,
}

/// Samples that a chunk is taken for where samples are limited, as in Thanos.
const SAMPLES_PER_CHUNK: u64 = 120;

/// Most that one Series call gives; 0 for any number.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallLimits {
    /// Series (`--store.limits.request-series`).
    pub series: u64,
    /// Samples (`--store.limits.request-samples`), 120 to each chunk.
    pub samples: u64,
}

/// What ends a merge, and what only warns.
#[derive(Clone, Debug)]
pub struct Failing {
    /// Most series and samples of the merge; one more ends it, whatever becomes of endpoints that fail.
    pub limits: CallLimits,
    /// What becomes of an endpoint that fails.
    pub on_failure: OnFailure,
    /// The process' memory: a series that is larger than its limit ends the merge.
    pub memory: Arc<Budget>,
}

/// Where the series of one endpoint come from.
pub enum Feed {
    /// As they arrive; they come in order.
    Live(Box<SeriesStream>),
    /// All at once, put in order here: the endpoint can't keep the order without replica labels. The
    /// memory that they are accounted for with, where there is any.
    Sorted(std::vec::IntoIter<RemoteSeries>, Option<Reservation>),
}

struct Head {
    series: RemoteSeries,
    stream: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    /// The least labels are the greatest head, of equal ones the first stream.
    fn cmp(&self, other: &Self) -> Ordering {
        other.series.labels.cmp(&self.series.labels).then(other.stream.cmp(&self.stream))
    }
}

impl Merge {
    /// The merge of `streams`; `warnings` are those of endpoints that did not open.
    pub fn new(streams: Vec<Feed>, failing: Failing, warnings: Vec<String>) -> Self {
        let heads = BinaryHeap::with_capacity(streams.len());
        let (dropped, laziness) = (Counters::default(), Laziness::default());
        let endpoints = Vec::new();
        Self { streams, endpoints, heads, failing, given: (0, 0), dropped, warnings, started: false, laziness }
    }

    /// The same merge, of the endpoints at these addresses, which number them.
    pub fn of_endpoints(self, addresses: impl Iterator<Item = String>) -> Self {
        Self { endpoints: addresses.map(|address| (address, false)).collect(), ..self }
    }

    /// The same merge, counted by `dropped` when it ends at a limit.
    pub fn counting_dropped(self, dropped: &Counters) -> Self {
        Self { dropped: dropped.clone(), ..self }
    }

    /// The next series; `None` at the end. An error ends it.
    pub async fn next(&mut self) -> Result<Option<RemoteSeries>, Error> {
        if !self.started {
            self.started = true;
            self.start().await?;
        }
        let Some(mut merged) = self.take_least().await? else { return Ok(None) };
        let mut joined = None;
        while self.heads.peek().is_some_and(|head| head.series.labels == merged.labels) {
            // Accounted for before the next one comes, which takes memory beside it.
            let held = match &mut joined {
                Some(held) => held,
                None => joined.insert(self.failing.memory.reserve(merged.bytes())?),
            };
            if let Some(more) = self.take_least().await? {
                join(&mut merged, more, held)?;
            }
        }
        settle(&mut merged.chunks);
        self.count(&merged)?;
        Ok(Some(merged))
    }

    /// Counts one more series. Limit when it is one too many.
    fn count(&mut self, series: &RemoteSeries) -> Result<(), Error> {
        let CallLimits { series: series_max, samples: samples_max } = self.failing.limits;
        self.given.0 += 1;
        self.given.1 += series.chunks.len() as u64 * SAMPLES_PER_CHUNK;
        if series_max > 0 && self.given.0 > series_max {
            let message = format!("limit {series_max} violated (got {})", self.given.0);
            self.dropped.get_or_create(&vec![("reason", "series".to_owned())]).inc();
            return Err(Error::limit("store.limits.request-series", message));
        }
        if samples_max > 0 && self.given.1 > samples_max {
            let message = format!("limit {samples_max} violated (got {})", self.given.1);
            // Thanos counts chunks for samples, and calls them so.
            self.dropped.get_or_create(&vec![("reason", "chunks".to_owned())]).inc();
            return Err(Error::limit("store.limits.request-samples", message));
        }
        Ok(())
    }

    /// Says that a chunk which `endpoint` sent for series `labels` is left out, and why: a warning, one for all of an
    /// endpoint, or else the error that ends the merge.
    pub fn leave_out(&mut self, endpoint: usize, labels: &Labels, why: &Error) -> Result<(), Error> {
        let Some((address, is_told)) = self.endpoints.get_mut(endpoint) else { return Err(why.clone()) };
        let said = left_out(address);
        if self.failing.on_failure == OnFailure::Abort {
            return Err(Error::new(ErrorKind::Unavailable, said + &one_of(labels, why)));
        }
        if std::mem::replace(is_told, true) {
            return Ok(());
        }
        for feed in &mut self.streams {
            if let Feed::Live(live) = feed {
                live.note_told(endpoint);
            }
        }
        // Chunks that were left out as they came were told of then.
        if !self.warnings.iter().any(|warning| warning.starts_with(&said)) {
            self.warnings.push(said + &one_of(labels, why));
        }
        Ok(())
    }

    /// What went wrong so far.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Waits for the first series of every stream at once.
    async fn start(&mut self) -> Result<(), Error> {
        let (on_failure, together) = (self.failing.on_failure, Together::new(self.streams.len()));
        let firsts = ahead::all(self.streams.iter_mut().map(async |feed| {
            let mut warnings = Vec::new();
            let first = feed.advance(on_failure, &mut warnings).await?;
            together.arrive(feed.read_ahead()).await.map(|()| (first, warnings))
        }));
        for (stream, (first, warnings)) in firsts.await?.into_iter().enumerate() {
            self.warnings.extend(warnings);
            self.heads.extend(first.map(|series| Head { series, stream }));
        }
        Ok(())
    }

    async fn take_least(&mut self) -> Result<Option<RemoteSeries>, Error> {
        let Some(stream) = self.heads.peek().map(|head| head.stream) else { return Ok(None) };
        let next = match self.streams[stream].ready() {
            None => self.wait_for(stream).await?,
            ready => ready,
        };
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        Ok(Some(match next {
            Some(series) => std::mem::replace(&mut head.series, series),
            None => PeekMut::pop(head).series,
        }))
    }

    /// The next series of a stream, once it is there.
    async fn wait_for(&mut self, stream: usize) -> Result<Option<RemoteSeries>, Error> {
        let (before, rest) = self.streams.split_at_mut(stream);
        let [feed, behind @ ..] = rest else { return Ok(None) };
        let advance = feed.advance(self.failing.on_failure, &mut self.warnings);
        let others = before.iter_mut().chain(behind).filter(|feed| feed.sends());
        let reading = others.map(Feed::read_ahead);
        self.laziness.wait(advance, reading).await
    }
}

impl Feed {
    /// The next series; what goes wrong ends the feed with a warning, or the whole merge.
    async fn advance(
        &mut self,
        on_failure: OnFailure,
        warnings: &mut Vec<String>,
    ) -> Result<Option<RemoteSeries>, Error> {
        let live = match self {
            Self::Sorted(series, _) => return Ok(series.next()),
            Self::Live(live) => live,
        };
        loop {
            match (live.next().await, on_failure) {
                (Ok(None), _) => return Ok(None),
                (Ok(Some(Item::Series(series))), _) => return Ok(Some(series)),
                (Ok(Some(Item::Warning(text))), OnFailure::Warn) => warnings.push(text),
                (Ok(Some(Item::Warning(text))), OnFailure::Abort) => {
                    return Err(Error::new(ErrorKind::Unavailable, text));
                }
                (Ok(Some(Item::NoMemory(error))), _) | (Err(error), OnFailure::Abort) => return Err(error),
                (Err(error), OnFailure::Warn) => {
                    warnings.push(error.to_string());
                    // What comes after a failure can't be trusted, and the endpoint needn't send it.
                    *self = Self::Sorted(Vec::new().into_iter(), None);
                    return Ok(None);
                }
            }
        }
    }

    /// The next series where it is there already.
    fn ready(&mut self) -> Option<RemoteSeries> {
        match self {
            Self::Live(live) => live.ready(),
            Self::Sorted(series, _) => series.next(),
        }
    }

    /// Whether an endpoint may send more of it.
    fn sends(&self) -> bool {
        matches!(self, Self::Live(live) if live.sends())
    }

    /// Reads what its endpoint sends before it is asked for, as long as this is polled. Comes back with Limit when
    /// there was no memory for that for long.
    pub(super) async fn read_ahead(&mut self) -> Error {
        match self {
            Self::Live(live) => live.read_ahead().await,
            Self::Sorted(..) => std::future::pending().await,
        }
    }
}

/// Bytes of a series in a list: where it lies, in the room for as many again, and where it was before that or is put
/// in order.
const LISTED_BYTES: u64 = 3 * size_of::<RemoteSeries>() as u64;

/// All series of a stream, in order, and the memory that they take; of one that fails those before. Limit when there
/// is not so much.
pub async fn collect(
    stream: SeriesStream,
    (memory, on_failure): (&Arc<Budget>, OnFailure),
    warnings: &mut Vec<String>,
) -> Result<(Vec<RemoteSeries>, Reservation), Error> {
    let (mut all, mut held) = (Vec::new(), memory.reserve(0)?);
    let address = stream.address().to_owned();
    let mut feed = Feed::Live(Box::new(stream));
    while let Some(series) = feed.advance(on_failure, warnings).await? {
        let whose = |error: Error| error.within(format!("putting what {address} sends in order"));
        held.grow(series.bytes() + LISTED_BYTES).map_err(whose)?;
        all.push(series);
    }
    all.sort_by(|left: &RemoteSeries, right: &RemoteSeries| left.labels.cmp(&right.labels));
    Ok((all, held))
}

/// Adds the chunks of `more` to those of `merged`, of which `held` has the bytes. Where there is no room for all,
/// copies are taken out first.
fn join(merged: &mut RemoteSeries, mut more: RemoteSeries, held: &mut Reservation) -> Result<(), Error> {
    if make_room(&mut merged.chunks, &more.chunks, held).is_err() {
        settle(&mut merged.chunks);
        let is_known = |chunk: &RemoteChunk| {
            let is_single = chunk.parts.iter().flatten().count() <= 1;
            is_single && merged.chunks.binary_search_by(|known| order(known, chunk)).is_ok()
        };
        more.chunks.retain(|chunk| !is_known(chunk));
        let fits = held.resize(merged.bytes()).and_then(|()| make_room(&mut merged.chunks, &more.chunks, held));
        fits.map_err(|error| error.within(format!("joining the parts of series {}", merged.labels)))?;
    }
    merged.chunks.extend(more.chunks);
    Ok(())
}

/// Bytes of a list of chunks from which on it counts that it is there twice while it grows.
const TWICE_BYTES: u64 = 64 << 10;

/// Makes room in `chunks` for those of `more`; `held` then has the bytes of these, too.
fn make_room(chunks: &mut Vec<RemoteChunk>, more: &[RemoteChunk], held: &mut Reservation) -> Result<(), Error> {
    let data: u64 = more.iter().map(RemoteChunk::data_bytes).sum();
    let (count, wanted) = (chunks.capacity(), chunks.len() + more.len());
    if wanted <= count {
        return held.grow(data);
    }
    let slots = |count: usize| (count * size_of::<RemoteChunk>()) as u64;
    let moved = Some(slots(count)).filter(|bytes| *bytes >= TWICE_BYTES);
    let bytes = |grown: usize| data + slots(grown - count) + moved.unwrap_or(0);
    let mut grown = wanted.max(2 * count);
    if !held.try_grow(bytes(grown)) {
        grown = wanted.max(count + count / 8);
        held.grow(bytes(grown))?;
    }
    chunks.reserve_exact(grown - chunks.len());
    if let Some(bytes) = moved {
        held.shrink(bytes);
    }
    Ok(())
}

fn order(left: &RemoteChunk, right: &RemoteChunk) -> Ordering {
    left.as_set().order(&right.as_set())
}

/// Puts chunks in order of time and takes out copies.
fn settle(chunks: &mut Vec<RemoteChunk>) {
    if !chunks.is_sorted_by(|left, right| order(left, right) == Ordering::Less) {
        arrange(chunks, RemoteChunk::as_set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(times: impl Iterator<Item = i64>) -> RemoteSeries {
        let chunk = |time| RemoteChunk { min_time: time, max_time: time, parts: Default::default(), endpoint: 0 };
        RemoteSeries { labels: Arc::default(), chunks: times.map(chunk).collect() }
    }

    #[test]
    fn parts_of_a_series_are_joined_within_the_memory_that_both_lists_of_chunks_take() {
        let memory = Budget::new("--query.memory-limit", 1 << 20);
        let mut merged = series(0..20);
        let mut held = memory.reserve(merged.bytes()).unwrap();
        let refused = (1..1000).find_map(|at| {
            let joined = join(&mut merged, series(at * 20..(at + 1) * 20), &mut held);
            assert_eq!(held.bytes(), merged.bytes());
            joined.err()
        });
        let refused = refused.expect("all of them take 5 MB");
        assert_eq!(refused.kind(), ErrorKind::Limit);
        assert!(refused.message().contains("joining the parts of series {}"), "{refused}");
        assert!(memory.usage().peak >= 512 << 10 && merged.chunks.len() >= 1 << 10, "{}", merged.chunks.len());
        // What is there already needs no room, however much of it comes.
        let count = merged.chunks.len() as i64;
        for _ in 0..3 {
            join(&mut merged, series(0..count), &mut held).unwrap();
        }
        settle(&mut merged.chunks);
        assert_eq!(merged.chunks, series(0..count).chunks);
    }

    #[test]
    fn chunks_that_are_left_out_are_told_of_once_for_each_endpoint() {
        let memory = Budget::new("--query.memory-limit", 1 << 20);
        let merge = |on_failure, warnings| {
            let failing = Failing { limits: CallLimits::default(), on_failure, memory: Arc::clone(&memory) };
            let addresses = ["a:1", "b:2"].map(str::to_owned);
            Merge::new(Vec::new(), failing, warnings).of_endpoints(addresses.into_iter())
        };
        let (labels, why) = (Labels::from_pairs([("a", "b")]), Error::new(ErrorKind::Corrupt, "damaged"));
        let said = |address: &str| {
            format!("endpoint {address}: chunks that cannot be read are left out, one of series {{a=\"b\"}}: damaged")
        };
        let mut warned = merge(OnFailure::Warn, Vec::new());
        for endpoint in [1, 0, 1] {
            warned.leave_out(endpoint, &labels, &why).unwrap();
        }
        assert_eq!(warned.take_warnings(), [said("b:2"), said("a:1")]);
        // Of others that were left out as they came.
        let before = vec![said("a:1").replace("damaged", "chunk encoding 9 is not known")];
        let mut warned = merge(OnFailure::Warn, before.clone());
        warned.leave_out(0, &labels, &why).unwrap();
        assert_eq!(warned.take_warnings(), before);
        let refused = merge(OnFailure::Abort, Vec::new()).leave_out(1, &labels, &why).unwrap_err();
        assert_eq!(refused, Error::new(ErrorKind::Unavailable, said("b:2")));
    }
}
