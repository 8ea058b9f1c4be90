//! Untrusted bytes as an archive, compressed or not: no panic; what the tap heard and the contents together are the
//! archive; what was read and can be written reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Read;
use stratafs_oci::compress::decode;
use stratafs_oci::tar::{Entry, Reader, Tap, Writer};
use stratafs_oci::{Limits, Result};

struct Joined(Vec<u8>);

impl Tap for Joined {
    fn literal(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads all entries; gives what came together again, and the entries with what the archive stored of them.
fn read(bytes: &[u8], limits: &Limits) -> (Result<Vec<(Entry, Vec<u8>)>>, Vec<u8>) {
    let mut reader = Reader::new(bytes, limits).with_tap(Joined(Vec::new()));
    let mut buf = [0; 600];
    let mut step = |entries: &mut Vec<(Entry, Vec<u8>)>| -> Result<bool> {
        let Some(entry) = reader.next()? else { return Ok(false) };
        let (mut content, mut end) = (Vec::new(), 0);
        while let Some((offset, n)) = reader.next_data(&mut buf)? {
            assert!(n > 0 && offset >= end && offset + n as u64 <= entry.size);
            end = offset + n as u64;
            content.extend_from_slice(&buf[..n]);
            reader.tap_mut().0.extend_from_slice(&buf[..n]);
        }
        assert_eq!(content.len() as u64, entry.stored());
        entries.push((entry, content));
        Ok(true)
    };
    let mut entries = Vec::new();
    let result = loop {
        match step(&mut entries) {
            Ok(true) => {}
            Ok(false) => break Ok(entries),
            Err(error) => break Err(error),
        }
    };
    (result, std::mem::take(&mut reader.tap_mut().0))
}

fuzz_target!(|data: &[u8]| {
    let mut limits = Limits::default();
    (limits.layer_bytes, limits.extents, limits.xattrs) = (1 << 20, 1000, 100);
    let mut plain = Vec::new();
    // What came before an error is an archive that is cut off.
    if let Ok(mut decoder) = decode(data, &limits) {
        let _ = decoder.read_to_end(&mut plain);
    }
    // The fuzzer does not find checksums.
    for block in plain.chunks_exact_mut(512) {
        if block.get(148..154) == Some(b"fixsum".as_slice()) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let (result, joined) = read(&plain, &limits);
    let Ok(entries) = result else {
        assert!(plain.starts_with(&joined));
        return;
    };
    assert_eq!(joined, plain);
    let mut writer = Writer::new(Vec::new());
    let mut written = Vec::new();
    for (entry, content) in entries {
        if entry.sparse.is_none() && writer.append(&entry, &mut &content[..]).is_ok() {
            written.push((entry, content));
        }
    }
    let Ok(archive) = writer.finish() else { return };
    limits = Limits::default();
    let (result, _) = read(&archive, &limits);
    let mut again = result.expect("what we write can be read");
    for (entry, _) in again.iter_mut().chain(&mut written) {
        entry.offset = 0;
        entry.xattrs.sort();
    }
    assert_eq!(again, written);
});
