//! Help of a container's life: snapshots, forks, promotion; and of the store as a whole.

/// Of `snapshot`.
pub const SNAPSHOT: &str = "\
Keeps the state as it is now, to go back to or to fork from. Nothing is copied,
however much the container changed. Prints the snapshot's name.

Examples:
  strata snapshot app
  strata snapshot app before-upgrade";

/// Of `snapshots`.
pub const SNAPSHOTS: &str = "\
Name and time (UTC), the oldest first; a star is at the one that the container
goes on from.

Examples:
  strata snapshots app
  strata snapshots app --json | jq -r '.[].name'
  strata snapshots app --rm before-upgrade";

/// Of `fork`.
pub const FORK: &str = "\
A second container with the same state, sharing everything with the first.
Without --from a snapshot of the first one is taken, if it changed something.

Examples:
  strata fork app app2
  strata fork app old --from before-upgrade";

/// Of `rollback`.
pub const ROLLBACK: &str = "\
What was changed since then is thrown away. Snapshots stay, later ones too:
going forward is a rollback as well.

Examples:
  strata rollback app
  strata rollback app before-upgrade";

/// Of `discard`.
pub const DISCARD: &str = "\
Back to the image: everything that the container changed is thrown away.
Snapshots stay and can be gone back to.

Examples:
  strata discard app
  strata diff app --stat && strata discard app";

/// Of `promote`.
pub const PROMOTE: &str = "\
Applies what a container changed to a real directory: the one that is its
layer, or a copy of it. All of it or nothing: new content is staged in the
directory first, then moved into place. What is there now must be what the
container started from; else the difference is listed, nothing is done and the
exit code is 1.

Examples:
  strata promote try --to / --dry-run
  strata promote app /etc /srv/www --to ./rootfs
  strata promote app --to ./rootfs --json | jq -r '.conflicts[].path'
  strata promote --recover --to ./rootfs    after a crash of the host";

/// Of `gc`.
pub const GC: &str = "\
Removes layers and snapshots that no image and no container has any more, and
what was left by commands that were killed. Safe while others are at work.

Examples:
  strata gc
  strata image rm app:old && strata gc --json";

/// Of `usage`.
pub const USAGE: &str = "\
Bytes on disk. What only one container or image has is its own and goes with
it; what others have too is shared.

Examples:
  strata usage
  strata usage --json | jq .total";
