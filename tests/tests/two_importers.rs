//! Several processes take in the same image at once, some are killed while they do, and gc runs beside them: who said
//! `done` has a complete image, every layer is there once, and nothing is left over.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use stratafs_testkit::rng::{Rng, Source};
use stratafs_tests::store_bed::{Bed, sample};
use stratafs_tests::{need, trees};

const VERB: &str = env!("CARGO_BIN_EXE_store-verb");
const ROUNDS: usize = 8;
/// Files in each directory of the image.
const FILES: usize = 60;

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a process said, if it ended well.
fn done(child: Child) -> Result<(), String> {
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { Ok(()) } else { Err(said) }
}

fn settled(bed: &Bed, layers: usize, images: usize) {
    bed.store().gc().unwrap();
    assert_eq!(bed.holds(&["layers"]).len(), layers);
    assert_eq!(bed.holds(&["images"]).len(), images);
    assert_eq!(bed.holds(&["trash", "scratch", "containers"]), [""; 0]);
    bed.assert_sound("afterwards");
}

#[test]
fn several_processes_import_one_image() {
    let bed = Bed::new();
    let layout = sample(&bed.path("layout"), FILES);
    let from = layout.path().to_str().unwrap();
    let mut want = None;
    for round in 0..ROUNDS {
        let children: Vec<Child> = (0..3)
            .map(|n| start(bed.verb(VERB, &[], &["import", from, if n < 2 { "same" } else { "other" }])))
            .collect();
        for child in children {
            done(child).unwrap_or_else(|said| panic!("round {round}: {said}"));
        }
        let tree = bed.tree("same");
        trees::assert_same(&tree, &bed.tree("other"), &[], "two names of one image");
        match &want {
            None => want = Some(tree),
            Some(want) => trees::assert_same(want, &tree, &[], "round after round"),
        }
        settled(&bed, 3, 2);
        for name in ["same", "other"] {
            bed.store().remove_image(&name.parse().unwrap()).unwrap();
        }
        settled(&bed, 0, 0);
    }
}

#[test]
fn one_is_killed_and_the_other_goes_on() {
    let seed = need::seed();
    let mut rng = Rng::new(seed);
    let bed = Bed::new();
    let layout = sample(&bed.path("layout"), FILES);
    let from = layout.path().to_str().unwrap();
    bed.import(layout.path(), "want").unwrap();
    let want = bed.tree("want");
    bed.store().remove_image(&"want".parse().unwrap()).unwrap();
    bed.store().gc().unwrap();
    let mut killed = 0;
    for _ in 0..2 * ROUNDS {
        let mut victim = start(bed.verb(VERB, &[], &["import", from, "victim"]));
        let other = start(bed.verb(VERB, &[], &["import", from, "other"]));
        std::thread::sleep(Duration::from_millis(u64::from(rng.below(120))));
        victim.kill().unwrap();
        killed += usize::from(done(victim).is_err());
        done(other).unwrap_or_else(|said| panic!("seed {seed}: {said}"));
        let victim = "victim".parse().unwrap();
        if bed.store().image(&victim).is_ok() {
            trees::assert_same(&want, &bed.tree("victim"), &[], &format!("seed {seed}: killed"));
            bed.store().remove_image(&victim).unwrap();
        }
        trees::assert_same(&want, &bed.tree("other"), &[], &format!("seed {seed}: the other"));
        settled(&bed, 3, 1);
        bed.store().remove_image(&"other".parse().unwrap()).unwrap();
        settled(&bed, 0, 0);
    }
    println!("two importers: {killed} of {} killed in time, seed {seed}", 2 * ROUNDS);
    assert!(killed > 0, "none was killed in time");
}

#[test]
fn gc_takes_nothing_that_somebody_is_about_to_use() {
    let bed = Bed::new();
    let layout = sample(&bed.path("layout"), FILES);
    let from = layout.path().to_str().unwrap();
    let (stop, runs) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // One collector in this process, one that starts anew each time.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                bed.store().gc().unwrap();
                runs.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                done(start(bed.verb(VERB, &[], &["gc"]))).unwrap();
            }
        });
        let importer = |name: &'static str| {
            let bed = &bed;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    done(start(bed.verb(VERB, &[], &["import", from, name])))
                        .unwrap_or_else(|said| panic!("{name}, round {round}: {said}"));
                    let shown = bed.create(name, &format!("{name}-{round}"));
                    let tree = bed.container_tree(&shown);
                    assert!(tree.paths().len() > FILES, "{name}, round {round}: {tree:?}");
                    done(start(bed.verb(
                        VERB,
                        &[],
                        &["commit", shown.as_str(), &format!("{name}:committed")],
                    )))
                    .unwrap_or_else(|said| panic!("{name}, round {round}: {said}"));
                    bed.store().remove_image(&name.parse().unwrap()).unwrap();
                    bed.store().remove(&shown).unwrap();
                }
            })
        };
        let importers = [importer("one"), importer("two")];
        let results: Vec<_> = importers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    println!("two importers: gc ran {} times", runs.load(Ordering::Relaxed));
    for name in bed.store().images().unwrap() {
        bed.store().remove_image(&name.name).unwrap();
    }
    settled(&bed, 0, 0);
}
