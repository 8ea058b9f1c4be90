//! `check`: damage in containers, layers and images, and what to do about it.

mod container;

use super::image::name_of as image_name;
use super::print_json;
use crate::args::Check;
use crate::failure::{ERROR, Failure, Outcome};
use crate::progress::Watch;
use crate::text::{harmless, shown};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use stratafs::oci::Progress;
use stratafs::store::{LayerDamage, LayerSource, ListedImage, Store};

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
    advice: String,
}

impl Problem {
    fn new(what: impl ToString, advice: impl Into<String>) -> Self {
        Self { what: harmless(&what.to_string()), advice: advice.into() }
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
            reports.extend(images(store)?);
            reports.extend(layers(store, watch)?);
        }
        Ok(reports)
    })?;
    if asked.json {
        print_json(&reports)?;
    } else {
        print(&reports)?;
    }
    Ok(if reports.iter().all(|report| report.problems.is_empty()) { 0 } else { ERROR })
}

/// Containers by name, what is wrong with images and layers, and how many of those are right.
fn print(reports: &[Report]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let (mut images, mut layers) = (0_usize, 0_usize);
    for report in reports {
        let of = match &report.of {
            Of::Container(name) => name.clone(),
            Of::Image(name) => format!("image {}", shown(name.as_bytes())),
            Of::Layer(name) => format!("layer {name}"),
        };
        match (&report.of, report.problems.as_slice()) {
            (Of::Container(_), []) => writeln!(out, "{of}: ok")?,
            (Of::Image(_), []) => images += 1,
            (Of::Layer(_), []) => layers += 1,
            (_, problems) => {
                for Problem { what, advice } in problems {
                    writeln!(out, "{of}: {what}\n  {advice}")?;
                }
            }
        }
    }
    for (count, one, many) in [(images, "image", "images"), (layers, "layer", "layers")] {
        match count {
            0 => {}
            1 => writeln!(out, "1 {one}: ok")?,
            n => writeln!(out, "{n} {many}: ok")?,
        }
    }
    Ok(())
}

/// The images of the store: whether their records can be read.
fn images(store: &Store) -> Result<Vec<Report>, Failure> {
    let report = |image: ListedImage| {
        let problems = match image.record {
            Ok(_) => Vec::new(),
            Err(e) => vec![Problem::new(e, "`strata image rm` it, and import it again")],
        };
        Report { of: Of::Image(image.name.to_string()), problems }
    };
    Ok(store.images()?.into_iter().map(report).collect())
}

/// The layers of the store, and what containers froze, where that is missing.
fn layers(store: &Store, watch: &Watch) -> Result<Vec<Report>, Failure> {
    let seen = Seen { watch, layers: Mutex::default() };
    let damages = store.check_layers(&seen)?;
    let mut reports: BTreeMap<String, Vec<Problem>> = BTreeMap::new();
    for name in seen.layers.into_inner().unwrap_or_else(PoisonError::into_inner) {
        reports.entry(name).or_default();
    }
    for damage in damages {
        let (name, problem) = problem(&damage);
        reports.entry(name).or_default().push(problem);
    }
    Ok(reports.into_iter().map(|(name, problems)| Report { of: Of::Layer(name), problems }).collect())
}

fn problem(damage: &LayerDamage) -> (String, Problem) {
    let users: Vec<_> = damage.users.iter().map(|user| image_name(user)).collect();
    let users = users.join(", ");
    let (name, advice) = match &damage.layer {
        LayerSource::Layer(key) => {
            let advice = match users.as_str() {
                "" => "nothing uses it: `strata gc` removes it".to_owned(),
                _ => format!("import the image again with --verify to repair it (used by {users})"),
            };
            (key.to_string(), advice)
        }
        LayerSource::Scratch(id) => {
            let advice = format!("bring it back, or remove what uses it ({users}), or roll that back");
            (format!("snapshot {id}"), advice)
        }
        _ => ("directory".to_owned(), format!("bring it back, or remove what uses it ({users})")),
    };
    // The layer as a whole has no path of its own.
    let what = match damage.path.as_slice() {
        [] => damage.what.clone(),
        path => format!("/{}: {}", shown(path), damage.what),
    };
    (name, Problem::new(what, advice))
}

/// Passes everything on and notes which layers were looked at.
struct Seen<'a> {
    watch: &'a Watch,
    layers: Mutex<Vec<String>>,
}

impl Progress for Seen<'_> {
    fn begin(&self, what: &str, bytes: Option<u64>) {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).push(what.to_owned());
        self.watch.begin(what, bytes);
    }

    fn advance(&self, what: &str, bytes: u64) {
        self.watch.advance(what, bytes);
    }

    fn finish(&self, what: &str, note: Option<&str>) {
        self.watch.finish(what, note);
    }

    fn cancelled(&self) -> bool {
        self.watch.cancelled()
    }
}
