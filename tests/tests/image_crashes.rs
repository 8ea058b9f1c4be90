//! Import, commit, removal and gc cut off and failed: killed at their system calls, with calls that fail, on disks that
//! lose their power. Afterwards an image is absent or complete, everything else is as it was, the same verb done again
//! works, and gc leaves nothing over.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use stratafs_testkit::Dump;
use stratafs_testkit::rng::{Rng, Source};
use stratafs_tests::archives::{Item, tar};
use stratafs_tests::disk::Disk;
use stratafs_tests::store_bed::{Bed, sample};
use stratafs_tests::{need, trees};

const VERB: &str = env!("CARGO_BIN_EXE_store-verb");
/// Everything that changes what is on disk, and what opens files.
const CALLS: &str = "openat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,symlink,symlinkat,\
                     write,pwrite64,ftruncate,fallocate,fsync,fdatasync,syncfs,fchown,fchownat,fchmod,fchmodat,\
                     utimensat,setxattr,lsetxattr,fsetxattr,mknodat,copy_file_range,flock";
/// Points of each verb with each fault; all of them would take an hour.
const POINTS: usize = 14;
/// Files in each directory of the image: enough for every kind of call, few enough to be fast.
const FILES: usize = 4;

/// A store, and an image to import into it.
struct Ground {
    bed: Bed,
    layout: String,
}

impl Ground {
    /// The image to import lies beside a store that is still empty.
    fn new() -> Self {
        let bed = Bed::in_memory();
        let layout = sample(&bed.path("layout"), FILES);
        let layout = layout.path().to_str().unwrap().to_owned();
        Self { bed, layout }
    }

    /// Makes the store anew: an image, and a container of it with changes.
    fn fill(&self) {
        let bed = &self.bed;
        for old in [bed.root(), bed.path("pristine")] {
            let _ = fs::remove_dir_all(old);
        }
        bed.import_layer(&tar(&[Item::dir("./"), Item::file("f", b"base")]), "base").unwrap();
        let name = bed.create("base", "c");
        let opened = bed.store().open_container(&name).unwrap();
        opened.write("/new", "new").unwrap();
        opened.remove_file("/f").unwrap();
        opened.create_dir("/d").unwrap();
        opened.write("/d/large", vec![7; 100_000]).unwrap();
        opened.hard_link("/new", "/d/linked").unwrap();
        opened.close().unwrap();
    }

    /// Makes the store as it is kept in `pristine`.
    fn reset(&self) {
        let (from, to) = (self.bed.path("pristine"), self.bed.root());
        let _ = fs::remove_dir_all(&to);
        assert!(Command::new("cp").args(["-a", "--"]).args([from, to]).status().unwrap().success());
    }

    fn keep(&self) {
        fs::rename(self.bed.root(), self.bed.path("pristine")).unwrap();
        self.reset();
    }
}

/// A verb, what it needs first, and the image that it makes or removes.
struct Case {
    words: Vec<String>,
    image: Option<&'static str>,
    makes: bool,
}

/// What is done to a store before a verb.
type Before = Box<dyn Fn(&Bed)>;

fn cases(ground: &Ground) -> Vec<(Case, Before)> {
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    let case = |w: &[&str], image, makes| Case { words: words(w), image, makes };
    let layout = ground.layout.clone();
    let with_image = move |bed: &Bed| drop(bed.import(Path::new(&layout), "made").unwrap());
    let unneeded = with_image.clone();
    vec![
        (case(&["import", &ground.layout, "made"], Some("made"), true), Box::new(|_| {})),
        (case(&["commit", "c", "made"], Some("made"), true), Box::new(|_| {})),
        (case(&["rmi", "made"], Some("made"), false), Box::new(with_image)),
        (
            case(&["gc"], None, false),
            Box::new(move |bed| {
                unneeded(bed);
                bed.store().remove_image(&"made".parse().unwrap()).unwrap();
            }),
        ),
    ]
}

/// What is right after a verb, and after it and gc.
struct Expected {
    image: Option<Dump>,
    base: Dump,
    container: Dump,
    held: Vec<String>,
}

const HELD: [&str; 5] = ["containers", "images", "layers", "scratch", "trash"];

/// Sets everything up, runs the verb well, and gives the calls that it made: most often by one thread.
fn rehearse(ground: &Ground, case: &Case, before: &dyn Fn(&Bed)) -> (Expected, BTreeMap<String, usize>) {
    let bed = &ground.bed;
    ground.fill();
    before(bed);
    ground.keep();
    let log = bed.path("log");
    let trace = format!("trace={CALLS}");
    let strace = ["strace", "-f", "-qq", "-e", &trace, "-o", log.to_str().unwrap()];
    let words: Vec<&str> = case.words.iter().map(String::as_str).collect();
    let out = bed.verb(VERB, &strace, &words).output().unwrap();
    assert!(out.status.success(), "{:?}: {}", case.words, String::from_utf8_lossy(&out.stderr));
    let mut by_thread = BTreeMap::<(String, String), usize>::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        // Not the second half of a call that another thread's came between.
        let Some((call, _)) = call.trim_start().split_once('(').filter(|(call, _)| !call.starts_with('<'))
        else {
            continue;
        };
        *by_thread.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
    }
    let mut calls = BTreeMap::new();
    for ((call, _), count) in by_thread {
        let most = calls.entry(call).or_insert(0);
        *most = count.max(*most);
    }
    let image = case.image.filter(|_| case.makes).map(|name| bed.tree(name));
    let base = bed.tree("base");
    let container = bed.container_tree(&"c".parse().unwrap());
    bed.store().gc().unwrap();
    (Expected { image, base, container, held: bed.holds(&HELD) }, calls)
}

/// One verb with one fault; gives whether the fault was noticed.
fn point(ground: &Ground, case: &Case, expected: &Expected, inject: &str) -> bool {
    let bed = &ground.bed;
    ground.reset();
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject];
    let words: Vec<&str> = case.words.iter().map(String::as_str).collect();
    let out = bed.verb(VERB, &strace, &words).output().unwrap();
    let (said, well) = (String::from_utf8_lossy(&out.stderr).into_owned(), out.status.success());
    let what = format!("{:?} with {inject}: {:?} {said}", case.words, out.status);
    assert!(!said.contains("panicked"), "{what}");
    let killed = std::os::unix::process::ExitStatusExt::signal(&out.status).is_some()
        || out.status.code() == Some(137);
    assert!(well || killed || !said.trim().is_empty(), "no word of what went wrong: {what}");

    // Absent or complete, and what else is there is as it was.
    let store = bed.store();
    if let Some(image) = case.image {
        let there = store.image(&image.parse().unwrap()).is_ok();
        assert!(!well || there == case.makes, "{what}: said done, and is not");
        if let (true, Some(want)) = (there, &expected.image) {
            trees::assert_same(want, &bed.tree(image), &[], &what);
        }
    }
    trees::assert_same(&expected.base, &bed.tree("base"), &[], &what);
    trees::assert_same(&expected.container, &bed.container_tree(&"c".parse().unwrap()), &[], &what);
    bed.assert_sound(&what);

    // Done again it works; what was removed already may be gone.
    let again = bed.verb(VERB, &[], &words).output().unwrap();
    let complaint = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() || words[0] == "rmi", "{what}; and again: {complaint}");
    store.gc().unwrap_or_else(|e| panic!("{what}: gc: {e}"));
    assert_eq!(bed.holds(&HELD), expected.held, "{what}: what is there after gc");
    !well
}

fn every_verb(faults: &[&str]) {
    if Command::new("strace").arg("-V").output().is_err() {
        return need::skip("strace");
    }
    let seed = need::seed();
    let mut rng = Rng::new(seed);
    let ground = Ground::new();
    let wanted = need::number("STRATAFS_POINTS").unwrap_or(POINTS);
    for (case, before) in cases(&ground) {
        let (expected, calls) = rehearse(&ground, &case, &*before);
        let all: Vec<(&str, usize)> =
            calls.iter().flat_map(|(call, most)| (1..=*most).map(move |n| (call.as_str(), n))).collect();
        for fault in faults {
            // Evenly over all, from somewhere.
            let step = (all.len() / wanted).max(1);
            let from = rng.below(u32::try_from(step).unwrap()) as usize;
            let (mut points, mut noticed) = (0, 0);
            for (call, n) in all.iter().skip(from).step_by(step) {
                noticed +=
                    usize::from(point(&ground, &case, &expected, &format!("inject={call}:{fault}:when={n}")));
                points += 1;
            }
            println!(
                "{:?} {fault}: {noticed} of {points} points noticed, of {}; seed {seed}",
                case.words[0],
                all.len()
            );
            assert!(noticed > 0, "{:?} {fault}: no fault reached it", case.words[0]);
        }
    }
}

#[test]
fn killed_at_any_call_an_image_is_absent_or_complete() {
    every_verb(&["signal=KILL"]);
}

#[test]
fn with_a_call_that_fails_nothing_is_half_done() {
    every_verb(&["error=EIO", "error=ENOSPC", "error=EMFILE"]);
}

/// Starts a verb on a disk that loses its power after a while; true when it was acknowledged before.
fn until_the_power_goes(bed: &Bed, disk: &Disk, words: &[&str], pause: Option<Duration>) -> bool {
    let mut child = bed.verb(VERB, &[], words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let acknowledged = match pause {
        Some(pause) => {
            std::thread::sleep(pause);
            false
        }
        None => {
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            line.starts_with("done")
        }
    };
    Disk::lose_power(&disk.path());
    let _ = child.kill();
    let _ = child.wait();
    acknowledged
}

#[test]
fn an_acknowledged_image_survives_the_loss_of_power() {
    const ROUNDS: usize = 10;
    let seed = need::seed();
    let mut rng = Rng::new(seed);
    let elsewhere = Bed::new();
    let layout = sample(&elsewhere.path("layout"), 60);
    let from = layout.path().to_str().unwrap();
    elsewhere.import(layout.path(), "made").unwrap();
    let want = elsewhere.tree("made");
    for kind in ["ext4", "xfs"] {
        let Some(mut disk) = Disk::new(kind) else { continue };
        let (mut kept, mut absent) = (0, 0);
        for round in 0..ROUNDS {
            let bed = Bed::below(&disk.path());
            drop(bed.store());
            disk.settle();
            let pause = (round % 2 == 1).then(|| Duration::from_millis(5 + u64::from(rng.below(150))));
            let acknowledged = until_the_power_goes(&bed, &disk, &["import", from, "made"], pause);
            disk.restart();
            let what = format!("{kind}, round {round}, after {pause:?}, seed {seed}");
            let there = bed.store().image(&"made".parse().unwrap()).is_ok();
            assert!(there || !acknowledged, "{what}: acknowledged and gone");
            bed.assert_sound(&what);
            if there {
                trees::assert_same(&want, &bed.tree("made"), &[], &what);
                kept += 1;
            } else {
                bed.import(layout.path(), "made").unwrap_or_else(|e| panic!("{what}: {e}"));
                trees::assert_same(&want, &bed.tree("made"), &[], &what);
                absent += 1;
            }
            // The same for a commit, over the image that is on the disk now.
            let name = bed.create("made", "c");
            let opened = bed.store().open_container(&name).unwrap();
            for n in 0..20 {
                opened.write(format!("/d0/new{n}"), vec![7; 10_000]).unwrap();
            }
            opened.remove_dir_all("/d6").unwrap();
            opened.close().unwrap();
            disk.settle();
            let changed = bed.container_tree(&name);
            let pause = (round % 2 == 0).then(|| Duration::from_millis(5 + u64::from(rng.below(100))));
            let acknowledged = until_the_power_goes(&bed, &disk, &["commit", "c", "committed"], pause);
            disk.restart();
            let there = bed.store().image(&"committed".parse().unwrap()).is_ok();
            assert!(there || !acknowledged, "{what}: a commit was acknowledged and is gone");
            if there {
                trees::assert_same(&changed, &bed.tree("committed"), &[], &what);
            }
            trees::assert_same(&changed, &bed.container_tree(&name), &[], &what);
            bed.store().gc().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(bed.holds(&["trash"]), [""; 0], "{what}");
            bed.assert_sound(&what);
            drop(bed);
        }
        println!("power: {kind}: {kept} complete, {absent} absent, seed {seed}");
    }
}
