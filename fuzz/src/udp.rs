//! UDP trackers: an exchange with a tracker that may say anything, and others who say something in its name.

use super::script::Script;
use seedring::discovery::tracker::{
    AnnounceRequest, MAX_PEERS, PeerAddr, UdpExchange, UdpHeard, UdpPatience, UdpQuestion, UdpResponse,
    UdpStep,
};
use seedring::metainfo::InfoHash;
use seedring::wire::mse::Encryption;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most torrents of one scrape (BEP 15).
const MOST_SCRAPED: usize = 74;

/// The input says what is asked, and then what comes when.
pub fn udp_tracker(input: &[u8]) {
    let mut script = Script(input);
    let kind = script.byte();
    let tracker: SocketAddr = if kind & 1 == 0 { ([192, 0, 2, 1], 80).into() } else { ([1; 8], 80).into() };
    let question = if kind & 2 == 0 {
        UdpQuestion::Announce(request(), "/announce?key=".to_owned() + &"x".repeat(usize::from(kind) * 4))
    } else {
        UdpQuestion::Scrape(vec![InfoHash([3; 20]); usize::from(kind) + 1])
    };
    let mut now = Instant::now();
    let mut exchange = UdpExchange::new(tracker, question, UdpPatience::default());
    let mut transaction = 0;
    for _ in 0..64 {
        let drawn = u32::from(script.byte()) << 24 | 0x77;
        match exchange.poll(now, || drawn) {
            UdpStep::Send(datagram) => {
                assert!(datagram.len() <= 16 + 20 * MOST_SCRAPED && datagram[12..16] == drawn.to_be_bytes());
                transaction = drawn;
                continue;
            }
            UdpStep::Wait(until) => {
                if script.is_over() {
                    now = until;
                    continue;
                }
            }
            UdpStep::GiveUp => return,
        }
        let (stranger, wrong) = (script.byte().is_multiple_of(8), script.byte().is_multiple_of(8));
        let action = u32::from(script.byte());
        let len = usize::from(script.number());
        let id = if wrong { !transaction } else { transaction };
        let datagram = [&action.to_be_bytes()[..], &id.to_be_bytes(), script.bytes(len)].concat();
        let from = if stranger { ([192, 0, 2, 2], 80).into() } else { tracker };
        let before = format!("{exchange:?}");
        match exchange.hear(now, from, &datagram) {
            UdpHeard::Ignored => assert_eq!(format!("{exchange:?}"), before, "nothing has changed"),
            heard => {
                assert!(!stranger && !wrong, "what answers nothing is believed");
                if let UdpHeard::Answer(answer) = heard {
                    return check(answer);
                }
            }
        }
    }
}

fn check(answer: UdpResponse) {
    match answer {
        UdpResponse::Announced(reply) => {
            assert!(reply.peers.len() <= MAX_PEERS);
            assert!(reply.interval.is_none_or(|interval| interval <= Duration::from_secs(24 * 60 * 60)));
            for peer in reply.peers {
                let PeerAddr::Socket(addr) = peer else { panic!("a datagram has no names: {peer:?}") };
                assert!(addr.port() != 0 && !addr.ip().is_multicast() && !addr.ip().is_unspecified());
            }
        }
        UdpResponse::Error(text) => {
            assert!(text.chars().count() <= 210 && !text.chars().any(char::is_control))
        }
        UdpResponse::Scraped(_) => {}
        UdpResponse::Connected(_) => panic!("a connection id answers no question"),
    }
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([7; 20]),
        peer_id: [8; 20],
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event: None,
        num_want: 50,
        key: 1,
        tracker_id: None,
        hostname: None,
        encryption: Encryption::Allowed,
    }
}
