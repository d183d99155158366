//! Rates and ratios: contenders take turns, so that noise hits both.

use std::time::Instant;

use crate::{Outcome, ROUNDS};

/// Messages a second of one run.
pub(crate) async fn rate(messages: usize, run: impl Future<Output = Outcome>) -> Outcome<f64> {
    let began = Instant::now();
    run.await?;
    Ok(messages as f64 / began.elapsed().as_secs_f64())
}

/// The rates of two contenders, round by round.
#[derive(Default)]
pub(crate) struct Duel {
    pub(crate) ours: Vec<f64>,
    pub(crate) raw: Vec<f64>,
}

impl Duel {
    /// Prints both medians and their ratio against the one that is wanted.
    pub(crate) fn print(&self, what: &str, wanted: f64) {
        self.print_as(what, ["ours", "raw"], wanted);
    }

    /// The same where the two have other names.
    pub(crate) fn print_as(&self, what: &str, [one, other]: [&str; 2], wanted: f64) {
        let (ours, raw) = (median(&self.ours), median(&self.raw));
        let ratio = ours / raw;
        let verdict = if ratio >= wanted { "reached" } else { "MISSED" };
        println!(
            "{what:<32} {one} {ours:>9.0}/s   {other} {raw:>9.0}/s   ratio {ratio:.2} (wanted {wanted:.2}: {verdict})"
        );
        println!("{:<32} {one} {}   {other} {}", "", spread(&self.ours), spread(&self.raw));
    }
}

/// Prints one contender's median against the rate that is wanted.
pub(crate) fn print_rate(what: &str, rates: &[f64], wanted: f64) {
    let rate = median(rates);
    let verdict = if rate >= wanted { "reached" } else { "MISSED" };
    println!("{what:<32} ours {rate:>9.0}/s   (wanted {wanted:.0}/s: {verdict})   {}", spread(rates));
}

/// The value below which `share` of the sorted values lie.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

fn spread(values: &[f64]) -> String {
    format!("[{:.0} … {:.0}, {ROUNDS} rounds]", percentile(values, 0.0), percentile(values, 1.0))
}
