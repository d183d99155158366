//! Judges a history: rules that hold for every run of every correct backend, whatever the case was about.
//!
//! A rule never raises an alarm on a correct backend: where the history does not show enough (a fault, a dropped call, a
//! message published twice), it says nothing.

mod attempts;
mod content;
mod early;
pub mod found;
mod holders;
mod keys;
mod lifetime;
pub(crate) mod linear;
mod loss;
mod order;
mod progress;
mod replies;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

use self::found::{Bounds, Found, Violation};
use crate::history::History;

/// Every broken rule of a history.
pub fn all(history: &History, bounds: &Bounds) -> Vec<Violation> {
    let view = view::read::view(history);
    let mut found = Found::default();
    for rule in [
        loss::check,
        terminal::check,
        early::check,
        attempts::check,
        content::check,
        holders::check,
        order::check,
        progress::check,
        lifetime::check,
        keys::check,
        replies::check,
    ] {
        rule(&view, bounds, &mut found);
    }
    found.0
}
