use super::request;
use crate::discovery::tracker::udp_exchange::{Exchange, Heard, Question, Step, UdpPatience};
use crate::discovery::tracker::udp_packet::Response;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
/// What stands for a connection id where there is none (BEP 15).
const NO_ID: u64 = 0x417_2710_1980;

/// An exchange with a clock in seconds, and without jitter: each second random number is 0.
struct Table {
    exchange: Exchange,
    start: Instant,
    now: u64,
    random: u32,
    /// The connection id of the next datagram.
    id: u64,
}

fn tracker() -> SocketAddr {
    "192.0.2.1:6969".parse().unwrap()
}

impl Table {
    fn new() -> Self {
        let start = Instant::now();
        let question = Question::Announce(request(), "/announce".into());
        let exchange = Exchange::new(tracker(), question, UdpPatience::default());
        Self { exchange, start, now: 0, random: 0, id: NO_ID }
    }

    fn poll(&mut self) -> Step {
        let (now, mut jitter) = (self.start + Duration::from_secs(self.now), true);
        let random = &mut self.random;
        self.exchange.poll(now, || {
            jitter = !jitter;
            if jitter {
                0
            } else {
                *random += 1;
                *random
            }
        })
    }

    /// Expects a datagram with this action to be sent now, and to be waited for so long.
    fn sends(&mut self, action: u32, wait: u64) -> &mut Self {
        let Step::Send(packet) = self.poll() else { panic!("nothing is sent at {} s", self.now) };
        assert_eq!(packet[..8], self.id.to_be_bytes(), "the connection id at {} s", self.now);
        assert_eq!(packet[8..12], action.to_be_bytes(), "the action at {} s", self.now);
        assert_eq!(packet[12..16], self.random.to_be_bytes(), "a new id");
        let until = self.start + Duration::from_secs(self.now + wait);
        assert_eq!(self.poll(), Step::Wait(until), "at {} s", self.now);
        self
    }

    /// From now on, datagrams have this connection id.
    fn by(&mut self, id: u64) -> &mut Self {
        self.id = id;
        self
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self
    }

    fn hear_from(&mut self, from: SocketAddr, transaction: u32, fields: &[u32]) -> Heard {
        let mut packet = fields[0].to_be_bytes().to_vec();
        packet.extend(transaction.to_be_bytes());
        packet.extend(fields[1..].iter().flat_map(|field| field.to_be_bytes()));
        self.exchange.hear(self.start + Duration::from_secs(self.now), from, &packet)
    }

    /// The tracker answers the last datagram.
    fn hear(&mut self, fields: &[u32]) -> Heard {
        self.hear_from(tracker(), self.random, fields)
    }
}

#[test]
fn a_connection_then_the_question() {
    let mut table = Table::new();
    table.sends(CONNECT, 15).at(1);
    assert_eq!(table.hear(&[CONNECT, 5, 6]), Heard::Connected);
    table.by(5 << 32 | 6).sends(ANNOUNCE, 15).at(2);
    let Heard::Answer(Response::Announced(reply)) = table.hear(&[ANNOUNCE, 900, 1, 2]) else { panic!() };
    assert_eq!(reply.interval, Some(Duration::from_secs(900)));
}

#[test]
fn waits_double_eight_times() {
    let mut table = Table::new();
    let mut now = 0;
    for doublings in 0..=8 {
        let wait = 15 << doublings;
        table.at(now).sends(CONNECT, wait);
        now += wait;
    }
    assert_eq!(table.at(now).poll(), Step::GiveUp);
}

#[test]
fn the_question_is_repeated_as_in_the_example_of_bep_15() {
    let mut table = Table::new();
    table.sends(CONNECT, 15).at(1);
    assert_eq!(table.hear(&[CONNECT, 5, 6]), Heard::Connected);
    table.by(5 << 32 | 6).at(2).sends(ANNOUNCE, 15).at(17).sends(ANNOUNCE, 30).at(47).sends(ANNOUNCE, 60);
    // The connection id is too old by now.
    table.by(NO_ID).at(107).sends(CONNECT, 120).at(227).sends(CONNECT, 240).at(228);
    assert_eq!(table.hear(&[CONNECT, 7, 8]), Heard::Connected);
    table.by(7 << 32 | 8).sends(ANNOUNCE, 240);
}

#[test]
fn jitter_makes_a_wait_an_eighth_longer_at_most() {
    let now = Instant::now();
    for (random, most) in [(0, 15_000), (u32::MAX / 2, 15_938), (u32::MAX, 16_875)] {
        let question = Question::Scrape(vec![]);
        let mut exchange = Exchange::new(tracker(), question, UdpPatience::default());
        assert!(matches!(exchange.poll(now, || random), Step::Send(_)));
        let Step::Wait(until) = exchange.poll(now, || random) else { panic!("it waits") };
        assert!((until - now).as_millis().abs_diff(most) <= 1, "{:?}", until - now);
    }
}

#[test]
fn strangers_change_nothing() {
    let mut table = Table::new();
    // Before anything was asked.
    assert_eq!(table.hear(&[CONNECT, 5, 6]), Heard::Ignored);
    table.sends(CONNECT, 15);
    let id = table.random;
    for (from, transaction, fields) in [
        ("192.0.2.1:6970", id, &[CONNECT, 5, 6][..]),
        ("192.0.2.2:6969", id, &[CONNECT, 5, 6]),
        ("192.0.2.1:6969", id + 1, &[CONNECT, 5, 6]),
        ("192.0.2.1:6969", id + 1, &[3]),
        ("192.0.2.2:6969", id, &[3]),
        ("192.0.2.1:6969", id, &[CONNECT, 5]),
        ("192.0.2.1:6969", id, &[ANNOUNCE, 900, 1, 2]),
    ] {
        let heard = table.hear_from(from.parse().unwrap(), transaction, fields);
        assert_eq!(heard, Heard::Ignored, "{from} {transaction} {fields:?}");
        assert_eq!(table.poll(), Step::Wait(table.start + Duration::from_secs(15)));
    }
    // A late answer to an earlier datagram is none to this one.
    table.at(15).sends(CONNECT, 30);
    assert_eq!(table.hear_from(tracker(), id, &[CONNECT, 5, 6]), Heard::Ignored);
    assert_eq!(table.hear(&[CONNECT, 5, 6]), Heard::Connected);
}
