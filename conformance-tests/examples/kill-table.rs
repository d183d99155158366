//! The kill table: plants one bug after another in the memory backend, and asks the reference model and the judges of
//! histories whether they find it; what neither finds is asked of the cases. `scripts/kill-table` builds and runs it.

#[cfg(polyqueue_mutants)]
#[path = "../tests/support/memory.rs"]
mod memory;

#[cfg(not(polyqueue_mutants))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "no bug is planted in this build: run scripts/kill-table, which builds with --cfg polyqueue_mutants"
    );
    std::process::ExitCode::from(2)
}

#[cfg(polyqueue_mutants)]
fn main() -> std::process::ExitCode {
    table::print()
}

#[cfg(polyqueue_mutants)]
mod table {
    use std::collections::BTreeSet;
    use std::process::ExitCode;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use polyqueue::{ConnectOptions, Queue, QueueName, Result};
    use polyqueue_conformance::model::drill::{Disagreement, cases, histories, model};
    use polyqueue_conformance::{
        Bytes, Fail, Faults, Garbage, Harness, Linked, Namespace, NoFaults, Time, async_trait,
    };
    use polyqueue_memory::mutants::{ALL, Mutant, plant, uproot};

    use super::memory::Memory;

    /// So many programs the model gets, as many as in its case.
    const PROGRAMS: u64 = 2_000;
    /// So many crowds, each with a seed of its own, until one shows the bug; the last one in real time, on two threads.
    const VIRTUAL_CROWDS: u64 = 6;
    const REAL_CROWDS: u64 = 1;

    /// The same backend by the machine's clock, on threads.
    #[derive(Default)]
    struct RealMemory(Memory);

    #[async_trait]
    impl Harness for RealMemory {
        fn name(&self) -> &'static str {
            "memory, real time"
        }

        async fn open(&self, namespace: &Namespace, options: ConnectOptions) -> Result<Arc<dyn Queue>> {
            self.0.open(namespace, options).await
        }

        fn tick(&self) -> Duration {
            Duration::from_millis(40)
        }

        async fn faults(&self, namespace: &Namespace) -> Result<Arc<dyn Faults>, NoFaults> {
            self.0.faults(namespace).await
        }

        async fn link(&self, namespace: &Namespace) -> Result<Linked, NoFaults> {
            self.0.link(namespace).await
        }

        async fn garbage(&self, namespace: &Namespace, queue: &QueueName, raw: Garbage) -> Result<()> {
            self.0.garbage(namespace, queue, raw).await
        }

        async fn foreign(&self, namespace: &Namespace, queue: &QueueName, payload: Bytes) -> Result<()> {
            self.0.foreign(namespace, queue, payload).await
        }

        async fn leftovers(&self, namespace: &Namespace) -> Result<Vec<String>> {
            self.0.leftovers(namespace).await
        }
    }

    /// What was found of one bug.
    struct Row {
        name: &'static str,
        what: &'static str,
        model: Option<Disagreement>,
        rules: BTreeSet<&'static str>,
        /// The first case that fails; asked only where neither generator has found it.
        case: Option<&'static str>,
        failure: Option<String>,
    }

    impl Row {
        fn found(&self) -> bool {
            self.model.is_some() || !self.rules.is_empty() || self.case.is_some()
        }

        fn print(&self) {
            let model = match &self.model {
                Some(it) => format!("{} calls, seed {:x}", it.calls, it.seed),
                None => "-".into(),
            };
            let rules: Vec<&str> = self.rules.iter().copied().collect();
            let rules = if rules.is_empty() { "-".into() } else { rules.join(" ") };
            let end = if self.found() { "killed" } else { "SURVIVED" };
            let case = self.case.unwrap_or("-");
            println!("{:<23} {end:<8} {model:<34} {rules:<28} {case:<10} {}", self.name, self.what);
            if let Some(failure) = &self.failure {
                println!("  besides: {failure}");
            }
        }
    }

    /// `SHARE=1/2` is the second half of the bugs: a bug is planted in the whole process, and processes may share them.
    fn share() -> (usize, usize) {
        let said = std::env::var("SHARE").unwrap_or_default();
        let share = said.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        share.filter(|&(part, of)| part < of).unwrap_or((0, 1))
    }

    pub(super) fn print() -> ExitCode {
        let wanted: Vec<String> = std::env::args().skip(1).collect();
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let start = Instant::now();
        // A bug may make the backend panic: that is found as anything else is.
        std::panic::set_hook(Box::new(|_| ()));
        let head = ["bug", "", "by the model", "by histories", "by a case"];
        println!("{:<23} {:<8} {:<34} {:<28} {:<10} what it is", head[0], head[1], head[2], head[3], head[4]);
        let mut good = correct(seed);
        let (mut passed, mut failed) = (usize::from(good), usize::from(!good));
        let mut killed = [0; 4];
        let (part, of) = share();
        let ours = ALL.iter().skip(part).step_by(of);
        for bug in ours.filter(|bug| wanted.is_empty() || wanted.iter().any(|name| name == bug.name)) {
            let row = try_one(bug, seed);
            row.print();
            if let Some(it) = row.model.as_ref().filter(|_| !wanted.is_empty()) {
                println!("  {}\n{}", it.why, it.program);
            }
            good &= row.found();
            let counted = if row.found() { &mut passed } else { &mut failed };
            *counted += 1;
            let by = [row.model.is_some(), !row.rules.is_empty(), row.case.is_some(), row.found()];
            for (count, found) in killed.iter_mut().zip(by) {
                *count += usize::from(found);
            }
        }
        let [by_model, by_histories, by_case, by_any] = killed;
        println!(
            "killed: {by_model} by the model, {by_histories} by histories, {by_case} by cases alone, {by_any} in all"
        );
        let took = start.elapsed().as_secs_f64();
        let word = if good { "ok" } else { "FAILED" };
        println!(
            "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {took:.2}s"
        );
        if good && by_any > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Nothing may be said against the backend as it is, or the rest of the table means nothing.
    fn correct(seed: u64) -> bool {
        uproot();
        let row = try_bug("(none)", "the backend as it is: must be accused of nothing", seed, true);
        let accused = row.found() || row.failure.is_some();
        println!(
            "{:<23} {:<8} {} programs agree, {} crowds clean, every case passes",
            row.name,
            if accused { "ACCUSED" } else { "clean" },
            PROGRAMS,
            VIRTUAL_CROWDS + REAL_CROWDS
        );
        if accused {
            row.print();
            if let Some(it) = &row.model {
                println!("{}\n{}", it.why, it.program);
            }
        }
        !accused
    }

    fn try_one(bug: &Mutant, seed: u64) -> Row {
        assert!(plant(bug.name), "{} is planted", bug.name);
        let row = try_bug(bug.name, bug.what, seed, false);
        uproot();
        row
    }

    fn try_bug(name: &'static str, what: &'static str, seed: u64, all: bool) -> Row {
        let (virtually, really): (Arc<dyn Harness>, Arc<dyn Harness>) =
            (Arc::new(Memory::default()), Arc::new(RealMemory::default()));
        let mut failure = None;
        let mut note = |fail: Fail| failure = Some(fail.to_string());
        let by_model = model(&virtually, seed, PROGRAMS).map(|(found, _)| found);
        let by_model = by_model.unwrap_or_else(|fail| {
            note(fail);
            None
        });
        let mut rules = BTreeSet::new();
        let crowds = (0..VIRTUAL_CROWDS).map(|_| &virtually).chain((0..REAL_CROWDS).map(|_| &really));
        for (nth, harness) in crowds.enumerate() {
            // What the model has not found deserves every crowd; what was found already need not wait for the clock.
            if !all && (!rules.is_empty() || (by_model.is_some() && harness.time() == Time::Real)) {
                break;
            }
            match histories(harness, seed + nth as u64, nth % 2 == 1) {
                Ok(violations) => {
                    if all {
                        violations.iter().take(5).for_each(|violation| println!("  {violation}"));
                    }
                    rules.extend(violations.iter().map(|violation| violation.rule));
                }
                Err(fail) => note(fail),
            }
        }
        let mut case = None;
        if all || (by_model.is_none() && rules.is_empty()) {
            match cases(&virtually, seed, !all) {
                Ok(failed) => {
                    if all {
                        failed.iter().for_each(|(id, fail)| println!("  {id}: {fail}"));
                    }
                    case = failed.first().map(|(id, _)| *id);
                }
                Err(fail) => note(fail),
            }
        }
        Row { name, what, model: by_model, rules, case, failure }
    }
}
