//! Driving the real binary: a private state directory, two layers, and what a command said.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "each test program uses its part")]

pub mod tar;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user without any privilege.
const NOBODY: u32 = 65534;

pub struct Strata {
    pub tmp: tempfile::TempDir,
    program: PathBuf,
    as_nobody: bool,
    wrapper: Vec<&'static str>,
}

#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Expects success; gives the standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Expects this exit code and one line that names these things.
    #[track_caller]
    pub fn fails(self, code: i32, names: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.starts_with("strata: ") || code == 2, "{self:?}");
        for name in names {
            assert!(self.err.contains(name), "{name:?} in {self:?}");
        }
    }

    /// Of a process that ended.
    pub fn of(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The standard output as JSON, one value a line.
    #[track_caller]
    pub fn lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Nothing of it would be acted on by a terminal.
    #[track_caller]
    pub fn harmless(self) -> Self {
        let all = format!("{}{}", self.out, self.err);
        assert!(!all.chars().any(|c| c.is_control() && c != '\n'), "{self:?}");
        self
    }

    /// The standard output as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

impl Strata {
    pub fn new() -> Self {
        Self::make(env!("CARGO_BIN_EXE_strata").into(), false)
    }

    /// As a user without privilege, if this process can become one.
    pub fn as_nobody() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return Some(Self::new());
        }
        let mut strata = Self::make(PathBuf::new(), true);
        // Where the program was built may be out of that user's reach.
        strata.program = strata.path("strata");
        copy_program(env!("CARGO_BIN_EXE_strata").as_ref(), &strata.program);
        let everything =
            [strata.tmp.path(), &strata.path("top"), &strata.path("base"), &strata.path("base/etc")];
        for path in everything {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::set_permissions(strata.tmp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let setpriv = strata.command(&["info"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        setpriv.is_ok_and(|status| status.success()).then_some(strata)
    }

    fn make(program: PathBuf, as_nobody: bool) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        for dir in ["top", "base/etc"] {
            fs::create_dir_all(tmp.path().join(dir)).unwrap();
        }
        fs::write(tmp.path().join("base/etc/motd"), "one\ntwo\nthree\n").unwrap();
        fs::write(tmp.path().join("base/etc/hosts"), "localhost\n").unwrap();
        Self { tmp, program, as_nobody, wrapper: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    /// What holds the upper and work directories of a container.
    pub fn scratch(&self, container: &str) -> PathBuf {
        let config = fs::read(self.path("state/containers").join(container).join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        self.path("state/scratch").join(config["scratch"].as_str().unwrap())
    }

    /// Copies programs of the host, with the libraries that they need, into `dir`.
    pub fn install(&self, dir: &Path, programs: &[&str]) {
        for program in programs {
            let path = ["/bin", "/usr/bin"].map(|bin| Path::new(bin).join(program));
            let path = path.iter().find(|path| path.exists()).unwrap();
            let said = Command::new("ldd").arg(path).output().unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            let libraries = said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
            let files = libraries.map(|file| (file.clone(), file));
            for (from, to) in files.chain([(path.clone(), Path::new("/bin").join(program))]) {
                let to = dir.join(to.strip_prefix("/").unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                copy_program(&from, &to);
            }
        }
    }

    /// Gives a tree to the user that the command runs as.
    pub fn own(&self, tree: &Path) {
        if self.as_nobody {
            let owner = format!("{NOBODY}:{NOBODY}");
            assert!(Command::new("chown").args(["-hR", &owner]).arg(tree).status().unwrap().success());
        }
    }

    /// Imports a small root file system as the image `name`, with a shell where `programs` ask for one.
    pub fn image(&self, name: &str, programs: &[&str]) {
        let rootfs = self.path("rootfs");
        if !rootfs.exists() {
            fs::create_dir_all(rootfs.join("etc")).unwrap();
            fs::write(rootfs.join("etc/motd"), "one\ntwo\nthree\n").unwrap();
            let passwd = "root:x:0:0::/root:\nweb:x:33:34::/var/www:\n";
            fs::write(rootfs.join("etc/passwd"), passwd).unwrap();
            fs::write(rootfs.join("etc/group"), "root:x:0:\nlogs:x:7:web\n").unwrap();
        }
        self.install(&rootfs, programs);
        self.run(&["image", "import", rootfs.to_str().unwrap(), "--name", name]).ok();
    }

    /// Runs with this standard input.
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // What fails early does not read it all.
            scope.spawn(move || std::io::Write::write_all(&mut stdin, input));
            Said::of(child.wait_with_output().unwrap())
        })
    }

    /// The names in a directory of the state.
    pub fn state(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path("state").join(dir)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The same with another program around the command.
    pub fn wrapped(self, wrapper: &[&'static str]) -> Self {
        Self { wrapper: wrapper.to_vec(), ..self }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words: Vec<&std::ffi::OsStr> = Vec::new();
        if self.as_nobody {
            let become_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
            words.extend(become_nobody.map(std::ffi::OsStr::new));
        }
        words.extend(self.wrapper.iter().map(std::ffi::OsStr::new));
        words.push(self.program.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(arguments);
        command.env("STRATA_ROOT", self.path("state"));
        command.env_remove("RUST_LOG").current_dir("/").stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments))
    }

    /// Makes a container over both layers.
    pub fn create(&self, name: &str) {
        let (top, base) = (self.path("top"), self.path("base"));
        let layers = ["--layer", top.to_str().unwrap(), "--layer", base.to_str().unwrap()];
        self.run(&[&["create", "--name", name][..], &layers].concat()).ok();
    }
}

/// Copies in a process of its own: a descriptor open for writing that another thread's fork took along would make
/// the program "busy" when it is executed.
fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

pub fn said(mut command: Command) -> Said {
    Said::of(command.output().unwrap())
}

/// Says that a test was skipped, which counts as a failure where everything is required.
pub fn skip(missing: &str) {
    assert!(std::env::var_os("STRATAFS_REQUIRE_ALL").is_none_or(|v| v != "1"), "missing: {missing}");
    println!("skipped: {missing}");
}

/// The test as root where that is possible, and as a user without privilege where that is; both can run commands.
pub fn each_way(test: impl Fn(&Strata)) {
    match can_mount() {
        true => test(&Strata::new()),
        false => skip("CAP_SYS_ADMIN, to run as root"),
    }
    match Strata::as_nobody() {
        Some(strata) if strata.run(&["info", "--json"]).json()["user_namespaces"] == true => test(&strata),
        Some(_) => skip("user namespaces"),
        None => skip("setpriv, to become another user"),
    }
}

/// The test as the user of this process, and as one without privilege where that is another.
pub fn each_user(test: impl Fn(&Strata)) {
    test(&Strata::new());
    if rustix::process::geteuid().is_root() {
        match Strata::as_nobody() {
            Some(strata) => test(&strata),
            None => skip("setpriv, to become another user"),
        }
    }
}

/// True when this process may mount overlayfs.
pub fn can_mount() -> bool {
    stratafs::host::has_sys_admin()
}

/// Everything mounted at or below `dir`.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    stratafs::mountinfo::below(dir).unwrap().into_iter().map(|mount| mount.target).collect()
}
