//! Checked reading and writing of bytes and bits.

/// Bits, most significant first.
pub mod bits;
/// The one error for bytes that are not what their format says.
pub mod corrupt;
/// A cursor over bytes that never reads past their end.
pub mod cursor;
/// A label as text, which is its encoding while it is short.
pub mod label_text;
/// Label sets as bytes in one canonical form.
pub mod labels;
/// Length, content and CRC-32C: the frame of most parts of a TSDB's files.
pub mod section;
/// Variable-length integers as Go's `encoding/binary` writes them.
pub mod varint;
/// Many strings in one buffer, as they are on the wire.
pub mod string_list;

pub use corrupt::Corrupt;
pub use cursor::Cursor;
pub use label_text::LabelText;
pub use labels::{EncodedLabel, EncodedLabels, LabelFault, is_text, name_order};
pub use string_list::StringList;
