//! `strata run --image`: environment, directory, user and entry point as the image has them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, can_mount, each_way, said, skip};
use std::fs;

const PROGRAMS: [&str; 6] = ["sh", "cat", "env", "id", "ls", "pwd"];

/// An image `app` that says how it is run.
fn app(s: &Strata, changes: &[&str]) {
    s.image("base", &PROGRAMS);
    s.run(&["create", "--image", "base", "--name", "made"]).ok();
    let mut commit = vec!["commit", "made", "--image", "app"];
    commit.extend(changes.iter().flat_map(|change| ["--change", change]));
    s.run(&commit).ok();
    s.run(&["rm", "made"]).ok();
}

#[test]
fn the_environment_is_the_image_s_and_nothing_of_the_host_s() {
    each_way(|s| {
        app(s, &["ENV A=1", "ENV B=2", "CMD [\"env\"]"]);
        let mut command = s.command(&["run", "--rm", "--image", "app", "-e", "B=3", "-e", "C=4"]);
        command.env("SECRET", "x").env("TERM", "vt100").env("PATH", "/nowhere:/usr/bin:/bin");
        let out = said(command).ok();
        let mut lines: Vec<_> =
            out.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with('_')).collect();
        lines.sort_unstable();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(lines, ["A=1", "B=3", "C=4", "HOME=/root", path, "TERM=vt100"]);
    });
}

#[test]
fn pid_1_keeps_no_secret_of_the_caller_and_no_way_out() {
    each_way(|s| {
        app(s, &["CMD [\"cat\", \"/proc/1/environ\"]"]);
        let mut command = s.command(&["run", "--rm", "--image", "app"]);
        command.env("SECRET", "hidden");
        assert_eq!(said(command).ok(), "");
        for number in 3..10 {
            let dir = format!("/proc/self/fd/{number}");
            let said = s.run(&["run", "--rm", "--image", "app", "-w", &dir, "--", "ls", "-A"]);
            assert_eq!((said.code, said.out.as_str()), (125, ""), "{said:?}");
        }
    });
}

#[test]
fn entry_point_command_and_directory_are_the_image_s() {
    each_way(|s| {
        app(s, &["ENTRYPOINT [\"/bin/sh\", \"-c\"]", "CMD [\"pwd; ls\"]", "WORKDIR /srv/www"]);
        let run = |more: &[&str]| s.run(&[&["run", "--rm", "--image", "app"], more].concat()).ok();
        assert_eq!(run(&[]), "/srv/www\n", "the directory is made");
        assert_eq!(run(&["cat /etc/motd"]), "one\ntwo\nthree\n");
        assert_eq!(run(&["--entrypoint", "cat", "--", "/etc/motd"]), "one\ntwo\nthree\n");
        assert_eq!(run(&["--entrypoint", "", "-w", "/etc", "--", "pwd"]), "/etc\n");
        s.run(&["run", "--rm", "--image", "app", "-w", "/no/such"]).fails(125, &["/no/such"]);
        s.run(&["run", "--rm", "--image", "app", "--entrypoint", "/no/such"]).fails(127, &["/no/such"]);
    });
}

#[test]
fn a_container_keeps_what_its_image_said() {
    each_way(|s| {
        app(s, &["ENV A=kept", "CMD [\"sh\", \"-c\", \"echo $A; echo x > /new\"]"]);
        assert_eq!(s.run(&["run", "--image", "app", "--name", "c"]).ok(), "kept\n");
        s.run(&["image", "rm", "app", "base"]).ok();
        assert_eq!(s.run(&["run", "--name", "c"]).ok(), "kept\n");
        s.run(&["fork", "c", "d"]).ok();
        assert_eq!(s.run(&["run", "--name", "d", "--", "sh", "-c", "cat /new; echo $A"]).ok(), "x\nkept\n");
        s.run(&["commit", "d", "--image", "again"]).ok();
        assert_eq!(s.run(&["run", "--rm", "--image", "again"]).ok(), "kept\n");
        assert!(s.run(&["ls"]).ok().contains("image app:latest"));
    });
}

#[test]
fn the_user_is_looked_up_in_the_container() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN, to become another user inside");
    }
    let s = Strata::new();
    app(&s, &["USER web", "CMD [\"sh\", \"-c\", \"id -u; id -g; id -G; echo $HOME\"]"]);
    let run = |more: &[&str]| s.run(&[&["run", "--rm", "--image", "app"], more].concat());
    assert_eq!(run(&[]).ok(), "33\n34\n34 7\n/var/www\n");
    assert_eq!(run(&["-u", "0"]).ok(), "0\n0\n0\n/root\n");
    assert_eq!(run(&["--user", "web:logs"]).ok(), "33\n7\n7\n/var/www\n");
    assert_eq!(run(&["--user", "1234:56"]).ok(), "1234\n56\n56\n/\n");
    run(&["--user", "nobody"]).fails(125, &["nobody", "/etc/passwd"]);
    let caps = run(&["--", "cat", "/proc/self/status"]).ok();
    assert!(caps.lines().any(|line| line == "CapEff:\t0000000000000000"), "{caps}");
    assert_eq!(
        run(&["--", "sh", "-c", "(echo x > /etc/motd) 2> /dev/null || echo refused"]).ok(),
        "refused\n"
    );
    // Of plain directories too, when it is asked for.
    assert_eq!(s.run(&["run", "--rm", "-u", "1:2", "--", "id", "-u"]).ok(), "1\n");
    s.run(&["run", "--rm", "--entrypoint", "x", "--", "id"]).fails(2, &["--entrypoint", "image"]);
}

#[test]
fn without_privilege_there_is_only_root_inside_and_it_says_so() {
    let Some(s) = Strata::as_nobody() else { return skip("setpriv, to become another user") };
    if s.run(&["info", "--json"]).json()["user_namespaces"] != true {
        return skip("user namespaces");
    }
    app(&s, &["USER web", "CMD [\"id\", \"-u\"]"]);
    s.run(&["run", "--rm", "--image", "app"]).fails(125, &["33:34", "only root inside", "--user 0"]);
    assert_eq!(s.run(&["run", "--rm", "--image", "app", "--user", "0"]).ok(), "0\n");
    assert_eq!(s.run(&["ls"]).ok(), "");
}

#[test]
fn an_image_with_the_same_layer_twice_runs() {
    each_way(|s| {
        s.image("base", &["sh", "cat"]);
        let empty = common::tar::Tar::default().dir("etc").bytes();
        s.feed(&["image", "import", "-", "--name", "one"], &empty).ok();
        let stack = |image: &str| s.run(&["image", "inspect", image, "--json"]).json()["stack"].clone();
        let (base, one) = (stack("base")[0]["diff_id"].clone(), stack("one")[0]["diff_id"].clone());
        // The layout of an image that has an empty layer above and below another one.
        let layout = s.path("layout");
        s.run(&[
            "image",
            "export",
            "base",
            "one",
            "-o",
            layout.to_str().unwrap(),
            "--dir",
            "--compression",
            "none",
        ])
        .ok();
        let blob = |bytes: &[u8]| {
            let digest = stratafs::oci::Digest::of(bytes);
            fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
            (digest.to_string(), bytes.len())
        };
        let config = serde_json::json!({"os": "linux", "architecture": arch(), "config": {"Cmd": ["cat", "/etc/motd"]},
            "rootfs": {"type": "layers", "diff_ids": [one, base, one]}});
        let (config, config_size) = blob(config.to_string().as_bytes());
        let layer = |digest: &serde_json::Value| {
            let file = layout.join("blobs/sha256").join(&digest.as_str().unwrap()[7..]);
            serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest,
                "size": fs::metadata(file).unwrap().len()})
        };
        let manifest = serde_json::json!({"schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
            "layers": [layer(&one), layer(&base), layer(&one)]});
        let (manifest, manifest_size) = blob(manifest.to_string().as_bytes());
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size}]});
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        s.run(&["image", "import", layout.to_str().unwrap(), "--name", "twice"]).ok();
        assert_eq!(s.run(&["run", "--image", "twice", "--name", "c"]).ok(), "one\ntwo\nthree\n");
        s.run(&["snapshot", "c"]).ok();
        assert_eq!(s.run(&["run", "--name", "c"]).ok(), "one\ntwo\nthree\n");
        assert_eq!(s.run(&["diff", "c"]).ok(), "");
    });
}

/// This machine's architecture in the words of images.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
