//! Driving the real binary: a private state directory, two layers, and what a command said.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "each test program uses its part")]

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
    let output = command.output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Says that a test was skipped, which counts as a failure where everything is required.
pub fn skip(missing: &str) {
    assert!(std::env::var_os("STRATAFS_REQUIRE_ALL").is_none_or(|v| v != "1"), "missing: {missing}");
    println!("skipped: {missing}");
}

/// True when this process may mount overlayfs.
pub fn can_mount() -> bool {
    stratafs::host::has_sys_admin()
}

/// Everything mounted at or below `dir`.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    stratafs::mountinfo::below(dir).unwrap().into_iter().map(|mount| mount.target).collect()
}
