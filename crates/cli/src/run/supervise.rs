//! Waiting for a child: signals that were sent to this process go on to it, and its end is told in the
//! shell's terms. Used by every process of a run, the one that is pid 1 inside too, so orphans are reaped.

use crate::sys::{Arrived, Signals};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::io;
use std::process::Child;

/// Waits until `child` ends; its exit code, or 128 + the number of the signal that ended it.
pub fn supervise(signals: &Signals, child: &Child) -> io::Result<u8> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    loop {
        if let Some(code) = reap(pid)? {
            return Ok(code);
        }
        match signals.wait()? {
            // The child is in the same foreground group: the kernel told it as well.
            Arrived::Child | Arrived::Kernel => {}
            Arrived::Sent(number) => {
                let signal = Signal::from_named_raw(number).ok_or(Errno::INVAL)?;
                match rustix::process::kill_process(pid, signal) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
    }
}

/// Collects every child that has ended; the code of `wanted` when it is among them.
fn reap(wanted: Pid) -> io::Result<Option<u8>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == wanted => return Ok(Some(shell_code(status))),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

fn shell_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s));
    code.and_then(|c| u8::try_from(c).ok()).unwrap_or(super::FAILED)
}
