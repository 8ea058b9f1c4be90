//! Help of `strata image`, and of what makes images and archives of containers.

/// Of `image`.
pub const IMAGE: &str = "\
Images are kept in the store: each layer once, whoever has it. A name is
REPOSITORY[:TAG]; the tag is `latest` when nothing is said.

Examples:
  strata image import debian.tar --name debian:12
  strata image ls
  strata run --image debian:12 -- cat /etc/os-release";

/// Of `image import`.
pub const IMPORT: &str = "\
What is there is found by its content: an OCI image layout (directory or tar),
an archive of `docker save`, one layer archive (tar, gzip, zstd), or a
directory with files, which becomes an image of one layer. Digests are checked
while layers are unpacked; after a failure nothing is left. A name that an
image has goes to the new one.

Examples:
  strata image import ./layout
  strata image import ./rootfs --name base
  skopeo copy docker://debian:12 oci-archive:d.tar:debian:12 && \\
    strata image import d.tar
  docker save app | strata image import -
  strata image import many.tar --platform linux/arm64 --json";

/// Of `image ls`.
pub const LS: &str = "\
Name, id, time of creation (UTC), number of layers, size of their files.

Examples:
  strata image ls
  strata image ls --json | jq -r '.[].name'";

/// Of `image inspect`.
pub const INSPECT: &str = "\
Examples:
  strata image inspect debian:12
  strata image inspect debian:12 --json | jq .config.config.Env";

/// Of `image rm`.
pub const RM: &str = "\
Only names are removed, and containers go on. Layers that no image and no
container has any more go with `strata gc`.

Examples:
  strata image rm debian:11
  strata image rm app:old app:older && strata gc";

/// Of `image tag`.
pub const TAG: &str = "\
Examples:
  strata image tag app:2 app:latest
  strata image tag 3f9a0c app:found";

/// Of `image export`.
pub const EXPORT: &str = "\
Writes an OCI image layout that `docker load`, podman and skopeo read too. An
imported layer is written as it came, with the same diff id. The file appears
when it is complete.

Examples:
  strata image export app:2 -o app.tar
  strata image export app:2 -o app.tar --compression zstd
  strata image export app:1 app:2 -o ./layout --dir
  strata image export app:2 -o app.tar && docker load -i app.tar";

/// Of `commit`.
pub const COMMIT: &str = "\
What the container changed since its image becomes one layer on top of it; the
same changes give the same layer, whoever makes them (with SOURCE_DATE_EPOCH the
same image too). The container goes on as it was.

Examples:
  strata commit app --image app:2
  strata commit app --image app:2 -m 'security updates' --author me
  strata commit app --image app:2 --change 'CMD [\"/bin/serve\", \"-v\"]' \\
    --change 'ENV MODE=live' --change 'USER www'";

/// Of `export`.
pub const FLATTEN: &str = "\
Everything that is seen in the container, as one tar archive; always the same
for the same content.

Examples:
  strata export app -o app.tar
  strata export app | tar -t
  strata export app -o app.tar.zst --compression zstd";

/// Of `layer`.
pub const LAYER: &str = "\
What the container changed since its image, as a layer archive of the OCI
image-spec: deletions are `.wh.` files.

Examples:
  strata layer app -o changes.tar
  strata layer app | tar -tv
  strata layer app -o changes.tar.gz --compression gzip";
