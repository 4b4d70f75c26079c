//! The program against peers that mean harm: raw sockets that say what no honest client says.
//!
//! `table` lists the misbehaviours, one a row and a test; `scene` plays a row beside honest peers and judges; `attacks`
//! has what the rows are made of, `extended`, `encrypted` and `datagrams` those of extensions, of encryption and of the
//! DHT. A new misbehaviour is a row, and a function when none there does it. `trackers` and `nodes` have those who are asked
//! for peers, and answer.
//!
//! # The limits
//!
//! What trusted clients limit, what we do, what counts it (labels of `seedring_limit_hits_total` where it has no other
//! name), and a test that is about it: rows of `table` in italics, else unit tests.
//!
//! | limit | here | counted | test |
//! |---|---|---|---|
//! | torrent file, depth, values | 32 MiB, 100, 3,000,000, of metadata from peers 2,500,000: `metainfo::torrent`, `bencode::reader` | refused by name | `depth_is_limited`, `the_number_of_values_is_limited`, `of_metadata_from_peers_so_many_values_are_read`, `what_is_no_torrent_is_refused` |
//! | pieces; path depth, length; equal names | 2^21; 100, 4095 bytes; 500: `metainfo` | refused by name | `impossible_geometry_is_refused`, `depth_and_length_of_paths_are_limited`, `too_many_duplicates_are_refused` |
//! | part of a path | 240 bytes with its extension: `metainfo::path` | cut | `long_names_are_cut_and_keep_a_short_extension` |
//! | metadata from peers | 32 MiB each, 96 MiB of all sizes, 2 requests a peer, 15 s of silence, 20 s a block, 5 to 60 s after a reject: `swarm::magnet`; 50 messages of a peer that should not come: `session::magnet` | `sizes`, `overfull`, `offences`, `silent`, `late`, `rejects` of `metadata` in `--json`; `refused` there when it breaks a limit of torrent files | `sizes_that_cannot_be_are_refused`, `what_liars_send_of_many_sizes_has_a_bound_…`, `who_lies_about_metadata_is_counted_…`, `blocks_of_several_peers_make_the_whole`, `who_drips_loses_its_standing_and_who_is_slow_keeps_it`, `who_rejects_is_asked_again_…`, `who_says_over_and_over_…`, fuzz `metadata` |
//! | peers of a magnet link | 40, of which 30 came to us, of one host as in the swarm; what was given may have 10 of others; 2000 addresses, 20 dials each, 600 that peers tell of, 50 by one of them, in six messages a minute: `session::magnet` | `peers`, `hosts`, `displaced`, `addresses`, `exchange` of `metadata` in `--json` | `peers_tell_of_others_…`, `what_peers_tell_leaves_room_…`, `who_comes_in_crowds_does_not_keep_a_magnet_link_from_its_peers`, `who_gives_stays_but_what_was_given_has_a_place_…`, `of_one_host_so_many_are_dialled_…`, `two_hundred_of_one_source_where_nobody_answers_…` |
//! | liars about metadata | not dialled again; the third of a host (IPv6: /64) shuts it out, but for what was given; 10,000 hosts: `session::magnet` | `liars`; `liar_hosts`, those who come again `barred`; `bans` of `metadata` in `--json` | `who_sends_wrong_metadata_is_banned_and_counted_…`; `a_host_of_several_liars_is_shut_out_…`, `who_is_kept_out_is_counted_by_the_reason`; `no_more_hosts_of_liars_are_remembered_than_fit` |
//! | `--ip-filter` | neither dialled nor let in: `swarm::entry`; of a magnet link: `session::magnet` | `filtered`; `filtered` of `metadata` in `--json` | `filtered_addresses_are_neither_dialled_nor_let_in`; `who_is_kept_out_is_counted_by_the_reason` |
//! | metadata to peers | each block, or 64, waiting, and as many rejects; three times all of it: `swarm::metadata` | `requests` | *flood_of_metadata_requests*, *metadata_asked_for_again_and_again*, `what_is_asked_beyond_the_queue_…` |
//! | message; of extensions; dictionary | 1 MiB; 80 KiB; 64 KiB: `wire::reader`, `wire::extended` | `messages`; `offences` | *wrong_lengths*; *flood_of_long_extended_messages* |
//! | request | 16 KiB within the torrent; longer is rejected (fast) or closes: `swarm::hear` | `messages`, `offences` | *wrong_requests* |
//! | requests that wait; rejects that do | 2000 = our `reqq`; 4000: `swarm::hear`, `swarm::fast` | `requests`; `offences` | *flood_of_requests*; *rejects_that_nobody_reads* |
//! | requests out | the peer's `reqq`, else 250, at most 2000: `swarm::window` | `windows` | `the_peer_says_how_many_it_takes`, `who_takes_fewer_requests_than_it_is_worth_is_counted` |
//! | out of place: while choked, unasked, late | 300, of which one is forgotten a minute, none for 30 s behind a choke: `swarm::conduct`, `swarm::hear` | `offences` | *flood_of_requests_while_choked*, *everything_behind_a_bitfield*, *flood_of_late_bitfields*, *flood_of_blocks_to_a_seed*, *flood_of_rejects*, `who_never_had_a_slot_…`, `late_words_on_what_a_peer_has_…` |
//! | slots taken back | after 8 without a block it counts as one that does not send, and then within 2 s as an offence: `swarm::conduct` | `unanswered`, `offences` | *chokes_for_answers*; `who_takes_its_slot_back_over_and_over_…` |
//! | pieces lost | the same twice in ten minutes is an offence: `swarm::conduct` | `offences` | *flood_of_lost_pieces*; `who_has_a_piece_and_loses_it_in_turn_…` |
//! | allowed pieces to a choked peer | 10, each three times: `swarm::fast` | `offences` | `who_has_nothing_may_have_some_pieces_while_choked` |
//! | dial, handshake, silence, taking nothing, idleness | 15 s, 10 s, 150 s, 300 s, 600 s: `shard::connection`, `swarm` | `dials`; `silent` (three times); `idle` | `who_does_not_answer_a_dial_or_a_handshake_is_given_up`; *handshakes_that_drip*; `silence_is_broken_after_100_s_…`; `who_takes_nothing_for_long_is_given_up`; `who_has_nothing_to_trade_for_ten_minutes_goes` |
//! | request unanswered | snubbed after 30 s, asked elsewhere; back after 60 s, of slow ones 300 s: `swarm` | `unanswered` | `requests_that_nobody_answers_are_counted` |
//! | payload memory | `--memory-limit`; when it is short, new runs are for those who fill them soonest, and what is slow in coming is asked of others: `shard::memory`, `swarm::scarcity` | `memory` | `who_holds_memory_for_long_gets_no_more_while_it_is_scarce` |
//! | connections; of one host; of a /24, of IPv6 a /48; with those who have come | 4000, or what descriptors leave; 16, within private networks any number, `--peers-per-host`; an eighth, or as many as one host may have; seven eighths while there is something to fetch: `swarm::entry`, `swarm::roster` | `peers`; `hosts` (twice); `peers` | `when_there_is_no_room_the_least_priority_gives_way_…`, `when_there_is_no_room_the_idle_give_way`; `one_host_has_so_many_connections_…`, `one_host_has_no_more_connections_than_the_user_says`; `of_one_network_only_so_many_are_in_at_once`; `one_customer_cannot_take_all_the_room_…` |
//! | strangers shaking hands | 100 a core; who has been silent for a second gives way, the greatest crowd first: `shard::strangers` | `handshakes` | *strangers_who_say_nothing*, `those_of_many_hosts_who_say_nothing_…` |
//! | connections taken; closed for the filter | 256 at once, 1000 a second on each core, fewer where they have many pieces; 1280, 5000: `shard::listen` | `arrivals` | *strangers_who_come_and_go*, `who_has_many_pieces_is_paid_for_…`, `who_loses_pieces_and_has_them_again_…`; `who_is_in_the_filter_takes_no_place_of_who_is_not` |
//! | descriptors | a part for files, a part for connections, of these a quarter for strangers: `ring::descriptors`, `shard::room` | `descriptors` | `a_want_of_descriptors_ends_no_torrent` |
//! | encrypted handshakes of a host | 100 at once, 20 a second: `shard::secrecy` | `exchanges` | *encrypted_handshakes_by_the_hundred* |
//! | PEX | 6 messages a minute, 64 KiB, 50 addresses a family and list; in the books of all cores 50 by the word of one and 200 of one host, who tells of many makes way for others; of one host 3 ports that nobody has tried, 2 by the word of one, dialled once in 2 s: `swarm::pex`, `swarm::tellers`, `swarm::known` | `offences`, `addresses`; `tellers`; `unused` of PEX | *flood_of_addresses*; `who_names_dead_ports_of_a_host_…`, `a_peer_has_so_many_addresses_in_the_book_…`, `who_tells_several_cores_…`, `who_tells_of_many_makes_way_…` |
//! | dials in vain to one network | of a /24, of IPv6 a /48, whatever cores dial: 16 of what peers name, 32 of what the DHT does, 64 of what trackers do, and one more in 4 s; none for what the user gave, nor within networks like ours: `swarm::networks` | `networks`; `networks` of `metadata` in `--json` | `however_many_liars_name_addresses_of_a_network_…`, `what_peers_tell_leaves_room_for_better_sources_…`, `where_dials_to_a_network_come_to_nothing_…` |
//! | peers known; failures; banned | of trackers 1200, the DHT 800, PEX 600, others 200 each, the user 2000; 8, of PEX 3; 10,000, a host under 8 names: `swarm::candidates`, `swarm::roster` | `addresses`; `failures`; `bans` | `no_source_can_fill_the_book_of_the_others`, `sources_take_turns_…`, `what_the_user_gave_takes_turns_…`; `an_address_where_nobody_is_reached_is_given_up`; `no_more_liars_are_remembered_than_fit`, `liars_who_find_no_room_…`, `a_liar_who_takes_new_names_is_kept_out_…` |
//! | tracker's answer | 1 MiB, its head 64 KiB, 30 s, 10 s idle, 5 redirects, 200 peers, half of them of each family, intervals of 5 minutes to a day: `discovery::tracker` | `seedring_tracker_events_total` | `hostile_trackers_harm_nobody`, `bodies`, `heads_and_framing`, `neither_family_crowds_out_the_other`, `an_interval_that_is_not_kept_to_is_counted`, tests of `http`, fuzz `tracker_reply`, `udp_tracker` |
//! | trackers of a torrent; asked at once | 100; 50 over HTTP, 200 over UDP: `discovery::tracker` | `tracker_dropped`, `waited` there | `hostile_trackers_harm_nobody`, `only_so_many_ask_over_http_at_once` |
//! | DHT: queries; bytes; store | 5 a second and 50 at once an address, 20 and 50 a /48; 4096 addresses of each family, of a /48 64; 8000 a second, of which half a second's are for who has proven to be there; twice what came until it has answered, 128 wait for that, 64 are asked for it at a time; 50 peers and 1 KiB a reply; 2000 × 500, of one host 4: `discovery::dht` | `seedring_dht_dropped_total` | *flood_of_dht_queries*, *flood_of_dht_queries_of_many*, `no_datagram_of_a_stranger_draws_more_than_twice_its_length`, `so_many_answers_wait_and_no_more`, `strangers_who_must_prove_…`, `of_one_host_a_few_announced_ports_…`, `the_ports_of_one_host_drive_out_nobody`, `a_full_store_renews_whom_it_holds`, `what_is_not_stored_and_who_is_forgotten_…`, `the_crowd_of_a_site_shuts_out_neither_…`, `a_crowd_of_forged_addresses_…`, `a_site_of_ipv6_has_so_many_accounts_…`, `replies_that_do_not_hold_all_are_counted`, fuzz `dht` |
//! | local search: datagrams; interfaces | 100 at once and 20 a second of each group, 1400 bytes; 20 of each family: `discovery::local` | `local_discovery`; `local_interfaces` | `a_flood_of_datagrams_is_counted_and_peers_are_found_all_the_same`, `a_flood_of_one_group_leaves_the_other_…`; `interfaces_beyond_the_twentieth_are_counted`, fuzz `local_search` |
//! | DHT: what it is told | 1000 peers of a lookup, of one reply 100 and an eighth of what is left, of a /24 or /48 an eighth of all; 8 nodes of a reply, 100 remembered, 128 asked, a minute; whose word three did not bear out has none; 32 lookups; 1000 peers that a torrent does not take; 64 names at once; 256 wishes: `discovery::dht` | `seedring_dht_dropped_total` | `however_many_peers_liars_invent_…`, `all_nodes_of_a_network_…`, `what_a_lookup_leaves_out_is_counted`, `searches_that_are_put_off_…`, `what_finds_no_room_waits_…`, `wishes_and_names_beyond_the_limits_are_counted`, `every_counter_of_the_dht_is_on_the_page` |
//! | tracker's addresses; host names in its answer; addresses in it | this machine's for `/announce…` alone, its link's and those of clouds' secrets not at all, from outside to no local one, 8 of each family; 50, 8 at once, 4 addresses each; of peers, those of networks of our own by trackers there alone: `discovery::tracker` | `address_refused`, `redirect_refused`; `name_dropped`; `local_peer_dropped` there | `no_torrent_has_other_services_…`, `a_torrent_sends_us_to_nothing_but_trackers`, `nobody_from_outside_sends_us_…`; `of_one_reply_fifty_names_…`, `eight_are_looked_up_at_once_…`; `a_tracker_names_nobody_of_our_own_…`, `a_name_leads_into_our_own_networks_…` |
//! | told to the control thread; to other cores; blocks put aside; bad tries, ended connections remembered | 1024; 1024 (of liars 1024 more are told later); 1024; 96 K blocks, 1000: `shard`, `shard::aside`, `swarm::evidence`, `swarm::settle` | `reports`; `letters`; `asides`; `evidence`, `departed` | `who_is_not_listened_to_…`; `letters_that_find_no_room_…`; `so_many_blocks_are_put_aside_…`; `what_is_forgotten_of_bad_tries_is_counted`, `connections_that_are_forgotten_…` |
//!
//! Not here, as what they limit is not: web seeds, uTP, hashes of v2.
#![allow(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod datagrams;
mod encrypted;
mod extended;
mod honest;
mod nodes;
mod scene;
mod single;
mod table;
mod trackers;
