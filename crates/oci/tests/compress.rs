//! Compressed streams: what is written reads back, here and by gzip(1) and zstd(1); the bytes do not depend on threads;
//! bombs, cut streams and unknown compressions are refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use stratafs_oci::compress::{Compression, decode, detect, encode};
use stratafs_oci::{Error, ErrorKind, Limits};

/// So many bytes, compressible but not all the same.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 20_261_121u64;
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match state >> 62 {
            0 => bytes.extend_from_slice(&state.to_le_bytes()),
            1 => bytes.extend_from_slice(b"usr/share/doc/"),
            2 => bytes.extend_from_slice(&[0; 40]),
            _ => bytes.extend(format!("{}", state >> 40).into_bytes()),
        }
    }
    bytes.truncate(len);
    bytes
}

fn compressed(bytes: &[u8], compression: Compression, threads: usize, piece: usize) -> Vec<u8> {
    let mut encoder = encode(Vec::new(), compression, threads).unwrap();
    for part in bytes.chunks(piece) {
        encoder.write_all(part).unwrap();
        if part.len().is_multiple_of(3) {
            encoder.flush().unwrap();
        }
    }
    encoder.finish().unwrap()
}

fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
    with_limits(bytes, &Limits::default())
}

fn with_limits(bytes: &[u8], limits: &Limits) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    decode(bytes, limits)?.read_to_end(&mut out)?;
    Ok(out)
}

/// Our error inside.
fn ours(error: io::Error) -> Error {
    error.downcast().expect("an error of ours")
}

const BOTH: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

#[test]
fn what_is_written_reads_back_whatever_its_length() {
    for len in [0, 1, 511, (512 << 10) - 1, 512 << 10, (512 << 10) + 1, (4 << 20) + 7, 9 << 20] {
        let bytes = sample(len);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let packed = compressed(&bytes, compression, 2, 1 << 16);
            assert_eq!(detect(&packed), compression);
            assert!(decoded(&packed).unwrap() == bytes, "{compression:?} {len}");
        }
    }
}

#[test]
fn the_bytes_depend_on_neither_threads_nor_writes() {
    let bytes = sample(19 << 20);
    for compression in BOTH {
        let one = compressed(&bytes, compression, 1, 1 << 20);
        assert!(one.len() < bytes.len());
        for (threads, piece) in [(2, 1 << 20), (3, 65_537), (8, 19 << 20), (1, 4_099)] {
            let other = compressed(&bytes, compression, threads, piece);
            assert!(one == other, "{compression:?}, {threads} threads, pieces of {piece}");
        }
    }
}

#[test]
fn noise_survives_although_it_grows() {
    let mut bytes = Vec::new();
    let mut state = 1u64;
    while bytes.len() < 3 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    for compression in BOTH {
        assert!(decoded(&compressed(&bytes, compression, 2, 1 << 20)).unwrap() == bytes);
    }
}

#[test]
fn the_header_of_gzip_has_no_time_and_no_name() {
    let packed = compressed(b"x", Compression::Gzip, 1, 1);
    assert_eq!(packed[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
}

/// Runs a tool that unpacks its input.
fn unpacked_by(tool: &str, packed: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(tool);
    command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        let required = std::env::var("STRATAFS_REQUIRE_ALL").is_ok_and(|v| !v.is_empty() && v != "0");
        assert!(!required, "STRATAFS_REQUIRE_ALL is set and this is missing: {tool}");
        println!("skipped: {tool}");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let packed = packed.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&packed));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    Some(output.stdout)
}

#[test]
fn other_tools_read_what_we_write() {
    let bytes = sample(5 << 20);
    for (tool, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        if let Some(out) = unpacked_by(tool, &compressed(&bytes, compression, 2, 1 << 20)) {
            assert!(out == bytes, "{tool}");
        }
        if let Some(out) = unpacked_by(tool, &compressed(b"", compression, 2, 1)) {
            assert!(out.is_empty(), "{tool}");
        }
    }
}

#[test]
fn members_and_frames_one_after_the_other_are_one_stream() {
    let (a, b) = (sample(1000), sample(70_000));
    for compression in BOTH {
        let parts = [&a[..], b"", &b].map(|part| compressed(part, compression, 1, 1 << 16));
        assert!(decoded(&parts.concat()).unwrap() == [a.clone(), b.clone()].concat());
    }
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"any"].concat();
    let frame = compressed(&a, Compression::Zstd, 1, 1 << 16);
    let stream = [&skippable[..], &frame, &skippable].concat();
    assert_eq!(detect(&stream), Compression::Zstd);
    assert!(decoded(&stream).unwrap() == a);
}

#[test]
fn nothing_at_all_is_an_empty_archive() {
    assert_eq!(decoded(b"").unwrap(), b"");
}

#[test]
fn a_cut_stream_is_an_error_wherever_it_is_cut() {
    let bytes = sample(300);
    for compression in BOTH {
        let packed = compressed(&bytes, compression, 1, 1 << 16);
        for len in 4..packed.len() {
            let error = ours(decoded(&packed[..len]).expect_err("cut"));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{compression:?} cut at {len}: {error}");
        }
    }
}

#[test]
fn a_changed_stream_is_an_error_or_still_the_same() {
    let bytes = sample(3000);
    for (compression, header) in [(Compression::Gzip, 10), (Compression::Zstd, 4)] {
        let packed = compressed(&bytes, compression, 1, 1 << 16);
        let mut errors = 0;
        for at in header..packed.len() {
            let mut changed = packed.clone();
            changed[at] ^= 0x10;
            match decoded(&changed) {
                Err(_) => errors += 1,
                // Bits up to the next byte, or a window that is larger than needed.
                Ok(out) => assert!(out == bytes, "{compression:?} byte {at}"),
            }
        }
        assert!(
            errors + 20 > packed.len() - header,
            "{compression:?}: only {errors} of {} seen",
            packed.len()
        );
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    for compression in BOTH {
        let packed = compressed(b"content", compression, 1, 7);
        for after in [&b"\0"[..], b"garbage that is no member", &[0; 512], b"\x1f", b"\x28\xb5"] {
            let stream = [&packed[..], after].concat();
            let error = ours(decoded(&stream).expect_err("something follows"));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{compression:?}: {error}");
        }
    }
}

#[test]
fn other_compressions_are_refused_by_name() {
    let cases: [(&str, &[u8]); 6] = [
        ("xz", b"\xfd7zXZ\0\0\x04rest"),
        ("bzip2", b"BZh91AY&SYrest"),
        ("lz4", b"\x04\x22\x4d\x18rest"),
        ("lzip", b"LZIP\x01rest"),
        ("zip", b"PK\x03\x04rest"),
        ("compress", b"\x1f\x9d\x90rest"),
    ];
    for (name, first) in cases {
        let error = decode(first, &Limits::default()).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_bomb_stops_at_the_limit_that_the_error_names() {
    let zeros = vec![0; 8 << 20];
    let mut small = Limits::default();
    small.layer_bytes = 1 << 20;
    let mut ratio = Limits::default();
    (ratio.ratio, ratio.ratio_from) = (100, 1 << 20);
    for compression in BOTH {
        let bomb = compressed(&zeros, compression, 1, 1 << 20);
        for (limits, says) in [(&small, "1048576"), (&ratio, "100 times")] {
            let mut out = Vec::new();
            let error = decode(&bomb[..], limits).unwrap().read_to_end(&mut out).expect_err("a bomb");
            let error = ours(error);
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(error.to_string().contains(says), "{error}");
            assert!(out.len() <= 2 << 20, "{} bytes came out", out.len());
        }
        assert!(decoded(&bomb).unwrap() == zeros, "below the limits it is an archive like others");
    }
    assert_eq!(ours(with_limits(&zeros, &small).expect_err("too large")).kind(), ErrorKind::TooLarge);
}

/// Gives some bytes, then fails.
struct Failing(Vec<u8>, usize);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.0.len() - self.1);
        if n == 0 {
            return Err(Error::new(ErrorKind::Io(5), "read blob").about("sha256:00").into());
        }
        buf[..n].copy_from_slice(&self.0[self.1..][..n]);
        self.1 += n;
        Ok(n)
    }
}

#[test]
fn an_error_of_the_source_stays_what_it_is() {
    for compression in BOTH {
        let mut packed = compressed(&sample(10_000), compression, 1, 1 << 16);
        packed.truncate(packed.len() / 2);
        let mut decoder = decode(Failing(packed, 0), &Limits::default()).unwrap();
        let error = ours(io::copy(&mut decoder, &mut io::sink()).expect_err("the source fails"));
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Io(5), "read blob"));
        // And there is no end behind it.
        assert!(decoder.read(&mut [0; 10]).is_err());
    }
}

#[test]
fn an_output_that_fails_fails_the_encoder() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(28))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for compression in BOTH {
        let mut encoder = encode(Full, compression, 2).unwrap();
        let failed = encoder.write_all(&sample(30 << 20));
        let finished = encoder.finish();
        assert_eq!(failed.expect_err("full").raw_os_error(), Some(28), "{compression:?}");
        assert!(compression == Compression::Gzip || finished.is_err());
    }
}
