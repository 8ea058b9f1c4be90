//! The algebra of layers, as properties: a layer over its base gives the container; the layers of snapshots one after the
//! other give what one layer of all gives; changes in another order give the same digest; a flattened tree is the tree.
//! The reference model says what a base shows, independently.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use stratafs_core::{Config, Kind, Layer, Scratch, SetAttr, Stack, Time, View};
use stratafs_dir::{DirLayer, DirScratch, LayerOptions, Namespace, ScratchOptions};
use stratafs_mem::{Clock, MemLayer, MemScratch};
use stratafs_oci::pack::{self, Packed};
use stratafs_oci::tar::{Entry, EntryKind, Writer};
use stratafs_oci::{ApplyOptions, Silent, apply};
use stratafs_testkit::view::ViewSubject;
use stratafs_testkit::{Dump, Model, Op, Path, StackSpec, Subject, TreeSpec, What, generate};

/// Where layers and scratches are made, by number.
trait Ground: Sized + Clone + 'static {
    type L: Layer + Debug;
    type S: Scratch;
    /// `None` where the machine cannot do it.
    fn new() -> Option<Self>;
    /// The scratch of this number, new at the first call.
    fn scratch(&self, n: usize) -> Self::S;
    /// The same as a layer, which ends the scratch.
    fn layer(&self, n: usize) -> Self::L;
    fn next(&self) -> usize;
}

#[derive(Clone, Default)]
struct Memory {
    made: std::rc::Rc<RefCell<Vec<MemScratch>>>,
}

impl Ground for Memory {
    type L = MemLayer;
    type S = MemScratch;

    fn new() -> Option<Self> {
        Some(Self::default())
    }

    fn scratch(&self, n: usize) -> MemScratch {
        self.made.borrow()[n].clone()
    }

    fn layer(&self, n: usize) -> MemLayer {
        self.scratch(n).seal()
    }

    fn next(&self) -> usize {
        // Long past, so that dumps show the times.
        let clock = Clock::new(|| Time { secs: 1_600_000_000, nanos: 7 });
        self.made.borrow_mut().push(MemScratch::with_clock(clock));
        self.made.borrow().len() - 1
    }
}

#[derive(Clone)]
struct Directories {
    dir: std::rc::Rc<tempfile::TempDir>,
    made: std::rc::Rc<Cell<usize>>,
}

impl Ground for Directories {
    type L = DirLayer;
    type S = DirScratch;

    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            let required = std::env::var("STRATAFS_REQUIRE_ALL").is_ok_and(|v| !v.is_empty() && v != "0");
            assert!(!required, "STRATAFS_REQUIRE_ALL is set and this is missing: root");
            println!("skipped: root");
            return None;
        }
        // In memory where possible: this is not about a disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Some(Self { dir: std::rc::Rc::new(dir), made: std::rc::Rc::default() })
    }

    fn scratch(&self, n: usize) -> DirScratch {
        let at = |what: &str| self.dir.path().join(format!("{what}{n}"));
        DirScratch::create(at("upper"), at("work"), &ScratchOptions::default()).unwrap()
    }

    fn layer(&self, n: usize) -> DirLayer {
        let options = LayerOptions { namespace: Namespace::Trusted, ..LayerOptions::default() };
        DirLayer::open(self.dir.path().join(format!("upper{n}")), &options).unwrap()
    }

    fn next(&self) -> usize {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }
}

/// A view of layers by their numbers, topmost first, with a scratch on top or without.
fn view<G: Ground>(ground: &G, layers: &[usize], scratch: Option<usize>) -> View<G::L, G::S> {
    let layers = layers.iter().map(|n| ground.layer(*n)).collect();
    let scratch = scratch.map(|n| ground.scratch(n));
    View::new(Stack { layers, scratch }, Config::default()).unwrap()
}

/// Unpacks an archive over layers; the number of the new layer.
fn unpack<G: Ground>(ground: &G, archive: &[u8], below: &[usize]) -> usize {
    let n = ground.next();
    let scratch = ground.scratch(n);
    let base = (!below.is_empty()).then(|| view(ground, below, None));
    let applied =
        apply(archive, &scratch, &|| Ok(base.clone()), ApplyOptions::new("layer"), &Silent).unwrap();
    if let (Some(base), false) = (&base, applied.says_root) {
        // The root of a layer that says nothing of it is that of the layers below.
        let attr = SetAttr::all_of(&base.attr(&base.root()).unwrap());
        scratch.set_attr(&scratch.root().unwrap().node, &attr).unwrap();
    }
    drop(scratch);
    n
}

fn over(top: usize, below: &[usize]) -> Vec<usize> {
    [&[top], below].concat()
}

fn flat<G: Ground>(view: &View<G::L, G::S>) -> (Vec<u8>, Packed) {
    let mut out = Vec::new();
    let packed = pack::flatten(view, &mut out, &Silent).unwrap();
    (out, packed)
}

/// What an archive can say of a tree: no sockets, no attributes of overlays, no count of names nobody sees.
fn sayable(dump: &Dump) -> Vec<String> {
    let paths = dump.paths();
    let lines = paths.iter().map(|path| (path, dump.line(path).unwrap_or_default()));
    let kept = lines.filter(|(_, line)| !line.starts_with("Socket"));
    kept.map(|(path, line)| {
        let said = line.split(' ').filter(|w| !w.starts_with("nlink=") && !w.starts_with("trusted.overlay."));
        format!("{path} {}", said.collect::<Vec<_>>().join(" "))
    })
    .collect()
}

#[track_caller]
fn assert_same(want: &Dump, got: &Dump, what: &str) {
    let (want, got) = (sayable(want), sayable(got));
    let lost: Vec<_> = want.iter().filter(|line| !got.contains(line)).collect();
    let found: Vec<_> = got.iter().filter(|line| !want.contains(line)).collect();
    assert!(lost.is_empty() && found.is_empty(), "{what}: lost {lost:#?}, found {found:#?}");
}

/// The layer without what no archive can say.
fn sayable_layer(tree: &TreeSpec) -> TreeSpec {
    let odd = |path: &Path| path.0.iter().any(|name| name.starts_with(b".wh."));
    let mut kept = Vec::<stratafs_testkit::Entry>::new();
    for entry in &tree.entries {
        let long = entry.path.split().is_some_and(|(_, name)| name.len() > 251);
        let said = match &entry.what {
            What::Whiteout => !long,
            What::Node(kind, _) => *kind != Kind::Socket,
            What::HardLink(target) => kept.iter().any(|e| e.path == *target),
            _ => true,
        };
        if said && !odd(&entry.path) {
            kept.push(entry.clone());
        }
    }
    TreeSpec { entries: kept }
}

fn archive_of(tree: &TreeSpec) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in &tree.entries {
        let path = entry.path.bytes();
        let mut content = Vec::new();
        let sibling = |name: &[u8]| entry.path.parent().join(name).bytes();
        let (path, kind) = match &entry.what {
            What::File(data) => {
                content = data.bytes();
                (path, EntryKind::File)
            }
            What::Dir { .. } => (path, EntryKind::Dir),
            What::Symlink(target) => (path, EntryKind::Symlink(target.clone())),
            What::HardLink(target) => (path, EntryKind::Hardlink(target.bytes())),
            What::Node(Kind::Char, device) => (path, EntryKind::Char(*device)),
            What::Node(Kind::Block, device) => (path, EntryKind::Block(*device)),
            What::Node(..) => (path, EntryKind::Fifo),
            What::Whiteout => {
                let name = entry.path.split().unwrap().1;
                (sibling(&[b".wh.", name].concat()), EntryKind::File)
            }
        };
        let mut said = Entry::new(path.clone(), kind);
        (said.mode, said.uid, said.gid, said.mtime) = (entry.mode, entry.uid, entry.gid, entry.mtime);
        said.size = content.len() as u64;
        said.xattrs.clone_from(&entry.xattrs);
        writer.append(&said, &mut &content[..]).unwrap();
        if entry.what == (What::Dir { opaque: true }) {
            let mark = Entry::new([&path[..], b"/.wh..wh..opq"].concat(), EntryKind::File);
            writer.append(&mark, &mut std::io::empty()).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// The layers of a stack, unpacked; their numbers, topmost first.
fn base<G: Ground>(ground: &G, stack: &StackSpec) -> Vec<usize> {
    let said = StackSpec { layers: stack.layers.iter().map(sayable_layer).collect() };
    let mut layers = Vec::new();
    for tree in said.layers.iter().rev() {
        layers.insert(0, unpack(ground, &archive_of(tree), &layers));
    }
    let shown = stratafs_testkit::view::dump(&view(ground, &layers, None)).unwrap();
    assert_same(&Model::from_stack(&said).dump(), &shown, "the layers of the base");
    layers
}

/// No archive can have such names.
fn sayable_op(op: &Op) -> bool {
    !format!("{op:?}").contains(".wh.")
}

fn subject<G: Ground>(ground: &G, layers: &[usize], scratch: usize) -> ViewSubject<G::L, G::S> {
    let (ground, layers) = (ground.clone(), layers.to_vec());
    ViewSubject::new(move || view(&ground, &layers, Some(scratch)))
}

/// Runs operations in a new scratch over layers and freezes it; its number and the layer of its changes.
fn container<G: Ground>(ground: &G, layers: &[usize], ops: &[Op]) -> (usize, Vec<u8>) {
    let n = ground.next();
    let mut view = subject(ground, layers, n);
    for op in ops.iter().filter(|op| sayable_op(op)) {
        let _ = view.apply(op);
    }
    view.reopen();
    let mut out = Vec::new();
    let changes = view.view().changes().unwrap();
    let packed = pack::layer(view.view(), &changes, &mut out, &Silent).unwrap();
    assert_eq!(packed.digest, stratafs_oci::Digest::of(&out));
    assert_eq!(packed.bytes, out.len() as u64);
    view.view().settle_links().unwrap();
    (n, out)
}

/// Two stacks show the same, byte for byte.
#[track_caller]
fn same_tree<G: Ground>(ground: &G, want: &[usize], got: &[usize], what: &str) {
    let (want, got) = (view(ground, want, None), view(ground, got, None));
    let dump = |view| stratafs_testkit::view::dump(view).unwrap();
    assert_same(&dump(&want), &dump(&got), what);
    assert_eq!(flat::<G>(&want).1.digest, flat::<G>(&got).1.digest, "{what}: flattened, they differ");
}

fn diff_applied_gives_the_container<G: Ground>(stack: &StackSpec, ops: &[Op]) {
    let Some(ground) = G::new() else { return };
    let base = base(&ground, stack);
    let (scratch, layer) = container(&ground, &base, ops);
    let container = over(scratch, &base);
    let applied = over(unpack(&ground, &layer, &base), &base);
    same_tree(&ground, &container, &applied, "the layer over its base");
    let all = flat::<G>(&view(&ground, &container, None)).0;
    let imported = unpack(&ground, &all, &[]);
    same_tree(&ground, &container, &[imported], "the flattened tree");
}

fn snapshots_in_sequence_equal_one_layer<G: Ground>(stack: &StackSpec, ops: &[Op]) {
    let Some(ground) = G::new() else { return };
    let base = base(&ground, stack);
    let (mut container_layers, mut applied) = (base.clone(), base.clone());
    for batch in ops.chunks(ops.len().div_ceil(3).max(1)) {
        let (scratch, layer) = container(&ground, &container_layers, batch);
        container_layers.insert(0, scratch);
        applied.insert(0, unpack(&ground, &layer, &applied));
    }
    same_tree(&ground, &container_layers, &applied, "the layers of the snapshots");
    let now = view(&ground, &container_layers, None);
    let newer = container_layers.len() - base.len();
    let changes = now.changes_since(&view(&ground, &base, None), newer).unwrap();
    let mut one = Vec::new();
    pack::layer(&now, &changes, &mut one, &Silent).unwrap();
    let at_once = over(unpack(&ground, &one, &base), &base);
    same_tree(&ground, &container_layers, &at_once, "one layer of all changes");
}

/// The first component of every path of an operation; `None` where it has to do with handles.
fn touches(op: &Op) -> Option<Vec<Vec<u8>>> {
    let paths = match op {
        Op::Create { path, .. }
        | Op::Mkdir { path, .. }
        | Op::Symlink { path, .. }
        | Op::Mknod { path, .. }
        | Op::Unlink { path }
        | Op::Rmdir { path }
        | Op::Write { path, .. }
        | Op::Append { path, .. }
        | Op::Truncate { path, .. }
        | Op::Chmod { path, .. }
        | Op::Chown { path, .. }
        | Op::Utimens { path, .. }
        | Op::SetXattr { path, .. }
        | Op::RemoveXattr { path, .. } => vec![path],
        Op::Link { from, to } | Op::Rename { from, to, .. } => vec![from, to],
        _ => return None,
    };
    paths.into_iter().map(|path| path.0.first().cloned()).collect()
}

fn order_does_not_matter<G: Ground>(stack: &StackSpec, ops: &[Op]) {
    let Some(ground) = G::new() else { return };
    let base = base(&ground, stack);
    let within = |op: &&Op, names: &[&[u8]]| {
        touches(op).is_some_and(|all| all.iter().all(|name| names.contains(&name.as_slice())))
    };
    let some: Vec<Op> = ops.iter().filter(|op| within(op, &[b"a", b"b"])).cloned().collect();
    let others: Vec<Op> = ops.iter().filter(|op| within(op, &[b"c", b"d", b"e"])).cloned().collect();
    let digest = |ops: Vec<Op>| {
        let (scratch, layer) = container(&ground, &base, &ops);
        (layer, over(scratch, &base))
    };
    let (first, tree) = digest([&some[..], &others].concat());
    let (second, same) = digest([&others[..], &some].concat());
    same_tree(&ground, &tree, &same, "operations that have nothing to do with each other");
    assert!(first == second, "the same changes in another order give another layer");
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("STRATAFS_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    println!("algebra: {cases} cases");
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A stack, and operations that mostly speak of what is in it; half of the time hard links are in play.
fn runs(ops: usize) -> impl Strategy<Value = (StackSpec, Vec<Op>)> {
    (generate::runs(ops), any::<bool>()).prop_map(|(run, links)| if links { run } else { without_links(run) })
}

/// The same where no object of the base has names in several places, so that paths say what has to do with what.
fn unlinked(ops: usize) -> impl Strategy<Value = (StackSpec, Vec<Op>)> {
    generate::runs(ops).prop_map(without_links)
}

fn without_links((mut stack, ops): (StackSpec, Vec<Op>)) -> (StackSpec, Vec<Op>) {
    stack.layers.iter_mut().for_each(|l| l.entries.retain(|e| !matches!(e.what, What::HardLink(_))));
    (stack, ops)
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn a_layer_over_its_base_gives_the_container((stack, ops) in runs(40)) {
        diff_applied_gives_the_container::<Memory>(&stack, &ops);
    }

    #[test]
    fn the_layers_of_snapshots_in_sequence_equal_one_layer((stack, ops) in runs(50)) {
        snapshots_in_sequence_equal_one_layer::<Memory>(&stack, &ops);
    }

    #[test]
    fn the_same_changes_in_another_order_give_the_same_digest((stack, ops) in unlinked(60)) {
        order_does_not_matter::<Memory>(&stack, &ops);
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_layer_over_its_base_gives_the_container_in_directories((stack, ops) in runs(40)) {
        diff_applied_gives_the_container::<Directories>(&stack, &ops);
    }

    #[test]
    fn the_layers_of_snapshots_in_sequence_equal_one_layer_in_directories((stack, ops) in runs(50)) {
        snapshots_in_sequence_equal_one_layer::<Directories>(&stack, &ops);
    }
}
