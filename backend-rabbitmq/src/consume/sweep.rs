//! How many messages to ask for at a time, while those that came back from who went away are published again.

/// The most to ask for.
const MAX_SIZE: usize = 256;

/// Who had a large buffer gives many back when it dies. While nothing else comes, more and more are asked for
/// at a time, but never more than there were at first: those behind are the ones that were published again.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// How many messages to ask for at least.
    pub(crate) size: usize,
    /// How many of those that came back may be left.
    left: usize,
}

impl Sweep {
    pub(crate) fn new() -> Self {
        Self { size: 1, left: 0 }
    }

    /// Of those `received`, so many had come back, and the queue had `more`.
    pub(crate) fn adapt(&mut self, received: usize, came_back: usize, more: usize) {
        if received == 0 || came_back < received {
            self.size = 1;
            return;
        }
        self.left = if self.size == 1 { more } else { self.left.saturating_sub(received) };
        self.size = (self.size * 2).min(MAX_SIZE).min(self.left).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_widens_while_all_came_back_and_ends_where_they_end() {
        let mut sweep = Sweep::new();
        let mut sizes = Vec::new();
        for more in [9, 8, 7, 7] {
            sweep.adapt(sweep.size, sweep.size, more);
            sizes.push(sweep.size);
        }
        assert_eq!(sizes, [2, 4, 3, 1]);
    }

    #[test]
    fn a_fresh_message_ends_a_sweep() {
        for (received, came_back) in [(0, 0), (2, 1)] {
            let mut sweep = Sweep { size: 2, left: 100 };
            sweep.adapt(received, came_back, 100);
            assert_eq!(sweep.size, 1);
        }
    }

    #[test]
    fn a_sweep_is_bounded() {
        let mut sweep = Sweep { size: MAX_SIZE, left: 10 * MAX_SIZE };
        sweep.adapt(MAX_SIZE, MAX_SIZE, 0);
        assert_eq!(sweep.size, MAX_SIZE);
    }
}
