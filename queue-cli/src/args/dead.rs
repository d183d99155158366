//! What can be typed about dead letters.

use clap::{Args, Subcommand};
use polyqueue::{DeadFilter, DeadId, DeadReason, QueueName};

#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// Show dead letters, oldest first.
    List(Letters),
    /// Make dead letters ready again; all of them when neither ids nor filters are given.
    Redrive(Letters),
    /// Remove dead letters for good; all of them when neither ids nor filters are given, which wants --yes.
    Discard {
        #[command(flatten)]
        letters: Letters,
        /// Yes, remove all.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Letters {
    /// The queue.
    pub(crate) queue: QueueName,
    /// Ids of dead letters, as `dead list` shows them.
    #[arg(value_parser = dead_id, value_name = "ID")]
    pub(crate) ids: Vec<DeadId>,
    /// Only those that died for this reason: max_attempts, rejected, undecodable,
    /// expired or overflow.
    #[arg(long)]
    pub(crate) reason: Option<DeadReason>,
    /// Only those whose error text contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) error: Option<String>,
    /// At most this many.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

impl Letters {
    pub(crate) fn filter(&self) -> DeadFilter {
        let mut filter = DeadFilter::all();
        filter.reason = self.reason;
        filter.error.clone_from(&self.error);
        filter
    }

    /// Whether nothing narrows the choice.
    pub(crate) fn means_all(&self) -> bool {
        self.ids.is_empty() && self.filter() == DeadFilter::all() && self.limit.is_none()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

fn dead_id(text: &str) -> Result<DeadId, String> {
    Ok(DeadId::new(text))
}
