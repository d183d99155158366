//! A command with all that it started.

use std::process::Stdio;

/// Ends the command's whole process group when it is dropped while running: a pipeline has several processes.
pub(crate) struct ProcessGroup(Option<u32>);

impl ProcessGroup {
    pub(crate) fn led_by(leader: Option<u32>) -> Self {
        Self(leader)
    }

    /// The command ended by itself; what it left running is its own affair.
    pub(crate) fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let group = format!("-{leader}");
            let _ = std::process::Command::new("kill")
                .args(["-KILL", "--", &group])
                .stderr(Stdio::null())
                .status();
        }
    }
}
