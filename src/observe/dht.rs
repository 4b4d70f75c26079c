//! What the DHT counts.

use super::Node;
use super::registry::{Registry, with};
use crate::discovery::dht::DhtCounters;

/// Puts it all into the registry.
pub(super) fn set(registry: &Registry, node: &Node, counted: &DhtCounters) {
    let labels = node.labels();
    let labelled = |name, label, values: &[(&str, u64)]| {
        for (value, count) in values {
            registry.counter(name, &with(&labels, &[(label, *value)]), *count);
        }
    };
    let DhtCounters { datagrams_in, datagrams_out, bytes_in, bytes_out, .. } = *counted;
    labelled("seedring_dht_datagrams_total", "direction", &[("in", datagrams_in), ("out", datagrams_out)]);
    labelled("seedring_dht_bytes_total", "direction", &[("in", bytes_in), ("out", bytes_out)]);
    let asked = [
        ("heard", counted.queries_in),
        ("replied", counted.replies_out),
        ("refused", counted.errors_out),
        ("announced", counted.announces_in),
        ("bad_token", counted.bad_tokens),
    ];
    labelled("seedring_dht_queries_heard_total", "event", &asked);
    let own = [
        ("sent", counted.queries_out),
        ("replied", counted.replies_in),
        ("refused", counted.errors_in),
        ("timed_out", counted.timeouts),
        ("wrong_id", counted.wrong_ids),
        ("announced", counted.announces_out),
    ];
    labelled("seedring_dht_queries_sent_total", "event", &own);
    let dropped = [
        ("malformed", counted.malformed),
        ("unsolicited", counted.unsolicited),
        ("filtered", counted.filtered),
        ("queries", counted.over_query_limit),
        ("sites", counted.over_site_limit),
        ("addresses", counted.over_address_limit),
        ("upload", counted.over_upload_limit),
        ("store", counted.over_store_limit),
        ("pending", counted.over_pending_limit),
        ("proofs", counted.over_proof_limit),
        ("held", counted.over_held_limit),
        ("host", counted.over_host_limit),
        ("share", counted.over_share_limit),
        ("walks", counted.over_walk_limit),
        ("lookup", counted.over_lookup_limit),
        ("candidates", counted.over_candidate_limit),
        ("lies", counted.over_lie_limit),
        ("reply", counted.over_reply_limit),
        ("outlet", counted.over_outlet_limit),
        ("names", counted.over_name_limit),
        ("wishes", counted.over_wish_limit),
        ("queue", counted.over_queue_limit),
    ];
    labelled("seedring_dht_dropped_total", "reason", &dropped);
    registry.counter("seedring_dht_lookups_total", &labels, counted.lookups);
    registry.counter("seedring_dht_peers_found_total", &labels, counted.peers_found);
    for (family, nodes) in [("ipv4", counted.nodes_v4), ("ipv6", counted.nodes_v6)] {
        registry.gauge("seedring_dht_nodes", &with(&labels, &[("family", family)]), nodes);
    }
    registry.gauge("seedring_dht_stored_torrents", &labels, counted.stored_torrents);
    registry.gauge("seedring_dht_stored_peers", &labels, counted.stored_peers);
}
