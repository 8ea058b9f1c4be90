//! Long work, watched: bars on a terminal, or one JSON object a line, or nothing; and its end when the user asks for
//! it. The work runs in [`Watch::run`], which alone turns a signal into the end of the work.
//!
//! Signals are waited for by a thread of their own and only set a flag, so the work ends as after any failure and
//! leaves nothing behind. A later signal ends the process at once.

mod bars;
mod events;

use crate::failure::Failure;
use crate::sys::Signals;
use bars::Bars;
use events::Events;
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};
use stratafs::oci::Progress;

/// Signals this close together are one wish: `timeout` and some shells send theirs to the process and to its group.
const SAME: Duration = Duration::from_secs(1);

/// How the progress of one piece of work is shown.
#[derive(Debug)]
pub struct Watch {
    shown: Shown,
    /// The signal that asked for the end; 0 for none.
    signal: Arc<AtomicI32>,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bars(Bars),
    Events(Events),
}

impl Watch {
    /// For work that was asked for with `json` or without.
    pub fn new(json: bool) -> Self {
        let shown = match json {
            true => Shown::Events(Events::default()),
            false if std::io::stderr().is_terminal() => Shown::Bars(Bars::new()),
            false => Shown::Nothing,
        };
        Self { shown, signal: Arc::default() }
    }

    /// For work whose answer is one JSON document when `json` was asked for, without events.
    pub fn quiet(json: bool) -> Self {
        match json {
            true => Self { shown: Shown::Nothing, signal: Arc::default() },
            false => Self::new(false),
        }
    }

    /// Does `work`, which hears of the user's wish to stop through [`Progress::cancelled`].
    ///
    /// # Errors
    /// Those of the work; 128 + the signal's number when that ended it; 141 when nobody reads the events.
    pub fn run<T>(&self, work: impl FnOnce(&Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let signals =
            Signals::block_ending().map_err(|e| Failure::new(format!("cannot wait for signals: {e}")))?;
        let signal = Arc::clone(&self.signal);
        // It ends with the process: nothing is done after work that was watched.
        std::thread::spawn(move || {
            let mut first: Option<Instant> = None;
            while let Ok(number) = signals.wait_number() {
                match first {
                    None => {
                        first = Some(Instant::now());
                        signal.store(number, Ordering::Relaxed);
                    }
                    Some(first) if first.elapsed() < SAME => {}
                    Some(_) => std::process::exit(code(number).into()),
                }
            }
        });
        let done = work(self);
        if let Shown::Bars(bars) = &self.shown {
            bars.clear();
        }
        done.map_err(|failure| {
            let failure = match self.signal.load(Ordering::Relaxed) {
                0 => failure,
                number => Failure::new("interrupted").code(code(number)),
            };
            match &self.shown {
                Shown::Events(events) => events.failed(failure),
                _ => failure,
            }
        })
    }

    /// Says whether the user asked for the end.
    pub fn interrupted(&self) -> impl Fn() -> bool + Send + 'static {
        let signal = Arc::clone(&self.signal);
        move || signal.load(Ordering::Relaxed) != 0
    }

    /// Ends the work well: the last event, or what `tell` says.
    pub fn result(
        &self,
        result: &impl Serialize,
        tell: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match &self.shown {
            Shown::Events(events) => events.result(result),
            _ => tell(),
        }
    }
}

/// What a shell gives for a command that a signal ended.
fn code(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
}

impl Progress for Watch {
    fn begin(&self, what: &str, bytes: Option<u64>) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars(bars) => bars.begin(what, bytes),
            Shown::Events(events) => events.begin(what, bytes),
        }
    }

    fn advance(&self, what: &str, bytes: u64) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars(bars) => bars.advance(what, bytes),
            Shown::Events(events) => events.advance(what, bytes),
        }
    }

    fn finish(&self, what: &str, note: Option<&str>) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars(bars) => bars.finish(what, note),
            Shown::Events(events) => events.finish(what, note),
        }
    }

    fn cancelled(&self) -> bool {
        let unheard = matches!(&self.shown, Shown::Events(events) if events.unheard());
        unheard || self.signal.load(Ordering::Relaxed) != 0
    }
}
