//! `run`: a command on a merged view, and what is said about it afterwards.

mod process;
mod users;

use super::changes::{Count, Line, without_times_of_directories};
use super::create_new;
use super::mount::{Mountable, mountable};
use crate::args::Run;
use crate::failure::{Failure, Outcome};
use crate::run::plan::{self, Top};
use crate::run::spec::{self, Identity, Ids, Spec, View};
use crate::run::{self, Ended, FAILED, MOUNT_POINTS};
use crate::text::{shown, shown_path};
use process::Process;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stratafs::store::{self, ContainerName, Lease, Record, Store, open_leased};
use stratafs::{Change, Container, ErrorKind, Kind, Namespace, Ownership, host, mountinfo};
use users::User;

/// How many mount points a warning names.
const NAMED: usize = 6;
/// How many changes a summary lists.
const LISTED: usize = 20;

/// Runs the command; its exit code, or ours for what failed before it.
pub fn run(root: Option<&Path>, asked: Run) -> Outcome {
    // What failed before the command has a code of its own, so that it cannot be taken for the command's.
    let prepared = |failure: Failure| match failure.code {
        crate::failure::USAGE => failure,
        _ => failure.code(FAILED),
    };
    process::variables(&asked.env)?;
    if asked.command.is_empty() && asked.new.image.is_none() && asked.name.is_none() {
        return Err(process::no_command());
    }
    let store = crate::state::store(root).map_err(prepared)?;
    let (record, fresh) = container(&store, &asked).map_err(prepared)?;
    let mut started = false;
    let ended = start(&store, &record, &asked, &mut started);
    // What a command changed is kept, whatever failed after it; what was there before a failure is as well.
    let drop_it = if started { asked.rm } else { fresh };
    let removed = if drop_it { store.remove(&record.name) } else { Ok(()) };
    ended.and_then(|code| Ok(removed.map(|()| code)?)).map_err(prepared)
}

/// The container to use, and whether it was made for this.
fn container(store: &Store, asked: &Run) -> Result<(Record, bool), Failure> {
    if let Some(name) = &asked.name
        && !asked.new.is_given()
    {
        match store.record(name) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            found => return Ok((found?, false)),
        }
    }
    if let Some(name) = &asked.name
        && store.record(name).is_ok()
    {
        return Err(Failure::new(format!(
            "create container \"{name}\": already exists; leave the options of a new one out to continue it"
        )));
    }
    Ok((create_new(store, asked.name.clone(), &asked.new)?, true))
}

/// What is to be run.
fn process(record: &Record, asked: &Run) -> Result<Process, Failure> {
    match (&record.config.image, &record.config.runtime) {
        (Some(image), runtime) => {
            let of = format!("{}, made from the image {},", record.name, shown(image.name.as_bytes()));
            let nothing = serde_json::Value::Null;
            let term = std::env::var_os("TERM");
            process::of_image(asked, runtime.as_ref().unwrap_or(&nothing), &of, term)
        }
        (None, _) => process::of_directories(asked),
    }
}

/// Mounts, runs, cleans up, tells; `started` says whether it came to the command.
fn start(store: &Store, record: &Record, asked: &Run, started: &mut bool) -> Outcome {
    let mut process = process(record, asked)?;
    let lease = store.lease(&record.name)?;
    let privileged = host::has_sys_admin();
    let container = open_leased(&lease)?;
    let user = process.look_up(&container)?;
    if let Some(user) = user.as_ref().filter(|user| !privileged && !user.is_root()) {
        return Err(Failure::new(format!(
            "{}: it wants to run as {user}, and without privilege there is only root inside: use --user 0, or run \
             strata as root",
            record.name
        )));
    }
    let layout = layout(&container, record, privileged)?;
    let made = match layout {
        Layout::Whole => make_mount_points(&container, &record.name)?,
        Layout::Split { .. } => Vec::new(),
    };
    drop(container);
    let split = matches!(layout, Layout::Split { .. });
    let ended = launch(store, record, process, user, layout);
    *started = matches!(&ended, Ok(Ended { outcome: Some(spec::Outcome::Started), .. }));
    let tidied = tidy(&lease, &made);
    let ended = ended?;
    match &ended.outcome {
        Some(spec::Outcome::Started) => {}
        Some(spec::Outcome::NotStarted(_, why)) => crate::complain(&Failure::new(why)),
        Some(spec::Outcome::Failed(why)) => return Err(impossible(why, privileged)),
        None => {
            return Err(Failure::new(format!("the run ended before the command, with code {}", ended.code)));
        }
    }
    let container = tidied?;
    if asked.stat || (*started && io::stderr().is_terminal()) {
        tell(record, asked, store::changes(lease.record(), &container)?, split)?;
    }
    Ok(ended.code)
}

/// Mounts and runs.
fn launch(
    store: &Store,
    record: &Record,
    process: Process,
    user: Option<User>,
    layout: Layout,
) -> Result<Ended, Failure> {
    let privileged = host::has_sys_admin();
    let ownership = if privileged { Ownership::Auto } else { Ownership::Apply };
    let Mountable { features, wrapped } = mountable(record, ownership)?;
    let layers = || record.config.layers.iter().map(|layer| layer.path.as_path());
    let view = match layout {
        Layout::Whole => {
            warn_of_mounts(layers())?;
            View::Whole(plan::whole(record, features, wrapped))
        }
        Layout::Split { lower, top } => plan::split(record, features, &lower, top),
    };
    let hidden = plan::shown_in(layers(), store.root());
    if hidden.iter().any(|dir| dir == Path::new("/")) {
        return Err(Failure::new(format!(
            "{}: a layer of {} is the state directory itself",
            shown_path(store.root()),
            record.name
        )));
    }
    let spec = Spec {
        view,
        stage: record.dir.join("root").into(),
        hidden: hidden.into_iter().map(OsString::from).collect(),
        workdir: process.workdir.into(),
        workdir_required: process.workdir_required,
        make_workdir: process.make_workdir,
        as_user: (!privileged).then(|| Ids {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }),
        command: process.command,
        env: process.env,
        only_env: process.only_env,
        // Without privilege the one user there is has no choice of groups either.
        user: user.filter(|_| privileged).map(|user| Identity {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
        }),
    };
    run::run(&spec).map_err(|e| Failure::new(format!("cannot start: {e}")))
}

/// After the kernel let go of the upper: makes it durable as asked and takes away what was made for the run.
fn tidy(lease: &Lease, made: &[PathBuf]) -> Result<Container, Failure> {
    lease.settle()?;
    let container = open_leased(lease)?;
    remove_mount_points(&container, made)?;
    Ok(container)
}

/// Says which directories are empty inside because other file systems are mounted there: an overlay shows none of
/// what is mounted in its layers.
fn warn_of_mounts<'a>(layers: impl Iterator<Item = &'a Path>) -> Result<(), Failure> {
    let mounts = mountinfo::mounts()?;
    let mut empty = BTreeSet::new();
    for layer in layers {
        empty.append(&mut plan::empty_inside(layer, mounts.iter().map(|mount| mount.target.as_path())));
    }
    if empty.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = empty.iter().take(NAMED).map(|path| shown(path.as_os_str().as_bytes())).collect();
    let more = match empty.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let named = named.join(", ");
    crate::complain(&Failure::new(format!(
        "other file systems are not part of a layer, empty inside: {named}{more}"
    )));
    Ok(())
}

/// How the container becomes a root directory.
enum Layout {
    Whole,
    Split { lower: PathBuf, top: Vec<Top> },
}

/// How the container becomes a root directory here.
fn layout(container: &Container, record: &Record, privileged: bool) -> Result<Layout, Failure> {
    if privileged {
        return Ok(Layout::Whole);
    }
    if record.config.namespace == Namespace::Trusted {
        return Err(Failure::new(format!(
            "{} was made with privilege and keeps trusted attributes: run it with CAP_SYS_ADMIN, or make a new \
             container",
            record.name
        )));
    }
    let mut covered = None;
    for layer in &record.config.layers {
        if has_mounts(&layer.path)? {
            covered = Some(&layer.path);
        }
    }
    match (covered, record.config.base()) {
        (None, _) => Ok(Layout::Whole),
        (Some(lower), [_]) => {
            Ok(Layout::Split { lower: lower.clone(), top: split(container, record, lower)? })
        }
        (Some(path), _) => Err(Failure::new(format!(
            "other file systems are mounted below the layer {}: without privilege the kernel stacks such a layer \
             only when it is the only one; run as root, or use `strata fs`",
            shown_path(path)
        ))),
    }
}

/// True when a file system is mounted below `dir`.
fn has_mounts(dir: &Path) -> Result<bool, Failure> {
    Ok(mountinfo::below(dir)?.iter().any(|mount| mount.target != dir))
}

/// The top level of the only layer. The upper directories that will be mounted are made here: by copy-up, so that
/// they keep their attributes and are no changes.
fn split(container: &Container, record: &Record, lower: &Path) -> Result<Vec<Top>, Failure> {
    let mut top = Vec::new();
    for entry in container.read_dir("/")? {
        let entry = entry?;
        let path = Path::new("/").join(entry.file_name());
        let on_host = lower.join(entry.file_name());
        let target = match entry.file_type() {
            Kind::Symlink => container.read_link(&path)?.into(),
            _ => OsString::new(),
        };
        let name = entry.file_name();
        let has_mounts = entry.file_type() == Kind::Dir && !mountinfo::below(&on_host)?.is_empty();
        let special = MOUNT_POINTS.iter().any(|point| OsStr::new(point) == name);
        let mut lowers = Vec::new();
        if entry.file_type() == Kind::Dir && !has_mounts && !special {
            lowers = below(record, &name, on_host);
        }
        if !lowers.is_empty() {
            container.set_permissions(&path, entry.metadata()?.mode() & 0o7777)?;
            let works = plan::works(record, &name);
            match std::fs::create_dir(&works) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Failure::new(format!("{}: {e}", shown_path(&works))));
                }
                _ => {}
            }
        }
        let wrapped = lowers
            .iter()
            .rev()
            .skip(1)
            .any(|inner| lowers.last().is_some_and(|outer| super::mount::lies_inside(inner, outer)));
        top.push(Top { name, kind: entry.file_type(), target, has_mounts, lowers, wrapped });
    }
    Ok(top)
}

/// What a top-level directory is made of below the upper, topmost first: what snapshots have of it, and `on_host` unless
/// one of them hides it.
fn below(record: &Record, name: &OsStr, on_host: PathBuf) -> Vec<PathBuf> {
    let mut lowers = Vec::new();
    for layer in record.config.frozen() {
        let dir = layer.path.join(name);
        match std::fs::symlink_metadata(&dir) {
            Err(_) => continue,
            Ok(meta) if !meta.is_dir() => return lowers,
            Ok(_) => {}
        }
        let mut value = [0; 1];
        let opaque =
            rustix::fs::lgetxattr(&dir, "user.overlay.opaque", &mut value[..]).is_ok() && value == *b"y";
        lowers.push(dir);
        if opaque {
            return lowers;
        }
    }
    if on_host.is_dir() {
        lowers.push(on_host);
    }
    lowers
}

/// Makes the directories that a run mounts on where the layers have none; gives those that it made.
fn make_mount_points(container: &Container, of: &ContainerName) -> Result<Vec<PathBuf>, Failure> {
    let mut made = Vec::new();
    for name in MOUNT_POINTS {
        let path = Path::new("/").join(name);
        match container.create_dir(&path) {
            Ok(()) => made.push(path),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => match container.symlink_metadata(&path) {
                // A mount follows no link of a layer: it could lead anywhere.
                Ok(meta) if !meta.is_dir() => {
                    remove_mount_points(container, &made)?;
                    return Err(Failure::new(format!(
                        "/{name} of {of} is not a directory, and a run mounts there: `strata fs {of} rm /{name}` helps"
                    )));
                }
                _ => {}
            },
            Err(e) => {
                remove_mount_points(container, &made)?;
                return Err(e.into());
            }
        }
    }
    Ok(made)
}

fn remove_mount_points(container: &Container, made: &[PathBuf]) -> Result<(), Failure> {
    for path in made {
        match container.remove_dir(path) {
            // The command may have removed it, or put something else there.
            Err(e)
                if !matches!(
                    e.kind(),
                    ErrorKind::NotFound | ErrorKind::NotEmpty | ErrorKind::NotADirectory
                ) =>
            {
                return Err(e.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is missing on this host, and what works without it.
fn impossible(why: &str, privileged: bool) -> Failure {
    let hint = if privileged {
        "`strata run` needs overlayfs in the kernel and a state directory (--root) that can be an upper: not on \
         overlayfs, FUSE or NFS"
    } else {
        "without root, `strata run` needs user namespaces (sysctl user.max_user_namespaces, and \
         kernel.apparmor_restrict_unprivileged_userns=0 where there is AppArmor), Linux 5.11 or newer, and a state \
         directory (--root) on a file system with user attributes"
    };
    Failure::new(format!("{why}\n  {hint}; see `strata info`\n  `strata fs` works without any of it"))
}

/// Says on standard error what changed, how to see it, and how to keep it or throw it away.
fn tell(record: &Record, asked: &Run, changes: Vec<Change>, split: bool) -> Result<(), Failure> {
    let changes = without_times_of_directories(changes);
    let mut out = io::stderr().lock();
    let name = &record.name;
    writeln!(out, "strata: {name}: {}", Count::of(&changes))?;
    if asked.stat {
        let listed = if asked.rm { changes.len() } else { LISTED };
        for change in changes.iter().take(listed) {
            writeln!(out, "  {}", Line(change))?;
        }
        if changes.len() > listed {
            writeln!(out, "  ... and {} more", changes.len() - listed)?;
        }
    }
    if split {
        writeln!(out, "  without root: the top level, and directories that hold mounts, were read-only")?;
    }
    if !asked.rm {
        writeln!(out, "  see it:         strata diff {name}")?;
        // Of a container over one directory the changes belong there, if anywhere.
        if let ([only], None) = (record.config.base(), &record.config.image)
            && rustix::fs::access(&only.path, rustix::fs::Access::WRITE_OK).is_ok()
        {
            writeln!(out, "  make it real:   strata promote {name} --to {}", shown_path(&only.path))?;
        }
        writeln!(out, "  throw it away:  strata rm {name}")?;
    }
    Ok(())
}
