//! The reference model against the host's own file systems: what the model says must be what Linux does.

use stratafs_testkit::generate::Known;
use stratafs_testkit::host::{HostSubject, Whiteouts, materialise};
use stratafs_testkit::rng::Rng;
use stratafs_testkit::subject::assert_agree;
use stratafs_testkit::{Model, Op, StackSpec, generate};
use stratafs_tests::{Mounted, need};

/// Trees without whiteouts and opaque directories, which mean nothing to a plain file system.
fn plain(rng: &mut Rng) -> StackSpec {
    let mut tree = generate::tree(rng, 18);
    tree.entries.retain(|e| e.what != stratafs_testkit::What::Whiteout);
    for entry in &mut tree.entries {
        if let stratafs_testkit::What::Dir { opaque } = &mut entry.what {
            *opaque = false;
        }
    }
    StackSpec::one(tree)
}

fn agrees(in_tmpfs: bool) {
    if !need::root() {
        return;
    }
    let seed = need::seed();
    println!("model: seed {seed}");
    let mut rng = Rng::new(seed);
    for _ in 0..need::number("STRATAFS_CASES").unwrap_or(60) {
        let dir = tempfile::tempdir().expect("make a directory");
        let _mounted = in_tmpfs.then(|| Mounted::tmpfs(dir.path(), "").expect("mount a tmpfs"));
        let stack = plain(&mut rng);
        let known = Known::of_stack(&stack);
        let at = std::fs::File::open(dir.path()).expect("open the directory");
        materialise(&stack.layers[0], &at, Whiteouts::Trusted).expect("make the tree");
        let mut host = HostSubject::new(dir.path()).expect("open the directory");
        let ops: Vec<Op> = (0..200).map(|_| generate::op(&mut rng, &known)).collect();
        assert_agree(&mut Model::from_stack(&stack), &mut host, &ops);
        drop((at, host));
    }
}

#[test]
fn model_agrees_with_tmpfs() {
    agrees(true);
}

#[test]
fn model_agrees_with_the_temporary_directory() {
    agrees(false);
}
