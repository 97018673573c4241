//! Whole numbers in YAML, as Thanos' reader takes them: also with an exponent or a point.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads a whole number into an optional field: `1000`, `1_000`, `0x3e8`, `1e3` or `1000.5`, of which what is behind
/// the point is dropped. Nothing is none.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(from: D) -> Result<Option<T>, D::Error> {
    from.deserialize_any(Whole(PhantomData))
}

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<i128>> Whole<T> {
    fn fit<E: Error>(number: i128) -> Result<Option<T>, E> {
        let misfit = |_| E::custom(format!("{number} is beyond what this number may be"));
        T::try_from(number).map(Some).map_err(misfit)
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for Whole<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Self::fit(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Self::fit(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        if number.is_finite() { Self::fit(number as i128) } else { Err(E::custom(format!("{number} is no number"))) }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use crate::config::from_yaml;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Numbers {
        #[serde(deserialize_with = "super::whole")]
        signed: Option<i64>,
        #[serde(deserialize_with = "super::whole")]
        unsigned: Option<u64>,
    }

    #[test]
    fn whole_numbers_are_read_in_every_form_that_thanos_takes() {
        let read = |text: &str| from_yaml::<Numbers>("flag", text).map(|read| (read.signed, read.unsigned));
        for (written, number) in [
            ("1000000", 1_000_000),
            ("1e6", 1_000_000),
            ("1_000_000", 1_000_000),
            ("1.5e1", 15),
            ("7.9", 7),
            ("0x10", 16),
        ] {
            let both = read(&format!("signed: {written}\nunsigned: {written}\n"));
            assert_eq!(both, Ok((Some(number), Some(number as u64))), "{written}");
        }
        assert_eq!(read("signed: -1e3\n"), Ok((Some(-1000), None)));
        assert_eq!(read("signed:\n"), Ok((None, None)));
        for wrong in ["unsigned: -1", "signed: 1e30", "unsigned: .inf", "signed: .nan", "signed: many", "signed: '1'"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
