//! A program: what one client does with one queue, one call after the other, made from a seed and readable when it fails.
//!
//! Times are in thousandths of T. Messages in hand and dead letters are named by their place, which is taken anew at
//! each run, so that a program still means something when calls are left out of it.

use std::fmt;

use polyqueue::Purge;

use crate::Rng;

/// A time, in thousandths of T.
pub(super) type Milli = u32;

/// A message to be published.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) priority: u8,
    pub(super) delay: Milli,
    pub(super) max_attempts: Option<u32>,
    /// For ever where there is none.
    pub(super) ttl: Option<Milli>,
    /// One of a few dedup keys.
    pub(super) key: Option<u64>,
}

/// Names one of the things that there are so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pick {
    /// Counted from the newest, among the four newest.
    Recent(u32),
    /// Any of them.
    Any(u32),
}

impl Pick {
    /// Its place among `len` things; none of none.
    pub(super) fn of(self, len: usize) -> Option<usize> {
        let newest = len.checked_sub(1)?;
        Some(match self {
            Self::Recent(nth) => newest - nth as usize % len.min(4),
            Self::Any(nth) => nth as usize % len,
        })
    }
}

/// What a holder says about a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    Ack,
    /// After the wait that the usual policy has for its attempt.
    RetryByPolicy,
    Retry(Milli),
    Release(Milli),
    Reject,
    Undecodable,
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    Publish(Vec<Draft>),
    /// A batch of this many good ones and one that no backend takes.
    PublishBad(u8),
    Receive {
        who: usize,
        max: usize,
        wait: Milli,
    },
    /// Verdicts, at the consumer that received the first of them; among them one by a receipt that nobody made.
    Settle {
        words: Vec<(Pick, Word)>,
        garbage: bool,
    },
    Extend(Pick),
    /// Given at the other consumer.
    SettleElsewhere(Pick),
    ExtendElsewhere(Pick),
    Advance(Milli),
    Purge(Purge),
    Stats,
    Dead,
    Redrive(Vec<Pick>),
    Discard(Pick),
    /// Any message, wherever it is: to another time, or away.
    Reschedule(Pick, Option<Milli>),
}

/// What programs are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taste {
    /// The longest program.
    pub(super) calls: u64,
    /// Always that long.
    pub(super) full: bool,
    /// The lease.
    pub(super) lease: Milli,
    /// How much waiting there may be in one program.
    pub(super) patience: Milli,
    /// Waits, from which one is drawn.
    pub(super) waits: &'static [Milli],
    /// Delays, from which one is drawn.
    pub(super) delays: &'static [Milli],
    /// How often time is let pass, in a thousand calls.
    pub(super) advances: u64,
    /// Times to live, from which one is drawn; none where the list is empty.
    pub(super) ttls: &'static [Milli],
    /// For how long a dedup key is kept.
    pub(super) window: Milli,
    /// Whether messages are rescheduled.
    pub(super) reschedules: bool,
}

/// For virtual time, where waiting costs nothing.
pub(super) const VIRTUAL: Taste = Taste {
    calls: 80,
    full: false,
    lease: 5_000,
    patience: Milli::MAX,
    waits: &[0, 0, 500, 1_000, 2_000, 3_000, 6_000],
    delays: &[1, 500, 1_000, 1_000, 2_000, 3_000, 4_000, 20_000],
    advances: 120,
    ttls: &[500, 1_000, 2_000, 3_000, 6_000],
    window: 4_000,
    reschedules: true,
};

/// For real time: few and short waits.
pub(super) const REAL: Taste = Taste {
    calls: 60,
    full: true,
    lease: 2_500,
    patience: 7_000,
    waits: &[0, 0, 0, 1_000, 2_000],
    delays: &[500, 1_000, 2_000, 3_000],
    advances: 50,
    // When exactly something expires is nobody's to say here, nor that a window ends; and not every backend reschedules.
    ttls: &[],
    window: 3_600_000,
    reschedules: false,
};

impl Taste {
    /// The program of this seed. The weights are those of RabbitMQ's own property tests of its classic queues: mostly
    /// publish, receive and settle, now and then everything else.
    pub(super) fn program(&self, seed: u64) -> Vec<Op> {
        let mut rng = Rng::new(seed);
        let calls = if self.full { self.calls } else { 1 + rng.below(self.calls) };
        let mut patience = self.patience;
        let mut program = Vec::new();
        while (program.len() as u64) < calls {
            let op = self.op(&mut rng);
            let wait = match &op {
                Op::Receive { wait, .. } | Op::Advance(wait) => *wait,
                _ => 0,
            };
            if wait <= patience {
                patience -= wait;
                program.push(op);
            }
        }
        program
    }

    fn op(&self, rng: &mut Rng) -> Op {
        let rest = 1_000 - self.advances;
        let drawn = rng.below(1_000);
        if drawn >= rest {
            return Op::Advance(draw(rng, &[1, 500, 1_000, 1_500, 2_000, 3_000]));
        }
        match drawn * 1_000 / rest {
            0..=239 => Op::Publish(vec![self.draft(rng)]),
            240..=299 => Op::Publish(self.batch(rng)),
            300..=309 => Op::PublishBad(rng.below(3) as u8),
            310..=579 => Op::Receive {
                who: rng.below(2) as usize,
                max: 1 + rng.below(4) as usize * rng.below(2) as usize,
                wait: draw(rng, self.waits),
            },
            580..=769 => Op::Settle { words: vec![(pick(rng), self.word(rng))], garbage: false },
            770..=819 => {
                let words = (0..2 + rng.below(3)).map(|_| (pick(rng), self.word(rng))).collect();
                Op::Settle { words, garbage: rng.chance(0.5) }
            }
            820..=849 => Op::Extend(pick(rng)),
            850..=864 => Op::SettleElsewhere(pick(rng)),
            865..=869 => Op::ExtendElsewhere(pick(rng)),
            870..=874 if self.reschedules => {
                let to = rng.chance(0.6).then(|| draw(rng, self.delays));
                Op::Reschedule(pick(rng), to)
            }
            870..=884 => Op::Purge(if rng.chance(0.75) { Purge::Waiting } else { Purge::Dead }),
            885..=934 => Op::Stats,
            935..=959 => Op::Dead,
            960..=989 => Op::Redrive((0..1 + rng.below(2)).map(|_| pick(rng)).collect()),
            _ => Op::Discard(pick(rng)),
        }
    }

    fn draft(&self, rng: &mut Rng) -> Draft {
        // Often the same few, so that there are equals; sometimes any, so that each is tried.
        let priority =
            if rng.chance(0.5) { draw(rng, &[2, 5, 5, 9, 10]) } else { 1 + rng.below(10) as u32 } as u8;
        let delay = if rng.chance(0.25) { draw(rng, self.delays) } else { 0 };
        let max_attempts = rng.chance(0.3).then(|| 1 + rng.below(4) as u32);
        let mortal = !self.ttls.is_empty() && rng.chance(0.2);
        let ttl = mortal.then(|| draw(rng, self.ttls)).filter(|ttl| *ttl > delay);
        let key = rng.chance(0.2).then(|| rng.below(3));
        Draft { priority, delay, max_attempts, ttl, key }
    }

    /// Half of them alike, half of them mixed.
    fn batch(&self, rng: &mut Rng) -> Vec<Draft> {
        let many = 2 + rng.below(4);
        if rng.chance(0.5) {
            let draft = self.draft(rng);
            return (0..many).map(|_| draft.clone()).collect();
        }
        (0..many).map(|_| self.draft(rng)).collect()
    }

    fn word(&self, rng: &mut Rng) -> Word {
        let mut wait = || if rng.chance(0.5) { 0 } else { draw(rng, self.delays) };
        let wait = wait();
        match rng.below(20) {
            0..=6 => Word::Ack,
            7..=9 => Word::RetryByPolicy,
            10..=14 => Word::Retry(wait),
            15..=17 => Word::Release(wait),
            18 => Word::Reject,
            _ => Word::Undecodable,
        }
    }
}

fn draw(rng: &mut Rng, from: &[Milli]) -> Milli {
    rng.pick(from).copied().unwrap_or_default()
}

/// Four of five are recent ones; the rest are any, most of them stale.
fn pick(rng: &mut Rng) -> Pick {
    let nth = rng.below(1 << 16) as u32;
    if rng.chance(0.8) { Pick::Recent(nth % 4) } else { Pick::Any(nth) }
}

/// A program as a person reads it.
pub(super) struct Listing<'a>(pub(super) &'a [Op]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, op) in self.0.iter().enumerate() {
            writeln!(f, "  {:>2}. {op}", at + 1)?;
        }
        Ok(())
    }
}

struct T(Milli);

impl fmt::Display for T {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T", f64::from(self.0) / 1_000.0)
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.priority)?;
        if self.delay > 0 {
            write!(f, " delayed {}", T(self.delay))?;
        }
        if let Some(max) = self.max_attempts {
            write!(f, " max {max}")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, " for {}", T(ttl))?;
        }
        self.key.map_or(Ok(()), |key| write!(f, " key {key}"))
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recent(nth) => write!(f, "recent {nth}"),
            Self::Any(nth) => write!(f, "any {nth}"),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ack => f.write_str("ack"),
            Self::RetryByPolicy => f.write_str("retry by policy"),
            Self::Retry(after) => write!(f, "retry after {}", T(*after)),
            Self::Release(after) => write!(f, "release for {}", T(*after)),
            Self::Reject => f.write_str("reject"),
            Self::Undecodable => f.write_str("undecodable"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(drafts) => write!(f, "publish {}", joined(drafts)),
            Self::PublishBad(good) => write!(f, "publish {good} good ones and one with too long a kind"),
            Self::Receive { who, max, wait } => {
                write!(f, "consumer {who} receives up to {max}, waits {}", T(*wait))
            }
            Self::Settle { words, garbage } => {
                let all: Vec<String> = words.iter().map(|(pick, word)| format!("{word} {pick}")).collect();
                write!(f, "settle {}", all.join(", "))?;
                if *garbage { f.write_str(", and a receipt that nobody made") } else { Ok(()) }
            }
            Self::Extend(pick) => write!(f, "extend {pick}"),
            Self::SettleElsewhere(pick) => write!(f, "ack {pick} at the other consumer"),
            Self::ExtendElsewhere(pick) => write!(f, "extend {pick} at the other consumer"),
            Self::Advance(wait) => write!(f, "wait {}", T(*wait)),
            Self::Purge(Purge::Waiting) => f.write_str("purge the waiting"),
            Self::Purge(Purge::Dead) => f.write_str("purge the dead"),
            Self::Stats => f.write_str("stats"),
            Self::Dead => f.write_str("list the dead"),
            Self::Redrive(picks) => write!(f, "redrive {}", joined(picks)),
            Self::Discard(pick) => write!(f, "discard {pick}"),
            Self::Reschedule(pick, Some(after)) => write!(f, "reschedule {pick} to {} from now", T(*after)),
            Self::Reschedule(pick, None) => write!(f, "cancel {pick}"),
        }
    }
}

fn joined(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_program() {
        for taste in [VIRTUAL, REAL] {
            assert_eq!(taste.program(7), taste.program(7));
            assert_ne!(taste.program(7), taste.program(8));
            let waits = |op: &Op| match op {
                Op::Receive { wait, .. } | Op::Advance(wait) => *wait,
                _ => 0,
            };
            let waited: Milli = taste.program(9).iter().map(waits).sum();
            assert!(waited <= taste.patience, "{waited}");
        }
    }

    #[test]
    fn a_program_reads_well() {
        let program = [
            Op::Publish(vec![Draft {
                priority: 9,
                delay: 1_500,
                max_attempts: Some(2),
                ttl: Some(3_000),
                key: Some(1),
            }]),
            Op::Settle { words: vec![(Pick::Recent(0), Word::Retry(500))], garbage: true },
        ];
        let text = "   1. publish p9 delayed 1.5T max 2 for 3T key 1\n   \
                    2. settle retry after 0.5T recent 0, and a receipt that nobody made\n";
        assert_eq!(Listing(&program).to_string(), text);
    }

    #[test]
    fn a_pick_is_always_there_unless_nothing_is() {
        assert_eq!(Pick::Recent(3).of(0), None);
        for len in 1..9 {
            for pick in [Pick::Recent(0), Pick::Recent(3), Pick::Any(65_535)] {
                assert!(pick.of(len).is_some_and(|at| at < len), "{pick:?} of {len}");
            }
        }
    }
}
