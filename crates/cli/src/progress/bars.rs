//! Bars on standard error: one for each thing that is worked on at this moment, and one for everything.

use crate::text::shown;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a bar without news is drawn anew, so that it is seen to be alive.
const TICK: Duration = Duration::from_millis(200);
/// How much of a name is shown: a digest with enough digits to know it by.
const NAME_MAX: usize = 24;

/// The line of everything: how much was done, and how fast.
const TOTAL: &str = "{msg:24} {bytes:>12} {bytes_per_sec}";
/// A line of something whose size is known.
const KNOWN: &str = "{msg:24} {bytes:>12} [{bar:30}] {percent:>3}% {eta:>4}";
/// A line of something whose size is not.
const UNKNOWN: &str = "{msg:24} {bytes:>12} {spinner}";

/// The bars of one piece of work.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What is worked on, by name.
    open: HashMap<String, ProgressBar>,
    total: ProgressBar,
    begun: u64,
    done: u64,
}

impl Bars {
    /// None yet.
    pub fn new() -> Self {
        let all = MultiProgress::new();
        let total = ProgressBar::no_length().with_style(style(TOTAL));
        Self { all, inner: Mutex::new(Inner { open: HashMap::new(), total, begun: 0, done: 0 }) }
    }

    /// Takes all bars away.
    pub fn clear(&self) {
        let mut inner = self.inner();
        // What is cut off would otherwise stay where it was drawn last.
        for (_, bar) in inner.open.drain() {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        inner.total.finish_and_clear();
        // A terminal that is gone shows nothing anyway.
        let _ = self.all.clear();
    }

    /// A bar for `what`, of which `bytes` are to be read.
    pub fn begin(&self, what: &str, bytes: Option<u64>) {
        let mut inner = self.inner();
        if inner.begun == 0 {
            inner.total = self.all.add(inner.total.clone());
            inner.total.enable_steady_tick(TICK);
        }
        let bar = match bytes {
            Some(bytes) => ProgressBar::new(bytes).with_style(style(KNOWN)),
            None => ProgressBar::no_length().with_style(style(UNKNOWN)),
        };
        let bar = self.all.insert_before(&inner.total, bar);
        bar.set_message(short(what));
        inner.begun += 1;
        inner.open.insert(what.to_owned(), bar);
        inner.count();
    }

    /// So many more bytes of it are read.
    pub fn advance(&self, what: &str, bytes: u64) {
        let inner = self.inner();
        if let Some(bar) = inner.open.get(what) {
            bar.inc(bytes);
        }
        inner.total.inc(bytes);
    }

    /// It is done: its bar makes room for others.
    pub fn finish(&self, what: &str, _note: Option<&str>) {
        let mut inner = self.inner();
        if let Some(bar) = inner.open.remove(what) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        inner.done += 1;
        inner.count();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn count(&self) {
        self.total.set_message(format!("{} of {} done", self.done, self.begun.max(self.done)));
    }
}

/// A style whose template is right: the templates here are, which a test proves.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Enough of a name to know it by.
fn short(what: &str) -> String {
    shown(what.as_bytes()).chars().take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for template in [TOTAL, KNOWN, UNKNOWN] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn names_fit_their_column_and_keep_the_terminal_clean() {
        assert_eq!(short(&format!("sha256:{}", "a".repeat(64))).len(), NAME_MAX);
        assert_eq!(short("\x1b[31mred"), r"\x1b[31mred");
    }
}
