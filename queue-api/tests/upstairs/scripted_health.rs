//! The health of the scripted broker.

use parking_lot::Mutex;
use polyqueue::Health;

/// Who is stuck, as a test says, and how often it was asked.
#[derive(Debug, Default)]
pub(crate) struct ScriptedHealth(Mutex<(Feels, usize)>);

/// What the broker says when it is asked how it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Feels {
    #[default]
    Well,
    /// Somebody is stuck.
    Stuck(&'static str),
    /// Nothing, ever.
    Mute,
}

impl ScriptedHealth {
    /// From now on.
    pub(crate) fn feels(&self, feels: Feels) {
        self.0.lock().0 = feels;
    }

    pub(crate) fn looks(&self) -> usize {
        self.0.lock().1
    }

    pub(crate) async fn look(&self) -> Health {
        let feels = {
            let mut health = self.0.lock();
            health.1 += 1;
            health.0
        };
        match feels {
            Feels::Well => Health::good("scripted"),
            Feels::Stuck(who) => Health::bad("scripted", who),
            Feels::Mute => std::future::pending().await,
        }
    }
}
