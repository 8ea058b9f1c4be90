#!/usr/bin/env bash
# Makes the real image of the tests, by tools of other people only, in the current directory:
#
#   umoci/      an OCI layout as umoci leaves it: every layer gzip; `base` has the first layer, `real` all
#   mixed/      `real` only: layers gzip, zstd and plain by turns
#   mixed.tar   mixed/ as one archive
#   docker.tar  `real` in the form of `docker save`, by skopeo
#   reference/  what `umoci unpack` makes of umoci/: bundle with rootfs
#
# Called with the path of layer.py and of a Debian base archive with at least 10,000 entries.
set -euo pipefail
umask 022
layers=$1 base=$2
python=/usr/bin/python3
image=umoci:real

umoci init --layout umoci
umoci new --image $image
umoci raw add-layer --image $image --history.created_by base "$base"
umoci tag --image $image base

# Layer 2: every kind of entry and every way to say that something is gone, in an unhelpful order.
$python "$layers" kinds second.tar
umoci raw add-layer --image $image --history.created_by kinds second.tar

# Layer 3: what an administrator does, found out and written by umoci.
umoci unpack --image $image bundle
cd bundle/rootfs
rm -rf usr/share/man usr/share/locale/de
rm -rf usr/share/bash-completion; mkdir usr/share/bash-completion; echo new > usr/share/bash-completion/README
mv usr/share/nano usr/share/pico
rm etc/issue.net; mkdir etc/issue.net; echo inside > etc/issue.net/file
rm -rf usr/share/menu; ln -s misc usr/share/menu
rm etc/localtime; echo UTC > etc/localtime
rm usr/share/pixmaps/*.xpm; mkfifo usr/share/pixmaps/debian-logo.png.fifo
mknod -m 0640 dev/strange b 259 1048575
setcap cap_net_raw,cap_net_admin+ep usr/bin/nano
setfacl -m u:1234:rw-,g:4321:r-- etc/fstab
mkdir -m 2775 srv/shared; setfacl -d -m u:77:rwx srv/shared
setfattr -n user.binary -v 0x000a3d00ff0a usr/share/pico
setfattr -n trusted.kept -v 0x01 etc/hostname
chown -R 70000:70001 var/mail; chmod 1777 var/mail
chmod 4711 usr/bin/which.debianutils
echo "# more" >> etc/services
touch -d '2001-02-03 04:05:06.789012345' etc/hosts usr/share/pico
ln usr/bin/python3.11 usr/bin/python-linked
for n in $(seq 200); do echo "$n" > "usr/share/pico/generated-$n"; done
cd ../..
umoci repack --image $image --history.created_by repack bundle
rm -rf bundle

# Layers 4 and 5: an opaque directory and a whiteout, by umoci.
mkdir -p opaque/inner
echo opaque > opaque/inner/file
umoci insert --image $image --opaque opaque /usr/share/doc
umoci insert --image $image --whiteout /usr/share/lintian

# Layers 6 and 7: GNU tar, both of its formats, with sparse files and names that the old header cannot hold. (umoci
# does not know the sparse files of the older format.)
for format in posix gnu; do
  rm -rf tree; mkdir -p "tree/srv/$format/$(printf 'd%.0s' {1..120})/$(printf 'e%.0s' {1..130})"
  truncate -s 6M "tree/srv/$format/hole"
  printf start | dd of="tree/srv/$format/hole" conv=notrunc status=none
  printf middle | dd of="tree/srv/$format/hole" bs=1 seek=3145735 conv=notrunc status=none
  truncate -s 1M "tree/srv/$format/nothing"
  # More extents than a header of either format holds.
  for n in $(seq 0 60); do
    printf '%s' "extent $n" | dd of="tree/srv/$format/many" bs=1 seek=$((n * 16384 + n)) conv=notrunc status=none
  done
  ln "tree/srv/$format/hole" "tree/srv/$format/hole-again"
  echo deep > "$(echo tree/srv/$format/d*/e*)/file"
  ln -s "$(printf 'far/%.0s' {1..60})away" "tree/srv/$format/link"
  chown -R 3000000:3000001 "tree/srv/$format"
  setfattr -n user.of -v "$format" "tree/srv/$format/hole"
  more=(); [ $format = gnu ] || more=(--sparse --xattrs '--xattrs-include=*')
  tar --format=$format "${more[@]}" --numeric-owner -C tree -cf $format.tar srv
  umoci raw add-layer --image $image --history.created_by "tar $format" $format.tar
done

# Layer 8: names again that layers below deleted, and a link to a file of the base.
$python "$layers" again last.tar
umoci raw add-layer --image $image --history.created_by again last.tar

umoci config --image $image --config.env PATH=/usr/sbin:/usr/bin:/sbin:/bin --config.env REAL=yes \
  --config.cmd /bin/cat --config.cmd /etc/real --config.workingdir /srv --config.label for=tests
umoci gc --layout umoci

umoci unpack --image $image reference
$python "$layers" mix umoci mixed
tar -C mixed -cf mixed.tar .
skopeo --insecure-policy --tmpdir . copy -q oci:umoci:real docker-archive:docker.tar:localhost/real:latest
rm -rf opaque tree second.tar last.tar posix.tar gnu.tar
