//! Looks through a value for numbers that are not finite, without writing it.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// Says whether all numbers of a value are finite.
///
/// # Errors
/// [`NotFinite`] for the first that is not.
pub(crate) fn check<T: Serialize + ?Sized>(value: &T) -> Done {
    value.serialize(Finite)
}

/// Which number is not finite, and in which fields.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotFinite(String);

impl ser::Error for NotFinite {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

type Done<T = ()> = Result<T, NotFinite>;

#[derive(Clone, Copy)]
struct Finite;

macro_rules! fine {
    ($($method:ident($($type:ty),*),)*) => { $(fn $method(self $(, _: $type)*) -> Done { Ok(()) })* };
}

macro_rules! opened {
    ($($method:ident($($type:ty),*),)*) => { $(fn $method(self $(, _: $type)*) -> Done<Self> { Ok(self) })* };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = NotFinite;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_f32(self, number: f32) -> Done {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Done {
        if number.is_finite() {
            return Ok(());
        }
        Err(NotFinite(format!("{number} given, allowed are finite numbers: JSON has no other")))
    }

    fine! {
        serialize_bool(bool), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64), serialize_i128(i128),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_u128(u128),
        serialize_none(), serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }

    opened! {
        serialize_seq(Option<usize>), serialize_tuple(usize), serialize_tuple_struct(&'static str, usize),
        serialize_tuple_variant(&'static str, u32, &'static str, usize), serialize_map(Option<usize>),
        serialize_struct(&'static str, usize),
        serialize_struct_variant(&'static str, u32, &'static str, usize),
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Done {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Done {
        value.serialize(self)
    }
}

macro_rules! each_element {
    ($($trait:ident::$method:ident,)*) => {
        $(impl ser::$trait for Finite {
            type Ok = ();
            type Error = NotFinite;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                value.serialize(*self)
            }

            fn end(self) -> Done {
                Ok(())
            }
        })*
    };
}

each_element! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

macro_rules! each_field {
    ($($trait:ident,)*) => {
        $(impl ser::$trait for Finite {
            type Ok = ();
            type Error = NotFinite;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, field: &'static str, value: &T) -> Done {
                value.serialize(*self).map_err(|NotFinite(what)| NotFinite(format!("{field}: {what}")))
            }

            fn end(self) -> Done {
                Ok(())
            }
        })*
    };
}

each_field! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for Finite {
    type Ok = ();
    type Error = NotFinite;

    /// A key is text in JSON, and `serde_json` itself refuses one that is not finite.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Done {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        value.serialize(*self)
    }

    fn end(self) -> Done {
        Ok(())
    }
}
