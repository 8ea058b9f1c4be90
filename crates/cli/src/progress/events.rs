//! Events: one JSON object a line on standard output, for programs that watch. `docs/cli-json.md` is their contract.

use crate::failure::Failure;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two events of progress of one thing.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a, T: Serialize> {
    Begin {
        what: &'a str,
        bytes: Option<u64>,
    },
    Progress {
        what: &'a str,
        bytes: u64,
    },
    Done {
        what: &'a str,
        bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'a str>,
    },
    Error {
        message: &'a str,
    },
    Result {
        result: &'a T,
    },
}

/// An event without a result.
type Quiet<'a> = Event<'a, ()>;

/// Writes events.
#[derive(Debug, Default)]
pub struct Events {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<String, Open>,
    /// Why the last line could not be written.
    failed: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Open {
    bytes: u64,
    told: Option<Instant>,
}

impl Events {
    /// Work on `what` began.
    pub fn begin(&self, what: &str, bytes: Option<u64>) {
        let mut inner = self.inner();
        inner.open.insert(what.to_owned(), Open { bytes: 0, told: Some(Instant::now()) });
        inner.write(&Quiet::Begin { what, bytes });
    }

    /// So many more bytes are done; not every call is told.
    pub fn advance(&self, what: &str, bytes: u64) {
        let mut inner = self.inner();
        let open = inner.open.entry(what.to_owned()).or_default();
        open.bytes = open.bytes.saturating_add(bytes);
        if open.told.is_some_and(|told| told.elapsed() < PAUSE) {
            return;
        }
        open.told = Some(Instant::now());
        let bytes = open.bytes;
        inner.write(&Quiet::Progress { what, bytes });
    }

    /// It is done.
    pub fn finish(&self, what: &str, note: Option<&str>) {
        let mut inner = self.inner();
        let bytes = inner.open.remove(what).unwrap_or_default().bytes;
        inner.write(&Quiet::Done { what, bytes, note });
    }

    /// The last line of work that went well.
    pub fn result(&self, result: &impl Serialize) -> Result<(), Failure> {
        let mut inner = self.inner();
        inner.write(&Event::Result { result });
        inner.failed.take().map_or(Ok(()), |e| Err(e.into()))
    }

    /// The last line of work that failed; the failure of the output where that was the reason.
    pub fn failed(&self, failure: Failure) -> Failure {
        let mut inner = self.inner();
        inner.write(&Quiet::Error { message: &failure.message });
        inner.failed.take().map_or(failure, Failure::from)
    }

    /// True when the output is gone or full, so that the work is in vain.
    pub fn unheard(&self) -> bool {
        self.inner().failed.is_some()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, event: &impl Serialize) {
        if self.failed.is_some() {
            return;
        }
        let written = serde_json::to_vec(event).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            let mut out = io::stdout().lock();
            out.write_all(&line)?;
            out.flush()
        });
        self.failed = written.err();
    }
}
