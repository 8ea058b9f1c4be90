//! What goes wrong around the command: pipes that close, disks that are full or read-only, runs that are killed,
//! files that are missing. Each is one clear line, and nothing is half-done.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, can_mount, said, skip};
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A small file system in memory, for the state.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(s: &Strata, options: &std::ffi::CStr) -> Self {
        let dir = s.path("state");
        fs::create_dir(&dir).unwrap();
        rustix::mount::mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), options).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

const PRINTS: [&[&str]; 12] = [
    &["ls"],
    &["ls", "--json"],
    &["inspect", "app"],
    &["diff", "app"],
    &["diff", "app", "--stat"],
    &["diff", "app", "--patch", "/etc/motd"],
    &["check"],
    &["info"],
    &["completions", "bash"],
    &["fs", "app", "ls", "-l", "/etc"],
    &["fs", "app", "cat", "/etc/motd"],
    &["fs", "app", "stat", "/etc/motd"],
];

#[test]
fn a_reader_that_goes_away_is_no_error_to_speak_of() {
    let s = Strata::new();
    s.create("app");
    s.run(&["fs", "app", "rm", "/etc/motd"]).ok();
    s.run(&["fs", "app", "cp", "/etc/hosts", "/etc/motd"]).ok();
    for arguments in PRINTS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = s.command(arguments);
        command.stdout(writer).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*err), (Some(141), ""), "{arguments:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let s = Strata::new();
    s.create("app");
    s.run(&["fs", "app", "touch", "/new"]).ok();
    s.run(&["fs", "app", "xattr", "set", "/new", "user.x", "no newline"]).ok();
    for arguments in PRINTS.into_iter().chain([&["fs", "app", "xattr", "get", "/new", "user.x"][..]]) {
        if arguments.contains(&"--patch") {
            continue;
        }
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = s.command(arguments);
        command.stdout(full).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && err.starts_with("strata: standard output"),
            "{arguments:?}: {err}"
        );
    }
}

#[test]
fn a_full_disk_leaves_no_part_of_a_file_and_can_be_cleared() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN, to mount a tmpfs");
    }
    let s = Strata::new();
    let _state = Tmpfs::new(&s, c"size=256k,nr_inodes=64");
    s.create("app");
    fs::write(s.path("big"), vec![b'x'; 1 << 20]).unwrap();
    let big = s.path("big");
    let big = big.to_str().unwrap();
    s.run(&["fs", "app", "put", big, "/big"]).fails(1, &["/big", "No space", "nothing was kept"]);
    assert_eq!(s.run(&["diff", "app"]).ok(), "");
    s.run(&["fs", "app", "put", big, "/etc/motd"]).fails(1, &["/etc/motd", "No space", "incomplete"]);
    fs::create_dir(s.path("many")).unwrap();
    for n in 0..100 {
        fs::write(s.path("many").join(n.to_string()), "").unwrap();
    }
    s.run(&["fs", "app", "put", "-r", s.path("many").to_str().unwrap(), "/many"]).fails(1, &["No space"]);
    s.run(&["create", "--name", "other", "--layer", s.path("base").to_str().unwrap()])
        .fails(1, &["No space"]);
    s.run(&["rm", "app"]).ok();
    assert_eq!(s.run(&["ls"]).ok(), "");
    assert_eq!(fs::read_dir(s.path("state/trash")).unwrap().count(), 0);
    s.create("app");
}

#[test]
fn a_read_only_state_can_be_listed_and_says_what_it_is() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN, to mount a tmpfs");
    }
    let s = Strata::new();
    let state = Tmpfs::new(&s, c"size=1m");
    s.create("app");
    rustix::mount::mount_remount(&state.0, MountFlags::RDONLY, c"").unwrap();
    assert!(s.run(&["ls"]).ok().starts_with("app "));
    s.run(&["inspect", "app"]).ok();
    assert_eq!(s.run(&["info", "--json"]).json()["user_xattrs"], false);
    for arguments in [&["rm", "app"][..], &["fs", "app", "touch", "/x"], &["create"]] {
        s.run(arguments).fails(1, &["Read-only file system"]);
    }
}

#[test]
fn a_killed_volatile_run_loses_nothing_and_a_crash_of_the_host_is_told() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN");
    }
    let s = Strata::new();
    let script = "echo x > /etc/strata-test; echo ready; sleep 100";
    let mut command =
        s.command(&["run", "--name", "v", "--durability", "volatile", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe ends with the last process inside.
    assert!(lines.next().is_none());
    assert_eq!(s.run(&["fs", "v", "cat", "/etc/strata-test"]).ok(), "x\n");
    assert_eq!(s.run(&["run", "--name", "v", "--", "cat", "/etc/strata-test"]).ok(), "x\n");

    // The same under another start of the host: what is on disk then is not known.
    let mut child = s.command(&["fs", "v", "put", "-", "/x"]).stdin(Stdio::piped()).spawn().unwrap();
    let note = s.path("state/containers/v/boot");
    let mark = s.scratch("v").join("work/work/incompat/volatile");
    while !note.exists() || !mark.exists() {
        assert!(child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(&note, "another start").unwrap();
    s.run(&["fs", "v", "ls"]).fails(1, &["volatile", "not closed"]);
    s.run(&["fs", "v", "ls"]).fails(1, &["volatile", "not closed"]);
    let said = s.run(&["check", "v"]);
    assert!(said.code == 1 && said.out.contains("strata rm"), "{said:?}");
    s.run(&["rm", "v"]).ok();
}

#[test]
fn volatile_files_are_closed_after_each_command() {
    let s = Strata::new();
    s.run(&[
        "create",
        "--name",
        "v",
        "--durability",
        "volatile",
        "--layer",
        s.path("base").to_str().unwrap(),
    ])
    .ok();
    s.run(&["fs", "v", "touch", "/x"]).ok();
    assert!(!s.scratch("v").join("work/work/incompat/volatile").exists());
    assert!(!s.path("state/containers/v/boot").exists());
    assert_eq!(s.run(&["diff", "v"]).ok(), "A /x\n");
    assert_eq!(s.run(&["check"]).ok(), "v: ok\n");
}

#[test]
fn what_a_run_made_for_itself_goes_when_it_fails() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN");
    }
    let s = Strata::new();
    let base = s.path("base");
    let base = base.to_str().unwrap();
    s.run(&["create", "--name", "twice", "--layer", base, "--layer", base]).ok();
    s.run(&["run", "--name", "twice", "--", "true"]).fails(125, &["twice", base, "strata fs"]);
    s.run(&["mount", "twice", s.path("top").to_str().unwrap()]).fails(1, &["twice", base, "strata fs"]);
    assert_eq!(s.run(&["diff", "twice"]).ok(), "");
    let said = s.run(&["run", "--workdir", "/no/such", "--", "true"]);
    assert!(!said.err.contains("overlayfs") && said.err.contains("/no/such"), "{said:?}");
    assert_eq!(s.run(&["umount", "unknown"]).code, 1);
    s.run(&["umount", "unknown"]).fails(1, &["unknown", "container"]);
}

#[test]
fn missing_parts_of_the_state_are_named_and_never_made_up() {
    let s = Strata::new();
    s.create("app");
    s.run(&["fs", "app", "touch", "/precious"]).ok();
    let upper = s.scratch("app").join("upper");
    fs::rename(&upper, s.path("upper")).unwrap();
    for arguments in [&["fs", "app", "ls"][..], &["diff", "app"]] {
        s.run(arguments).fails(1, &[upper.to_str().unwrap(), "missing"]);
    }
    assert_eq!(s.run(&["check"]).code, 1);
    fs::rename(s.path("upper"), &upper).unwrap();
    assert_eq!(s.run(&["diff", "app"]).ok(), "A /precious\n");
    fs::remove_file(s.path("state/containers/app/lock")).unwrap();
    s.run(&["rm", "app"]).ok();
    fs::create_dir(s.path("state/containers/junk")).unwrap();
    s.run(&["rm", "junk"]).ok();
    s.run(&["--root", "/dev/null", "ls"]).fails(1, &["/dev/null", "not a directory"]);
}

#[test]
fn an_empty_file_has_a_patch_too() {
    let s = Strata::new();
    s.create("app");
    s.run(&["fs", "app", "touch", "/empty"]).ok();
    assert_eq!(s.run(&["diff", "app", "--patch", "/empty"]).ok(), "--- /dev/null\n+++ b/empty\n");
}

#[test]
fn names_that_are_not_text_work_everywhere() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let s = Strata::new();
    let layer = s.tmp.path().join(OsStr::from_bytes(b"l\xff"));
    fs::create_dir(&layer).unwrap();
    fs::write(layer.join(OsStr::from_bytes(b"x\xfe\n")), "").unwrap();
    let run = |arguments: &[&OsStr]| {
        let mut command = s.command(&[]);
        command.args(arguments);
        said(command)
    };
    let words = |text: &'static str| text.split(' ').map(OsStr::new).collect::<Vec<_>>();
    run(&[&words("create --name odd --layer")[..], &[layer.as_os_str()]].concat()).ok();
    assert_eq!(s.run(&["fs", "odd", "ls"]).ok(), "x\\xfe\\n\n");
    assert_eq!(s.run(&["fs", "odd", "ls", "--json"]).json()[0]["name"], serde_json::json!([120, 254, 10]));
    run(&[&words("fs odd rm")[..], &[OsStr::from_bytes(b"x\xfe\n")]].concat()).ok();
    assert_eq!(s.run(&["diff", "odd"]).ok(), "D /x\\xfe\\n\n");
    s.run(&["diff", "odd", "--json"]).json();
    assert!(s.run(&["ls"]).ok().contains("l\\xff") && Path::new(&layer).exists());
    s.run(&["ls", "--json"]).json();
    s.run(&["inspect", "odd", "--json"]).json();
}
