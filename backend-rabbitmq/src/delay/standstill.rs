//! Whether what is due is moved, in words.

use std::time::{Duration, Instant};

use polyqueue::Result;

use crate::connection::control::Control;
use crate::delay::slots::{Slot, recent};
use crate::delay::wheel::Wheel;
use crate::wire::delay::LOCK;

/// For how long something must be overdue, whenever it was looked: after a lost connection it is for a moment.
const LONG: Duration = Duration::from_secs(5);

/// What is wrong, if it has been for a while.
pub(crate) async fn standstill(wheel: &Wheel) -> Result<Option<String>> {
    if !wheel.is_started() {
        return Ok(None);
    }
    let said = overdue(wheel).await?;
    let mut since = wheel.shared.overdue.lock();
    let now = Instant::now();
    *since = said.is_some().then(|| since.unwrap_or(now));
    Ok(said.filter(|_| since.is_some_and(|since| now.duration_since(since) >= LONG)))
}

/// What is wrong, if anything is: asked of the broker, for this client may not be the one that moves.
async fn overdue(wheel: &Wheel) -> Result<Option<String>> {
    let Some(now) = wheel.shared.clock.earliest() else { return Ok(None) };
    let (control, role) = (wheel.handle.control(), wheel.shared.role());
    if control.consumers(LOCK).await? == 0 {
        let waiting = waiting(control, Slot::all(0..1)).await?;
        let said =
            format!("nobody moves delayed messages, of which {waiting} are due soon or were due: {role}");
        return Ok((waiting > 0).then_some(said));
    }
    let overdue = waiting(control, [recent(now)]).await?;
    let said = format!("{overdue} delayed messages were due two seconds ago and were not moved: {role}");
    Ok((overdue > 0).then_some(said))
}

async fn waiting(control: &Control, slots: impl IntoIterator<Item = Slot>) -> Result<u64> {
    let mut waiting = 0;
    for slot in slots {
        waiting += control.messages(&slot.queue()).await?;
    }
    Ok(waiting)
}
