//! From the begin of a call to its end.

use crate::history::Stamp;

/// A call's begin and end; without an end it may have an effect for ever.
#[derive(Clone, Copy, Debug)]
pub(in crate::check) struct Span {
    pub(in crate::check) inv: Stamp,
    pub(in crate::check) ret: Option<Stamp>,
}

impl Span {
    /// Whether it surely ended before that moment.
    pub(in crate::check) fn before(&self, moment: Stamp) -> bool {
        self.ret.is_some_and(|ret| ret.seq < moment.seq)
    }
}
