//! Whether what is due is moved, in words.

use polyqueue::Result;

use crate::connection::control::Control;
use crate::delay::slots::{Slot, recent};
use crate::delay::wheel::Wheel;
use crate::wire::delay::LOCK;

/// What is wrong, if anything is: asked of the broker, for this client may not be the one that moves.
pub(crate) async fn standstill(wheel: &Wheel) -> Result<Option<String>> {
    if !wheel.is_started() {
        return Ok(None);
    }
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
