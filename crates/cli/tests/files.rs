//! `strata fs`, as this user and without privilege: no mount anywhere.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, skip};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

#[test]
fn every_verb_works() {
    verbs(&Strata::new());
}

#[test]
fn every_verb_works_without_privilege() {
    match Strata::as_nobody() {
        Some(strata) => verbs(&strata),
        None => skip("setpriv, to become another user"),
    }
}

fn verbs(s: &Strata) {
    s.create("app");
    let fs_ok = |arguments: &[&str]| s.run(&[&["fs", "app"], arguments].concat()).ok();
    assert_eq!(fs_ok(&["ls", "/etc"]), "hosts\nmotd\n");
    assert_eq!(fs_ok(&["cat", "/etc/motd", "etc/hosts"]), "one\ntwo\nthree\nlocalhost\n");
    fs_ok(&["chmod", "0640", "/etc/motd"]);
    fs_ok(&["chown", "12:34", "/etc/motd"]);
    fs_ok(&["xattr", "set", "/etc/motd", "user.note", "v"]);
    assert_eq!(fs_ok(&["xattr", "get", "/etc/motd", "user.note"]), "v");
    assert_eq!(fs_ok(&["xattr", "ls", "/etc/motd"]), "user.note\n");
    fs_ok(&["xattr", "rm", "/etc/motd", "user.note"]);
    s.run(&["fs", "app", "xattr", "get", "/etc/motd", "user.note"]).fails(1, &["user.note"]);
    let stat: serde_json::Value = serde_json::from_str(&fs_ok(&["stat", "--json", "/etc/motd"])).unwrap();
    assert_eq!(
        (&stat[0]["mode"], &stat[0]["uid"], &stat[0]["gid"]),
        (&"0640".into(), &12.into(), &34.into())
    );
    assert!(fs_ok(&["stat", "/etc/motd"]).contains("12:34"));
    fs_ok(&["mkdir", "-p", "/a/b/c"]);
    fs_ok(&["ln", "-s", "../etc/motd", "/a/link"]);
    assert_eq!(fs_ok(&["readlink", "/a/link"]), "../etc/motd\n");
    fs_ok(&["ln", "/etc/motd", "/a/hard"]);
    fs_ok(&["cp", "/a/link", "/a/copy"]);
    assert_eq!(fs_ok(&["cat", "/a/copy"]), "one\ntwo\nthree\n");
    fs_ok(&["touch", "/a/empty", "/etc/hosts"]);
    fs_ok(&["truncate", "3", "/a/copy"]);
    assert_eq!(fs_ok(&["cat", "/a/copy"]), "one");
    fs_ok(&["mknod", "/a/fifo", "p"]);
    assert!(fs_ok(&["ls", "-l", "/a"]).contains("prw-r--r--"));
    assert!(fs_ok(&["ls", "-l", "/a"]).contains("link -> ../etc/motd"));
    fs_ok(&["mv", "/a/empty", "/a/b"]);
    fs_ok(&["mv", "--exchange", "/a/copy", "/a/hard"]);
    assert_eq!(fs_ok(&["cat", "/a/hard"]), "one");
    s.run(&["fs", "app", "mv", "-n", "/a/copy", "/a/hard"]).fails(1, &["/a/copy", "/a/hard"]);
    s.run(&["fs", "app", "rmdir", "/a/b"]).fails(1, &["not empty"]);
    fs_ok(&["rmdir", "/a/b/c"]);
    s.run(&["fs", "app", "rm", "/missing"]).fails(1, &["/missing"]);
    fs_ok(&["rm", "-f", "/missing"]);
    fs_ok(&["rm", "-r", "/a"]);
    let listed: serde_json::Value = serde_json::from_str(&fs_ok(&["ls", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    s.run(&["fs", "app", "mknod", "/dev0", "c"]).fails(2, &["MAJOR"]);
    s.run(&["fs", "app", "cat", "/../../../../etc/passwd"]).fails(1, &["passwd"]);
    assert_eq!(fs::read_to_string(s.path("base/etc/motd")).unwrap(), "one\ntwo\nthree\n");
}

#[test]
fn trees_go_in_and_out_with_everything() {
    let s = Strata::new();
    s.create("app");
    let tree = s.path("tree");
    fs::create_dir_all(tree.join("sub/deeper")).unwrap();
    fs::write(tree.join("sub/file"), "content").unwrap();
    fs::set_permissions(tree.join("sub/file"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("sub/file", tree.join("link")).unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"x", 4 << 20).unwrap();
    sparse.set_len(8 << 20).unwrap();
    s.run(&["fs", "app", "put", tree.to_str().unwrap(), "/"]).fails(2, &["-r"]);
    s.run(&["fs", "app", "put", "-r", tree.to_str().unwrap(), "/"]).ok();
    let out = s.path("out");
    s.run(&["fs", "app", "get", "/tree", out.to_str().unwrap()]).fails(2, &["-r"]);
    s.run(&["fs", "app", "get", "-r", "/tree", out.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(out.join("sub/file")).unwrap(), "content");
    assert_eq!(fs::metadata(out.join("sub/file")).unwrap().permissions().mode() & 0o7777, 0o751);
    assert_eq!(fs::read_link(out.join("link")).unwrap().to_str().unwrap(), "sub/file");
    assert_eq!(fs::read(out.join("sparse")).unwrap(), fs::read(tree.join("sparse")).unwrap());
    assert!(out.join("sub/deeper").is_dir());
    let upper = s.scratch("app").join("upper/tree/sparse");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(upper).unwrap());
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks: holes were filled");

    // A link that stands where a directory or file is to go leads nowhere.
    let outside = s.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(s.path("trap")).unwrap();
    symlink(&outside, s.path("trap/sub")).unwrap();
    assert_eq!(s.run(&["fs", "app", "get", "-r", "/tree/sub", s.path("trap").to_str().unwrap()]).code, 1);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn standard_input_and_output_stream() {
    let s = Strata::new();
    s.create("app");
    let mut put = s.command(&["fs", "app", "put", "-", "/big"]).stdin(Stdio::piped()).spawn().unwrap();
    let block = vec![b'z'; 1 << 20];
    let mut pipe = put.stdin.take().unwrap();
    for _ in 0..8 {
        pipe.write_all(&block).unwrap();
    }
    drop(pipe);
    assert!(put.wait().unwrap().success());
    let got = s.run(&["fs", "app", "get", "/big", "-"]).ok();
    assert_eq!(got.len(), 8 << 20);
}

#[test]
fn one_user_at_a_time() {
    let s = Strata::new();
    s.create("app");
    let mut put = s.command(&["fs", "app", "put", "-", "/x"]).stdin(Stdio::piped()).spawn().unwrap();
    // It has the container as soon as it is listed as used.
    while s.run(&["ls", "--json"]).json()[0]["in_use"] != true {
        assert!(put.try_wait().unwrap().is_none());
    }
    s.run(&["fs", "app", "ls"]).fails(1, &["app", "in use"]);
    s.run(&["rm", "app"]).fails(1, &["app", "in use"]);
    drop(put.stdin.take());
    put.wait().unwrap();
    s.run(&["rm", "app"]).ok();
}
