//! [`Progress`]: what long work says of itself while it goes on. Called from several threads at once.

/// Hears of progress. All methods have an empty default and must return quickly.
pub trait Progress: Send + Sync {
    /// Work on one thing began: `what` names it (a layer's digest, a file); `bytes` of input where that is known.
    fn begin(&self, what: &str, bytes: Option<u64>) {
        let _ = (what, bytes);
    }

    /// So many more bytes of its input are done.
    fn advance(&self, what: &str, bytes: u64) {
        let _ = (what, bytes);
    }

    /// It is done; `note` says how, where that is not the ordinary way ("already there").
    fn finish(&self, what: &str, note: Option<&str>) {
        let _ = (what, note);
    }

    /// True when the work is to stop: it ends with an error as after any failure, and leaves nothing behind.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
