//! Scratches that became layers: after its hard links were settled, a scratch as a layer shows the same tree, also with
//! several such layers on each other, here and in the kernel; and the changes since a base further down are exact.

use std::collections::BTreeSet;
use std::path::PathBuf;
use stratafs_core::error::errno::ENOSPC;
use stratafs_core::{Caller, Config, ErrorKind, Name, RenameFlags, Scratch, Stack, View};
use stratafs_dir::{DirLayer, DirScratch, LayerOptions, Namespace, Resolver, ScratchOptions};
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::faulty::{Fault, Faulty, Switch};
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::op::{Op, RenameHow};
use stratafs_testkit::rng::Rng;
use stratafs_testkit::view::ViewSubject;
use stratafs_testkit::{Dump, Model, Path, StackSpec, Subject, What};
use stratafs_tests::beds::{self, DirBed, Freeze, MemBed, layer_options};
use stratafs_tests::exact::{faults, lines, walk};
use stratafs_tests::ground::{Ground, KERNEL};
use stratafs_tests::mounts::Mounted;
use stratafs_tests::{cuts, minimise, need};

/// What panics say when a minimised stack makes no sense.
const FIXTURE: &str = "layer: ";
/// Operations between two freezes, and how often the scratch is frozen.
const OPS: usize = 14;
const ROUNDS: usize = 4;

/// The names that a dump shows of the object on a line.
fn names(dump: &Dump, path: &Path) -> usize {
    let first = |line: &str| line.split_once(" same-as=").map(|(_, first)| first.to_string());
    let Some(own) = dump.line(path).map(|line| first(line).unwrap_or_default()) else { return 0 };
    if own.is_empty() {
        return 1;
    }
    dump.paths().iter().filter(|p| dump.line(p).and_then(first).is_some_and(|f| f == own)).count()
}

fn count(line: &str) -> Option<usize> {
    line.split_once(" nlink=")?.1.split(' ').next()?.parse().ok()
}

/// The stack without hard links some of whose names no layer shows: a count of what nobody sees is not kept.
fn with_whole_links(mut stack: StackSpec) -> StackSpec {
    let dump = Model::from_stack(&stack).dump();
    let whole =
        |path: &Path| count(dump.line(path).unwrap_or_default()).is_none_or(|n| n == names(&dump, path));
    if !dump.paths().iter().all(whole) {
        for layer in &mut stack.layers {
            layer.entries.retain(|e| !matches!(e.what, What::HardLink(_)));
        }
    }
    stack
}

fn subject<B: Bed + Clone + 'static>(bed: &B) -> ViewSubject<B::L, B::S> {
    let bed = bed.clone();
    ViewSubject::new(move || beds::view(&bed))
}

fn read_only<B: Bed>(bed: &B) -> View<B::L, B::S> {
    View::new(Stack { layers: bed.layers(), scratch: None }, Config::default()).expect("open the base")
}

/// The same operations in one scratch and in several on each other.
fn check<B: Freeze + Clone + 'static>(stack: &StackSpec, ops: &[Op]) {
    let Some(base) = B::new(stack) else { return };
    let old = walk(&read_only(&base));
    let mut model = Model::from_stack(stack);
    let mut bed = base.clone();
    for (frozen, batch) in ops.chunks(OPS).enumerate() {
        let mut view = subject(&bed);
        for op in batch {
            let (want, got) = (model.apply(op), view.apply(op));
            assert!(want == got, "{op:?} over {frozen} frozen scratches: expected {want:?}, got {got:?}");
        }
        let _ = model.apply(&Op::Reopen);
        view.reopen();
        model.dump().assert_same(&view.dump(), "the view differs");
        let changes = view.view().changes_since(&read_only(&base), frozen).expect("list the changes");
        let wrong = faults(&old, &walk(view.view()), &changes);
        assert!(wrong.is_empty(), "over {frozen} frozen scratches: {wrong:#?}\nof {:#?}", lines(&changes));
        if frozen == 0 {
            assert_eq!(changes, view.view().changes().expect("list the changes"));
        }
        view.view().settle_links().expect("settle the links");
        model.dump().assert_same(&view.dump(), "settling changed the tree");
        view.reopen();
        model.dump().assert_same(&view.dump(), "settling changed the tree on disk");
        let settled = view.view().changes_since(&read_only(&base), frozen).expect("list the changes");
        assert_eq!(lines(&changes), lines(&settled), "settling changed the list");
        view.close();
        let below = bed;
        bed = below.frozen();
        model.dump().assert_same(&subject(&bed).dump(), "the frozen scratch reads differently");
        let as_layer =
            read_only(&bed).changes_since(&read_only(&base), frozen + 1).expect("list the changes");
        assert_eq!(lines(&changes), lines(&as_layer), "freezing changed the list");
    }
}

/// Operations with names that exist by then.
fn operations(stack: &StackSpec, rng: &mut Rng) -> Vec<Op> {
    let (mut known, mut model) = (Known::of_stack(stack), Model::from_stack(stack));
    let mut ops = Vec::new();
    for _ in 0..ROUNDS {
        for _ in 0..OPS {
            let op = generate::op(rng, &known);
            let _ = model.apply(&op);
            ops.push(op);
        }
        let _ = model.apply(&Op::Reopen);
        known = Known::of_dump(&model.dump());
    }
    ops
}

fn sequences<B: Freeze + Clone + 'static>(default: u32) {
    let seed = need::seed();
    let cases = need::number("STRATAFS_CASES").unwrap_or(default);
    println!("frozen: seed {seed}, {cases} sequences");
    let mut rng = Rng::new(seed);
    for _ in 0..cases {
        let stack = with_whole_links(generate::stack(&mut rng));
        let ops = operations(&stack, &mut rng);
        minimise::check(&stack, &ops, FIXTURE, &|stack, ops| {
            check::<B>(&with_whole_links(stack.clone()), ops)
        });
    }
}

#[test]
fn frozen_scratches_in_memory_show_the_same_tree_and_changes() {
    sequences::<MemBed>(100);
}

#[test]
fn frozen_scratches_in_directories_show_the_same_tree_and_changes() {
    if need::root() {
        sequences::<DirBed>(60);
    }
}

/// What one scratch says of the same operations, which knows more of where files were.
fn alone<B: Bed + Clone + 'static>(stack: &StackSpec, ops: &[Op]) -> Option<BTreeSet<String>> {
    let bed = B::new(stack)?;
    let mut view = subject(&bed);
    for op in ops {
        let _ = view.apply(op);
    }
    Some(lines(&view.view().changes().expect("list the changes")))
}

/// The same for scratches on each other.
fn chained<B: Freeze + Clone + 'static>(stack: &StackSpec, ops: &[Op]) -> Option<BTreeSet<String>> {
    let base = B::new(stack)?;
    let mut bed = base.clone();
    let mut frozen = 0;
    for batch in ops.chunks(OPS) {
        let mut view = subject(&bed);
        for op in batch {
            let _ = view.apply(op);
        }
        view.view().settle_links().expect("settle the links");
        view.close();
        bed = bed.frozen();
        frozen += 1;
    }
    Some(lines(&read_only(&bed).changes_since(&read_only(&base), frozen).expect("list the changes")))
}

#[test]
fn several_scratches_change_what_one_changes() {
    let seed = need::seed();
    println!("frozen: seed {seed}");
    let mut rng = Rng::new(seed);
    let (mut same, mut all) = (0, need::number("STRATAFS_CASES").unwrap_or(150));
    for _ in 0..all {
        let stack = with_whole_links(generate::stack(&mut rng));
        // Handles end with a scratch.
        let mut ops = operations(&stack, &mut rng);
        ops.retain(|op| !format!("{op:?}").starts_with("Handle"));
        let (one, several) = (alone::<MemBed>(&stack, &ops), chained::<MemBed>(&stack, &ops));
        if one == several {
            same += 1;
        } else if let (Some(one), Some(several)) = (one, several) {
            println!("only one: {:#?}\nonly several: {:#?}", &one - &several, &several - &one);
        }
    }
    println!("frozen: {same} of {all} lists are equal");
    all = all * 9 / 10;
    assert!(same >= all);
}

/// Operations that leave hard links half in the scratch.
fn half_linked() -> Vec<Vec<Op>> {
    let p = |text: &str| Path::of(text);
    let chmod = |path: &str| Op::Chmod { path: p(path), mode: 0o611 };
    let write = |path: &str| Op::Write { path: p(path), offset: 5000, len: 10, fill: b'W' };
    let unlink = |path: &str| Op::Unlink { path: p(path) };
    let rename = |from: &str, to: &str| Op::Rename { from: p(from), to: p(to), how: RenameHow::Plain };
    let link = |from: &str, to: &str| Op::Link { from: p(from), to: p(to) };
    vec![
        vec![chmod("f")],
        vec![write("d/h")],
        vec![chmod("f"), rename("f", "moved")],
        vec![write("g"), unlink("f")],
        vec![rename("g", "e/moved"), link("f", "more"), write("d/h")],
        vec![rename("d", "moved"), write("moved/h")],
        vec![unlink("f"), unlink("g")],
        vec![write("f"), unlink("f"), unlink("g"), unlink("d/h")],
        vec![rename("f", "a1"), rename("g", "a2"), rename("d/h", "a3")],
    ]
}

/// Settles with a fault at every verb: the tree is the same all the time, and a second try gets through.
fn cut<B: Bed + Clone + 'static>(fresh: &dyn Fn(usize) -> Option<B>) {
    let mut cuts_made = 0;
    for before in half_linked() {
        let mut step = 0;
        loop {
            cuts_made += 1;
            let mut done = true;
            for fault in [Fault::Die, Fault::Fail(ENOSPC)] {
                let Some(bed) = fresh(cuts_made * 2 + usize::from(fault == Fault::Die)) else { return };
                let mut view = subject(&bed);
                before.iter().for_each(|op| drop(view.apply(op).expect("the set-up works")));
                let old = view.dump();
                view.close();
                let switch = Switch::default();
                let scratch = Faulty::new(bed.scratch(), switch.clone());
                let stack = Stack { layers: bed.layers(), scratch: Some(scratch) };
                let faulty = View::new(stack, Config::default()).expect("open the view");
                switch.arm(Some((step, fault)));
                let outcome = faulty.settle_links();
                done &= outcome.is_ok();
                let what = format!("{fault:?} at step {step} after {before:?}");
                let same = |now: &Dump, when: &str| {
                    if let Some(diff) = old.diff_but(now, &|old, now| cuts::same(now, old)) {
                        panic!("{what}, {when}:\n{diff}");
                    }
                };
                if fault != Fault::Die {
                    switch.disarm();
                    same(&stratafs_testkit::view::dump(&faulty).expect("read the tree"), "live");
                }
                drop(faulty);
                switch.disarm();
                let mut view = subject(&bed);
                same(&view.dump(), "opened again");
                view.view().settle_links().expect("settle");
                same(&view.dump(), "settled");
                view.reopen();
                same(&view.dump(), "settled and opened again");
                let scratch = view.view().scratch().expect("it has a scratch");
                assert!(scratch.index_entries().expect("read the index").is_empty(), "{what}");
            }
            step += 1;
            if done {
                break;
            }
        }
    }
    println!("frozen: {cuts_made} cut points");
    assert!(cuts_made > 60, "settling has steps");
}

#[test]
fn settling_cut_anywhere_in_memory_changes_nothing() {
    cut::<MemBed>(&|_| MemBed::new(&cuts::stack()));
}

#[test]
fn settling_cut_anywhere_in_directories_changes_nothing() {
    let Some(bed) = DirBed::<false>::new(&cuts::stack()) else { return };
    cut::<DirBed>(&|n| {
        let mut bed = bed.clone();
        bed.upper.set_file_name(format!("upper{n}"));
        bed.work.set_file_name(format!("work{n}"));
        Some(bed)
    });
}

/// Freezes over and over on one ground; the kernel mounts the newest scratch over all frozen ones.
#[test]
fn the_kernel_reads_frozen_scratches_as_we_do() {
    if !need::root() {
        return;
    }
    let seed = need::seed();
    println!("frozen: seed {seed}");
    let mut rng = Rng::new(seed);
    for _ in 0..need::number("STRATAFS_CASES").unwrap_or(25) {
        let stack = Model::without_idle_whiteouts(with_whole_links(generate::stack(&mut rng)));
        let ops = operations(&stack, &mut rng);
        minimise::check(&stack, &ops, FIXTURE, &kernel_round);
    }
}

fn kernel_round(stack: &StackSpec, ops: &[Op]) {
    let ground = Ground::new(stack).expect("layer: make it");
    let mut lowers = ground.lowers.clone();
    for (n, batch) in ops.chunks(OPS).enumerate() {
        let make = |what: &str| ground.make(&format!("{what}{n}")).expect("make a directory");
        let (upper, work, at) = (make("upper"), make("work"), make("at"));
        let mut view = {
            let (lowers, upper, work) = (lowers.clone(), upper.clone(), work.clone());
            ViewSubject::new(move || stacked(&lowers, &upper, &work))
        };
        for op in batch {
            let _ = view.apply(op);
        }
        view.view().settle_links().expect("settle the links");
        view.reopen();
        let ours = view.dump();
        view.close();
        let compare = |mounted: Mounted, what: &str| {
            let opened = std::fs::File::open(&at).expect("open the mount");
            let read = stratafs_testkit::host::dump(&opened);
            drop(opened);
            let read = read.unwrap_or_else(|e| panic!("{what} of {n}: the kernel cannot read it: {e}"));
            if let Some(diff) = ours.diff(&read) {
                panic!("{what} of {n} (- ours, + kernel):\n{diff}");
            }
            mounted.unmount().expect("unmount");
        };
        let mounted = Mounted::overlay(&at, &lowers, Some((&upper, &work)), KERNEL).expect("mount it");
        compare(mounted, "as upper");
        lowers.insert(0, upper);
        let mounted = Mounted::overlay(&at, &lowers, Some((&make("fresh"), &make("fresh-work"))), KERNEL);
        compare(mounted.expect("mount it as a layer"), "as layer");
    }
}

fn stacked(
    lowers: &[PathBuf],
    upper: &std::path::Path,
    work: &std::path::Path,
) -> View<DirLayer, DirScratch> {
    let options = layer_options(Resolver::Auto);
    let layers = lowers.iter().map(|at| DirLayer::open(at, &options).expect("open a layer")).collect();
    let scratch = DirScratch::create(upper, work, &ScratchOptions::default()).expect("open the scratch");
    View::new(Stack { layers, scratch: Some(scratch) }, Config::default()).expect("open the view")
}

#[test]
fn a_scratch_over_redirects_in_user_attributes_keeps_the_kernel_away_too() {
    let dir = tempfile::tempdir().expect("make a directory");
    let lower = dir.path().join("lower");
    std::fs::create_dir_all(lower.join("d")).expect("make a layer");
    let options = ScratchOptions { namespace: Some(Namespace::User), ..ScratchOptions::default() };
    let scratch = |name: &str| {
        let (upper, work) = (dir.path().join(name), dir.path().join(format!("{name}-work")));
        DirScratch::create(upper, work, &options).expect("open the scratch")
    };
    let layers = vec![DirLayer::open(&lower, &LayerOptions::default()).expect("open a layer")];
    let view = View::new(Stack { layers, scratch: Some(scratch("first")) }, Config::default()).expect("open");
    let (root, name) = (view.root(), |text| Name::new(text).expect("a name"));
    let (from, to) = (name(&b"d"[..]), name(&b"moved"[..]));
    view.rename(&root, from, &root, to, RenameFlags::empty(), &Caller::root()).expect("rename");
    assert!(view.scratch().expect("it has one").keeps_kernel_away().expect("look"));
    let next = scratch("second");
    assert!(!next.keeps_kernel_away().expect("look"));
    next.keep_kernel_away().expect("mark");
    drop(next);
    let again = scratch("second");
    assert!(again.keeps_kernel_away().expect("look"));
    assert_eq!(again.kernel_mountable().expect_err("refused").kind(), ErrorKind::Unsupported);
}
