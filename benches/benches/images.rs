//! Images in and out, and the life of a container, beside the tools that do the same: `tar x` of the same layers, and
//! umoci. Systems take turns within a round; everything is in the host's cache when a round begins, and what was
//! written is removed and synced between measurements.
//!
//! Durability: an import and a commit of this project are on disk when they are done, with the digest of every layer
//! verified. `tar x` and umoci sync nothing and tar verifies nothing; *synced* is the same with a sync of the file system.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use stratafs::oci::Silent;
use stratafs::store::{CommitOptions, ContainerName, ImageName, ImportOptions, SnapshotName, Store};
use stratafs_benches::Ground;
use stratafs_benches::image::{self, Form, Layout, run};
use stratafs_benches::rounds::{Asked, Rounds, timed};

const ENTRIES: usize = 60_000;
const FEW: usize = 600;
const CHANGES: usize = 100;
const ROUNDS: usize = 5;
/// Of verbs that take milliseconds.
const VERBS: usize = 25;
/// Files in a large scratch.
const SCRATCH: usize = 10_000;

/// Says to a process of its own what to import where.
const CHILD: &str = "STRATAFS_BENCH_IMPORT";

fn name() -> ImageName {
    ImageName::new("bench").expect("a name")
}

fn import(store: &Store, from: &Path) {
    let options = ImportOptions { name: Some(name()), ..ImportOptions::default() };
    store.import(from, &options, &Silent).expect("import");
}

/// Removes a directory, and waits until that is on disk.
fn clear(ground: &Ground, dir: &Path) {
    if dir.exists() {
        run(Command::new("rm").arg("-rf").arg(dir)).expect("remove a directory");
    }
    ground.settle();
}

fn imports(asked: &Asked, ground: &Ground, image: &Layout, form: Form) {
    let mut rounds = Rounds::of_times("import of 60,000 entries");
    let (ours, theirs) = (ground.path().join("store"), ground.path().join("theirs"));
    for _ in 0..if asked.test { 1 } else { ROUNDS } {
        image.blobs.iter().for_each(|blob| image::warm(blob));
        clear(ground, &ours);
        let store = Store::open(&ours).expect("open a store");
        rounds.time("strata", form.name(), timed(|| import(&store, &image.path)).0);
        clear(ground, &ours);

        for synced in [false, true] {
            fs::create_dir(&theirs).expect("make a directory");
            let untar = || {
                for blob in &image.blobs {
                    run(Command::new("tar").arg("-xf").arg(blob).arg("-C").arg(&theirs)).expect("tar");
                }
                if synced {
                    ground.settle();
                }
            };
            let system = if synced { "tar x, synced" } else { "tar x" };
            rounds.time(system, form.name(), timed(untar).0);
            clear(ground, &theirs);
        }

        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--image"]).arg(format!("{}:bench", image.path.display())).arg(&theirs);
        rounds.time("umoci", form.name(), timed(|| run(&mut umoci).expect("umoci unpack")).0);
        clear(ground, &theirs);
    }
    rounds.finish(asked);
}

/// Peak memory, in a process that does nothing else.
fn memory(asked: &Asked, ground: &Ground, images: &[(usize, Form, &Layout)]) {
    let mut rounds = Rounds::of_bytes("peak memory of an import");
    for (entries, form, image) in images {
        let root = ground.path().join("store");
        clear(ground, &root);
        let program = env::current_exe().expect("know this program");
        let mut child = Command::new(program);
        child.env(CHILD, &root).arg(&image.path);
        let out = child.output().expect("run this program");
        let said = String::from_utf8_lossy(&out.stdout);
        let kib: f64 = said.trim().parse().unwrap_or_else(|_| panic!("{out:?}"));
        rounds.number("strata", &format!("{entries} entries, {}", form.name()), kib * 1024.0);
        clear(ground, &root);
    }
    rounds.finish(asked);
}

fn child(root: &Path) {
    let from = env::args_os().nth(1).expect("an image");
    import(&Store::open(root).expect("open a store"), Path::new(&from));
    let status = fs::read_to_string("/proc/self/status").expect("read the status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line VmHWM");
    println!("{}", peak.trim().trim_end_matches(" kB"));
}

/// What is changed in round `round`, in any tree: other content, other modes, removals and new files in equal parts.
fn change(round: usize, dirs: usize, mut act: impl FnMut(&str, &Change<'_>)) {
    for n in 0..CHANGES / 4 {
        let dir = format!("usr/lib/layer0/package{}", (n * 7 + 100) % dirs);
        let text = format!("round {round}, {n}\n");
        act(&format!("{dir}/file3.txt"), &Change::Write(&text));
        act(&format!("{dir}/file4.txt"), &Change::Mode(0o600 + (round as u32 % 8)));
        act(&format!("{dir}/file{}.txt", 5 + round), &Change::Remove);
        act(&format!("{dir}/new{round}"), &Change::Write(&text));
    }
}

enum Change<'t> {
    Write(&'t str),
    Mode(u32),
    Remove,
}

fn change_host(root: &Path, round: usize, dirs: usize) {
    use std::os::unix::fs::PermissionsExt;
    change(round, dirs, |path, what| {
        let path = root.join(path);
        match what {
            Change::Write(text) => fs::write(path, text),
            Change::Mode(mode) => fs::set_permissions(path, fs::Permissions::from_mode(*mode)),
            Change::Remove => fs::remove_file(path),
        }
        .expect("change a file");
    });
}

fn change_container(store: &Store, container: &ContainerName, round: usize, dirs: usize) {
    let opened = store.open_container(container).expect("open the container");
    change(round, dirs, |path, what| {
        match what {
            Change::Write(text) => opened.write(path, text),
            Change::Mode(mode) => opened.set_permissions(path, *mode),
            Change::Remove => opened.remove_file(path),
        }
        .expect("change a file");
    });
    opened.close().expect("close the container");
}

fn create(store: &Store, container: &str) -> ContainerName {
    let image = store.image(&name()).expect("the image");
    let container = ContainerName::new(container).expect("a name");
    let pinned = store.pin_image(&image).expect("the image's layers");
    store
        .create(Some(container.clone()), pinned.container().expect("a configuration"))
        .expect("create a container");
    container
}

fn commits(asked: &Asked, ground: &Ground, image: &Layout, dirs: usize) {
    let mut rounds = Rounds::of_times("commit of 100 changes over 60,000 entries");
    let (root, bundle) = (ground.path().join("store"), ground.path().join("bundle"));
    clear(ground, &root);
    let store = Store::open(&root).expect("open a store");
    import(&store, &image.path);
    let layout = format!("{}:bench", image.path.display());
    run(Command::new("umoci").args(["unpack", "--image", &layout]).arg(&bundle)).expect("umoci unpack");
    for round in 0..if asked.test { 1 } else { ROUNDS } {
        let container = create(&store, &format!("c{round}"));
        change_container(&store, &container, round, dirs);
        ground.settle();
        let made = ImageName::new(&format!("bench:round{round}")).expect("a name");
        let commit = || store.commit(&container, &made, &CommitOptions::default(), &Silent).expect("commit");
        rounds.time("strata", "commit", timed(commit).0);

        change_host(&bundle.join("rootfs"), round, dirs);
        ground.settle();
        let mut umoci = Command::new("umoci");
        // The bundle goes on from what was packed, so that each round packs its own changes.
        umoci.args(["repack", "--refresh-bundle", "--image", &layout]).arg(&bundle);
        rounds.time("umoci repack", "commit", timed(|| run(&mut umoci).expect("umoci repack")).0);
    }
    rounds.finish(asked);
    clear(ground, &bundle);
    clear(ground, &root);
}

/// Snapshot, fork, rollback and discard: with a small and a large image, after few and many changes.
fn life(asked: &Asked, ground: &Ground, images: &[(&str, &Layout)]) {
    let mut rounds = Rounds::of_times("snapshot, fork, rollback, discard");
    for (size, image) in images {
        let root = ground.path().join("store");
        clear(ground, &root);
        let store = Store::open(&root).expect("open a store");
        import(&store, &image.path);
        for (many, files) in [("1 change", 1), ("10,000 changes", if asked.test { 100 } else { SCRATCH })] {
            let times = if files > 1 { VERBS / 5 } else { VERBS };
            let case = |verb: &str| format!("{verb}, {size}, {many}");
            let fill = |container: &ContainerName, round: usize| {
                let opened = store.open_container(container).expect("open the container");
                for n in 0..files {
                    let dir = format!("srv/{round}/{}", n / 100);
                    if n % 100 == 0 {
                        opened.create_dir_all(&dir).expect("make a directory");
                    }
                    opened.write(format!("{dir}/{n}"), b"x").expect("write");
                }
                opened.close().expect("close the container");
            };
            for round in 0..if asked.test { 1 } else { times } {
                let container = create(&store, &format!("c-{files}-{round}"));
                fill(&container, 0);
                ground.settle();
                let first = SnapshotName::new("first").expect("a name");
                let snapshot = || store.snapshot(&container, Some(first.clone())).expect("snapshot");
                rounds.time("strata", &case("snapshot"), timed(snapshot).0);
                let new = ContainerName::new(&format!("f-{files}-{round}")).expect("a name");
                let fork = || store.fork(&container, &new, Some(&first)).expect("fork");
                rounds.time("strata", &case("fork"), timed(fork).0);
                fill(&container, 1);
                ground.settle();
                let rollback = || store.rollback(&container, Some(&first)).expect("rollback");
                rounds.time("strata", &case("rollback"), timed(rollback).0);
                fill(&container, 2);
                ground.settle();
                rounds.time(
                    "strata",
                    &case("discard"),
                    timed(|| store.discard(&container).expect("discard")).0,
                );
                store.gc().expect("collect");
            }
        }
        // The rate: a container for each piece of work, thrown away afterwards.
        let base = create(&store, "base");
        let snapshot = SnapshotName::new("base").expect("a name");
        store.snapshot(&base, Some(snapshot.clone())).expect("snapshot");
        for round in 0..if asked.test { 1 } else { 4 * VERBS } {
            let new = ContainerName::new(&format!("r{round}")).expect("a name");
            let both = || {
                store.fork(&base, &new, Some(&snapshot)).expect("fork");
                store.remove(&new).expect("remove");
            };
            rounds.time("strata", &format!("fork and remove, {size}"), timed(both).0);
        }
        clear(ground, &root);
    }
    rounds.finish(asked);
}

fn main() -> ExitCode {
    if let Some(root) = env::var_os(CHILD) {
        child(&PathBuf::from(root));
        return ExitCode::SUCCESS;
    }
    let asked = Asked::of_arguments();
    let ground = Ground::host();
    let entries = if asked.test { ENTRIES / 30 } else { ENTRIES };
    let Some((gzip, plain)) = image::make(&ground.make("large"), entries) else { return ExitCode::SUCCESS };
    let Some((small, _)) = image::make(&ground.make("small"), FEW) else { return ExitCode::SUCCESS };
    ground.settle();
    if asked.wants("import") {
        imports(&asked, &ground, &gzip, Form::Gzip);
        imports(&asked, &ground, &plain, Form::Plain);
    }
    if asked.wants("memory") {
        let images =
            [(FEW, Form::Gzip, &small), (entries, Form::Gzip, &gzip), (entries, Form::Plain, &plain)];
        memory(&asked, &ground, &images);
    }
    if asked.wants("life") {
        life(&asked, &ground, &[("600 entries", &small), ("60,000 entries", &gzip)]);
    }
    if asked.wants("commit") {
        commits(&asked, &ground, &gzip, entries * 36 / 60 / (image::IN_DIR + 1));
    }
    ExitCode::SUCCESS
}
