//! Several sorted streams of series as one; a series of several streams comes once, with all its
//! chunks, each once.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use engine::model::Error;

use super::stream::{Item, RemoteChunk, RemoteSeries, SeriesStream};
use crate::api::http::query::backend::OnFailure;

/// Streams of endpoints, merged as they are read.
pub struct Merge {
    streams: Vec<Feed>,
    heads: BinaryHeap<Head>,
    on_failure: OnFailure,
    warnings: Vec<String>,
    started: bool,
}

/// Where the series of one endpoint come from.
pub enum Feed {
    /// As they arrive; they come in order.
    Live(Box<SeriesStream>),
    /// All at once, put in order here: the endpoint can't keep the order without replica labels.
    Sorted(std::vec::IntoIter<RemoteSeries>),
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
    pub fn new(streams: Vec<Feed>, on_failure: OnFailure, warnings: Vec<String>) -> Self {
        Self { heads: BinaryHeap::with_capacity(streams.len()), streams, on_failure, warnings, started: false }
    }

    /// The next series; `None` at the end. An error ends it.
    pub async fn next(&mut self) -> Result<Option<RemoteSeries>, Error> {
        if !self.started {
            self.started = true;
            for stream in 0..self.streams.len() {
                if let Some(series) = self.advance(stream).await? {
                    self.heads.push(Head { series, stream });
                }
            }
        }
        let Some(mut merged) = self.take_least().await? else { return Ok(None) };
        while self.heads.peek().is_some_and(|head| head.series.labels == merged.labels) {
            if let Some(more) = self.take_least().await? {
                merged.chunks.extend(more.chunks);
            }
        }
        settle(&mut merged.chunks);
        Ok(Some(merged))
    }

    /// What went wrong so far.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// The first warning that was not taken.
    pub fn pop_warning(&mut self) -> Option<String> {
        if self.warnings.is_empty() { None } else { Some(self.warnings.remove(0)) }
    }

    async fn take_least(&mut self) -> Result<Option<RemoteSeries>, Error> {
        let Some(stream) = self.heads.peek().map(|head| head.stream) else { return Ok(None) };
        let next = self.advance(stream).await?;
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        Ok(Some(match next {
            Some(series) => std::mem::replace(&mut head.series, series),
            None => PeekMut::pop(head).series,
        }))
    }

    async fn advance(&mut self, stream: usize) -> Result<Option<RemoteSeries>, Error> {
        let live = match &mut self.streams[stream] {
            Feed::Sorted(series) => return Ok(series.next()),
            Feed::Live(live) => live,
        };
        loop {
            match (live.next().await, self.on_failure) {
                (Ok(None), _) => return Ok(None),
                (Ok(Some(Item::Series(series))), _) => return Ok(Some(series)),
                (Ok(Some(Item::Warning(text))), OnFailure::Warn) => self.warnings.push(text),
                (Ok(Some(Item::Warning(text))), OnFailure::Abort) => {
                    return Err(Error::new(engine::model::ErrorKind::Unavailable, text));
                }
                (Err(error), OnFailure::Abort) => return Err(error),
                (Err(error), OnFailure::Warn) => {
                    self.warnings.push(error.to_string());
                    return Ok(None);
                }
            }
        }
    }
}

/// All series of a stream, in order.
pub async fn collect(mut stream: SeriesStream, warnings: &mut Vec<String>) -> Result<Vec<RemoteSeries>, Error> {
    let mut all = Vec::new();
    while let Some(item) = stream.next().await? {
        match item {
            Item::Series(series) => all.push(series),
            Item::Warning(text) => warnings.push(text),
        }
    }
    all.sort_by(|left: &RemoteSeries, right: &RemoteSeries| left.labels.cmp(&right.labels));
    Ok(all)
}

/// Puts chunks in order of time and takes out those that came before, byte for byte.
fn settle(chunks: &mut Vec<RemoteChunk>) {
    let order = |left: &RemoteChunk, right: &RemoteChunk| {
        (left.min_time, left.max_time).cmp(&(right.min_time, right.max_time)).then_with(|| {
            let data =
                |chunk: &RemoteChunk| chunk.parts.each_ref().map(|part| part.as_ref().map(|(_, data)| data.clone()));
            data(left).cmp(&data(right))
        })
    };
    if !chunks.is_sorted_by(|left, right| order(left, right) == Ordering::Less) {
        chunks.sort_by(order);
        chunks.dedup();
    }
}
