//! Measurements of seconds: systems take turns, a few rounds, and the median counts. The results are left where
//! criterion leaves its own, so that one table shows both.

use serde_json::json;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The results of one group while it is measured.
#[derive(Debug)]
pub struct Rounds {
    group: &'static str,
    unit: &'static str,
    taken: BTreeMap<(String, String), Vec<f64>>,
}

/// Whether `cargo bench -- --test` asks for everything once and small, or what part of the benches is wanted.
#[derive(Debug)]
pub struct Asked {
    /// Only see that it works.
    pub test: bool,
    filter: Option<String>,
}

impl Asked {
    /// What the command line says.
    #[must_use]
    pub fn of_arguments() -> Self {
        let arguments: Vec<String> = env::args().skip(1).collect();
        let test = arguments.iter().any(|a| a == "--test");
        Self { test, filter: arguments.into_iter().find(|a| !a.starts_with('-')) }
    }

    /// Is this group wanted?
    #[must_use]
    pub fn wants(&self, group: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| group.contains(filter.as_str()))
    }
}

/// How long `act` takes.
pub fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let out = act();
    (start.elapsed(), out)
}

impl Rounds {
    /// Times, under this title.
    #[must_use]
    pub fn of_times(group: &'static str) -> Self {
        Self { group, unit: "ns", taken: BTreeMap::new() }
    }

    /// Bytes, under this title.
    #[must_use]
    pub fn of_bytes(group: &'static str) -> Self {
        Self { group, unit: "bytes", taken: BTreeMap::new() }
    }

    /// Takes a time in.
    pub fn time(&mut self, system: &str, case: &str, took: Duration) {
        self.number(system, case, took.as_secs_f64() * 1e9);
    }

    /// Takes a number in.
    pub fn number(&mut self, system: &str, case: &str, number: f64) {
        eprintln!("{}/{system}/{case}: {number:.0} {}", self.group, self.unit);
        self.taken.entry((system.to_owned(), case.to_owned())).or_default().push(number);
    }

    /// Prints the medians and leaves them for the table.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn finish(self, asked: &Asked) {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        for ((system, case), mut taken) in self.taken {
            taken.sort_by(f64::total_cmp);
            let median = taken[taken.len() / 2];
            let (least, most) = (taken[0], taken[taken.len() - 1]);
            println!("{}/{system}/{case}: {median:.0} {} ({least:.0} to {most:.0})", self.group, self.unit);
            if asked.test {
                continue;
            }
            let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            let dir =
                [self.group, &system, &case].iter().fold(target.join("criterion"), |d, p| d.join(plain(p)));
            let dir = dir.join("new");
            fs::create_dir_all(&dir).expect("make a directory for results");
            let what = json!({
                "group_id": self.group, "function_id": system, "value_str": case, "unit": self.unit,
            });
            let found = json!({"median": {"point_estimate": median}});
            fs::write(dir.join("benchmark.json"), what.to_string()).expect("write results");
            fs::write(dir.join("estimates.json"), found.to_string()).expect("write results");
        }
    }
}
