//! Lists what a crate offers to others, an item a line, from its source.
//!
//! Each line begins with the path by which the item is reached, so that a line that changes is an item that changed:
//! signatures with every type by its full path, fields, variants, items of traits, derives and impls. Re-exports are followed.
//! The crate's own macros are expanded, wherever they are defined. What is not seen: auto traits, and what a macro of another crate, or one with repetitions, would expand to; its
//! invocation is listed as it is written.

mod attributes;
mod describe;
mod expand;
mod impls;
mod names;
mod public;
mod qualify;
mod source;
mod text;

use std::path::Path;

use describe::describe;
use impls::impls;
use public::Public;
use source::Crate;
pub use source::Error;

/// The public API of the library `name`, whose root is the file `root`: sorted, each line once.
///
/// # Errors
/// A file that cannot be read, or is not Rust.
pub fn listing(name: &str, root: &Path) -> Result<Vec<String>, Error> {
    let source = Crate::read(name, root)?;
    let public = Public::of(&source);
    let mut lines = public.reexports().to_vec();
    for definition in public.definitions() {
        lines.extend(describe(&source, &public, definition));
    }
    lines.extend(impls(&source, &public));
    lines.sort();
    lines.dedup();
    Ok(lines)
}
