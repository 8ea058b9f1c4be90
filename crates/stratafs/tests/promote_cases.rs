//! Promotion case by case: what conflicts and what does not, what is overridden, what is kept, who may.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod promote_common;

use promote_common::staging;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use stratafs::promote::{Action, Owners, Promotion, Recovered, Silent, recover};
use stratafs::{Container, ErrorKind, Image, Resolver, Result};

/// Works for any user: everything belongs to whoever runs the tests.
struct Bed {
    dir: tempfile::TempDir,
    container: Container,
}

fn fill(at: &Path) {
    fs::create_dir_all(at.join("etc/deep")).unwrap();
    fs::create_dir_all(at.join("var/old")).unwrap();
    fs::write(at.join("etc/motd"), "welcome\n").unwrap();
    fs::write(at.join("etc/hosts"), "localhost\n").unwrap();
    fs::write(at.join("etc/deep/f"), "deep").unwrap();
    fs::write(at.join("var/old/log"), "log").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for file in ["etc/motd", "etc/hosts", "etc/deep/f", "var/old/log"] {
        fs::File::open(at.join(file)).unwrap().set_modified(long_ago).unwrap();
    }
}

impl Bed {
    fn new(change: impl FnOnce(&Container)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["base", "target"] {
            fill(&dir.path().join(name));
        }
        let image = Image::from_dirs([dir.path().join("base")]).unwrap();
        // In memory owners need no privilege; what is made is given to whoever runs the tests.
        let container = Container::builder(image).in_memory().open().unwrap();
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        change(
            &container.as_caller(stratafs::Caller { privileged: true, ..stratafs::Caller::user(me.0, me.1) }),
        );
        Self { dir, container }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("target").join(path)
    }

    fn base(&self) -> Container {
        Image::from_dirs([self.dir.path().join("base")]).unwrap().view().unwrap()
    }

    /// The conflicts' paths.
    fn conflicts(&self) -> Vec<String> {
        let base = self.base();
        let promotion = Promotion::of(&self.container, &base).plan(self.at("")).unwrap();
        let conflicts = promotion.conflicts().iter();
        conflicts.map(|conflict| String::from_utf8(conflict.path.clone()).unwrap()).collect()
    }

    fn apply(&self, force: bool) -> Result<Vec<String>> {
        let base = self.base();
        let promotion = Promotion::of(&self.container, &base).force(force).plan(self.at(""))?;
        let report = promotion.apply(&Silent)?;
        assert!(report.left.is_none());
        assert!(!staging(&self.at("")).exists());
        Ok(report.steps.iter().map(ToString::to_string).collect())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }
}

#[test]
fn any_user_promotes_what_is_his() {
    let bed = Bed::new(|c| {
        c.write("/etc/motd", "changed\n").unwrap();
        c.create_dir("/etc/new").unwrap();
        c.write("/etc/new/f", "new").unwrap();
        c.remove_dir_all("/var/old").unwrap();
        c.rename("/etc/deep", "/var/deep").unwrap();
    });
    assert!(bed.conflicts().is_empty());
    let steps = bed.apply(false).unwrap();
    for step in
        ["remove /var/old/", "replace /etc/motd", "create /etc/new/f", "move /etc/deep/ -> /var/deep/"]
    {
        assert!(steps.iter().any(|done| done == step), "{step} in {steps:#?}");
    }
    assert_eq!(bed.read("etc/motd"), "changed\n");
    assert_eq!(bed.read("var/deep/f"), "deep");
    assert!(!bed.at("var/old").exists() && !bed.at("etc/deep").exists());
    let again = bed.conflicts();
    assert!(again.contains(&"etc/motd".to_owned()), "it is there already, and not what was started from");
}

#[test]
fn every_conflict_is_named_with_what_was_expected_and_what_is_there() {
    let bed = Bed::new(|c| {
        c.write("/etc/motd", "ours\n").unwrap();
        c.remove_file("/etc/hosts").unwrap();
        c.write("/etc/new", "ours").unwrap();
        c.remove_dir_all("/var/old").unwrap();
        c.rename("/etc/deep", "/deep").unwrap();
    });
    fs::write(bed.at("etc/motd"), "theirs, longer\n").unwrap();
    fs::set_permissions(bed.at("etc/hosts"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(bed.at("etc/new"), "theirs").unwrap();
    fs::write(bed.at("var/old/precious"), "precious").unwrap();
    fs::write(bed.at("etc/deep/precious"), "precious").unwrap();
    let base = bed.base();
    let promotion = Promotion::of(&bed.container, &base).plan(bed.at("")).unwrap();
    let mut text: Vec<String> = promotion.conflicts().iter().map(ToString::to_string).collect();
    text.sort();
    assert_eq!(
        text,
        [
            "/etc/deep/precious: expected nothing, found a file",
            "/etc/hosts: expected mode 0644, found mode 0600",
            "/etc/motd: expected 8 bytes, found 15 bytes",
            "/etc/new: expected nothing, found a file",
            "/var/old/precious: expected nothing, found a file",
        ]
    );
    let e = promotion.apply(&Silent).unwrap_err();
    assert!(e.to_string().contains("5 conflicts"), "{e}");
    assert_eq!(bed.read("etc/motd"), "theirs, longer\n");
    assert_eq!(bed.read("var/old/precious"), "precious");

    bed.apply(true).unwrap();
    assert_eq!(bed.read("etc/motd"), "ours\n");
    assert_eq!(bed.read("etc/new"), "ours");
    assert_eq!(bed.read("deep/precious"), "precious", "what is not ours moves along");
    assert!(!bed.at("etc/hosts").exists() && !bed.at("var/old").exists());
}

#[test]
fn another_time_with_the_same_content_is_no_conflict() {
    let bed = Bed::new(|c| c.write("/etc/motd", "ours\n").unwrap());
    fs::write(bed.at("etc/motd"), "welcome\n").unwrap();
    assert!(bed.conflicts().is_empty());
    fs::write(bed.at("etc/motd"), "WELCOME\n").unwrap();
    assert_eq!(bed.conflicts(), ["etc/motd"]);
}

#[test]
fn names_that_others_add_beside_ours_stay() {
    let bed = Bed::new(|c| {
        c.write("/etc/new", "ours").unwrap();
        c.remove_file("/etc/hosts").unwrap();
    });
    fs::write(bed.at("etc/theirs"), "theirs").unwrap();
    bed.apply(false).unwrap();
    assert_eq!(bed.read("etc/theirs"), "theirs");
    assert_eq!(bed.read("etc/new"), "ours");
    assert!(!bed.at("etc/hosts").exists());
}

#[test]
fn what_is_there_already_is_left_alone() {
    let bed = Bed::new(|c| {
        c.create_dir("/etc/new").unwrap();
        c.write("/etc/new/f", "same").unwrap();
        c.remove_file("/etc/hosts").unwrap();
    });
    fs::create_dir(bed.at("etc/new")).unwrap();
    fs::write(bed.at("etc/new/f"), "same").unwrap();
    let time = bed.container.metadata("/etc/new/f").unwrap().modified();
    fs::File::open(bed.at("etc/new/f")).unwrap().set_modified(time).unwrap();
    fs::remove_file(bed.at("etc/hosts")).unwrap();
    let (dir, file) =
        (bed.at("etc/new").metadata().unwrap().ino(), bed.at("etc/new/f").metadata().unwrap().ino());
    let steps = bed.apply(false).unwrap();
    assert!(steps.iter().all(|step| step.starts_with("set time of")), "{steps:?}");
    assert_eq!(bed.at("etc/new").metadata().unwrap().ino(), dir);
    assert_eq!(bed.at("etc/new/f").metadata().unwrap().ino(), file);
}

#[test]
fn a_parent_that_is_missing_a_file_or_a_link_stops_everything_even_by_force() {
    for spoil in [
        (|etc: &Path| fs::rename(etc, etc.with_extension("away")).unwrap()) as fn(&Path),
        |etc| {
            fs::rename(etc, etc.with_extension("away")).unwrap();
            symlink("etc.away", etc).unwrap();
        },
        |etc| {
            fs::rename(etc, etc.with_extension("away")).unwrap();
            fs::write(etc, "a file").unwrap();
        },
    ] {
        let bed = Bed::new(|c| {
            c.write("/etc/new", "x").unwrap();
            c.write("/etc/motd", "x").unwrap();
        });
        spoil(&bed.at("etc"));
        for resolver in [Resolver::Auto, Resolver::StepByStep] {
            let base = bed.base();
            let promotion =
                Promotion::of(&bed.container, &base).force(true).resolver(resolver).plan(bed.at("")).unwrap();
            assert!(promotion.conflicts().iter().any(|c| c.path == b"etc" && !c.forceable), "{promotion:?}");
            assert_eq!(promotion.apply(&Silent).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(fs::read_to_string(bed.at("etc.away/motd")).unwrap(), "welcome\n");
        assert!(!bed.at("etc.away/new").exists());
    }
}

#[test]
fn sparse_files_stay_sparse_and_new_names_are_links() {
    let bed = Bed::new(|c| {
        let file = c.create("/sparse").unwrap();
        file.write_at(b"end", 64 << 20).unwrap();
        c.hard_link("/etc/motd", "/motd-too").unwrap();
        c.hard_link("/sparse", "/etc/sparse-too").unwrap();
    });
    let before = bed.at("etc/motd").metadata().unwrap().ino();
    let base = bed.base();
    let promotion = Promotion::of(&bed.container, &base).plan(bed.at("")).unwrap();
    let links = promotion.steps().iter().filter(|step| matches!(step.action, Action::Link { .. }));
    assert_eq!(links.count(), 1);
    promotion.apply(&Silent).unwrap();
    let sparse = bed.at("sparse").metadata().unwrap();
    assert_eq!((sparse.len(), sparse.nlink()), ((64 << 20) + 3, 2));
    assert!(sparse.blocks() < 1024, "{} blocks", sparse.blocks());
    assert_eq!(bed.at("etc/sparse-too").metadata().unwrap().ino(), sparse.ino());
    assert_eq!(bed.at("motd-too").metadata().unwrap().ino(), before);
    assert_eq!(bed.at("etc/motd").metadata().unwrap().ino(), before);
}

#[test]
fn what_changes_after_the_comparison_is_found_and_everything_undone() {
    let spoils: [fn(&Bed); 5] = [
        |bed| fs::write(bed.at("etc/motd"), "theirs").unwrap(),
        |bed| fs::write(bed.at("var/old/late"), "late").unwrap(),
        |bed| fs::write(bed.at("etc/new"), "late").unwrap(),
        |bed| fs::rename(bed.at("etc"), bed.at("etc2")).unwrap(),
        |bed| {
            fs::write(bed.at("other"), "welcome\n").unwrap();
            fs::rename(bed.at("other"), bed.at("etc/motd")).unwrap();
        },
    ];
    for (n, spoil) in spoils.iter().enumerate() {
        let bed = Bed::new(|c| {
            c.remove_dir_all("/var/old").unwrap();
            c.rename("/etc/deep", "/deep").unwrap();
            c.write("/etc/motd", "ours").unwrap();
            c.write("/etc/new", "ours").unwrap();
        });
        let base = bed.base();
        let promotion = Promotion::of(&bed.container, &base).plan(bed.at("")).unwrap();
        assert_eq!(promotion.conflicts(), []);
        spoil(&bed);
        let before = promote_common::dump(&bed.at(""));
        promotion.apply(&Silent).unwrap_err();
        before.assert_same(&promote_common::dump(&bed.at("")), &format!("spoil {n}"));
        assert!(!staging(&bed.at("")).exists());
    }
}

#[test]
fn one_promotion_at_a_time() {
    let bed = Bed::new(|c| c.write("/etc/motd", "ours").unwrap());
    let base = bed.base();
    let first = Promotion::of(&bed.container, &base).plan(bed.at("")).unwrap();
    let at = staging(&bed.at(""));
    fs::create_dir(&at).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o700)).unwrap();
    let held = fs::File::open(&at).unwrap();
    held.lock().unwrap();
    assert_eq!(first.apply(&Silent).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(recover(bed.at("")).unwrap_err().kind(), ErrorKind::Busy);
    assert!(at.exists());
    drop(held);
    let dry = Promotion::of(&bed.container, &base).recover_first(false).plan(bed.at(""));
    assert_eq!(dry.unwrap_err().kind(), ErrorKind::Busy);
    let second = Promotion::of(&bed.container, &base).plan(bed.at("")).unwrap();
    assert_eq!(second.recovered(), Recovered::Discarded);
    second.apply(&Silent).unwrap();
    assert_eq!(bed.read("etc/motd"), "ours");
}

#[test]
fn what_somebody_planted_under_our_name_is_refused_and_left() {
    let plants: [fn(&Path); 5] = [
        |at| fs::write(at, "x").unwrap(),
        |at| symlink("etc", at).unwrap(),
        |at| {
            fs::create_dir(at).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(0o777)).unwrap();
        },
        |at| {
            fs::create_dir(at).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(at.join("something"), "of theirs").unwrap();
        },
        |at| {
            fs::create_dir(at).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(at.join("journal"), "not one").unwrap();
        },
    ];
    for plant in plants {
        let bed = Bed::new(|c| c.write("/etc/motd", "ours").unwrap());
        plant(&staging(&bed.at("")));
        let before = promote_common::dump(&bed.at(""));
        let base = bed.base();
        let refused = Promotion::of(&bed.container, &base).plan(bed.at("")).unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::NotPermitted | ErrorKind::Corrupt), "{refused}");
        before.assert_same(&promote_common::dump(&bed.at("")), "left as it is");
    }
}

#[test]
fn our_own_name_is_not_promoted() {
    let bed = Bed::new(|c| c.create_dir("/.strata-promotion").unwrap());
    let base = bed.base();
    let refused = Promotion::of(&bed.container, &base).plan(bed.at("")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn owners_that_cannot_be_given_are_an_error_or_ones_own() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root can give files to anybody");
        return;
    }
    let bed = Bed::new(|c| {
        c.write("/tool", "x").unwrap();
        c.chown("/tool", Some(12_345), Some(12_345)).unwrap();
        c.set_permissions("/tool", 0o4755).unwrap();
    });
    let e = bed.apply(false).unwrap_err();
    assert!(e.to_string().contains("owner 12345:12345"), "{e}");
    assert!(!bed.at("tool").exists() && !staging(&bed.at("")).exists());
    let base = bed.base();
    let own = Promotion::of(&bed.container, &base).owners(Owners::Own).plan(bed.at("")).unwrap();
    own.apply(&Silent).unwrap();
    assert_eq!(bed.at("tool").metadata().unwrap().mode() & 0o7777, 0o755);
}

/// The target is the layer itself.
#[test]
fn a_layer_takes_its_containers_changes_unless_it_changed_since() {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    fill(&layer);
    let image = Image::from_dirs([&layer]).unwrap();
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let tick = || std::thread::sleep(Duration::from_millis(30));
    tick();
    let since = SystemTime::now();
    tick();
    let container = Container::builder(image.clone()).scratch_dir(dir.path().join("state")).open().unwrap();
    let own =
        container.as_caller(stratafs::Caller { privileged: true, ..stratafs::Caller::user(me.0, me.1) });
    own.write("/etc/motd", "ours\n").unwrap();
    own.remove_dir_all("/var/old").unwrap();
    own.rename("/etc/deep", "/deep").unwrap();
    own.write("/etc/new", "new").unwrap();
    let plan = |since: Option<SystemTime>| -> Result<(Vec<String>, usize)> {
        let base = image.view().unwrap();
        let builder = Promotion::of(&container, &base);
        let builder = match since {
            Some(since) => builder.since(since),
            None => builder,
        };
        let promotion = builder.plan(&layer)?;
        let conflicts: Vec<String> = promotion.conflicts().iter().map(ToString::to_string).collect();
        Ok((conflicts, promotion.steps().len()))
    };
    assert_eq!(plan(None).unwrap_err().kind(), ErrorKind::InvalidInput, "nothing says since when");
    assert_eq!(plan(Some(since)).unwrap().0, [""; 0]);

    tick();
    let mode = |path: &str, mode| {
        fs::set_permissions(layer.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["etc/motd", "var/old/log", "etc/deep/f"] {
        let was = layer.join(path).metadata().unwrap().permissions().mode();
        mode(path, was);
    }
    let conflicts = plan(Some(since)).unwrap().0;
    for path in ["/etc/motd", "/var/old/log", "/etc/deep/f"] {
        assert!(
            conflicts.iter().any(|c| c.starts_with(path) && c.contains("changed at")),
            "{path} {conflicts:#?}"
        );
    }

    let base = image.view().unwrap();
    let promotion =
        Promotion::of(&container, &base).since(SystemTime::now()).only(["var", "deep", "etc/new"]);
    let promotion = promotion.plan(&layer).unwrap();
    assert_eq!(promotion.conflicts(), []);
    promotion.apply(&Silent).unwrap();
    assert!(!layer.join("var/old").exists() && !layer.join("etc/deep").exists());
    assert_eq!(fs::read_to_string(layer.join("deep/f")).unwrap(), "deep");
    assert_eq!(fs::read_to_string(layer.join("etc/new")).unwrap(), "new");
    assert_eq!(fs::read_to_string(layer.join("etc/motd")).unwrap(), "welcome\n", "not chosen");
}

#[test]
fn access_lists_and_link_targets_and_fifos_arrive() {
    let acl: Vec<u8> = [
        &2u32.to_le_bytes()[..],
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 7, 0, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let bed = Bed::new(|c| {
        c.set_xattr("/etc/motd", "system.posix_acl_access", &acl).unwrap();
        c.set_xattr("/etc/motd", "user.note", [0, 255]).unwrap();
        c.symlink("/nowhere/at all", "/link").unwrap();
        c.mkfifo("/etc/fifo", 0o640).unwrap();
    });
    bed.apply(false).unwrap();
    let get = |name: &str| {
        let mut value = vec![0; 256];
        let len = rustix::fs::getxattr(bed.at("etc/motd"), name, &mut value[..]).unwrap();
        value.truncate(len);
        value
    };
    assert_eq!(get("system.posix_acl_access"), acl);
    assert_eq!(get("user.note"), [0, 255]);
    assert_eq!(bed.at("etc/motd").metadata().unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_link(bed.at("link")).unwrap(), Path::new("/nowhere/at all"));
    assert_eq!(bed.at("etc/fifo").metadata().unwrap().mode(), 0o010_640);
}

/// A thread exchanges a directory with a link to a tree outside while it is promoted into.
#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nobody_outside() {
    let rounds = promote_common::number("STRATAFS_CASES").unwrap_or(60);
    let (mut done, mut failed) = (0, 0);
    for round in 0..rounds {
        let bed = Bed::new(|c| {
            c.write("/etc/motd", "ours\n").unwrap();
            c.write("/etc/new", "ours").unwrap();
            c.remove_file("/etc/hosts").unwrap();
            c.set_permissions("/etc", 0o711).unwrap();
        });
        let outside = bed.dir.path().join("outside");
        fill(&bed.dir.path().join("outside-too"));
        fs::rename(bed.dir.path().join("outside-too/etc"), &outside).unwrap();
        symlink("../outside", bed.at("link")).unwrap();
        let before = promote_common::dump(&outside);
        let mode = outside.metadata().unwrap().mode();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let target = fs::File::open(bed.at("")).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let swap = rustix::fs::RenameFlags::EXCHANGE;
                    let _ = rustix::fs::renameat_with(&target, "etc", &target, "link", swap);
                }
            });
            for resolver in [Resolver::Auto, Resolver::StepByStep] {
                let base = bed.base();
                let plan =
                    Promotion::of(&bed.container, &base).force(true).resolver(resolver).plan(bed.at(""));
                match plan.and_then(|plan| plan.apply(&Silent)) {
                    Ok(_) => done += 1,
                    Err(_) => failed += 1,
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        before.assert_same(&promote_common::dump(&outside), &format!("round {round}"));
        assert_eq!(outside.metadata().unwrap().mode(), mode);
        if bed.at("etc").symlink_metadata().unwrap().is_symlink() {
            let target = fs::File::open(bed.at("")).unwrap();
            rustix::fs::renameat_with(&target, "etc", &target, "link", rustix::fs::RenameFlags::EXCHANGE)
                .unwrap();
        }
        recover(bed.at("")).unwrap();
        assert!(!staging(&bed.at("")).exists());
        before.assert_same(&promote_common::dump(&outside), &format!("recovery of round {round}"));
    }
    println!("{done} done, {failed} failed");
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_mount_point_below_the_target_is_named_before_anything_is_done() {
    if !promote_common::root() {
        return;
    }
    let bed = Bed::new(|c| {
        c.rename("/etc/deep", "/deep").unwrap();
        c.remove_dir_all("/var/old").unwrap();
        c.write("/etc/motd", "ours").unwrap();
    });
    let flags = rustix::mount::MountFlags::empty();
    let at = bed.at("var");
    if rustix::mount::mount("tmpfs", &at, "tmpfs", flags, None).is_err() {
        promote_common::skip("mounting a tmpfs");
        return;
    }
    let _mounted = Mounted(at);
    fs::create_dir(bed.at("var/old")).unwrap();
    // The same file system once more is another mount, too.
    rustix::mount::mount_bind(bed.dir.path().join("base/etc/deep"), bed.at("etc/deep")).unwrap();
    let _bound = Mounted(bed.at("etc/deep"));
    for resolver in [Resolver::Auto, Resolver::StepByStep] {
        let base = bed.base();
        let promotion = Promotion::of(&bed.container, &base).force(true).resolver(resolver);
        let promotion = promotion.plan(bed.at("")).unwrap();
        for path in ["etc/deep", "var"] {
            let named = promotion.conflicts().iter().any(|c| c.path == path.as_bytes() && !c.forceable);
            assert!(named, "{path}: {:#?}", promotion.conflicts());
        }
        promotion.apply(&Silent).unwrap_err();
    }
    assert_eq!(bed.read("etc/motd"), "welcome\n");
    assert!(bed.at("var/old").exists() && bed.at("etc/deep/f").exists());
}
