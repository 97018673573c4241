//! Lists of texts that endpoints answer with, names and values of labels: accounted for as they come, and again
//! before anything is made of them, as short texts become many times as large.
//!
//! ```text
//! answer   1 text | 2 warning, any number of each, in any order
//! ```

use std::sync::Arc;

use bytes::BytesMut;
use engine::model::{Budget, Error, ErrorKind, Reservation};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use prost::Message;
use proto::series::GRPC_PREFIX_LEN;
use proto::wire::{Fields, Malformed};
use tonic::{Request, Status};

use super::endpoints::Peer;
use super::stream::failure;
use crate::api::grpc::ask::{self, sealed};
use crate::api::grpc::call::unframe;

/// Bytes of a text beside itself: where it lies in a list, twice while lists are joined, and what the allocator adds.
const TEXT_BYTES: u64 = 2 * size_of::<String>() as u64 + 8;

/// What an endpoint answers, with what it takes of the process' memory.
#[derive(Debug)]
pub struct Texts {
    /// Names or values.
    pub found: Vec<String>,
    /// What went wrong at the endpoint.
    pub warnings: Vec<String>,
    /// Memory of both.
    pub held: Reservation,
}

/// Asks `peer` for the texts of the method at `path`, in a message of at most `bytes_max` bytes; `what` is done when
/// something fails.
pub async fn ask(
    peer: &Peer,
    (what, path): (&str, &'static str),
    request: Request<impl Message>,
    (bytes_max, memory): (usize, &Arc<Budget>),
) -> Result<Texts, Error> {
    let failed = |status: Status| failure(what, &peer.address, &status, memory);
    let whose = |error: Error| error.within(format!("{what} from {}", peer.address));
    let (metadata, _, question) = request.into_parts();
    let mut framed = vec![0; GRPC_PREFIX_LEN];
    question.encode(&mut framed).map_err(|error| failed(Status::internal(error.to_string())))?;
    let asked = ask::ask(peer.channel.clone(), path, (metadata.into_headers(), sealed(framed)));
    let mut asked = asked.await.map_err(failed)?;
    let (mut message, mut held) = (BytesMut::new(), memory.reserve(0).map_err(whose)?);
    while let Some(frame) = asked.body.frame().await {
        let frame = frame.map_err(failed)?;
        frame.trailers_ref().map_or(Ok(()), |trailers| asked.note(trailers)).map_err(failed)?;
        let Ok(data) = frame.into_data() else { continue };
        if message.len() + data.len() > bytes_max.saturating_add(GRPC_PREFIX_LEN) {
            let too_large = format_args!("{what} from {}: the answer has more than {bytes_max} bytes", peer.address);
            return Err(memory.refuse(too_large));
        }
        message.extend_from_slice(&data);
        if message.capacity() as u64 != held.bytes() {
            held.resize(message.capacity() as u64).map_err(whose)?;
        }
    }
    asked.end().map_err(failed)?;
    // It is not packed, as no header says how.
    let message = unframe(&HeaderMap::new(), message.freeze(), bytes_max, &mut |_| Ok(())).map_err(failed)?;
    read(&message, held).map_err(whose)
}

/// The texts of `message`, for whose bytes `held` answers so far.
fn read(message: &[u8], mut held: Reservation) -> Result<Texts, Error> {
    let corrupt = |error: Malformed| Error::new(ErrorKind::Corrupt, error.to_string());
    let (mut texts, mut warnings, mut bytes) = (0, 0, 0);
    let count = |number: u32, text: &str| {
        *(if number == 1 { &mut texts } else { &mut warnings }) += 1;
        bytes += text.len() as u64 + TEXT_BYTES;
    };
    each(message, count).map_err(corrupt)?;
    held.grow(bytes)?;
    let (mut found, mut warnings) = (Vec::with_capacity(texts), Vec::with_capacity(warnings));
    let keep = |number, text: &str| if number == 1 { &mut found } else { &mut warnings }.push(text.to_owned());
    each(message, keep).map_err(corrupt)?;
    held.resize(bytes)?;
    Ok(Texts { found, warnings, held })
}

/// Hands on the texts and warnings of `message` with the numbers of their fields.
fn each(message: &[u8], mut take: impl FnMut(u32, &str)) -> Result<(), Malformed> {
    let mut fields = Fields::new("labels", message);
    while let Some((number, value)) = fields.next()? {
        if matches!(number, 1 | 2) {
            take(number, fields.text(value)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::thanos::LabelValuesResponse;

    use super::*;

    #[test]
    fn texts_take_memory_before_they_are_made() {
        let values: Vec<String> = (0..100).map(|number| format!("v{number}")).collect();
        let answer = LabelValuesResponse {
            values: values.clone(),
            warnings: vec!["w".into()],
            ..LabelValuesResponse::default()
        };
        let message = answer.encode_to_vec();
        let texts = |limit: u64| {
            let memory = Budget::new("--query.memory-limit", limit);
            read(&message, memory.reserve(message.len() as u64).unwrap())
        };
        let found = texts(1 << 20).unwrap();
        assert_eq!((found.found, found.warnings), (values, vec!["w".to_owned()]));
        assert_eq!(found.held.bytes(), 101 * TEXT_BYTES + 291, "the message is done with");
        assert_eq!(texts(2 * message.len() as u64).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn what_is_no_text_is_corrupt() {
        let memory = Budget::new("--query.memory-limit", 1 << 20);
        for bytes in [&[0x0a, 2, b'a'][..], &[0x0a, 1, 0xff], &[0x0c]] {
            let error = read(bytes, memory.reserve(0).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{bytes:?}");
        }
        assert_eq!(memory.usage().used, 0);
    }
}
