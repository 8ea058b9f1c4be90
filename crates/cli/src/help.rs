//! What `--help` teaches beyond the options: examples, and what to expect. Lines fit a terminal of 80 columns.

pub mod image;
pub mod life;

/// Of the whole command.
pub const STRATA: &str = "\
Try a command and see what it would change; your files stay as they are:
  strata run --name try -- sh -c 'echo hello > /etc/greeting'
  strata diff try
  strata diff try --patch /etc/greeting
  strata rm try

Work on directories of your own, without mount and privilege:
  strata create --layer ./changes --layer ./base --name app
  strata fs app cat /etc/motd
  strata fs app put local.conf /etc/app.conf
  strata diff app

Run images, and keep what a container became:
  strata image import debian.tar --name debian:12
  strata run --image debian:12 --name web -- apt-get install -y nginx
  strata snapshot web before-tuning
  strata commit web --image web:1 --change 'CMD [\"nginx\"]'
  strata image export web:1 -o web.tar

Exit codes:
  0    success
  1    an error; check: problems were found; promote: conflicts
  2    the command line makes no sense
  3    diff --exit-code: there are changes
  130  interrupted with Ctrl-C (128+N by signal N): nothing is left half-done
  141  the reader of the output went away
Of run: the command's own; 128+N when signal N ended it; 127 when it was not
found, 126 when it could not be executed, 125 when strata failed before it.

State is kept under --root, $STRATA_ROOT, or $XDG_DATA_HOME/strata
(~/.local/share/strata; for root /var/lib/strata).";

/// Of `run`.
pub const RUN: &str = "\
The command sees the merged view as its root directory, with proc, dev, sys
and a private tmp. Without --layer the host's own root directory is the one
read-only layer; other file systems mounted below it (on /home, say) are not
part of it: as root they are empty inside, and named before the run. The
network is the host's. A container of the same name is continued.

With --image the layers are the image's, and so are environment, working
directory, user and entry point, by Docker's rules: a COMMAND is given to the
entry point, and stands in for the image's own arguments. Of the caller's
variables only TERM passes. Files are not copied and the image stays as it is.

Not for root only: without privilege a user namespace is used, in which you
are root and nobody else exists. Files of others can be read as their mode
allows and removed from the top-level directories, but not written or given
away (newuidmap is not used).

This is no sandbox against hostile programs: it keeps files apart. Layers that
you do not trust deserve --untrusted: setuid bits, capabilities and devices in
them have no effect inside.

Examples:
  strata run -- sh                         look around, and see what you changed
  strata run --rm --stat -- make install   list what an installation writes
  strata run --layer ./top --layer ./base -- /bin/app
  strata run --name app -e DEBUG=1 -w /srv -- ./start
  strata run --image debian:12 -- bash     in the environment of the image
  strata run --image app --user 33 --entrypoint sh -- -c id";

/// Of `create`.
pub const CREATE: &str = "\
Nothing of the layers is copied. Without --layer it is the host's own root.

Examples:
  strata create --layer ./patched --layer ./rootfs --name app
  name=$(strata create --layer ./rootfs)
  strata create --image debian:12 --name deb
  strata create --layer ./unpacked-image --whiteouts aufs --untrusted";

/// Of `ls`.
pub const LS: &str = "\
Name, time of creation (UTC), use, image or layers from the topmost down.

Examples:
  strata ls
  strata ls --json | jq -r '.[] | select(.in_use) | .name'";

/// Of `inspect`.
pub const INSPECT: &str = "\
Examples:
  strata inspect app
  strata inspect app --json | jq -r .dir";

/// Of `rm`.
pub const RM: &str = "\
Layers are left alone, and images. A container in use is not removed.

Examples:
  strata rm try
  strata rm app other";

/// Of `diff`.
pub const DIFF: &str = "\
One line for each change since the image, or since the layers that it was made
with: A added, M modified (and what of it), D deleted, R renamed, sorted by
path. It costs what changed, not what exists.

Examples:
  strata diff app
  strata diff app --stat
  strata diff app --since-snapshot
  strata diff app --patch /etc/motd
  strata diff app --exit-code > /dev/null || echo changed
  strata diff app --json | jq -r '.changes[] | select(.change == \"added\").path'";

/// Of `fs`.
pub const FS: &str = "\
Paths are inside the container. In process: no mount, no privilege, nothing is
executed, and no link leads outside.

Examples:
  strata fs app ls -l /etc
  strata fs app cat /etc/motd
  strata fs app put ./site.conf /etc/site.conf
  strata fs app get -r /var/log ./logs
  strata fs app xattr set /data user.origin upstream";

/// Of `mount`.
pub const MOUNT: &str = "\
Needs root. The container is in use until it is unmounted; what is written
there is in `strata diff` afterwards.

Examples:
  mkdir -p /mnt/app && strata mount app /mnt/app
  strata umount app";

/// Of `umount`.
pub const UMOUNT: &str = "\
Examples:
  strata umount app
  strata umount /mnt/app";

/// Of `check`.
pub const CHECK: &str = "\
Reads everything that the container changed and changes nothing itself. Without
a name it reads all containers, images and layers: every layer is compared with
the archive that it came from. Each problem comes with what to do about it; the
exit code is 1 when there is one.

Examples:
  strata check
  strata check app --json";

/// Of `info`.
pub const INFO: &str = "\
Abilities are tried, not guessed: what `strata run` and `strata mount` can
do depends on them. `strata fs` needs none.

Examples:
  strata info
  strata info --json | jq .user_namespaces";

/// Of `completions`.
pub const COMPLETIONS: &str = "\
Examples:
  source <(strata completions bash)
  strata completions fish > ~/.config/fish/completions/strata.fish";
