//! Payloads as JSON, except what JSON cannot hold: `serde_json` by itself writes NaN and the infinities as null.

use std::io;

use serde::Serialize;

use crate::{Error, Result, finite};

/// A payload of this kind as JSON. Only one in which a null was written is looked through for numbers that are none.
///
/// # Errors
/// [`Error::Invalid`] for a number that is not finite, [`Error::Codec`] for what else cannot be written.
pub(crate) fn write<T: Serialize + ?Sized>(kind: &str, payload: &T) -> Result<Vec<u8>> {
    let (mut json, mut has_null) = (Vec::with_capacity(128), false);
    let formatter = NoticesNull(&mut has_null);
    payload
        .serialize(&mut serde_json::Serializer::with_formatter(&mut json, formatter))
        .map_err(|error| Error::codec(kind, error))?;
    if has_null {
        finite::check(payload).map_err(|fault| Error::invalid("payload", fault.to_string()))?;
    }
    Ok(json)
}

struct NoticesNull<'a>(&'a mut bool);

impl serde_json::ser::Formatter for NoticesNull<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.0 = true;
        writer.write_all(b"null")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    enum Shape {
        Unit,
        New(f64),
        Tuple(u8, f32),
        Fields { radius: f64 },
    }

    #[derive(Serialize)]
    struct Everything {
        none: Option<f64>,
        some: Option<f64>,
        unit: (),
        wide: (u128, i128, char, bool),
        text: &'static str,
        map: BTreeMap<u8, Vec<f64>>,
        shapes: Vec<Shape>,
    }

    fn everything() -> Everything {
        let shapes = vec![Shape::Unit, Shape::New(1.0), Shape::Tuple(1, 0.5), Shape::Fields { radius: 0.0 }];
        let map = BTreeMap::from([(1, vec![0.25])]);
        let wide = (u128::MAX, i128::MIN, 'x', true);
        Everything { none: None, some: Some(1e300), unit: (), wide, text: "null", map, shapes }
    }

    #[test]
    fn what_is_finite_is_written_as_serde_json_writes_it() {
        let payload = everything();
        assert_eq!(write("k", &payload).unwrap(), serde_json::to_vec(&payload).unwrap());
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused_wherever_it_is() {
        let refused = |spoil: fn(&mut Everything), says: &str| {
            let mut payload = everything();
            spoil(&mut payload);
            let error = write("k", &payload).unwrap_err();
            assert!(matches!(&error, Error::Invalid { field, .. } if field == "payload"), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        };
        refused(|it| it.some = Some(f64::NAN), "some: NaN given, allowed are finite numbers");
        refused(|it| it.map.entry(1).or_default().push(f64::INFINITY), "map: inf given");
        refused(|it| it.shapes.push(Shape::New(f64::NEG_INFINITY)), "shapes: -inf given");
        refused(|it| it.shapes.push(Shape::Tuple(0, f32::NAN)), "shapes: NaN given");
        refused(|it| it.shapes.push(Shape::Fields { radius: f64::NAN }), "shapes: radius: NaN given");
    }

    #[test]
    fn what_json_cannot_hold_is_a_codec_error() {
        let error = write("k", &BTreeMap::from([((1, 2), 3)])).unwrap_err();
        assert!(matches!(&error, Error::Codec { kind, .. } if kind == "k"), "{error}");
    }
}
