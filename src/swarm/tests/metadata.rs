//! Metadata that we give (BEP 9): each request has an answer, and who asks too much has only rejects.

use super::desk::own;
use super::extended::{desk, greet, hello, said, tell};
use crate::swarm::{DropReason, Greeting};
use crate::wire::extended::{Extension, METADATA_BLOCK_LEN, MetadataMessage};
use std::sync::Arc;

#[test]
fn metadata_is_given_by_the_block_three_times_over() {
    let metadata: Arc<[u8]> = (0..METADATA_BLOCK_LEN + 100).map(|n| n as u8).collect();
    let mut desk = desk(3, &[0]);
    own(&mut desk).greeting = Greeting { metadata: Arc::clone(&metadata), ..Greeting::default() };
    let peer = desk.connect(false, 1).unwrap();
    greet(&mut desk, peer, &hello());
    desk.say(peer);
    let mut ask = |block| {
        tell(&mut desk, peer, Extension::Metadata, &MetadataMessage::Request { block }.encode());
        let answers = said(&mut desk, peer, Extension::Metadata);
        assert_eq!(answers.len(), 1);
        answers.into_iter().next().unwrap()
    };
    let total_size = Some(metadata.len() as i64);
    for _ in 0..3 {
        for (block, bytes) in metadata.chunks(METADATA_BLOCK_LEN).enumerate() {
            let data = MetadataMessage::Data { block: block as u32, total_size, bytes };
            assert_eq!(MetadataMessage::parse(&ask(block as u32)), Some(data));
        }
    }
    assert_eq!(MetadataMessage::parse(&ask(0)), Some(MetadataMessage::Reject { block: 0 }), "once too often");
    assert_eq!(MetadataMessage::parse(&ask(2)), Some(MetadataMessage::Reject { block: 2 }), "there is none");
    let data = MetadataMessage::Data { block: 0, total_size, bytes: b"x" }.encode();
    tell(&mut desk, peer, Extension::Metadata, &data);
    assert_eq!(desk.swarm.totals().limits.offences, 1, "nobody asked");
    let flood = MetadataMessage::Request { block: 0 }.encode();
    (0..64 + 301).for_each(|_| tell(&mut desk, peer, Extension::Metadata, &flood));
    assert_eq!(desk.drops(), [(peer, DropReason::Offences)]);
}

#[test]
fn who_asks_for_all_metadata_at_once_has_it_all() {
    let metadata: Arc<[u8]> = (0..121 * METADATA_BLOCK_LEN - 1).map(|n| n as u8).collect();
    let mut desk = desk(3, &[0]);
    own(&mut desk).greeting = Greeting { metadata: Arc::clone(&metadata), ..Greeting::default() };
    let peer = desk.connect(false, 1).unwrap();
    greet(&mut desk, peer, &hello());
    let ask = |block| MetadataMessage::Request { block }.encode();
    (0..121).for_each(|block| tell(&mut desk, peer, Extension::Metadata, &ask(block)));
    desk.metadata = 0;
    assert!(said(&mut desk, peer, Extension::Metadata).is_empty(), "it waits for an upload limit");
    let mut given = Vec::new();
    desk.metadata = usize::MAX;
    loop {
        let answers = said(&mut desk, peer, Extension::Metadata);
        if answers.is_empty() {
            break;
        }
        assert!(answers.iter().map(Vec::len).sum::<usize>() < 3 * METADATA_BLOCK_LEN, "a little at a time");
        for answer in answers {
            let Some(MetadataMessage::Data { bytes, .. }) = MetadataMessage::parse(&answer) else { panic!() };
            given.extend_from_slice(bytes);
        }
    }
    assert!(given == *metadata && desk.swarm.totals().limits.offences == 0);
}

#[test]
fn what_is_asked_beyond_the_queue_is_rejected_up_to_a_bound() {
    let metadata: Arc<[u8]> = [7; 100].into();
    let total_size = Some(metadata.len() as i64);
    for (asked, answered, beyond) in [(64, 64, 0), (65, 65, 1), (128, 128, 64), (200, 128, 136)] {
        let mut desk = desk(3, &[0]);
        own(&mut desk).greeting = Greeting { metadata: Arc::clone(&metadata), ..Greeting::default() };
        let peer = desk.connect(false, 1).unwrap();
        greet(&mut desk, peer, &hello());
        let ask = MetadataMessage::Request { block: 0 }.encode();
        (0..asked).for_each(|_| tell(&mut desk, peer, Extension::Metadata, &ask));
        let answers: Vec<_> = (0..9).flat_map(|_| said(&mut desk, peer, Extension::Metadata)).collect();
        let data = Some(MetadataMessage::Data { block: 0, total_size, bytes: &metadata });
        let given = answers.iter().filter(|bytes| MetadataMessage::parse(bytes) == data).count();
        let reject = Some(MetadataMessage::Reject { block: 0 });
        let rejects = answers.iter().filter(|bytes| MetadataMessage::parse(bytes) == reject);
        assert_eq!((given, rejects.count()), (3, answered - 3), "of {asked}");
        assert_eq!(desk.swarm.totals().limits.offences, beyond);
        // Those that found no room do not count against it for ever.
        tell(&mut desk, peer, Extension::Metadata, &ask);
        assert_eq!(said(&mut desk, peer, Extension::Metadata).len(), 1);
    }
}
