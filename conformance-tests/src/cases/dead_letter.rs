//! Cases: dead_letter.

use crate::Case;

pub(crate) const CASES: &[Case] = &[];
