//! H23: a reply comes in at the inbox that it was sent to, and once.

use super::found::{Bounds, Found};
use super::view::View;

pub(super) fn check(view: &View<'_>, _: &Bounds, found: &mut Found) {
    if view.outsiders {
        return;
    }
    for ((inbox, id), reply) in &view.inboxes {
        let may = reply.sent - reply.refused;
        if reply.came > may {
            let (came, sent) = (reply.came, reply.sent);
            found.add("H23", format!("{id} came {came} times to {inbox}, sent {sent}, stored at most {may}"));
        }
    }
}
