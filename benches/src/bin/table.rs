//! Prints the results of the last `cargo bench` as Markdown: a table for each group, with medians and how long this
//! project takes in relation to each baseline; before them the figures that the project wants to reach. With the name
//! of a Markdown file, everything in it after the line [`MARK`] is replaced by them.

use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Numbers by system and case, and what they count: nanoseconds or bytes.
#[derive(Default)]
struct Group {
    systems: BTreeMap<String, BTreeMap<String, f64>>,
    bytes: bool,
}

impl Group {
    fn get(&self, system: &str, case: &str) -> Option<f64> {
        self.systems.get(system)?.get(case).copied()
    }

    fn human(&self, number: f64) -> String {
        if self.bytes { format!("{} MiB", Short(number / f64::from(1 << 20))) } else { human(number) }
    }
}

/// The order of the columns.
const SYSTEMS: [&str; 14] = [
    "strata",
    "strata, changes()",
    "strata, walk",
    "plain directory",
    "plain directory, walk",
    "plain copy",
    "kernel",
    "kernel, walk",
    "kernel, metacopy",
    "vfs",
    "tar x",
    "tar x, synced",
    "umoci",
    "umoci repack",
];

/// What is to be reached: group, this project's system, the other's, case, the largest quotient.
const FIGURES: [(&str, &str, &str, &str, f64); 14] = [
    ("open and read 4 KiB, 3 layers", "strata", "plain directory", "one file again", 1.5),
    ("miss in 64 layers", "strata", "plain directory", "new names", 10.0),
    ("miss in 64 layers", "strata", "plain directory", "one name", 2.0),
    ("read_dir, 10 layers of 5,000 names", "strata", "kernel", "first", 1.0),
    ("chown of 1 B, ext4", "strata", "kernel, metacopy", "ordered", 1.0),
    ("chown of 1 B, xfs", "strata", "kernel, metacopy", "ordered", 1.0),
    ("one byte into 256 MiB, ext4", "strata", "plain copy", "ordered", 1.0),
    ("one byte into 256 MiB, xfs", "strata", "plain copy", "ordered", 1.0),
    ("100 changes over 60,000 entries", "strata, changes()", "strata, walk", "first", 0.01),
    // 0.8 times the speed.
    ("import of 60,000 entries", "strata", "tar x", "gzip layers", 1.25),
    ("import of 60,000 entries", "strata", "tar x", "plain layers", 1.25),
    ("import of 60,000 entries", "strata", "tar x, synced", "gzip layers", 1.25),
    ("import of 60,000 entries", "strata", "tar x, synced", "plain layers", 1.25),
    ("commit of 100 changes over 60,000 entries", "strata", "umoci repack", "commit", 0.02),
];

/// The group of which no time may be longer than [`LIFE_MS`], and the verbs in it that this is about.
const LIFE: (&str, [&str; 3]) = ("snapshot, fork, rollback, discard", ["snapshot", "fork", "rollback"]);
/// Milliseconds.
const LIFE_MS: f64 = 5.0;

/// Above this line a document is written by hand.
const MARK: &str = "<!-- from here on: bench-table -->";

fn main() -> ExitCode {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let mut groups = BTreeMap::new();
    collect(&target.join("criterion"), &mut groups);
    if groups.is_empty() {
        eprintln!("no results below {}: run `cargo bench -p stratafs-benches` first", target.display());
        return ExitCode::FAILURE;
    }
    let mut text = machine();
    text += &figures(&groups);
    for (name, group) in &groups {
        text += &table(name, group);
    }
    let Some(document) = env::args_os().nth(1) else {
        print!("{text}");
        return ExitCode::SUCCESS;
    };
    match replace(Path::new(&document), &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}: {e}", document.display());
            ExitCode::FAILURE
        }
    }
}

fn replace(document: &Path, text: &str) -> io::Result<()> {
    let old = fs::read_to_string(document)?;
    let Some((head, _)) = old.split_once(MARK) else {
        return Err(io::Error::other(format!("there is no line {MARK}")));
    };
    fs::write(document, format!("{head}{MARK}\n\n{}\n", text.trim_end()))
}

/// Where this runs.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let info = read("/proc/cpuinfo");
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, m)| m);
    let kernel = read("/proc/sys/kernel/osrelease");
    let version = kernel.split('-').next().unwrap_or_default();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!("Machine: {cpus} cores of {model}, Linux {version}, load {load} when the table was made.\n\n")
}

fn figures(groups: &BTreeMap<String, Group>) -> String {
    let mut text =
        "## Figures\n\n| | case | beside | quotient | wanted at most | |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for (group, ours, theirs, case, wanted) in FIGURES {
        let time = |system| groups.get(group).and_then(|g| g.get(system, case));
        if let (Some(ours), Some(other)) = (time(ours), time(theirs)) {
            let quotient = ours / other;
            let verdict = if quotient <= wanted { "reached" } else { "missed" };
            text += &format!("| {group} | {case} | {theirs} | {quotient:.3} | {wanted} | {verdict} |\n");
        }
    }
    let life = groups.get(LIFE.0).and_then(|group| group.systems.get("strata")).into_iter().flatten();
    for (case, nanos) in
        life.filter(|(case, _)| LIFE.1.iter().any(|verb| case.starts_with(&format!("{verb},"))))
    {
        let verdict = if nanos / 1e6 <= LIFE_MS { "reached" } else { "missed" };
        text += &format!("| {} | {case} | – | {} | {LIFE_MS} ms | {verdict} |\n", LIFE.0, human(*nanos));
    }
    text + "\n"
}

/// Takes in all results below `dir`, wherever criterion put them.
fn collect(dir: &Path, groups: &mut BTreeMap<String, Group>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.ends_with("new") {
            take(&path, groups);
        } else if path.is_dir() {
            collect(&path, groups);
        }
    }
}

fn take(new: &Path, groups: &mut BTreeMap<String, Group>) -> Option<()> {
    let read = |name| -> Option<Value> { serde_json::from_slice(&fs::read(new.join(name)).ok()?).ok() };
    let (what, times) = (read("benchmark.json")?, read("estimates.json")?);
    let text = |key| what.get(key).and_then(Value::as_str).map(str::to_owned);
    let median = times.pointer("/median/point_estimate").and_then(Value::as_f64)?;
    let group = groups.entry(text("group_id")?).or_default();
    group.bytes |= text("unit").is_some_and(|unit| unit == "bytes");
    group.systems.entry(text("function_id")?).or_default().insert(text("value_str")?, median);
    Some(())
}

fn table(name: &str, group: &Group) -> String {
    let mut systems: Vec<_> = group.systems.keys().map(String::as_str).collect();
    systems.sort_by_key(|system| SYSTEMS.iter().position(|known| known == system));
    let mut cases: Vec<_> = group.systems.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    cases.sort_by_key(|case| case_order(case));
    cases.dedup();
    let (columns, rule) = (systems.join(" | "), "---|".repeat(systems.len()));
    let mut text = format!("## {name}\n\n| | {columns} |\n|---|{rule}\n");
    for case in cases {
        let time = |system: &str| group.get(system, case);
        let ours = systems.first().and_then(|first| time(first));
        let cells = systems.iter().enumerate().map(|(n, system)| match (time(system), ours) {
            (Some(theirs), Some(ours)) if n > 0 => {
                format!("{} ({})", group.human(theirs), quotient(ours / theirs))
            }
            (Some(theirs), _) => group.human(theirs),
            (None, _) => "–".to_owned(),
        });
        text += &format!("| {case} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    text + "\n"
}

/// Durabilities by what they promise; other cases by their words and numbers.
fn case_order(case: &str) -> (usize, String) {
    let rank = ["volatile", "ordered", "strict"].iter().position(|known| *known == case);
    let padded = case.split_inclusive(|c: char| !c.is_ascii_digit());
    (rank.unwrap_or(0), padded.map(|part| format!("{part:0>8}")).collect())
}

fn human(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{} µs", Short(n / 1e3)),
        n if n < 1e10 => format!("{} ms", Short(n / 1e6)),
        n => format!("{} s", Short(n / 1e9)),
    }
}

fn quotient(q: f64) -> String {
    if q < 0.1 { format!("1/{:.0}", 1.0 / q) } else { format!("{q:.2}x") }
}

/// A number with three digits that count.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n if n < 10.0 => write!(f, "{n:.2}"),
            n if n < 100.0 => write!(f, "{n:.1}"),
            n => write!(f, "{n:.0}"),
        }
    }
}
