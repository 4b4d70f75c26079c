//! Reads and writes of files, as the kernel sees them.

use super::*;

/// What may be done with some pages, as the processor sees it.
fn protect(at: *const u8, len: usize, how: rustix::mm::MprotectFlags) {
    // SAFETY: the pages are of an arena that outlives the test's use of them, and nobody looks at them meanwhile.
    unsafe { rustix::mm::mprotect(at.cast_mut().cast(), len, how) }.unwrap();
}

/// The kernel holds the pages of registered memory and follows no address to them.
#[test]
fn files_are_read_and_written_by_what_is_registered() {
    use rustix::mm::MprotectFlags;
    let (content, open) = (bytes(BLOCK, 4), MprotectFlags::READ | MprotectFlags::WRITE);
    let from = tempfile::tempfile().unwrap();
    from.write_all_at(&content, 0).unwrap();
    let to = tempfile::tempfile().unwrap();
    let copy = File::new(OwnedFd::from(to.try_clone().unwrap()));
    on_a_ring(async |core| {
        let filling = core.arena.take().unwrap();
        let lease = filling.lease(0..BLOCK).unwrap();
        let at = lease.address().cast_const();
        protect(at, BLOCK, MprotectFlags::empty());
        let read = File::new(OwnedFd::from(from)).read_exact(lease, BLOCK, 0).await;
        assert!(read.is_ok(), "{:?}", read.err());
        drop(read);
        let slab = filling.seal().ok().unwrap();
        let written = copy.write_direct(&slab, 0..BLOCK, 0).await;
        protect(at, BLOCK, open);
        written.unwrap();
        assert!(slab.bytes(0..BLOCK) == content);
    });
    let mut arrived = vec![0; BLOCK];
    to.read_exact_at(&mut arrived, 0).unwrap();
    assert!(arrived == content);
}

/// What the kernel tells of itself comes a page at a time, however much is asked for: after a short read it goes on where that
/// ended, in the file as in memory.
#[test]
fn short_reads_are_gone_on_with() {
    const SYMBOLS: &str = "/proc/kallsyms";
    let expected = std::fs::read(SYMBOLS).unwrap();
    assert!(expected.len() > 4 * BLOCK, "this needs a kernel that shows its symbols in {SYMBOLS}");
    let open = || File::new(std::fs::File::open(SYMBOLS).unwrap().into());
    on_a_ring(async |core| {
        let before = counters().operations[Kind::Read as usize];
        for in_this_thread in [false, true] {
            let filling = core.arena.take().unwrap();
            let lease = filling.lease(7..7 + 3 * BLOCK).unwrap();
            let read = match in_this_thread {
                false => open().read_exact(lease, 3 * BLOCK, 100).await,
                true => open().read_now(lease, 3 * BLOCK, 100),
            };
            drop(read.unwrap());
            let slab = filling.seal().ok().unwrap();
            assert!(slab.bytes(7..7 + 3 * BLOCK) == &expected[100..100 + 3 * BLOCK], "{in_this_thread}");
        }
        let reads = counters().operations[Kind::Read as usize];
        assert!(reads.short > before.short, "{reads:?}");
    });
}
