//! Which deliveries of a channel the broker still waits for, and the fewest frames that ack some of them.

use std::collections::BTreeSet;

/// The unacked delivery tags of one channel.
#[derive(Debug, Default)]
pub(crate) struct UnackedTags {
    unacked: BTreeSet<u64>,
}

/// One ack frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckFrame {
    pub(crate) tag: u64,
    /// Whether it stands for all unacked ones before it, too.
    pub(crate) multiple: bool,
}

impl UnackedTags {
    pub(crate) fn delivered(&mut self, tag: u64) {
        self.unacked.insert(tag);
    }

    /// Takes a tag off that was given back in another way than by an ack.
    pub(crate) fn returned(&mut self, tag: u64) {
        self.unacked.remove(&tag);
    }

    /// The frames that ack exactly these tags: one for the longest run at the front, one each for the others.
    pub(crate) fn ack(&mut self, tags: &[u64]) -> Vec<AckFrame> {
        let mut wanted: BTreeSet<u64> =
            tags.iter().copied().filter(|tag| self.unacked.contains(tag)).collect();
        let run: Vec<u64> = self.unacked.iter().copied().take_while(|tag| wanted.contains(tag)).collect();
        let mut frames = Vec::with_capacity(wanted.len() + 1 - run.len().min(wanted.len()));
        if let Some(last) = run.last().filter(|_| run.len() > 1) {
            frames.push(AckFrame { tag: *last, multiple: true });
            wanted = wanted.split_off(&(last + 1));
            self.unacked = self.unacked.split_off(&(last + 1));
        }
        for tag in wanted {
            self.unacked.remove(&tag);
            frames.push(AckFrame { tag, multiple: false });
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(tags: impl IntoIterator<Item = u64>) -> UnackedTags {
        UnackedTags { unacked: tags.into_iter().collect() }
    }

    fn frames(unacked: &mut UnackedTags, tags: &[u64]) -> Vec<(u64, bool)> {
        unacked.ack(tags).into_iter().map(|frame| (frame.tag, frame.multiple)).collect()
    }

    #[test]
    fn a_run_at_the_front_is_one_frame() {
        let mut unacked = with(1..=6);
        assert_eq!(frames(&mut unacked, &[3, 1, 2, 5]), [(3, true), (5, false)]);
        assert_eq!(frames(&mut unacked, &[4, 6]), [(6, true)]);
    }

    #[test]
    fn nothing_unsettled_is_ever_covered() {
        let mut unacked = with([1, 2, 3, 4]);
        assert_eq!(frames(&mut unacked, &[2, 3, 4]), [(2, false), (3, false), (4, false)]);
        assert_eq!(frames(&mut unacked, &[1]), [(1, false)]);
    }

    #[test]
    fn gaps_that_were_given_back_do_not_interrupt_a_run() {
        let mut unacked = with([1, 2, 3]);
        unacked.returned(2);
        assert_eq!(frames(&mut unacked, &[1, 3]), [(3, true)]);
        assert_eq!(frames(&mut unacked, &[3]), []);
    }
}
