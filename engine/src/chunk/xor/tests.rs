//! XOR chunks against their encoder, against data made by Prometheus, and against bytes that lie.

use proptest::prelude::*;

use super::*;

/// Samples of which about `wide` of 10 have a timestamp field of 17, 20 or 64 bits.
fn samples_with(wide: u32) -> impl Strategy<Value = FloatColumns> {
    let step = prop_oneof![
        6 => Just(15_000i64),
        4 => 14_995..15_005i64,
        wide => -100_000..100_000i64,
        wide => -1_000_000..1_000_000i64,
        wide => any::<i64>(),
    ];
    let value = prop_oneof![
        4 => Just(1.0f64),
        4 => (0..100_000i64).prop_map(|value| value as f64),
        2 => any::<f64>(),
        2 => any::<u64>().prop_map(f64::from_bits),
    ];
    prop::collection::vec((step, value), 0..150).prop_map(|samples| {
        let mut time = 1_700_000_000_000i64;
        let mut columns = FloatColumns::default();
        for (step, value) in samples {
            time = time.wrapping_add(step);
            columns.push(time, value);
        }
        columns
    })
}

fn samples() -> impl Strategy<Value = FloatColumns> {
    prop_oneof![samples_with(0).boxed(), samples_with(1).boxed()]
}

/// A chunk's data, whole or damaged.
fn chunk() -> impl Strategy<Value = Vec<u8>> {
    let columns = prop_oneof![8 => samples_with(0).boxed(), 1 => samples().boxed()];
    let damage = prop_oneof![
        20 => Just(0u8),
        1 => Just(1u8),
        1 => Just(2u8),
        1 => Just(3u8),
    ];
    (columns, damage, any::<prop::sample::Index>()).prop_map(|(columns, damage, at)| {
        let mut data = Vec::new();
        encode(&columns.timestamps, &columns.values, &mut data);
        match damage {
            1 => data.truncate(at.index(data.len() + 1)),
            2 => {
                let bit = at.index(data.len() * 8);
                data[bit / 8] ^= 1 << (bit % 8);
            }
            3 => data.extend([0xa7; 20]),
            _ => {}
        }
        data
    })
}

/// Decodes `chunks` on `isa` and compares with decoding them one by one.
fn check_batch(isa: simd::Isa, chunks: &[Vec<u8>], batch: &mut Batch) -> Result<(), TestCaseError> {
    let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    let mut wanted = vec![FloatColumns::default(); chunks.len()];
    let faults: Vec<bool> =
        slices.iter().zip(&mut wanted).map(|(data, columns)| decode(data, columns).is_err()).collect();
    match kernel::decode_batch(isa, &slices, batch) {
        Ok(()) => {
            prop_assert!(!faults.contains(&true), "{:?} let a damaged chunk pass", isa);
            for (at, columns) in wanted.iter().enumerate() {
                let (times, values) = batch.chunk(at);
                let found = FloatColumns { timestamps: times.to_vec(), values: values.to_vec() };
                prop_assert_eq!(bits(&found), bits(columns), "chunk {} on {:?}", at, isa);
            }
        }
        Err((at, _)) => prop_assert!(faults[at], "{:?} refuses the sound chunk {}", isa, at),
    }
    Ok(())
}

#[test]
fn constant_and_very_long_chunks_come_back_in_batches() {
    let mut chunks = Vec::new();
    for len in [1, 2, 3, 4, 10, 11, 120, 120, 120, 119, 65_535, 65_535, 4_000, 4_001, 4_002, 9, 8, 7, 6, 5, 4, 3] {
        for kind in 0..2 {
            let times: Vec<i64> = (0..len).map(|at| 1_700_000_000_000 + at * 15_000 + at * at % 7 * kind).collect();
            let values: Vec<f64> = (0..len).map(|at| (at * at * kind) as f64).collect();
            let mut data = Vec::new();
            encode(&times, &values, &mut data);
            chunks.push(data);
        }
    }
    for isa in simd::isas() {
        check_batch(isa, &chunks, &mut Batch::default()).unwrap();
    }
}

fn bits(columns: &FloatColumns) -> Vec<(i64, u64)> {
    columns.timestamps.iter().copied().zip(columns.values.iter().map(|value| value.to_bits())).collect()
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(columns in samples()) {
        let mut data = Vec::new();
        encode(&columns.timestamps, &columns.values, &mut data);
        let mut decoded = FloatColumns::default();
        decoded.push(1, 2.0);
        decode(&data, &mut decoded).unwrap();
        prop_assert_eq!(&bits(&decoded)[1..], &bits(&columns)[..]);
    }

    #[test]
    fn every_isa_encodes_the_same_bytes(columns in samples()) {
        let mut wanted = Vec::new();
        encode::encode_on(simd::Isa::Scalar, &columns.timestamps, &columns.values, &mut wanted);
        for isa in simd::isas() {
            let mut data = Vec::new();
            encode::encode_on(isa, &columns.timestamps, &columns.values, &mut data);
            prop_assert_eq!(&data, &wanted, "{:?}", isa);
        }
    }

    #[test]
    fn an_appender_gives_the_encoders_bytes_after_each_sample(columns in samples(), resume in 0..150usize) {
        let mut appender = Appender::default();
        for at in 0..columns.len() {
            if at == resume {
                appender = Appender::resume(appender.data()).unwrap();
            }
            appender.append(columns.timestamps[at], columns.values[at]);
            let mut data = Vec::new();
            encode(&columns.timestamps[..=at], &columns.values[..=at], &mut data);
            prop_assert_eq!(appender.data(), &data[..]);
        }
    }

    #[test]
    fn every_cut_of_a_chunk_is_an_error(columns in samples()) {
        let mut data = Vec::new();
        encode(&columns.timestamps, &columns.values, &mut data);
        for len in 0..data.len() {
            let mut decoded = FloatColumns::default();
            prop_assert!(decode(&data[..len], &mut decoded).is_err(), "{} of {} bytes", len, data.len());
            prop_assert!(decoded.is_empty());
        }
    }

    #[test]
    fn every_isa_decodes_batches_as_the_specification_decodes_chunks(
        first in prop::collection::vec(chunk(), 0..50),
        second in prop::collection::vec(chunk(), 0..20),
    ) {
        for isa in simd::isas() {
            let mut batch = Batch::default();
            check_batch(isa, &first, &mut batch)?;
            check_batch(isa, &second, &mut batch)?;
        }
    }

    #[test]
    fn every_isa_gives_samples_or_an_error_for_any_bytes(
        mut chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
        count in 0..200u16,
    ) {
        for data in &mut chunks {
            data.iter_mut().zip(count.to_be_bytes()).for_each(|(byte, count)| *byte = count);
        }
        for isa in simd::isas() {
            check_batch(isa, &chunks, &mut Batch::default())?;
        }
    }

    #[test]
    fn any_bytes_give_samples_or_an_error(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoded = FloatColumns::default();
        if decode(&data, &mut decoded).is_err() {
            prop_assert!(decoded.is_empty());
        }
    }
}
