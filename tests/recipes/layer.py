"""Layers and a layout that no other tool writes, by Python's own tarfile: `kinds FILE`, `again FILE`, `mix FROM TO`."""

import hashlib, io, json, os, random, shutil, subprocess, sys, tarfile

FAR = 1000000000


def raw(data):
    """Bytes as tarfile wants the value of a PAX record."""
    return data.decode("utf-8", "surrogateescape")


class Layer:
    def __init__(self):
        self.entries = []

    def add(self, path, kind=tarfile.REGTYPE, data=b"", mode=0o644, uid=0, gid=0, mtime=FAR, to="", dev=(0, 0), **xattrs):
        if isinstance(path, bytes):
            path = raw(path)
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.uid, entry.gid, entry.mtime = kind, mode, uid, gid, mtime
        entry.linkname, entry.size = to, len(data)
        entry.devmajor, entry.devminor = dev
        names = {"cap": "security.capability", "acl": "system.posix_acl_access", "dacl": "system.posix_acl_default"}
        for name, value in xattrs.items():
            entry.pax_headers["SCHILY.xattr." + names.get(name, name.replace("_", ".", 1))] = raw(value)
        self.entries.append((entry, data))

    def dir(self, path, mode=0o755, **rest):
        self.add(path, tarfile.DIRTYPE, mode=mode, **rest)

    def write(self, path):
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
            for entry, data in self.entries:
                out.addfile(entry, io.BytesIO(data))


def acl(*entries):
    """An ACL as the kernel keeps it: tag, permissions, id."""
    out = b"\x02\0\0\0"
    for tag, perm, who in entries:
        out += tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + who.to_bytes(4, "little")
    return out


NOBODY = 0xFFFFFFFF
ACL = acl((1, 6, NOBODY), (2, 6, 1234), (4, 4, NOBODY), (8, 5, 77), (0x10, 6, NOBODY), (0x20, 4, NOBODY))
DEFAULT = acl((1, 7, NOBODY), (2, 7, 99), (4, 5, NOBODY), (0x10, 7, NOBODY), (0x20, 0, NOBODY))
CAP = b"\x01\0\0\x02\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0"


def kinds(path):
    layer = Layer()
    # Siblings of the layer itself stand before and after the mark that hides those below.
    layer.dir("usr/share/perl5/own", mtime=FAR + 0.25)
    layer.add("usr/share/perl5/own/file", data=b"mine")
    layer.add("usr/share/perl5/.wh..wh..opq")
    layer.add("usr/share/perl5/later", data=b"mine too")
    for gone in ("usr/share/.wh.zoneinfo", "etc/.wh.skel", "usr/share/common-licenses/.wh.GPL-3", "etc/.wh.debian_version"):
        layer.add(gone)
    # A mark for what is not there, and one for what the layer itself brings.
    layer.add("etc/.wh.never-was")
    layer.add("opt/.wh.replaced")
    # One kind in the place of another.
    layer.dir("etc/issue", mode=0o750)
    layer.add("etc/issue/file", data=b"a file was here")
    layer.add("usr/share/bug", tarfile.SYMTYPE, to="doc", mode=0o777)
    layer.add("etc/os-release", data=b"ID=real\n")
    layer.add("usr/share/base-passwd", data=b"a directory was here")
    layer.dir("etc/alternatives/awk.1.gz")
    layer.add("etc/alternatives/awk.1.gz/file", data=b"a link was here")
    layer.add("etc/motd", tarfile.FIFOTYPE, mode=0o600)
    layer.add("etc/securetty", tarfile.SYMTYPE, to="nowhere", mode=0o777)
    # Links inside of the layer, and to files below of which one has several names.
    layer.dir("opt/links")
    layer.add("opt/links/a", data=b"linked" * 1000, uid=5, mode=0o4755)
    for name in ("b", "c"):
        layer.add("opt/links/" + name, tarfile.LNKTYPE, to="opt/links/a", uid=5, mode=0o4755)
    layer.add("opt/links/passwd", tarfile.LNKTYPE, to="etc/passwd")
    layer.add("opt/links/perl", tarfile.LNKTYPE, to="usr/bin/perl", mode=0o755)
    layer.add("opt/links/soft", tarfile.SYMTYPE, to="/etc/hostname", mode=0o777)
    layer.add("opt/links/soft-again", tarfile.LNKTYPE, to="opt/links/soft")
    # A parent that is not in the layer, and one that is a symbolic link below.
    layer.add("usr/share/tabset/unsaid-parent", data=b"x")
    layer.add("bin/through-a-link", data=b"#!/bin/sh\n", mode=0o755)
    # Attributes.
    layer.dir("opt/attributes", mode=0o1777, dacl=DEFAULT, user_of=b"directory")
    layer.add("opt/attributes/acl", mode=0o664, acl=ACL)
    layer.add("opt/attributes/cap", data=b"\x7fELF", mode=0o755, cap=CAP)
    layer.add("opt/attributes/values", user_newline=b"a\nb\n", user_nul=b"\0a\0", user_bytes=bytes(range(256)), user_long=b"v" * 3000)
    layer.add("opt/attributes/setid", mode=0o6755, uid=1000, gid=1000, data=b"#!")
    layer.add("opt/attributes/big-owner", uid=4294967294, gid=4294967293)
    layer.add("opt/attributes/nobody", uid=65534, gid=65534, mode=0)
    for n, mtime in enumerate(("0.000000001", "1234567890.987654321", "-86400.25", "8589934593.5", "4294967296")):
        layer.add("opt/attributes/time-%d" % n)
        layer.entries[-1][0].pax_headers["mtime"] = mtime
    layer.add("opt/attributes/link-time", tarfile.SYMTYPE, to="acl", mode=0o777, mtime=FAR + 0.5, uid=12)
    layer.add("opt/attributes/fifo", tarfile.FIFOTYPE, mode=0o620, uid=9)
    layer.add("opt/attributes/null", tarfile.CHRTYPE, mode=0o666, dev=(1, 3))
    layer.add("opt/attributes/block", tarfile.BLKTYPE, mode=0o660, gid=6, dev=(259, 70000))
    # Names.
    layer.dir("opt/names")
    layer.add("opt/names/" + "n" * 255, data=b"255")
    layer.dir("opt/names/" + "d" * 255)
    layer.add("opt/names/" + "d" * 255 + "/" + "f" * 255, data=b"both")
    for name in (b"\xff\xfe\x80", b"line\nbreak", b" blank ", b"\\back\\", b"t\xc3\xa4st", b"*", b"-rf", b"..dots", b"tab\t"):
        layer.add(b"opt/names/" + name, data=name)
    layer.add("opt/names/target", tarfile.SYMTYPE, to="t" * 1000, mode=0o777)
    random.Random(3).shuffle(layer.entries)
    # Links stand after what they name, and directories before what is in them: with those umoci gets times wrong, or
    # does not know what to do. Everything else, deletions too, comes in any order.
    directories = [e for e in layer.entries if e[0].type == tarfile.DIRTYPE]
    layer.entries = sorted(directories, key=lambda e: e[0].name) + [e for e in layer.entries if e not in directories]
    layer.entries.sort(key=lambda e: e[0].type == tarfile.LNKTYPE)
    # Deep.
    for depth in range(1, 12):
        layer.dir("opt/names/" + "/".join(["x" * 30] * depth), mtime=FAR + depth)
    layer.add("opt/names/" + "/".join(["x" * 30] * 12), data=b"deep")
    layer.dir("opt/replaced")
    layer.add("opt/replaced/file", data=b"kept")
    layer.dir("opt", mtime=FAR)
    layer.dir("./", mode=0o755, mtime=FAR + 0.125)
    layer.write(path)


def again(path):
    layer = Layer()
    layer.dir("etc/skel", mode=0o700)
    layer.add("etc/skel/new", data=b"again")
    layer.add("usr/share/zoneinfo", data=b"a file this time")
    layer.dir("usr/share/man")
    layer.dir("usr/share/lintian")
    layer.add("usr/share/lintian/new", data=b"again")
    # No mark of the name stands here: the directory below is merged with this one.
    layer.dir("usr/share/pico", mode=0o711)
    layer.add("usr/share/pico/one-more", data=b"1")
    layer.add("usr/share/pico/.wh.generated-7")
    layer.add("etc/group-linked", tarfile.LNKTYPE, to="etc/group")
    layer.add("usr/bin/python-linked-again", tarfile.LNKTYPE, to="usr/bin/python3.11", mode=0o755)
    layer.add("etc/real", data=b"the real image\n")
    layer.write(path)


def mix(source, target):
    """The layout again, with the layers gzip, zstd and plain by turns."""
    shutil.copytree(source, target)
    blobs = os.path.join(target, "blobs", "sha256")

    def put(data, media):
        name = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, name), "wb") as out:
            out.write(data)
        return {"mediaType": media, "digest": "sha256:" + name, "size": len(data)}

    def blob(descriptor):
        return os.path.join(blobs, descriptor["digest"].split(":")[1])

    index_path = os.path.join(target, "index.json")
    index = json.load(open(index_path))
    (entry,) = [m for m in index["manifests"] if m["annotations"]["org.opencontainers.image.ref.name"] == "real"]
    manifest = json.load(open(blob(entry)))
    for other in index["manifests"]:
        os.remove(blob(other))
    media = "application/vnd.oci.image.layer.v1.tar"
    for n, layer in enumerate(manifest["layers"]):
        turn = n % 3
        if turn == 0:
            continue
        plain = subprocess.run(["gzip", "-dc", blob(layer)], check=True, stdout=subprocess.PIPE).stdout
        if turn == 1:
            packed = subprocess.run(["zstd", "-qc"], check=True, input=plain, stdout=subprocess.PIPE).stdout
            manifest["layers"][n] = put(packed, media + "+zstd")
        else:
            manifest["layers"][n] = put(plain, media)
        os.remove(blob(layer))
    made = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    made["annotations"] = entry["annotations"]
    made["platform"] = {"architecture": "amd64", "os": "linux"}
    index["manifests"] = [made]
    with open(index_path, "w") as out:
        json.dump(index, out)


if __name__ == "__main__":
    {"kinds": kinds, "again": again, "mix": mix}[sys.argv[1]](*sys.argv[2:])
