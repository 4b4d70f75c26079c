use super::*;

#[test]
fn block_bits_cover_the_blocks_touched() {
    assert_eq!(block_bits(&(0..SLAB_LEN)), u16::MAX);
    assert_eq!(block_bits(&(0..1)), 1);
    assert_eq!(block_bits(&(BLOCK_LEN - 1..BLOCK_LEN + 1)), 3);
    assert_eq!(block_bits(&(SLAB_LEN - 1..SLAB_LEN)), 1 << 15);
}

#[test]
fn a_block_is_lent_once_and_no_slab_is_sealed_while_lent() {
    let arena = Arena::new(2 * SLAB_LEN).unwrap();
    let slab = arena.take().unwrap();
    let lease = slab.lease(0..BLOCK_LEN).unwrap();
    assert!(slab.lease(0..1).is_none());
    assert!(slab.lease(BLOCK_LEN..2 * BLOCK_LEN).is_some());
    let slab = slab.seal().err().expect("a block is lent");
    drop(lease);
    assert!(slab.seal().is_ok());
}

#[test]
fn a_slab_may_begin_anywhere_in_its_first_page() {
    let arena = Arena::new(2 * STRIDE).unwrap();
    let mut slab = arena.take_at(100).unwrap();
    slab.write(0, b"first");
    slab.write(SLAB_LEN - 4, b"last");
    let other = arena.take_at(PAGE - 1).unwrap();
    let (mut lease, head) = other.lease_pages(0..SLAB_LEN).unwrap();
    assert_eq!((lease.len(), head), (SLAB_LEN + PAGE, PAGE - 1));
    lease.zero();
    assert!(slab.read(0..5) == b"first" && slab.read(SLAB_LEN - 4..SLAB_LEN) == b"last", "slabs lie apart");
    drop(lease);
    let (lease, head) = other.lease_pages(BLOCK_LEN..2 * BLOCK_LEN).unwrap();
    assert_eq!((lease.len(), head), (BLOCK_LEN + PAGE, PAGE - 1));
    assert!(other.is_leased(&(BLOCK_LEN - 1..BLOCK_LEN)), "of whole pages, what is beside the range too");
    assert_eq!(slab.seal().ok().unwrap().page_offset(5000), 1004);
}

#[test]
fn slabs_come_back_when_the_last_share_is_gone() {
    let arena = Arena::new(2 * SLAB_LEN).unwrap();
    assert_eq!((arena.capacity(), arena.free()), (2, 2));
    let mut filling = arena.take().unwrap();
    filling.write(5, b"payload");
    let lease = filling.lease(BLOCK_LEN..BLOCK_LEN + 9).unwrap();
    let other = arena.take().unwrap();
    assert!(arena.take().is_none());
    drop(other);
    drop(filling);
    assert_eq!(arena.free(), 1, "an operation may still write the leased bytes");
    drop(lease);
    assert_eq!(arena.free(), 2);
}

#[test]
fn sealed_slabs_are_shared() {
    let arena = Arena::new(2 * SLAB_LEN).unwrap();
    let mut filling = arena.take().unwrap();
    let mut lease = filling.lease(100..104).unwrap();
    lease.write(b"seed");
    drop(lease);
    filling.write(104, b"ring");
    let slab = filling.seal().ok().unwrap();
    let twin = slab.clone();
    assert!(!slab.is_sole());
    drop(slab);
    assert_eq!(twin.bytes(100..108), b"seedring");
    assert!(twin.is_sole());
}

#[cfg(debug_assertions)]
#[test]
fn a_slab_that_is_given_back_is_spoilt_for_whoever_still_uses_it() {
    let arena = Arena::new(2 * STRIDE).unwrap();
    let fill = |skew| {
        let mut filling = arena.take_at(skew).unwrap();
        filling.write(0, b"first");
        filling.write(SLAB_LEN - 4, b"last");
        filling.seal().ok().unwrap()
    };
    let slab = fill(100);
    let (at, twin) = (slab.address(0), slab.clone());
    drop(slab);
    assert_eq!(twin.bytes(0..5), b"first");
    drop(twin);
    let again = arena.take_at(100).unwrap();
    assert_eq!(again.0.at(0).as_ptr().cast_const(), at, "the same one");
    assert!(again.read(0..SLAB_LEN).iter().all(|byte| *byte == SPOILT));
    drop(again);

    let slab = fill(0);
    let (at, mapping) = (slab.address(0), slab.mapping());
    arena.leave_ring();
    drop(slab);
    // SAFETY: inside the mapping, which is held; nobody writes it.
    assert_eq!(unsafe { std::slice::from_raw_parts(at, 5) }, b"first", "a disk may still read it");
    drop(mapping);
}

#[test]
fn who_keeps_slabs_hears_when_they_are_let_go_each_once() {
    let arena = Arena::new(4 * SLAB_LEN).unwrap();
    let kept: Vec<Slab> = (0..2).map(|_| arena.take().unwrap().seal().ok().unwrap()).collect();
    assert_eq!(arena.let_go(), None);
    for _ in 0..3 {
        let _held = [kept[0].clone(), kept[0].clone()];
    }
    assert_eq!([arena.let_go(), arena.let_go()], [Some(kept[0].index()), None]);
    drop(kept[1].clone());
    assert_eq!([arena.let_go(), arena.let_go()], [Some(kept[1].index()), None]);
}
