//! [`Gzip`]: one gzip member, compressed by several threads.
//!
//! The input is cut into blocks of a fixed size. Each becomes raw deflate data that ends on a byte, with the 32 KiB before
//! it as its dictionary, so hardly anything is lost by the cutting. One after the other they are one deflate stream.
//! The header has no name and no time. So the result depends on the input alone.

use super::encode::lost;
use flate2::{Compress, Compression, FlushCompress, Status};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Bytes of a block.
const BLOCK: usize = 512 << 10;

/// As far back as deflate can refer.
const WINDOW: usize = 32 << 10;

const LEVEL: u32 = 6;

/// Magic, deflate, no flags, no time, no extra flags, Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// The last deflate block: static codes, nothing in it.
const LAST: [u8; 2] = [3, 0];

struct Job {
    dictionary: Vec<u8>,
    block: Vec<u8>,
    done: SyncSender<Done>,
}

/// Compressed data, and the checksum of what it was.
type Done = io::Result<(Vec<u8>, crc32fast::Hasher)>;

/// Compresses what is written to it.
pub(super) struct Gzip<W> {
    out: W,
    block: Vec<u8>,
    dictionary: Vec<u8>,
    jobs: Sender<Job>,
    /// Blocks on the way, in order.
    pending: VecDeque<Receiver<Done>>,
    /// So many blocks may be on the way: one more for each thread, so that none waits.
    ahead: usize,
    checksum: crc32fast::Hasher,
    bytes: u64,
    began: bool,
}

impl<W: Write> Gzip<W> {
    pub(super) fn new(out: W, threads: usize) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            // They end when there is nobody who could give them work.
            thread::Builder::new().name("gzip".into()).spawn(move || work(&queue))?;
        }
        Ok(Self {
            out,
            block: Vec::with_capacity(BLOCK),
            dictionary: Vec::new(),
            jobs,
            pending: VecDeque::new(),
            ahead: threads * 2,
            checksum: crc32fast::Hasher::new(),
            bytes: 0,
            began: false,
        })
    }

    pub(super) fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Hands the block to a thread; waits for the oldest one when enough are on the way.
    fn send(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let next = block.get(block.len().saturating_sub(WINDOW)..).unwrap_or_default().to_vec();
        let dictionary = std::mem::replace(&mut self.dictionary, next);
        let (done, result) = sync_channel(1);
        self.jobs.send(Job { dictionary, block, done }).map_err(|_| lost())?;
        self.pending.push_back(result);
        if self.pending.len() > self.ahead { self.receive() } else { Ok(()) }
    }

    /// Writes the oldest block.
    fn receive(&mut self) -> io::Result<()> {
        let Some(result) = self.pending.pop_front() else { return Ok(()) };
        let (data, checksum) = result.recv().map_err(|_| lost())??;
        self.checksum.combine(&checksum);
        self.begin()?;
        self.out.write_all(&data)
    }

    fn begin(&mut self) -> io::Result<()> {
        if !self.began {
            self.out.write_all(&HEADER)?;
            self.began = true;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.send()?;
        }
        while !self.pending.is_empty() {
            self.receive()?;
        }
        self.begin()?;
        self.out.write_all(&LAST)?;
        self.out.write_all(&self.checksum.finalize().to_le_bytes())?;
        // The length counts modulo 2^32.
        self.out.write_all(&(self.bytes as u32).to_le_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.send()?;
        }
        let n = buf.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(buf.get(..n).unwrap_or_default());
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One thread: compresses until there are no more jobs.
fn work(queue: &Mutex<Receiver<Job>>) {
    let mut deflate = Compress::new(Compression::new(LEVEL), false);
    loop {
        let job = queue.lock().recv();
        let Ok(Job { dictionary, block, done }) = job else { return };
        let result = compress(&mut deflate, &dictionary, &block);
        // Who does not wait any more does not need it.
        let _ = done.send(result);
    }
}

fn compress(deflate: &mut Compress, dictionary: &[u8], block: &[u8]) -> Done {
    deflate.reset();
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary).map_err(io::Error::from)?;
    }
    let mut data = Vec::with_capacity(block.len() / 2);
    loop {
        // A full buffer means that there may be more to come.
        data.reserve(BLOCK / 8);
        let taken = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = block.get(taken..).unwrap_or_default();
        let status = deflate.compress_vec(rest, &mut data, FlushCompress::Sync).map_err(io::Error::from)?;
        let all = deflate.total_in() == block.len() as u64;
        if status != Status::Ok && !(status == Status::BufError && all) {
            return Err(lost());
        }
        if all && data.len() < data.capacity() {
            break;
        }
    }
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(block);
    Ok((data, checksum))
}
