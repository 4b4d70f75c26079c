//! Crowds of strangers, who may be one.

use super::node::{HASH, knowing, query, sent, talk, told};
use super::{addr, id};
use crate::discovery::dht::Dht;
use crate::discovery::dht::encode::Ask;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Seconds of a flood, and queries in each.
const SECONDS: u32 = 40;
const RATE: u32 = 500;
/// When it begins: those that are known have been heard of before.
const BEGUN: Duration = Duration::from_secs(2 * 60);

fn v6(site: u16, net: u16) -> SocketAddr {
    (IpAddr::from([0x2001, 0xdb8, site, net, 0, 0, 0, 1]), 6881).into()
}

/// A crowd asks, each time from another address; `others` do something once a second.
fn flood(dht: &mut Dht, crowd: impl Fn(u32) -> SocketAddr, mut others: impl FnMut(&mut Dht, Duration, u32)) {
    let get = query(&Ask::GetPeers(HASH), id(&[66]));
    for n in 0..SECONDS * RATE {
        let now = BEGUN + Duration::from_secs(1) * n / RATE;
        dht.tick(now);
        dht.hear(now, crowd(n), &get);
        if n % RATE == RATE / 2 {
            others(dht, now, n / RATE);
        }
        sent(dht);
    }
}

#[test]
fn the_crowd_of_a_site_shuts_out_neither_who_is_known_nor_strangers() {
    let mut dht = knowing();
    let get = query(&Ask::GetPeers(HASH), id(&[99]));
    let mut late = 0;
    flood(
        &mut dht,
        |n| v6(7, n as u16),
        |dht, now, second| {
            // One that has proven long ago that it is there, and two that are new.
            let known = (addr(256), id(&[1]));
            assert_eq!(told(&talk(dht, now, known, &get)).1, 50, "in second {second}");
            let strangers = [addr((300 + second) * 256), v6(100 + second as u16, 0)];
            for at in strangers {
                late += usize::from(talk(dht, now, (at, id(&[99])), &get).is_empty());
            }
        },
    );
    let counted = dht.counters();
    assert_eq!(late, 0, "{counted:?}");
    assert!(counted.over_site_limit > u64::from(SECONDS * RATE) * 9 / 10, "{counted:?}");
    assert_eq!(dht.limits.addresses(), 60 + 2 * SECONDS as usize + 64);
}

#[test]
fn a_crowd_of_forged_addresses_shuts_out_nobody_who_is_known() {
    let mut dht = knowing();
    let get = query(&Ask::GetPeers(HASH), id(&[99]));
    flood(
        &mut dht,
        |n| addr((1000 + n) * 256),
        |dht, now, second| {
            assert_eq!(told(&talk(dht, now, (addr(256), id(&[1])), &get)).1, 50, "in second {second}");
        },
    );
    let counted = dht.counters();
    assert!(counted.over_address_limit > 10_000 && counted.over_upload_limit > 10_000, "{counted:?}");
}
