//! Labels of series out of the columns: a frame of 256 series is looked up once, and in it only the
//! columns that have a value there are read.

use super::frames::{FRAME, IdFrame};
use super::reader::Reader;
use crate::index::SeriesLabels;
use crate::index::labels::Span;
use crate::model::Error;

/// Labels with more values than this don't remember each of them, but the last one only.
const REMEMBERED_MAX: u32 = 1 << 16;

/// What a buffer of labels knows of the column index it was used with last.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    labels: Vec<Remembered>,
    /// The frame that `columns` are of, counted from 1; 0 when they are of none.
    frame: usize,
    columns: Vec<Column>,
    /// The value that was decoded last.
    value: String,
}

/// The values of one label that were decoded.
#[derive(Clone, Debug, Default)]
struct Remembered {
    by_id: Vec<Span>,
    last: (u32, Span),
}

/// A column that has a value in the current frame.
#[derive(Clone, Copy, Debug)]
struct Column {
    label: u32,
    frame: IdFrame,
}

impl Reader {
    /// Replaces `out` by the labels of `ordinal`, which there is.
    pub(super) fn gather(&self, ordinal: u32, out: &mut SeriesLabels) -> Result<(), Error> {
        out.begin(self.number());
        let mut gathered = std::mem::take(&mut out.gathered);
        let done = self.gather_into(ordinal as usize, &mut gathered, out);
        out.gathered = gathered;
        done
    }

    fn gather_into(&self, ordinal: usize, gathered: &mut Gathered, out: &mut SeriesLabels) -> Result<(), Error> {
        gathered.labels.resize_with(self.label_count(), Remembered::default);
        if gathered.frame != ordinal / FRAME + 1 {
            gathered.frame = 0;
            self.enter_frame(ordinal / FRAME, &mut gathered.columns)?;
            gathered.frame = ordinal / FRAME + 1;
        }
        for column in &gathered.columns {
            let id = column.frame.value(self.bytes(), ordinal % FRAME);
            if id == 0 {
                continue;
            }
            let label = &mut gathered.labels[column.label as usize];
            let known = match label.known(id) {
                Some(known) => known,
                None => {
                    let dictionary = self.dictionary(column.label)?;
                    gathered.value.clear();
                    dictionary.append(id, &mut gathered.value);
                    let known = out.remember(self.label_name(column.label), &gathered.value);
                    label.remember(id, dictionary.len(), known);
                    known
                }
            };
            out.push(known);
        }
        Ok(())
    }

    fn enter_frame(&self, at: usize, columns: &mut Vec<Column>) -> Result<(), Error> {
        columns.clear();
        for label in 0..self.label_count() as u32 {
            let column = self.ids(label)?;
            let Some(frame) = column.frame(at).filter(|frame| frame.constant() != Some(0)) else { continue };
            columns.push(Column { label, frame: frame.after(column.packed_offset(self.bytes())) });
        }
        Ok(())
    }
}

impl Remembered {
    fn known(&self, id: u32) -> Option<Span> {
        if self.last.0 == id {
            return Some(self.last.1);
        }
        self.by_id.get(id as usize).copied().filter(|span| span.is_known())
    }

    fn remember(&mut self, id: u32, values: u32, span: Span) {
        self.last = (id, span);
        if values <= REMEMBERED_MAX {
            self.by_id.resize(values as usize + 1, Span::default());
            if let Some(known) = self.by_id.get_mut(id as usize) {
                *known = span;
            }
        }
    }
}
