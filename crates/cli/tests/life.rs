//! Snapshots, forks, rollback, discard, gc, usage and check, as any user; and containers that run in between.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, each_user, each_way, said};
use std::fs;

#[test]
fn a_container_goes_back_and_forth_between_its_snapshots() {
    each_user(|s| {
        s.create("app");
        s.run(&["fs", "app", "mv", "/etc", "/settings"]).ok();
        assert_eq!(s.run(&["snapshot", "app"]).ok(), "snap-1\n");
        s.feed(&["fs", "app", "put", "-", "/settings/motd"], b"one\n2\nthree\n").ok();
        assert_eq!(s.run(&["snapshot", "app", "second", "--json"]).json()["name"], "second");
        s.run(&["fs", "app", "rm", "/settings/hosts"]).ok();

        let since_image = s.run(&["diff", "app"]).ok();
        assert!(
            since_image.contains("R /etc/ -> /settings/") && since_image.contains("M /settings/motd (data")
        );
        assert_eq!(s.run(&["diff", "app", "--since-snapshot"]).ok(), "D /settings/hosts\n");
        let patch = ["diff", "app", "--patch", "/settings/motd"];
        assert!(s.run(&patch).ok().contains("\n-two\n+2\n"));
        assert_eq!(s.run(&[&patch[..], &["--since-snapshot"]].concat()).ok(), "");

        let listed = s.run(&["snapshots", "app", "--json"]).json();
        assert_eq!((&listed[0]["name"], &listed[0]["current"]), (&"snap-1".into(), &false.into()));
        assert_eq!((&listed[1]["name"], &listed[1]["current"]), (&"second".into(), &true.into()));
        assert!(s.run(&["snapshots", "app"]).ok().contains("* second"));

        s.run(&["rollback", "app"]).ok();
        assert_eq!(s.run(&["diff", "app", "--since-snapshot"]).ok(), "");
        assert_eq!(s.run(&["fs", "app", "cat", "/settings/hosts"]).ok(), "localhost\n");
        s.run(&["rollback", "app", "snap-1"]).ok();
        assert_eq!(s.run(&["diff", "app"]).ok(), "R /etc/ -> /settings/\n");
        s.run(&["rollback", "app", "second"]).ok();
        assert_eq!(s.run(&["fs", "app", "cat", "/settings/motd"]).ok(), "one\n2\nthree\n");
        s.run(&["discard", "app"]).ok();
        assert_eq!(s.run(&["diff", "app"]).ok(), "");
        assert_eq!(s.run(&["snapshots", "app", "--json"]).json().as_array().unwrap().len(), 2);
        s.run(&["snapshots", "app", "--rm", "second"]).ok();
        s.run(&["rollback", "app", "second"]).fails(1, &["second"]);
        s.run(&["rollback", "app", "snap-1"]).ok();
        assert_eq!(s.run(&["inspect", "app", "--json"]).json()["snapshots"][0]["current"], true);
        assert!(s.run(&["inspect", "app"]).ok().contains("snapshot"));
        assert_eq!(s.run(&["check"]).ok(), "app: ok\n");
        assert_eq!(fs::read_to_string(s.path("base/etc/motd")).unwrap(), "one\ntwo\nthree\n");
    });
}

#[test]
fn a_fork_shares_the_past_and_has_a_future_of_its_own() {
    each_user(|s| {
        s.image("base", &[]);
        s.run(&["create", "--image", "base", "--name", "a"]).ok();
        s.run(&["fs", "a", "touch", "/shared"]).ok();
        assert_eq!(s.run(&["fork", "a", "b"]).ok(), "b\n");
        s.run(&["fs", "a", "touch", "/only-a"]).ok();
        s.run(&["fs", "b", "rm", "/shared"]).ok();
        assert_eq!(s.run(&["diff", "a"]).ok(), "A /only-a\nA /shared\n");
        assert_eq!(s.run(&["diff", "b"]).ok(), "");
        assert_eq!(s.run(&["fork", "a", "c", "--from", "snap-1", "--json"]).json()["name"], "c");
        assert_eq!(s.run(&["diff", "c"]).ok(), "A /shared\n");
        s.run(&["rm", "a"]).ok();
        assert_eq!(s.run(&["gc", "--json"]).json()["scratches"], 0, "the forks need what they share");
        assert_eq!(s.run(&["diff", "c"]).ok(), "A /shared\n");
        assert_eq!(s.run(&["commit", "c", "--image", "forked"]).code, 0);
        s.run(&["rm", "b", "c"]).ok();
        s.run(&["gc"]).ok();
        assert_eq!(s.state("scratch"), [""; 0]);
        assert_eq!(s.state("trash"), [""; 0]);
    });
}

#[test]
fn careless_use_is_one_line_and_changes_nothing() {
    let s = Strata::new();
    s.create("app");
    for arguments in [
        &["snapshot", "unknown"][..],
        &["snapshots", "unknown"],
        &["fork", "unknown", "x"],
        &["rollback", "unknown"],
        &["discard", "unknown"],
    ] {
        s.run(arguments).fails(1, &["unknown", "no such container"]);
    }
    s.run(&["rollback", "app"]).fails(1, &["app", "no snapshots", "discard"]);
    s.run(&["rollback", "app", "unknown"]).fails(1, &["unknown"]);
    s.run(&["snapshots", "app", "--rm", "unknown"]).fails(1, &["unknown"]);
    s.run(&["fork", "app", "x", "--from", "unknown"]).fails(1, &["unknown"]);
    s.run(&["snapshot", "app", "../x"]).fails(2, &["../x"]);
    s.run(&["fork", "app", "../x"]).fails(2, &["../x"]);
    s.run(&["snapshot", "app", "same"]).ok();
    s.run(&["snapshot", "app", "same"]).fails(1, &["same", "exists"]);
    s.create("other");
    s.run(&["fork", "app", "other"]).fails(1, &["other", "exists"]);
    s.run(&["fork", "app", "app"]).fails(1, &["app", "exists"]);
    assert_eq!(s.run(&["ls", "--json"]).json().as_array().unwrap().len(), 2);
    assert_eq!(s.run(&["snapshots", "app", "--json"]).json().as_array().unwrap().len(), 1);
    for arguments in [&["snapshot"][..], &["fork", "app"], &["rollback"], &["discard"]] {
        s.run(arguments).fails(2, &["required"]);
    }
}

#[test]
fn commands_run_on_top_of_snapshots_and_in_forks() {
    each_way(|s| {
        s.image("base", &["sh", "cat", "ls", "rm", "mkdir", "mv"]);
        s.run(&["create", "--image", "base", "--name", "a"]).ok();
        let run = |name: &str, script: &str| s.run(&["run", "--name", name, "--", "sh", "-c", script]).ok();
        run("a", "echo one > /etc/new; rm /etc/motd; mkdir /opt /opt/d; echo x > /opt/d/x");
        s.run(&["snapshot", "a", "first"]).ok();
        assert_eq!(run("a", "cat /etc/new /opt/d/x; ls /etc"), "one\nx\ngroup\nnew\npasswd\n");
        run("a", "echo two > /etc/new; rm -r /opt/d; echo root2 >> /etc/passwd");
        s.run(&["fork", "a", "b"]).ok();
        let look = "cat /etc/new /etc/passwd; ls / /opt";
        assert_eq!(run("b", look), run("a", look));
        run("b", "rm -r /etc; mkdir /etc; ls /etc");
        assert_eq!(s.run(&["fs", "b", "ls", "/etc"]).ok(), "");
        s.run(&["rollback", "a", "first"]).ok();
        assert_eq!(run("a", "cat /etc/new /opt/d/x"), "one\nx\n");
        let diff = s.run(&["diff", "b"]).ok();
        assert!(diff.contains("A /opt/") && diff.contains("D /etc/passwd"), "{diff}");
        assert!(
            !diff.contains("/opt/d") && !diff.contains("/etc/new"),
            "made and removed since the image: {diff}"
        );
        assert_eq!(s.run(&["check"]).ok(), "a: ok\nb: ok\n1 image: ok\n1 layer: ok\n");
        s.run(&["rm", "a", "b"]).ok();
    });
}

#[test]
fn containers_over_the_host_run_on_top_of_snapshots_that_lie_in_it() {
    each_way(|s| {
        // Where the host's own directories hold the state, and not below /tmp, which is private inside.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let state = dir.path().join("state");
        let root = ["--root", state.to_str().unwrap()];
        let strata = |arguments: &[&str]| s.run(&[&root[..], arguments].concat()).ok();
        let run = |script: &str| strata(&["run", "--name", "try", "--", "sh", "-c", script]);
        // Of the host's own files those directly in its top-level directories can be changed without privilege.
        run(
            "echo one > /etc/strata-test; rm /etc/hostname; mkdir /etc/strata; echo x > /etc/strata/x; echo v > /var/v",
        );
        strata(&["snapshot", "try"]);
        let look = "cat /etc/strata-test /var/v /etc/strata/x; ls /etc/hostname 2> /dev/null || echo gone";
        assert_eq!(run(look), "one\nv\nx\ngone\n");
        run(
            "echo two > /etc/strata-test; rm /var/v; rm -r /etc/strata; mkdir /etc/strata; echo y > /etc/strata/y",
        );
        strata(&["snapshot", "try"]);
        assert_eq!(run("cat /etc/strata-test; ls /var/v 2> /dev/null; ls /etc/strata"), "two\ny\n");
        assert_eq!(run(&format!("ls -A {}", state.display())), "", "the state stays hidden");
        strata(&["rollback", "try", "snap-1"]);
        assert_eq!(run(look), "one\nv\nx\ngone\n");
        let diff = strata(&["diff", "try"]);
        for line in ["A /etc/strata-test\n", "D /etc/hostname\n", "A /var/v\n", "A /etc/strata/x\n"] {
            assert!(diff.contains(line), "{line}: {diff}");
        }
        strata(&["check"]);
        strata(&["rm", "try"]);
    });
}

#[test]
fn a_container_in_use_keeps_its_state() {
    each_way(|s| {
        let mut command = s.command(&["run", "--name", "busy", "--", "sh", "-c", "echo ready; read line"]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        for arguments in [
            &["snapshot", "busy"][..],
            &["fork", "busy", "x"],
            &["rollback", "busy"],
            &["discard", "busy"],
            &["commit", "busy", "--image", "x"],
            &["export", "busy", "-o", "/dev/null"],
            &["promote", "busy", "--to", s.path("top").to_str().unwrap()],
        ] {
            s.run(arguments).fails(1, &["busy", "in use"]);
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        s.run(&["snapshot", "busy"]).ok();
    });
}

#[test]
fn usage_tells_own_from_shared() {
    each_user(|s| {
        fs::create_dir_all(s.path("rootfs")).unwrap();
        fs::write(s.path("rootfs/big"), vec![1; 3_000_000]).unwrap();
        s.image("base", &[]);
        s.run(&["create", "--image", "base", "--name", "a"]).ok();
        s.feed(&["fs", "a", "put", "-", "/mine"], &vec![2; 1_000_000]).ok();
        let usage = s.run(&["usage", "--json"]).json();
        let bytes = |value: &serde_json::Value| value.as_u64().unwrap();
        let (container, image) = (&usage["containers"][0], &usage["images"][0]);
        assert_eq!((&container["name"], &image["name"]), (&"a".into(), &"base:latest".into()));
        assert!((1_000_000..1_500_000).contains(&bytes(&container["own"])), "{usage}");
        assert!((3_000_000..3_500_000).contains(&bytes(&container["shared"])), "{usage}");
        assert!(bytes(&image["shared"]) > 3_000_000 && bytes(&image["own"]) < 100_000, "{usage}");
        assert_eq!(usage["layers"][0]["users"], 2);
        let text = s.run(&["usage"]).ok();
        assert!(
            text.contains("base:latest") && text.contains("1.0 MB") && text.contains(" in all\n"),
            "{text}"
        );
        s.run(&["rm", "a"]).ok();
        assert!(bytes(&s.run(&["usage", "--json"]).json()["images"][0]["own"]) > 3_000_000);
        s.run(&["image", "rm", "base"]).ok();
        assert!(s.run(&["usage"]).ok().contains("can be freed with `strata gc`"));
        s.run(&["gc"]).ok();
        assert!(!s.run(&["usage"]).ok().contains("strata gc"), "nothing is left to free");
        let rest = s.run(&["usage", "--json"]).json();
        assert!(bytes(&rest["total"]) < 100_000, "{rest}");
    });
}

#[test]
fn check_names_the_damaged_entry_of_a_layer_and_who_uses_it() {
    each_user(|s| {
        s.image("team/base:1", &[]);
        s.run(&["create", "--image", "team/base:1", "--name", "a"]).ok();
        assert_eq!(s.run(&["check"]).ok(), "a: ok\n1 image: ok\n1 layer: ok\n");
        let layer = s.state("layers").pop().unwrap();
        let file = s.path("state/layers").join(&layer).join("tree/etc/motd");
        fs::write(&file, "one\ntwo\nfour!\n").unwrap();
        let said = s.run(&["check"]).harmless();
        assert_eq!(said.code, 1, "{said:?}");
        for part in [&layer, "/etc/motd", "team/base:1", "used by a, "] {
            assert!(said.out.contains(part), "{part}: {said:?}");
        }
        let said = s.run(&["check", "--json"]);
        assert_eq!(said.code, 1);
        let reports: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let report = reports.as_array().unwrap().iter().find(|report| report["layer"] == *layer).unwrap();
        assert!(report["problems"][0]["what"].as_str().unwrap().contains("/etc/motd"));
        assert_eq!(reports[1], serde_json::json!({"image": "team/base:1", "problems": []}));
        fs::remove_dir_all(s.path("state/layers").join(&layer)).unwrap();
        assert!(s.run(&["check"]).out.contains("missing"));
        let record = s.path("state/images/team+base:1.json");
        fs::write(record, "{}").unwrap();
        let said = s.run(&["check"]);
        assert!(said.code == 1 && said.out.contains("image team/base:1: "), "{said:?}");
        assert!(s.run(&["image", "ls"]).ok().contains("damaged"));
        s.run(&["gc"]).fails(1, &["team+base:1.json"]);
        s.run(&["image", "rm", "team/base:1"]).ok();
    });
}

#[test]
fn a_file_that_a_snapshot_froze_cannot_be_lost_silently() {
    let s = Strata::new();
    s.create("app");
    s.run(&["fs", "app", "touch", "/x"]).ok();
    s.run(&["snapshot", "app"]).ok();
    let inspect = s.run(&["inspect", "app", "--json"]).json();
    assert_eq!(inspect["layers"][0]["source"], "snapshot");
    let frozen = inspect["layers"][0]["path"].as_str().unwrap().to_owned();
    fs::rename(&frozen, s.path("gone")).unwrap();
    s.run(&["fs", "app", "ls"]).fails(1, &["upper"]);
    s.run(&["rollback", "app"]).fails(1, &["upper"]);
    let report = s.run(&["check"]);
    assert!(report.code == 1 && report.out.contains(&frozen), "{report:?}");
    fs::rename(s.path("gone"), &frozen).unwrap();
    assert_eq!(s.run(&["fs", "app", "ls"]).ok(), "etc\nx\n");
}

#[test]
fn what_is_printed_goes_to_a_reader_that_may_go_away() {
    let s = Strata::new();
    s.image("base", &[]);
    s.run(&["create", "--image", "base", "--name", "app"]).ok();
    s.run(&["snapshot", "app", "one"]).ok();
    for arguments in [
        &["image", "ls"][..],
        &["image", "ls", "--json"],
        &["image", "inspect", "base"],
        &["snapshots", "app"],
        &["usage"],
        &["usage", "--json"],
        &["gc"],
        &["check"],
        &["commit", "app", "--image", "x"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = s.command(arguments);
        command.stdout(writer).stderr(std::process::Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*err), (Some(141), ""), "{arguments:?}");
        let mut command = s.command(arguments);
        command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
        command.stderr(std::process::Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && err.starts_with("strata: standard output"),
            "{arguments:?}: {err}"
        );
    }
    assert_eq!(said(s.command(&["snapshots", "app", "--json"])).json()[0]["name"], "one");
}
