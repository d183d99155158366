//! Each change of what a crate offers is a difference of its listing, and a change of anything else is none.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{create_dir, write};

use polyqueue_api_listing::listing;

const ROOT: &str = "
mod inside;
pub mod shown;
pub use inside::{Kept as Renamed, Kind, Store};
pub use std::time::Duration;
pub use bytes::bytes;
pub(crate) fn hidden() {}
";

const INSIDE: &str = "
use std::time::Duration as Span;
use crate::shown::Part;

/// A struct.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Kept<T> { pub part: Part, private: T }
impl<T: Clone> Kept<T> {
    pub fn wait(&self, mut time: Span) -> Option<Part> { None }
    fn private(&self) {}
}
impl<T> From<Part> for Kept<T> { fn from(part: Part) -> Self { todo!() } }
use crate::shown::displayed;
pub enum Kind { One, Two(u8), Three { size: Span } }
displayed!(Kind);
pub trait Store: Send { const SIZE: usize = 1; fn put(&mut self, part: Part) -> bool; fn flush(&self) {} }
struct Secret;
impl Store for Secret { fn put(&mut self, _: Part) -> bool { true } }
#[cfg(test)]
mod tests { pub struct Tested; }
";

const SHOWN: &str =
    "pub struct Part(pub u8, u8);\npub async fn run<F>(each: F) where F: Fn(&[Part]) -> bool {}
macro_rules! displayed { ($type:ident) => { impl std::fmt::Display for $type {} } }
pub(crate) use displayed;
";

fn listed(inside: &str) -> Vec<String> {
    of_root(ROOT, inside)
}

fn of_root(text: &str, inside: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lib.rs");
    write(&root, text).unwrap();
    write(folder.path().join("inside.rs"), inside).unwrap();
    create_dir(folder.path().join("shown")).unwrap();
    write(folder.path().join("shown/mod.rs"), SHOWN).unwrap();
    listing("toy", &root).unwrap()
}

/// What is gone and what is new after `from` became `to`.
fn difference(from: &str, to: &str) -> (Vec<String>, Vec<String>) {
    assert!(INSIDE.contains(from), "{from:?} is not in the fixture");
    let (before, after) = (listed(INSIDE), listed(&INSIDE.replace(from, to)));
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>()
    };
    (only(&before, &after), only(&after, &before))
}

#[test]
fn all_that_is_public_is_listed_and_nothing_else() {
    let expected = "\
toy::Duration: pub use std::time::Duration
toy::Kind: impl std::fmt::Display for toy::Kind
toy::Kind: pub enum Kind
toy::Kind::One: One
toy::Kind::Three: Three { size: std::time::Duration }
toy::Kind::Two: Two(u8)
toy::Renamed: #[non_exhaustive] pub struct Kept<T> { … private }
toy::Renamed: derive Clone
toy::Renamed: derive Debug
toy::Renamed: impl<T> From<toy::shown::Part> for toy::Renamed<T>
toy::Renamed::part: pub part: toy::shown::Part
toy::Renamed::wait: impl<T: Clone> toy::Renamed<T>: pub fn wait(&self, time: std::time::Duration) -> Option<toy::shown::Part>
toy::Store: pub trait Store: Send
toy::Store::SIZE: const SIZE: usize = 1
toy::Store::flush: fn flush(&self) { … }
toy::Store::put: fn put(&mut self, part: toy::shown::Part) -> bool
toy::bytes: pub use bytes::bytes
toy::shown: pub mod
toy::shown::Part: pub struct Part(u8, private)
toy::shown::run: pub async fn run<F>(each: F) where F: Fn(&[toy::shown::Part]) -> bool";
    assert_eq!(listed(INSIDE).join("\n"), expected);
}

#[test]
fn a_changed_signature_differs() {
    let (gone, new) = difference("-> Option<Part> {", "-> Part {");
    assert!(gone.len() == 1 && new.len() == 1, "{gone:?} {new:?}");
    assert!(new[0].ends_with("wait(&self, time: std::time::Duration) -> toy::shown::Part"), "{new:?}");
}

#[test]
fn a_name_that_means_another_type_differs() {
    let (gone, new) = difference("use std::time::Duration as Span;", "use std::time::Instant as Span;");
    assert_eq!((gone.len(), new.len()), (2, 2), "{gone:?} {new:?}");
}

#[test]
fn a_removed_item_differs() {
    let (gone, new) = difference("pub part: Part, ", "");
    assert_eq!(
        (gone.as_slice(), new.len()),
        (&["toy::Renamed::part: pub part: toy::shown::Part".to_owned()][..], 0)
    );
    let (gone, new) = difference("#[derive(Clone, Debug)]", "#[derive(Clone)]");
    assert_eq!((gone.as_slice(), new.len()), (&["toy::Renamed: derive Debug".to_owned()][..], 0));
}

#[test]
fn a_new_variant_differs() {
    let (gone, new) = difference("Two(u8),", "Two(u8), Four,");
    assert_eq!((gone.len(), new), (0, vec!["toy::Kind::Four: Four".to_owned()]));
}

#[test]
fn a_default_that_goes_and_a_bound_that_comes_differ() {
    for (from, to) in [("fn flush(&self) {}", "fn flush(&self);"), ("impl<T: Clone>", "impl<T: Copy>")] {
        let (gone, new) = difference(from, to);
        assert_eq!((gone.len(), new.len()), (1, 1), "{gone:?} {new:?}");
    }
}

#[test]
fn what_a_user_meets_of_attributes_and_values_differs() {
    for (from, to) in [
        ("const SIZE: usize = 1", "const SIZE: usize = 2"),
        ("pub enum Kind", "#[serde(deny_unknown_fields)] pub enum Kind"),
        ("pub enum Kind", "#[doc(hidden)] pub enum Kind"),
        ("One,", "#[default] One,"),
        ("One,", "#[serde(rename = \"1\")] One,"),
        ("{ size: Span }", "{ #[serde(rename = \"s\")] size: Span }"),
        ("pub part: Part", "#[serde(skip)] pub part: Part"),
        ("-> Option<Part> { None }", "-> Option<Part> { None } #[doc(hidden)] pub const LEAST: u8 = 1;"),
    ] {
        let (gone, new) = difference(from, to);
        assert!(gone.len() <= 1 && new.len() == 1, "{from} became {to}: {gone:?} {new:?}");
    }
}

#[test]
fn a_value_of_a_constant_differs() {
    let of = |value: u8| listed(&format!("{INSIDE} impl Kind {{ pub const MOST: u8 = {value}; }}"));
    assert!(of(1) != of(2));
    let public = |value: u8| of_root(&format!("{ROOT} pub const MOST: u8 = {value};"), INSIDE);
    assert!(public(1) != public(2));
}

#[test]
fn an_attribute_of_a_reexport_and_of_a_module_differs() {
    let before = listed(INSIDE);
    for (from, wanted) in [
        ("pub mod shown", "toy::shown: #[cfg(any())] pub mod"),
        ("pub use inside", "toy::Kind: #[cfg(any())] pub use"),
        ("pub use std", "toy::Duration: #[cfg(any())] pub use"),
    ] {
        let after = of_root(&ROOT.replace(from, &format!("#[cfg(any())] {from}")), INSIDE);
        assert!(!before.contains(&wanted.to_owned()) && after.contains(&wanted.to_owned()), "{after:?}");
    }
    let hidden = of_root(&ROOT.replace("pub use inside", "#[doc(hidden)] pub use inside"), INSIDE);
    assert!(hidden.contains(&"toy::Store: #[doc(hidden)] pub use".to_owned()), "{hidden:?}");
}

#[test]
fn a_private_field_differs_where_it_is_serialized() {
    let serialized = INSIDE.replace("derive(Clone", "derive(Serialize, Clone");
    let renamed = serialized.replace("private: T", "#[serde(rename = \"p\")] private: T");
    assert!(listed(&serialized) != listed(&renamed));
}

#[test]
fn what_is_private_makes_no_difference() {
    for (from, to) in [
        ("fn private(&self) {}", ""),
        ("{ None }", "{ todo!() }"),
        ("mut time", "time"),
        ("/// A struct.", "/// A struct of parts."),
        ("struct Secret;", "struct Secret { field: u8 }"),
        ("private: T", "field: Vec<T>"),
        ("pub struct Tested;", ""),
    ] {
        assert_eq!(difference(from, to), (vec![], vec![]), "{from} became {to}");
    }
}
