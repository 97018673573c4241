//! XOR chunks against their encoder, against data made by Prometheus, and against bytes that lie.

use proptest::prelude::*;

use super::*;

fn samples() -> impl Strategy<Value = FloatColumns> {
    let step = prop_oneof![
        6 => Just(15_000i64),
        4 => 14_995..15_005i64,
        1 => -100_000..100_000i64,
        1 => -1_000_000..1_000_000i64,
        1 => any::<i64>(),
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
    fn any_bytes_give_samples_or_an_error(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoded = FloatColumns::default();
        if decode(&data, &mut decoded).is_err() {
            prop_assert!(decoded.is_empty());
        }
    }
}
