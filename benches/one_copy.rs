//! What this machine takes at the least to seed over loopback by TCP with one copy: a thread that does nothing but hand
//! blocks that lie in memory to the kernel, sixteen with their heads at a time, and one on another core that drops them.
//! `scripts/compare` says what whole clients cost; no program that copies once can be cheaper than this.

use rustix::event::epoll;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: [usize; 2] = [16, 1];
const BLOCK: usize = 16 * 1024;
/// Blocks in one send.
const BLOCKS: usize = 16;
const ROUNDS: usize = 5;

/// Bytes that are sent from, over and over; and how many in all.
fn sizes() -> (usize, usize) {
    if std::env::args().any(|arg| arg == "--bench") { (1 << 30, 4 << 30) } else { (8 << 20, 16 << 20) }
}

/// The calling thread runs on this core alone, if there is such.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waits until streams are ready; gives their numbers.
fn ready(poll: &impl std::os::fd::AsFd) -> Vec<usize> {
    let mut events = Vec::with_capacity(64);
    epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), None).expect("it waits");
    events.iter().map(|event| event.data.u64() as usize).collect()
}

fn polled(streams: &[TcpStream], flags: epoll::EventFlags) -> std::os::fd::OwnedFd {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a poll");
    for (number, stream) in streams.iter().enumerate() {
        stream.set_nonblocking(true).expect("it does not block");
        epoll::add(&poll, stream, epoll::EventData::new_u64(number as u64), flags).expect("it is polled");
    }
    poll
}

/// Takes what comes until all streams have ended.
fn drop_all(mut streams: Vec<TcpStream>) {
    pin(1);
    let poll = polled(&streams, epoll::EventFlags::IN);
    let mut buffer = vec![0; BLOCK * BLOCKS];
    let mut open = streams.len();
    while open > 0 {
        for number in ready(&poll) {
            match streams[number].read(&mut buffer) {
                Ok(0) => {
                    epoll::delete(&poll, &streams[number]).expect("it was polled");
                    open -= 1;
                }
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
    }
}

/// Sends so many bytes in all; what it took.
fn send(mut streams: Vec<TcpStream>, payload: &[u8], total: usize) -> (Duration, Duration, usize) {
    let poll = polled(&streams, epoll::EventFlags::OUT);
    let head = [7; 13];
    let share = payload.len() / BLOCK / streams.len() * BLOCK;
    let mut places: Vec<usize> = (0..streams.len()).map(|number| number * share).collect();
    let (cpu, since, mut sent) = (cpu_time(), Instant::now(), 0);
    while sent < total {
        for number in ready(&poll) {
            let blocks = (0..BLOCKS).map(|block| (places[number] + block * BLOCK) % payload.len());
            let slices: Vec<IoSlice<'_>> =
                blocks.flat_map(|at| [IoSlice::new(&head), IoSlice::new(&payload[at..at + BLOCK])]).collect();
            match streams[number].write_vectored(&slices) {
                Ok(len) => {
                    sent += len;
                    places[number] = (places[number] + len) / BLOCK * BLOCK % payload.len();
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
    }
    (cpu_time() - cpu, since.elapsed(), sent)
}

fn main() {
    pin(0);
    let (len, total) = sizes();
    let payload: Vec<u8> = (0..len).map(|at| (at / 4096) as u8).collect();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = listener.local_addr().expect("an address");
    for connections in CONNECTIONS {
        for _ in 0..ROUNDS {
            let dial = |_| TcpStream::connect(addr).expect("it connects");
            let takers: Vec<TcpStream> = (0..connections).map(dial).collect();
            let givers = (0..connections).map(|_| listener.accept().expect("a connection").0).collect();
            let taker = thread::spawn(move || drop_all(takers));
            let (cpu, time, sent) = send(givers, &payload, total);
            taker.join().expect("all of it is dropped");
            let gigabytes = sent as f64 / 1e9;
            let (cost, speed) = (cpu.as_secs_f64() / gigabytes, gigabytes / time.as_secs_f64());
            println!("{connections} connections: {cost:.3} CPU s/GB, {speed:.2} GB/s");
        }
    }
}
