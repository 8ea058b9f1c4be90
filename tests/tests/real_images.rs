//! A real image, made and read by tools of other people, goes in here, is changed, and comes out again: the trees are
//! the same everywhere.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use stratafs::oci::Silent;
use stratafs::oci::compress::Compression;
use stratafs::oci::layout::Target;
use stratafs::store::{ArchiveOptions, CommitOptions, ExportOptions, ImageRecord, Opened};
use stratafs::{Device, Kind, OpenOptions, SetTime, Time};
use stratafs_testkit::Dump;
use stratafs_tests::real_image::{ENTRIES, LAYERS, RealImage, answers, run};
use stratafs_tests::store_bed::Bed;
use stratafs_tests::{Mounted, need, trees};

fn reference(image: &RealImage) -> Dump {
    trees::of_dir(&image.reference())
}

fn digests(image: &ImageRecord) -> Vec<String> {
    image.layers.iter().map(|layer| layer.diff_id.to_string()).collect()
}

/// Takes `from` in and compares its tree with umoci's.
fn goes_in(from: impl Fn(&RealImage) -> PathBuf) {
    let Some(real) = RealImage::get() else { return };
    let bed = Bed::in_memory();
    let images = bed.import(&from(&real), "real").unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].layers.len(), LAYERS);
    let entries = bed.store().pin_image(&images[0]).unwrap().layers()[0].record().facts.entries;
    assert!(entries >= ENTRIES as u64, "{entries} entries");
    trees::assert_same(&reference(&real), &bed.tree("real"), &[], "umoci unpack (-) and the merged view (+)");
    bed.assert_sound("afterwards");
    // The same again costs nothing and gives the same.
    let held = bed.holds(&["layers", "images"]);
    assert_eq!(bed.import(&from(&real), "real").unwrap()[0].id(), images[0].id());
    assert_eq!(bed.holds(&["layers", "images"]), held);
}

#[test]
fn a_layout_of_mixed_compression_is_what_umoci_unpacks() {
    goes_in(RealImage::mixed);
}

#[test]
fn a_layout_in_one_archive_is_what_umoci_unpacks() {
    goes_in(RealImage::archive);
}

#[test]
fn a_docker_archive_is_what_umoci_unpacks() {
    goes_in(RealImage::docker);
}

#[test]
fn the_kernel_mounts_the_stored_layers_to_the_same_tree() {
    let Some(real) = RealImage::get() else { return };
    let bed = Bed::in_memory();
    let images = bed.import(&real.mixed(), "real").unwrap();
    let store = bed.store();
    let lowers: Vec<PathBuf> =
        images[0].layers.iter().rev().map(|layer| store.layer_tree(&layer.key)).collect();
    // Options with paths that long do not fit into mount(2)'s page: short names, as podman has them.
    let links: Vec<PathBuf> = (0..lowers.len()).map(|n| bed.path(&n.to_string())).collect();
    lowers.iter().zip(&links).for_each(|(lower, link)| std::os::unix::fs::symlink(lower, link).unwrap());
    let at = bed.path("mounted");
    fs::create_dir(&at).unwrap();
    let mounted = match Mounted::overlay(&at, &links, None, "redirect_dir=follow,metacopy=off") {
        Ok(mounted) => mounted,
        Err(error) => return need::skip(&format!("an overlay mount: {error}")),
    };
    let tree = trees::of_dir(&at);
    mounted.unmount().unwrap();
    let but = [("/", "the topmost layer says nothing of the root, and the kernel does not know that")];
    trees::assert_same(&bed.tree("real"), &tree, &but, "the merged view (-) and the kernel's overlayfs (+)");
}

/// Some of everything that is done to files, over real ones.
fn change(c: &Opened) {
    c.write("/etc/hostname", "changed\n").unwrap();
    c.write("/etc/new", "new\n").unwrap();
    c.remove_file("/etc/fstab").unwrap();
    c.remove_dir_all("/usr/share/perl").unwrap();
    c.remove_dir_all("/usr/share/doc").unwrap();
    c.create_dir("/usr/share/doc").unwrap();
    c.write("/usr/share/doc/README", "all gone\n").unwrap();
    c.rename("/usr/share/tabset", "/usr/share/tables").unwrap();
    c.rename("/usr/lib/python3.11/email", "/opt/email").unwrap();
    c.write("/opt/email/added.py", "pass\n").unwrap();
    c.remove_file("/etc/services").unwrap();
    c.create_dir("/etc/services").unwrap();
    c.write("/etc/services/inside", "x").unwrap();
    c.remove_dir_all("/etc/issue").unwrap();
    c.symlink("motd", "/etc/issue").unwrap();
    c.remove_file("/usr/share/bug").unwrap();
    c.create_dir("/usr/share/bug").unwrap();
    c.set_permissions("/usr/bin/nano", 0o700).unwrap();
    c.set_permissions("/srv/shared", 0o3770).unwrap();
    c.chown("/opt/attributes/values", Some(4_000_000), Some(65_534)).unwrap();
    c.lchown("/opt/links/soft", Some(77), Some(78)).unwrap();
    c.hard_link("/etc/passwd", "/etc/passwd.link").unwrap();
    c.write("/opt/links/b", "through one name, seen by all").unwrap();
    c.remove_file("/opt/links/c").unwrap();
    c.hard_link("/usr/bin/perl", "/opt/perl").unwrap();
    c.set_xattr("/opt/attributes", "user.new", b"a\0b\n").unwrap();
    c.remove_xattr("/opt/attributes/values", "user.nul").unwrap();
    c.set_xattr(
        "/usr/bin/python3.11",
        "security.capability",
        b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    )
    .unwrap();
    c.remove_xattr("/opt/attributes/acl", "system.posix_acl_access").unwrap();
    c.mkfifo("/run/pipe", 0o640).unwrap();
    c.mknod("/dev/more", Kind::Char, 0o600, Device { major: 10, minor: 200 }).unwrap();
    let time = |secs, nanos| Some(SetTime::At(Time { secs, nanos }));
    c.set_times("/etc/hosts", None, time(-5, 999_999_999)).unwrap();
    c.set_symlink_times("/opt/links/soft", None, time(1 << 33, 1)).unwrap();
    c.truncate("/srv/posix/hole", 5_000_000).unwrap();
    let sparse = c.open_with("/srv/sparse", OpenOptions::new().write(true).create(true)).unwrap();
    sparse.write_at(b"end", 3 << 20).unwrap();
    drop(sparse);
    for n in 0..100 {
        c.write(format!("/srv/many-{n}"), vec![n; usize::from(n) * 100]).unwrap();
        c.remove_file(format!("/usr/share/pico/generated-{}", n + 20)).unwrap();
    }
    c.rename(format!("/opt/names/{}", "n".repeat(255)), format!("/opt/names/{}", "m".repeat(255))).unwrap();
    c.remove_dir_all(format!("/opt/names/{}", "d".repeat(255))).unwrap();
    c.create_dir_all("/opt/opaque/deep/deeper").unwrap();
    c.set_permissions("/", 0o751).unwrap();
}

fn umoci_unpack(layout: &Path, tag: &str, to: &Path) -> Dump {
    run(Command::new("umoci").args(["unpack", "--image"]).arg(format!("{}:{tag}", layout.display())).arg(to));
    trees::of_dir(&to.join("rootfs"))
}

fn export(bed: &Bed, image: &ImageRecord, compression: Compression, target: Target<'_>) {
    let options = ExportOptions { compression, ..ExportOptions::default() };
    let exported = bed.store().export_images(std::slice::from_ref(image), target, &options, &Silent).unwrap();
    assert_eq!(exported.warnings, [""; 0]);
}

#[test]
fn a_commit_comes_out_as_it_is_here_and_goes_in_again() {
    let Some(real) = RealImage::get() else { return };
    let bed = Bed::in_memory();
    let store = bed.store();
    let base = bed.import(&real.mixed(), "real").unwrap().remove(0);
    let name = bed.create("real", "c");
    let opened = store.open_container(&name).unwrap();
    change(&opened);
    opened.close().unwrap();
    let want = bed.container_tree(&name);
    let options = CommitOptions { message: Some("changed".into()), ..CommitOptions::default() };
    let made = store.commit(&name, &"changed:1".parse().unwrap(), &options, &Silent).unwrap().record;
    assert_eq!(digests(&made)[..LAYERS], digests(&base), "what is below stays as it is");
    assert_eq!(made.layers.len(), LAYERS + 1);
    trees::assert_same(&want, &bed.tree("changed:1"), &[], "the container (-) and its image (+)");

    // umoci reads gzip only, and its tree is ours.
    let layout = bed.path("layout");
    export(&bed, &made, Compression::Gzip, Target::Directory(&layout));
    let unpacked = umoci_unpack(&layout, "1", &bed.path("bundle"));
    trees::assert_same(&want, &unpacked, &[], "the container (-) and umoci (+)");
    fs::remove_dir_all(bed.path("bundle")).unwrap();

    // skopeo understands every form, and what it makes of it comes in as the same image.
    let zstd = bed.path("zstd.tar");
    export(&bed, &made, Compression::Zstd, Target::File { path: &zstd, replace: false });
    let said = run(Command::new("skopeo")
        .args(["inspect", "--config"])
        .arg(format!("oci-archive:{}", zstd.display())));
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let ids: Vec<_> =
        said["rootfs"]["diff_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(ids, digests(&made));
    assert_eq!(said["config"]["Env"][1], "REAL=yes", "what the image had is kept: {said}");
    assert_eq!(
        said["history"].as_array().unwrap().iter().filter(|h| h["empty_layer"] != true).count(),
        LAYERS + 1
    );
    let copy = |from: String, to: String| {
        run(Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q", &from, &to])
            .env("TMPDIR", bed.path("")));
    };
    let (dir, docker) = (bed.path("dir"), bed.path("docker.tar"));
    copy(
        format!("oci:{}:1", layout.display()),
        format!("docker-archive:{}:localhost/changed:1", docker.display()),
    );
    copy(format!("oci-archive:{}", zstd.display()), format!("dir:{}", dir.display()));

    for (n, from) in [layout, zstd, docker].iter().enumerate() {
        let again = Bed::in_memory();
        let images = again.import(from, "again").unwrap();
        assert_eq!(digests(&images[0]), digests(&made), "{}", from.display());
        assert_eq!(images[0].id(), made.id(), "{}", from.display());
        if n == 0 {
            trees::assert_same(
                &want,
                &again.tree("again"),
                &[],
                "the container (-) and what came in again (+)",
            );
        }
    }
}

#[test]
fn the_same_changes_give_the_same_layer() {
    let Some(real) = RealImage::get() else { return };
    let bed = Bed::in_memory();
    let store = bed.store();
    bed.import(&real.mixed(), "real").unwrap();
    let commit = |container: &str, forth: bool| {
        let name = bed.create("real", container);
        let opened = store.open_container(&name).unwrap();
        let paths = ["/etc/a", "/usr/share/b", "/opt/c", "/srv/d"];
        let time = Some(SetTime::At(Time { secs: 1_000_000_000, nanos: 7 }));
        let mut order: Vec<usize> = (0..paths.len()).collect();
        if !forth {
            order.reverse();
            opened.write("/etc/taken-back", "x").unwrap();
            opened.remove_file("/etc/taken-back").unwrap();
        }
        for n in order {
            opened.write(paths[n], format!("{n}")).unwrap();
            opened.remove_file(format!("/usr/share/pico/generated-{}", n + 1)).unwrap();
        }
        // The clock is not the same; what it did is.
        let dirs = ["/etc", "/usr/share", "/opt", "/srv", "/usr/share/pico"];
        paths.iter().chain(&dirs).for_each(|path| opened.set_times(path, time, time).unwrap());
        opened.close().unwrap();
        let image = format!("made-{container}").parse().unwrap();
        let made = store.commit(&name, &image, &CommitOptions::default(), &Silent).unwrap().record;
        made.layers.last().unwrap().diff_id
    };
    assert_eq!(commit("one", true), commit("two", false));
}

/// podman with its storage below `at`, no network, and settings that such machines need.
struct Podman {
    at: PathBuf,
}

impl Podman {
    fn new(at: PathBuf) -> Option<Self> {
        if !need::root() {
            return None;
        }
        for tool in ["podman", "runc", "conmon"] {
            if !answers(tool, "--version") {
                need::skip(tool);
                return None;
            }
        }
        fs::create_dir(&at).unwrap();
        fs::write(
            at.join("containers.conf"),
            "[containers]\ndefault_ulimits=[\"nofile=1024:4096\",\"nproc=1024:4096\"]\nnetns=\"none\"\n\
             [engine]\nruntime=\"runc\"\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n",
        )
        .unwrap();
        let (root, run) = (at.join("root"), at.join("run"));
        let storage = format!("[storage]\ndriver=\"overlay\"\ngraphroot={root:?}\nrunroot={run:?}\n");
        fs::write(at.join("storage.conf"), storage).unwrap();
        fs::write(at.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        let podman = Self { at };
        let works = podman.command(&["info"]).output().is_ok_and(|out| out.status.success());
        if !works {
            need::skip("a podman that starts");
            return None;
        }
        Some(podman)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args(["--tmpdir", self.at.join("tmp").to_str().unwrap()]).args(arguments);
        command.env("CONTAINERS_CONF", self.at.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.at.join("storage.conf"));
        command.env("TMPDIR", &self.at).env_remove("CONTAINERS_POLICY");
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8(run(&mut self.command(arguments))).unwrap()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "-af"]).output();
        let _ = self.command(&["rmi", "-af"]).output();
        let overlay = self.at.join("root/overlay");
        let _ = rustix::mount::unmount(&overlay, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn podman_loads_and_runs_what_comes_out_here() {
    let Some(real) = RealImage::get() else { return };
    let bed = Bed::in_memory();
    let Some(podman) = Podman::new(bed.path("podman")) else { return };
    let store = bed.store();
    // Of the layout with several images the first layer alone: the kernel's driver of podman cannot take a layer with
    // a hard link to a file below.
    let base = bed.path("base");
    let from = format!("oci:{}:base", real.umoci().display());
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q", &from])
        .arg(format!("oci:{}:base", base.display())));
    bed.import(&base, "base").unwrap();
    let name = bed.create("base", "c");
    let opened = store.open_container(&name).unwrap();
    opened.write("/etc/greeting", "hello from a layer\n").unwrap();
    opened.remove_dir_all("/usr/share/doc").unwrap();
    opened.remove_dir_all("/usr/share/perl5").unwrap();
    opened.create_dir("/usr/share/perl5").unwrap();
    opened.rename("/usr/share/tabset", "/usr/share/tables").unwrap();
    opened.hard_link("/usr/bin/nano", "/usr/bin/nano-linked").unwrap();
    opened.set_permissions("/etc/skel", 0o2755).unwrap();
    // podman writes whole seconds.
    let time = Some(SetTime::At(Time { secs: 1_600_000_000, nanos: 0 }));
    for path in ["/etc", "/etc/greeting", "/usr/bin", "/usr/share", "/usr/share/perl5"] {
        opened.set_times(path, None, time).unwrap();
    }
    opened.close().unwrap();
    let want = bed.container_tree(&name);
    let made =
        store.commit(&name, &"greets:1".parse().unwrap(), &CommitOptions::default(), &Silent).unwrap().record;
    let look = "cat /etc/greeting; ls /usr/share/doc 2>/dev/null; ls -A /usr/share/perl5 | wc -l; ls /usr/share/tables \
                | wc -l; stat -c '%h %a' /usr/bin/nano-linked; stat -c %a /etc/skel; python3 -c 'print(6 * 7)'";
    for (compression, file) in
        [(Compression::Gzip, "gzip.tar"), (Compression::Zstd, "zstd.tar"), (Compression::None, "none.tar")]
    {
        let archive = bed.path(file);
        export(&bed, &made, compression, Target::File { path: &archive, replace: false });
        let said = podman.run(&["load", "-q", "-i", archive.to_str().unwrap()]);
        let id = made.id().to_string();
        let found = podman.run(&["images", "-q", "--no-trunc"]);
        assert_eq!(found.lines().next(), Some(id.as_str()), "{said}");
        let said = podman.run(&["run", "--rm", &id, "sh", "-c", look]);
        assert_eq!(said, "hello from a layer\n0\n4\n2 755\n2755\n42\n", "{file}");
        podman.run(&["rmi", "-af"]);
    }

    // The flattened root, there and back.
    let flat = bed.path("flat.tar");
    let plain = ArchiveOptions { compression: Compression::None, threads: None };
    store.export_container(&name, fs::File::create(&flat).unwrap(), &plain, &Silent).unwrap();
    podman.run(&["import", "-q", flat.to_str().unwrap(), "localhost/flat"]);
    let said = podman.run(&["run", "--rm", "localhost/flat", "sh", "-c", "cat /etc/greeting"]);
    assert_eq!(said, "hello from a layer\n");
    podman.run(&["create", "--name", "flat", "localhost/flat", "true"]);
    let back = bed.path("back.tar");
    podman.run(&["export", "-o", back.to_str().unwrap(), "flat"]);
    bed.import(&back, "back").unwrap();
    let but = [("/", "podman says nothing of the root")];
    trees::assert_same(&want, &bed.tree("back"), &but, "the container (-) and it after podman (+)");
}
