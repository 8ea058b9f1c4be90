//! A real image through the real command: imported, worked on by its own package manager, committed, exported; what umoci
//! unpacks of it is what the kernel mounts here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, can_mount, skip};
use std::fs;
use std::path::Path;
use std::process::Command;
use stratafs_tests::real_image::{LAYERS, RealImage, answers, run};
use stratafs_tests::trees;

/// What is done in the container: everything that a package manager and an administrator do to files.
const JOB: &str = "set -e
dpkg -i /root/package.deb
dpkg --purge --force-depends nano
python3 -m compileall -q /usr/lib/python3.11/email
mv /usr/share/doc /usr/share/papers
chown -R 1000:1000 /etc/apt
ln /etc/passwd /etc/passwd.link
rm -rf /usr/share/perl5; mkdir /usr/share/perl5; echo new > /usr/share/perl5/README
rm /etc/hostname; mkdir /etc/hostname
truncate -s 100 /etc/services
touch -d '2001-02-03 04:05:06.789' /etc/hosts
mkfifo /run/pipe
rm -rf /opt/names/d*";

/// A package file, downloaded into `dir`.
fn package(dir: &Path) -> String {
    let download = ["-qq", "-o", "APT::Sandbox::User=root", "download", "hello"];
    run(Command::new("apt-get").args(download).current_dir(dir));
    let mut files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    files.find(|p| p.extension().is_some_and(|e| e == "deb")).unwrap().display().to_string()
}

#[test]
fn packages_on_an_image_and_out_again() {
    if !can_mount() {
        return skip("the right to mount");
    }
    let Some(real) = RealImage::get() else { return };
    if !answers("apt-get", "--version") {
        return skip("apt-get");
    }
    let strata = Strata::new();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    strata.run(&["image", "import", &text(&real.mixed()), "--name", "real"]).ok();
    let listed = strata.run(&["image", "ls", "--json"]).json();
    assert!(listed.to_string().contains("real"), "{listed}");
    let inspected = strata.run(&["image", "inspect", "real", "--json"]).json();
    let layers = inspected["stack"].as_array().unwrap_or_else(|| panic!("{inspected}"));
    assert_eq!(layers.len(), LAYERS);

    strata.run(&["create", "--image", "real", "--name", "job"]).ok();
    strata.run(&["fs", "job", "put", &package(strata.tmp.path()), "/root/package.deb"]).ok();
    strata.run(&["run", "--name", "job", "--", "sh", "-c", JOB]).ok();
    strata.run(&["commit", "job", "--image", "real:job", "-m", "a package"]).ok();

    let mnt = strata.path("mnt");
    fs::create_dir(&mnt).unwrap();
    strata.run(&["mount", "job", &text(&mnt)]).ok();
    let mounted = trees::of_dir(&mnt);
    strata.run(&["umount", &text(&mnt)]).ok();

    let layout = strata.path("layout");
    strata.run(&["image", "export", "real:job", "-o", &text(&layout), "--dir"]).ok();
    let bundle = strata.path("bundle");
    run(Command::new("umoci").args(["unpack", "--image", &format!("{}:job", text(&layout)), &text(&bundle)]));
    let unpacked = trees::of_dir(&bundle.join("rootfs"));
    trees::assert_same(&mounted, &unpacked, &[], "the container as the kernel shows it (-) and umoci (+)");

    // The layer alone and the whole root are archives that GNU tar reads.
    let (layer, flat) = (strata.path("layer.tar"), strata.path("flat.tar"));
    strata.run(&["layer", "job", "-o", &text(&layer)]).ok();
    strata.run(&["export", "job", "-o", &text(&flat)]).ok();
    let names = |file: &Path| String::from_utf8(run(Command::new("tar").args(["-tf", &text(file)]))).unwrap();
    assert!(names(&layer).contains("usr/share/.wh.doc\n"), "{}", names(&layer));
    assert!(!names(&flat).contains(".wh."));
    assert!(names(&flat).lines().count() > 5_000);

    strata.run(&["check"]).ok();
    strata.run(&["rm", "job"]).ok();
    strata.run(&["image", "rm", "real:job", "real"]).ok();
    strata.run(&["gc"]).ok();
    assert_eq!(fs::read_dir(strata.path("state/layers")).unwrap().count(), 0);
}

#[test]
fn import_executes_nothing() {
    if !answers("strace", "-V") {
        return skip("strace");
    }
    let strata = Strata::new();
    let archive = strata.path("layer.tar");
    run(Command::new("tar").args([
        "-cf",
        archive.to_str().unwrap(),
        "-C",
        strata.path("base").to_str().unwrap(),
        ".",
    ]));
    let strata = strata.wrapped(&["strace", "-f", "-qq", "-e", "trace=execve,execveat"]);
    let said = strata.run(&["image", "import", archive.to_str().unwrap(), "--name", "x"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.err.matches("execve").count(), 1, "{said:?}");
}

/// What the issue shows, one after the other.
#[test]
fn the_life_of_a_container() {
    if !can_mount() {
        return skip("the right to mount");
    }
    let strata = Strata::new();
    let base = strata.path("base");
    strata.install(&base, &["sh", "cat", "rm", "mkdir"]);
    strata.run(&["image", "import", base.to_str().unwrap(), "--name", "base"]).ok();
    let sh =
        |container: &str, script: &str| strata.run(&["run", "--name", container, "--", "sh", "-c", script]);
    strata.run(&["run", "--image", "base", "--name", "c", "--", "sh", "-c", "echo 1 > /one"]).ok();
    strata.run(&["snapshot", "c", "first"]).ok();
    sh("c", "echo 2 > /two; rm /etc/motd").ok();
    strata.run(&["snapshot", "c", "second"]).ok();
    sh("c", "rm /one").ok();
    let named = strata.run(&["snapshots", "c"]).ok();
    assert!(named.contains("first") && named.contains("second"), "{named}");
    strata.run(&["fork", "c", "f"]).ok();
    strata.run(&["rollback", "c", "first"]).ok();
    assert_eq!(sh("c", "cat /one /etc/motd").ok(), "1\none\ntwo\nthree\n");
    assert_ne!(sh("c", "cat /two").code, 0);
    assert_ne!(sh("f", "cat /one").code, 0);
    assert_eq!(sh("f", "cat /two").ok(), "2\n");
    strata.run(&["commit", "f", "--image", "made"]).ok();
    let archive = strata.path("made.tar");
    strata.run(&["image", "export", "made", "-o", archive.to_str().unwrap()]).ok();
    strata.run(&["image", "import", archive.to_str().unwrap(), "--name", "again"]).ok();
    assert_eq!(strata.run(&["run", "--rm", "--image", "again", "--", "cat", "/two"]).ok(), "2\n");

    let target = strata.path("target");
    run(Command::new("cp").args(["-a", "--", base.to_str().unwrap(), target.to_str().unwrap()]));
    let promote =
        |more: &[&str]| strata.run(&[&["promote", "f", "--to", target.to_str().unwrap()], more].concat());
    promote(&["--dry-run"]).ok();
    assert!(target.join("etc/motd").exists());
    promote(&[]).ok();
    assert_eq!(fs::read(target.join("two")).unwrap(), b"2\n");
    assert!(!target.join("etc/motd").exists());

    let usage = strata.run(&["usage"]).ok();
    for name in ["c", "f", "base", "made", "again"] {
        assert!(usage.contains(name), "{name} in {usage}");
    }
    strata.run(&["rm", "c", "f"]).ok();
    strata.run(&["image", "rm", "base", "made", "again"]).ok();
    strata.run(&["gc"]).ok();
    for dir in ["layers", "scratch", "trash", "images", "containers"] {
        assert_eq!(fs::read_dir(strata.path("state").join(dir)).unwrap().count(), 0, "{dir}");
    }
}
