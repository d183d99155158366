//! The reference model against random programs.

use crate::{Case, case, model};

/// What programs come across.
const STATEMENTS: &[&str] = &[
    "S-PUB-1", "S-BAT-1", "S-BAT-2", "S-BAT-3", "S-DEL-1", "S-DEL-2", "S-DEL-4", "S-DEL-5", "S-ORD-1",
    "S-ORD-2", "S-PRI-1", "S-PRI-4", "S-DLY-1", "S-DLY-2", "S-DLY-3", "S-DLY-4", "S-RET-1", "S-RET-3",
    "S-RET-4", "S-ATT-1", "S-ATT-2", "S-ATT-3", "S-DLQ-1", "S-DLQ-2", "S-RDR-1", "S-RDR-2", "S-LSE-1",
    "S-LSE-2", "S-LSE-3", "S-LSE-4", "S-SET-1", "S-SET-2", "S-SET-3", "S-ADM-1", "S-ADM-2", "S-ADM-4",
];

const fn about_everything(case: Case) -> Case {
    Case { statements: STATEMENTS, ..case }
}

pub(crate) const CASES: &[Case] = &[
    about_everything(case!(
        "C-MOD-01",
        "2,000 random programs answer as the model does, in virtual time",
        [],
        Both,
        [VirtualTime],
        model::in_virtual_time
    )),
    about_everything(case!(
        "C-MOD-02",
        "100 random programs answer as the model allows, in real time",
        [],
        Both,
        [RealTime, Minutes],
        model::in_real_time
    )),
];
