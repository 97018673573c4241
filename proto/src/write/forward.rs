//! `thanos.WriteRequest`: what one receiver forwards to another, for several tenants at once.
//!
//! ```text
//! 0x0a TimeSeries …  0x12 tenant  0x18 replica          older senders: one tenant
//! 0x22 { 0x0a TimeSeries … 0x12 tenant } …              newer senders: any number
//! ```

use super::cursor::{BYTES, Cursor, VARINT};
use super::{Malformed, Sink, v1};

/// The series of one tenant, not read yet.
#[derive(Clone, Copy, Debug)]
pub struct TenantSeries<'a> {
    /// The tenant; empty is the default tenant.
    pub tenant: &'a [u8],
    fields: Cursor<'a>,
}

impl<'a> TenantSeries<'a> {
    /// Reads the series into `sink`.
    pub fn read(mut self, sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
        let mut labels = Vec::new();
        loop {
            let start = self.fields.offset();
            let Some(tag) = self.fields.next_key()? else { return Ok(()) };
            match (tag >> 3, tag & 7) {
                (1, BYTES) => v1::series_field(start, &mut self.fields, &mut labels, sink)?,
                _ => self.fields.skip(tag)?,
            }
        }
    }

    /// The fields that the series are among.
    pub fn bytes(&self) -> &'a [u8] {
        self.fields.rest()
    }

    /// The same with all offsets counted from the start of [`TenantSeries::bytes`].
    pub fn alone(self) -> Self {
        Self { fields: Cursor::new(self.fields.rest()), ..self }
    }
}

/// The tenants of a forwarded request, and which replica it is: counted from 1, 0 when it is not
/// replicated yet. `room` is told how many tenants there are before they are listed.
pub fn scan_forwarded<'a, E: From<Malformed>>(
    request: &'a [u8],
    room: impl FnOnce(usize) -> Result<(), E>,
) -> Result<(Vec<TenantSeries<'a>>, i64), E> {
    let whole = Cursor::new(request);
    let count = count_tenants(whole)?;
    room(count)?;
    let (mut tenants, mut replica, mut old) = (Vec::with_capacity(count), 0, None::<&[u8]>);
    let (mut fields, mut has_series) = (whole, false);
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (1, BYTES) => {
                fields.message()?;
                has_series = true;
            }
            (2, BYTES) => old = Some(fields.bytes()?),
            (3, VARINT) => replica = fields.varint()? as i64,
            (4, BYTES) => {
                let fields = fields.message()?;
                tenants.push(TenantSeries { tenant: tenant(fields)?, fields });
            }
            _ => fields.skip(tag)?,
        }
    }
    // As upstream's receivers: the older form counts only where the newer is absent.
    if tenants.is_empty() && has_series {
        tenants.push(TenantSeries { tenant: old.unwrap_or_default(), fields: whole });
    }
    Ok((tenants, replica))
}

/// How often the newer form names a tenant, which is told without a look at its series.
fn count_tenants(mut fields: Cursor<'_>) -> Result<usize, Malformed> {
    let mut count = 0;
    while let Some(tag) = fields.next_key()? {
        count += usize::from((tag >> 3, tag & 7) == (4, BYTES));
        fields.skip(tag)?;
    }
    Ok(count)
}

fn tenant(mut fields: Cursor<'_>) -> Result<&[u8], Malformed> {
    let mut found: &[u8] = &[];
    while let Some(tag) = fields.next_key()? {
        match (tag >> 3, tag & 7) {
            (2, BYTES) => found = fields.bytes()?,
            _ => fields.skip(tag)?,
        }
    }
    Ok(found)
}
