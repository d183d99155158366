//! Planted bugs: what the conformance kit must find. They exist only in builds with `--cfg polyqueue_mutants`.

macro_rules! bugs {
    ($($bug:ident $name:literal $what:literal;)*) => {
        /// A planted bug.
        #[cfg_attr(not(polyqueue_mutants), allow(dead_code, reason = "some bugs have code of their own"))]
        #[derive(Clone, Copy)]
        pub(crate) enum Bug { $(#[doc = $what] $bug),* }

        /// Every planted bug, in the order of the kill table.
        #[cfg(polyqueue_mutants)]
        pub const ALL: &[Mutant] = &[$(Mutant { name: $name, what: $what }),*];
    };
}

bugs! {
    AttemptTooMany "attempt_too_many" "a message is handed out once more than its maximum of attempts";
    BuriedEarly "buried_early" "a message dies one attempt before its last";
    MessageMaxIgnored "message_max_ignored" "the subscription's maximum of attempts wins over the message's own";
    LesserMaximumBuries "lesser_maximum_buries" "a reader that allows fewer attempts buries what others would try again";
    RetryFree "retry_free" "a retry does not count as an attempt";
    ExpiryFree "expiry_free" "the end of a lease does not count as an attempt";
    ReleaseBurns "release_burns" "a release counts as an attempt";
    BackoffIgnored "backoff_ignored" "a retry's wait is ignored: ready at once";
    RetryFromHandOut "retry_from_hand_out" "a retry's wait is counted from the hand-out, not from the verdict";
    PriorityLost "priority_lost" "a retried message comes back at the default priority";
    PublishWakesNobody "publish_wakes_nobody" "a publish does not wake a blocked receive";
    DueWakesNobody "due_wakes_nobody" "a delay that comes due does not wake a blocked receive";
    ExpiryWakesNobody "expiry_wakes_nobody" "the end of a lease does not wake a blocked receive";
    RarelyUnleased "rarely_unleased" "1 in 64 hand-outs has no lease: an abandoned message never comes back";
    RarelyTwice "rarely_twice" "1 in 64 hand-outs leaves the message ready for somebody else";
    NoFencing "no_fencing" "a verdict by a stale receipt settles whoever holds the message now";
    LateVerdict "late_verdict" "a verdict after the lease's end is taken as long as nobody else took the message";
    LateExtend "late_extend" "an extension after the lease's end is granted as long as nobody else took the message";
    ForeignReceipt "foreign_receipt" "a receipt is honoured at a consumer that did not receive it";
    ExtendDoesNothing "extend_does_nothing" "an extension answers a new end, but the lease ends as before";
    SecondVerdict "second_verdict" "a second verdict for a receipt answers that it took effect";
    AckKeeps "ack_keeps" "an ack leaves the message in flight: it comes back at the lease's end";
    NewestFirst "newest_first" "within one priority the newest message comes first";
    PriorityAsText "priority_as_text" "priorities are compared as text: 10 comes behind 2";
    ExpiredFirst "expired_first" "a message whose lease ended comes back before those ready at its priority";
    OverCap "over_cap" "a receive brings one message more than asked for";
    BatchReversed "batch_reversed" "a receive brings its messages in reverse order";
    PurgeTakesInFlight "purge_takes_in_flight" "a purge removes messages in flight";
    PurgeForgetsDelayed "purge_forgets_delayed" "a purge leaves delayed messages where they are";
    DelayedAsReady "delayed_as_ready" "stats count delayed messages as ready";
    RedriveKeepsAttempts "redrive_keeps_attempts" "a redriven message goes on with its old attempts";
    RedriveLosesHeaders "redrive_loses_headers" "a redriven message has no headers";
    RedriveKeepsLetter "redrive_keeps_letter" "a redriven message stays among the dead letters";
    DeadLosesError "dead_loses_error" "a dead letter has no error text";
    DeadCountsWrong "dead_counts_wrong" "a dead letter says one attempt less than there were";
    EarlyByOne "early_by_one" "a delayed message becomes ready 1 ms early";
    DelayFromBefore "delay_from_before" "a delay is counted from the call before the publish";
    HeadOfLine "head_of_line" "a shorter delay waits behind a longer one";
    DueNewestFirst "due_newest_first" "of messages due at one instant the newest comes first";
    PollTakesDelayed "poll_takes_delayed" "a receive that does not wait brings delayed messages when none is ready";
    DropLoses "drop_loses" "what a dropped receive was handed is lost";
    FanOutStops "fan_out_stops" "a message to a topic reaches the first matching queue only";
    CopyUndelayed "copy_undelayed" "of a delayed message to a topic all copies but the last are ready at once";
    UnbindForgets "unbind_forgets" "an unbind leaves the binding where it is";
    PartlyStored "partly_stored" "a message to a topic is refused by a full queue and stored in the others";
    TtlIgnored "ttl_ignored" "a message is handed out after its time to live";
    ExpiredVanish "expired_vanish" "a message that expires is gone instead of dead";
    RetryRenewsTtl "retry_renews_ttl" "a retry begins the time to live anew";
    DuplicateStored "duplicate_stored" "a duplicate is answered as one, and stored";
    WindowFromDuplicate "window_from_duplicate" "a duplicate begins the window of its key anew";
    DeadKeepsKey "dead_keeps_key" "a dead letter keeps its dedup key taken";
    RetryFreesKey "retry_frees_key" "a retry frees the dedup key";
    AckTurnsKeys "ack_turns_keys" "an ack frees the key that lasts for its window, and keeps the one that lasts until the ack";
    OverflowDropsNewest "overflow_drops_newest" "the newest message makes room instead of the oldest";
    OverflowDropsHighest "overflow_drops_highest" "a message of the highest priority makes room instead of the lowest";
    RoomWakesNobody "room_wakes_nobody" "room does not wake a publish that waits for it";
    RetentionDropsNewest "retention_drops_newest" "of too many dead letters the newest is dropped";
    RetentionUncounted "retention_uncounted" "dead letters are dropped and not counted";
    CancelKeeps "cancel_keeps" "a cancelled message comes all the same";
    RescheduleAdds "reschedule_adds" "a new time is counted from the old one, not from now";
    ChildReadsParent "child_reads_parent" "a child handle reads its parent's queues";
    ChildClosesParent "child_closes_parent" "the close of a child closes its parent";
}

/// Whether this bug is planted; known to be false at compile time in every ordinary build.
#[cfg(not(polyqueue_mutants))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(polyqueue_mutants)]
pub use selector::{Mutant, plant, uproot};

#[cfg(polyqueue_mutants)]
pub(crate) use selector::planted;

#[cfg(polyqueue_mutants)]
mod selector {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::{ALL, Bug};

    /// Names a planted bug.
    #[derive(Clone, Copy, Debug)]
    pub struct Mutant {
        /// What [`plant`] calls it.
        pub name: &'static str,
        /// What is wrong, in one line.
        pub what: &'static str,
    }

    const NONE: usize = usize::MAX;
    static PLANTED: AtomicUsize = AtomicUsize::new(NONE);

    /// Plants one bug in all memory brokers of the process, instead of any other; `false` for an unknown name.
    pub fn plant(name: &str) -> bool {
        let place = ALL.iter().position(|mutant| mutant.name == name);
        PLANTED.store(place.unwrap_or(NONE), Relaxed);
        place.is_some()
    }

    /// Makes the memory brokers of the process correct again.
    pub fn uproot() {
        PLANTED.store(NONE, Relaxed);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.load(Relaxed) == bug as usize
    }
}

/// One in 64, spread evenly.
pub(crate) const fn rare(number: u64) -> bool {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58 == 0
}
