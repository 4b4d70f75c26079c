//! What the DHT counts, on the page.

use super::*;

#[test]
fn every_counter_of_the_dht_is_on_the_page() {
    // All of them, each with a number of its own: one more is a reason to look here.
    let counted = DhtCounters {
        datagrams_in: 1,
        bytes_in: 2,
        datagrams_out: 3,
        bytes_out: 4,
        queries_in: 5,
        queries_out: 6,
        replies_in: 7,
        errors_in: 8,
        replies_out: 9,
        errors_out: 10,
        timeouts: 11,
        announces_in: 12,
        announces_out: 13,
        bad_tokens: 14,
        lookups: 15,
        peers_found: 16,
        malformed: 17,
        unsolicited: 18,
        filtered: 19,
        wrong_ids: 20,
        over_query_limit: 21,
        over_site_limit: 22,
        over_address_limit: 23,
        over_upload_limit: 24,
        over_store_limit: 25,
        over_pending_limit: 26,
        over_proof_limit: 27,
        over_held_limit: 28,
        over_host_limit: 29,
        over_share_limit: 30,
        over_walk_limit: 31,
        over_lookup_limit: 32,
        over_candidate_limit: 33,
        over_lie_limit: 34,
        over_reply_limit: 35,
        over_outlet_limit: 36,
        over_name_limit: 37,
        over_wish_limit: 38,
        over_queue_limit: 39,
        nodes_v4: 40,
        nodes_v6: 41,
        stored_torrents: 42,
        stored_peers: 43,
    };
    let mut world = World::new(1);
    world.board.dht(world.node, &counted);
    let page = samples(&world.board.metrics());
    let of_dht = page.iter().filter(|(name, _)| name.starts_with("seedring_dht_"));
    let values: BTreeSet<u64> = of_dht.map(|(_, value)| *value).collect();
    assert_eq!(values, (1..=43).collect());
    for (reason, value) in [("sites", 22), ("share", 30), ("walks", 31), ("outlet", 36), ("wishes", 38)] {
        assert_eq!(page[&format!("seedring_dht_dropped_total{{reason=\"{reason}\"}}")], value);
    }
}
