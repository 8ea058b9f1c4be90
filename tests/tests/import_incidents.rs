//! What went wrong when other systems opened images and stores, and may not happen here: names planted where they are
//! looked for, sources that change, programs and libraries from inside, images that are wrong. Each test is named after
//! one such thing and hashes a tree outside before and after.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stratafs::oci::Progress;
use stratafs::store::{ImportOptions, Store};
use stratafs_core::ErrorKind;
use stratafs_tests::archives::{self, Item, Layout, tar};
use stratafs_tests::need;
use stratafs_tests::outside::{INSIDE, descriptors, in_time};
use stratafs_tests::store_bed::{Bed, is_root};

/// The program that does one verb.
const VERB: &str = env!("CARGO_BIN_EXE_store-verb");
/// How long an import of a few entries may take, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// runc CVE-2026-41579, Incus CVE-2026-63293, containerd CVE-2026-53489: a file of fixed name opened by path in a tree
/// that others wrote. containers/storage CVE-2024-9676: opening a fifo waits for ever.
#[test]
fn fixed_names_planted_in_a_layout_lead_nowhere() {
    in_time(SOON * 2, 8 << 20, || {
        let bed = Bed::in_memory();
        let archive = tar(&[Item::dir("./"), Item::file("f", INSIDE)]);
        let made = Layout::image(&bed.path("made"), &[archive]);
        let good = bed.import(made.path(), "good").unwrap();
        let blobs: Vec<PathBuf> =
            fs::read_dir(made.path().join("blobs/sha256")).unwrap().map(|e| e.unwrap().path()).collect();
        let inside: Vec<PathBuf> =
            ["oci-layout", "index.json", "blobs", "blobs/sha256", "manifest.json", "repositories"]
                .map(|name| made.path().join(name))
                .into_iter()
                .chain(blobs)
                .collect();
        for at in &inside {
            for kind in ["link", "fifo", "device", "directory", "socket", "dangling"] {
                if kind == "device" && !is_root() {
                    continue;
                }
                let kept = bed.path("kept");
                let existed = fs::rename(at, &kept).is_ok();
                match kind {
                    "link" => symlink(bed.outside().join("f"), at).unwrap(),
                    "dangling" => symlink("/nowhere/at/all", at).unwrap(),
                    "fifo" => mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
                    "device" => {
                        mknodat(CWD, at, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, makedev(1, 5))
                            .unwrap();
                    }
                    "directory" => fs::create_dir(at).unwrap(),
                    _ => drop(std::os::unix::net::UnixListener::bind(at).unwrap()),
                }
                let what = format!("{kind} at {}", at.display());
                let done = Bed::import(&bed, made.path(), "planted");
                if existed {
                    let error = done.map(drop).expect_err(&what).to_string();
                    assert!(!error.contains("OUTSIDE"), "{what}: {error}");
                }
                bed.assert_untouched();
                if kind == "directory" {
                    fs::remove_dir(at).unwrap()
                } else {
                    fs::remove_file(at).unwrap()
                }
                if existed {
                    fs::rename(&kept, at).unwrap();
                }
            }
        }
        assert_eq!(
            bed.import(made.path(), "good").unwrap()[0].id(),
            good[0].id(),
            "the layout is whole again"
        );
        let held = bed.holds(&["images", "trash", "scratch", "containers"]);
        assert!(
            held.iter().all(|name| name.starts_with("images/good") || name.starts_with("images/planted")),
            "{held:?}"
        );
    });
}

/// The same for the source itself.
#[test]
fn what_is_imported_may_be_anything() {
    in_time(SOON, 8 << 20, || {
        let bed = Bed::in_memory();
        drop(std::os::unix::net::UnixListener::bind(bed.path("socket")).unwrap());
        bed.import(&bed.path("socket"), "x").unwrap_err();
        bed.import(Path::new("/dev/null"), "x").unwrap_err();
        let error = bed.import(&bed.path("nothing"), "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("nothing"), "{error}");
        for bytes in [
            &b""[..],
            b"x",
            b"PK\x03\x04 not a tar",
            &[0; 511],
            &[0xff; 10_240],
            b"BZh91AY&SY",
            b"\xfd7zXZ\0",
        ] {
            fs::write(bed.path("file"), bytes).unwrap();
            let error = bed.import(&bed.path("file"), "x").map(drop).unwrap_err();
            assert!(error.to_string().contains("file"), "{error}");
        }
        bed.assert_empty("no image");
        // A pipe is one who writes an archive.
        let at = bed.path("pipe");
        mknodat(CWD, &at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| fs::write(&at, tar(&[Item::file("f", INSIDE)])).unwrap());
            bed.import(&at, "x").unwrap();
        });
    });
}

/// docker cp CVE-2018-15664, runc CVE-2021-30465: a link swapped between check and use, here in the source.
#[test]
fn a_source_that_changes_under_an_import_gives_the_image_or_an_error() {
    let bed = Bed::in_memory();
    let archive = tar(&[Item::dir("./"), Item::file("f", INSIDE)]);
    let made = Layout::image(&bed.path("made"), &[archive]);
    let good = bed.import(made.path(), "good").unwrap()[0].id();
    let victims: Vec<PathBuf> = ["index.json", "blobs", "blobs/sha256"]
        .map(|name| made.path().join(name))
        .into_iter()
        .chain(fs::read_dir(made.path().join("blobs/sha256")).unwrap().map(|e| e.unwrap().path()))
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for victim in victims {
        let trap = bed.path("trap");
        let to = if victim.is_dir() { bed.outside() } else { bed.outside().join("f") };
        symlink(to, &trap).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let mut swaps = 0_u64;
                while !stop.load(Ordering::Relaxed) || swaps % 2 == 1 {
                    renameat_with(CWD, &trap, CWD, &victim, RenameFlags::EXCHANGE).unwrap();
                    swaps += 1;
                }
            });
            for _ in 0..60 {
                match bed.import(made.path(), "swapped") {
                    Ok(images) => {
                        assert_eq!(images[0].id(), good);
                        taken += 1;
                    }
                    Err(error) => {
                        assert!(!error.to_string().contains("OUTSIDE"), "{error}");
                        refused += 1;
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
            swapper.join().unwrap();
        });
        fs::remove_file(&trap).unwrap();
        bed.assert_untouched();
    }
    println!("swapped sources: {taken} taken, {refused} refused");
}

/// docker cp CVE-2019-14271, moby CVE-2026-41567: a helper or a library from inside is run outside.
#[test]
fn nothing_is_executed_and_no_library_of_the_image_is_loaded() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return need::skip("strace");
    }
    let bed = Bed::in_memory();
    let libraries = ["lib/libc.so.6", "lib/x86_64-linux-gnu/libnss_files.so.2", "usr/lib/libgcc_s.so.1"];
    let programs = ["bin/sh", "usr/bin/gzip", "usr/bin/zstd", "usr/bin/tar"];
    let mut items = vec![Item::dir("./"), Item::file("etc/nsswitch.conf", b"passwd: files evil\n")];
    items.extend(
        libraries.iter().chain(&programs).map(|path| Item { mode: 0o755, ..Item::file(path, b"\x7fELF") }),
    );
    let archive = archives::through("gzip", &["-c"], &tar(&items));
    let (from, log) = (bed.path("layer.tar.gz"), bed.path("log"));
    fs::write(&from, archive).unwrap();
    let log_text = log.display().to_string();
    let strace = ["strace", "-f", "-qq", "-e", "trace=execve,execveat,openat,open,mmap", "-o", &log_text];
    let out = bed
        .verb(VERB, &strace, &["import", from.to_str().unwrap(), "x"])
        .current_dir(bed.path("outside"))
        .output();
    let out = out.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let log = fs::read_to_string(log).unwrap();
    let executed: Vec<_> = log.lines().filter(|line| line.contains(" execve")).collect();
    assert_eq!(executed.len(), 1, "{executed:#?}");
    // Once the store is touched, no library is looked for any more, and nothing is mapped to be run.
    let started =
        log.lines().position(|line| line.contains(bed.root().to_str().unwrap()) && !line.contains("execve"));
    let started = started.expect("the store is opened");
    let later: Vec<_> = log.lines().skip(started).collect();
    let loaded: Vec<_> = later
        .iter()
        .filter(|l| {
            (l.contains(" open") && l.contains("O_RDONLY|O_CLOEXEC)") && l.contains(".so"))
                || l.contains("PROT_EXEC")
        })
        .collect();
    assert!(loaded.is_empty(), "{loaded:#?}");
    assert!(
        !log.contains("/etc/passwd") && !log.contains("/etc/nsswitch.conf\", O_RDONLY|O_CLOEXEC)"),
        "names of users were asked for"
    );
}

/// runc CVE-2019-5736, CVE-2024-21626: a descriptor that a program started meanwhile would inherit, or that stays.
#[test]
fn no_descriptor_leaks_or_could_be_inherited() {
    struct Audit(PathBuf, AtomicBool);

    impl Progress for Audit {
        fn advance(&self, _: &str, _: u64) {
            for (path, closes) in descriptors(&self.0) {
                assert!(closes, "{} would be inherited", path.display());
                self.1.store(true, Ordering::Relaxed);
            }
        }
    }

    let bed = Bed::in_memory();
    let items: Vec<Item> = (0..40).map(|n| Item::file(&format!("f{n}"), &vec![n; 1 << 20])).collect();
    let layout = Layout::image(&bed.path("layout"), &[tar(&items[..20]), tar(&items[20..])]);
    let audit = Audit(bed.root(), AtomicBool::new(false));
    let store = Store::open(bed.root()).unwrap();
    let options = ImportOptions { name: Some("x".parse().unwrap()), ..ImportOptions::default() };
    store.import(layout.path(), &options, &audit).unwrap();
    assert!(audit.1.load(Ordering::Relaxed), "something was open while it was looked at");
    drop(store);
    assert_eq!(descriptors(&bed.root()), [], "descriptors stay open");
    bed.import_layer(&tar(&[Item::file("../x", b"")]), "bad").unwrap_err();
    assert_eq!(descriptors(&bed.root()), [], "descriptors stay open after an error");
}

/// containerd CVE-2021-41103.
#[test]
fn no_directory_of_the_store_lets_others_in() {
    let bed = Bed::in_memory();
    let before = rustix::process::umask(Mode::empty());
    let done =
        bed.import_layer(&tar(&[Item { mode: 0o777, ..Item::dir("./") }, Item::file("f", INSIDE)]), "x");
    rustix::process::umask(before);
    done.unwrap();
    bed.create("x", "c");
    let mut dirs = vec![bed.root()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        let mode = fs::metadata(&dir).unwrap().permissions().mode() & 0o7777;
        assert!(matches!(mode, 0o700 | 0o711), "{}: {mode:04o}", dir.display());
        seen += 1;
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            // What is in the trees themselves is the image's affair, behind doors that are closed.
            if path.is_dir() && !path.ends_with("tree") && !path.ends_with("upper") && !path.ends_with("work")
            {
                dirs.push(path);
            }
        }
    }
    assert!(seen > 6, "{seen} directories");
}

/// BuildKit CVE-2024-23652: the cleanup deletes a directory of the host.
#[test]
fn gc_removes_only_what_the_store_made() {
    let bed = Bed::in_memory();
    bed.import_layer(&tar(&[Item::dir("./"), Item::file("f", INSIDE)]), "x").unwrap();
    let key = bed.holds(&["layers"]).remove(0);
    bed.store().remove_image(&"x".parse().unwrap()).unwrap();
    let foreign = format!("sha256-{}", "a".repeat(64));
    for planted in [
        "trash/link",
        "layers/link",
        "scratch/link",
        &format!("layers/{foreign}"),
        &format!("{key}/tree/link"),
    ] {
        symlink(bed.outside(), bed.root().join(planted)).unwrap();
    }
    bed.store().gc().unwrap();
    bed.assert_untouched();
    assert!(!bed.root().join(&key).exists(), "what nobody refers to goes");
    // Where references cannot be read nobody knows what is needed, and all of it stays.
    bed.import_layer(&tar(&[Item::file("f", INSIDE)]), "x").unwrap();
    let held = bed.holds(&["layers"]);
    for dir in ["images", "containers"] {
        let planted = bed.root().join(dir).join("planted.json");
        symlink(bed.outside(), &planted).unwrap();
        let _ = bed.store().gc();
        bed.assert_untouched();
        assert_eq!(bed.holds(&["layers"]), held);
        fs::remove_file(planted).unwrap();
    }
}

/// Every way in which an image can be wrong is an error that says what, and nothing is kept.
#[test]
fn images_that_are_wrong_are_refused_whole() {
    let bed = Bed::in_memory();
    let at = bed.path("layout");
    let archives = [tar(&[Item::dir("./"), Item::file("f", INSIDE)]), tar(&[Item::file("g", INSIDE)])];
    type Wrong<'a> = (&'a str, Box<dyn Fn(&Layout) + 'a>, &'a str);
    let image = |layout: &Layout, config: serde_json::Value, layers: &[serde_json::Value]| {
        let manifest = layout.manifest(&config, layers);
        layout.index(&[manifest]);
    };
    let put =
        |layout: &Layout| -> Vec<_> { archives.iter().map(|a| layout.put(a, archives::PLAIN)).collect() };
    let cases: Vec<Wrong<'_>> = vec![
        (
            "a layer of other content",
            Box::new(|l| {
                let layers = put(l);
                image(l, Layout::config(&archives), &layers);
                fs::write(l.blob(&layers[1]), tar(&[Item::file("h", INSIDE)])).unwrap();
            }),
            "sha256:",
        ),
        (
            "a layer that is cut off",
            Box::new(|l| {
                let layers = put(l);
                image(l, Layout::config(&archives), &layers);
                fs::write(l.blob(&layers[1]), &archives[1][..600]).unwrap();
            }),
            "sha256:",
        ),
        (
            "a layer that is missing",
            Box::new(|l| {
                let layers = put(l);
                image(l, Layout::config(&archives), &layers);
                fs::remove_file(l.blob(&layers[0])).unwrap();
            }),
            "",
        ),
        (
            "a layer that does not have its diff id",
            Box::new(|l| {
                let layers = put(l);
                image(l, Layout::config(&[archives[0].clone(), b"another".to_vec()]), &layers);
            }),
            "sha256:",
        ),
        (
            "fewer diff ids than layers",
            Box::new(|l| {
                let layers = put(l);
                image(l, Layout::config(&archives[..1]), &layers);
            }),
            "",
        ),
        (
            "a size that is not so",
            Box::new(|l| {
                let mut layers = put(l);
                layers[0]["size"] = 7.into();
                image(l, Layout::config(&archives), &layers);
            }),
            "7",
        ),
        (
            "an unknown media type",
            Box::new(|l| {
                let mut layers = put(l);
                layers[1]["mediaType"] = "application/x-unheard-of".into();
                image(l, Layout::config(&archives), &layers);
            }),
            "application/x-unheard-of",
        ),
        (
            "a digest that leads elsewhere",
            Box::new(|l| {
                let mut layers = put(l);
                layers[1]["digest"] = "sha256:../../../outside/f".into();
                image(l, Layout::config(&archives), &layers);
            }),
            "",
        ),
        (
            "an index without end",
            Box::new(|l| {
                // A cycle needs a collision, so: as deep as one likes.
                let mut inner = l.put(b"{}", archives::INDEX);
                for _ in 0..3_000 {
                    let index = serde_json::json!({"schemaVersion": 2, "manifests": [inner]});
                    inner = l.put(index.to_string().as_bytes(), archives::INDEX);
                }
                l.index(&[inner]);
            }),
            "",
        ),
        ("no index", Box::new(|_| {}), "index.json"),
        (
            "an index that is no JSON",
            Box::new(|l| fs::write(l.path().join("index.json"), "{").unwrap()),
            "index.json",
        ),
        (
            "JSON as deep as a stack",
            Box::new(|l| fs::write(l.path().join("index.json"), "[".repeat(1 << 20)).unwrap()),
            "index.json",
        ),
        ("an index of nothing", Box::new(|l| l.index(&[])), ""),
        (
            "a good layer over a bad one",
            Box::new(|l| {
                let bad = [tar(&[Item::file("../f", INSIDE)]), archives[1].clone()];
                drop(Layout::image(l.path(), &bad));
            }),
            "../f",
        ),
    ];
    for (what, make, names) in cases {
        make(&Layout::new(&at));
        let error = bed.import(&at, "x").map(drop).expect_err(what).to_string();
        println!("{what}: {error}");
        assert!(error.contains(names), "{what}: {error}");
        let held = bed.holds(&["containers", "images", "scratch", "trash"]);
        assert!(held.is_empty(), "{what}: {held:?} was left behind");
        bed.assert_untouched();
        fs::remove_dir_all(&at).unwrap();
        // A whole layer may stay until the next gc; nothing refers to it.
        bed.store().gc().unwrap();
        bed.assert_empty(what);
    }
}
