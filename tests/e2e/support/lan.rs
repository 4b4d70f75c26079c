//! Hosts on a network of their own: each is a network namespace, and a cable that the kernel plays joins it to a switch,
//! which is a namespace, too.

use super::net::split_http;
use super::process::program;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Says something to a server, as the last argument has it, and prints all that it answers.
const CALL: &str = r#"
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as call:
    call.sendall(sys.argv[3].encode())
    while answer := call.recv(65536):
        sys.stdout.buffer.write(answer)
"#;

/// Some hosts, and no way from them to anybody else. Gone, with all that runs there, when dropped.
pub(crate) struct Lan {
    /// The last is the switch.
    hosts: Vec<String>,
}

impl Lan {
    /// Two hosts.
    pub(crate) fn new() -> Self {
        Self::of(2)
    }

    /// So many hosts, of both families.
    pub(crate) fn of(hosts: usize) -> Self {
        let lan = Self::of_ipv6(hosts);
        for number in 0..=hosts {
            lan.ip(number, &["addr", "add", &format!("{}/24", Self::v4(number)), "dev", "eth0"]);
        }
        lan
    }

    /// So many hosts that have never heard of IPv4.
    pub(crate) fn of_ipv6(hosts: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("seedring-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lan = Self { hosts: (0..=hosts).map(|host| format!("{name}-{host}")).collect() };
        lan.hosts.iter().for_each(|host| ip(&["netns", "add", host]));
        let switch = lan.switch();
        // All multicast goes to everybody: nobody here asks for groups again and again.
        lan.ip(switch, &["link", "add", "eth0", "type", "bridge", "mcast_snooping", "0"]);
        for host in 0..hosts {
            let port = format!("port{host}");
            let cable = ["link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns"];
            lan.ip(host, &[&cable[..], &[&lan.hosts[switch]]].concat());
            lan.ip(switch, &["link", "set", &port, "master", "eth0", "up"]);
        }
        for host in 0..=hosts {
            lan.ip(host, &["link", "set", "lo", "up"]);
            lan.ip(host, &["link", "set", "eth0", "up"]);
            // At once: nobody else is there who could have it.
            lan.ip(host, &["addr", "add", &format!("{}/64", Self::v6(host)), "dev", "eth0", "nodad"]);
        }
        lan
    }

    /// The number of the switch, where all that is said comes by; it can be used as a host.
    pub(crate) fn switch(&self) -> usize {
        self.hosts.len() - 1
    }

    /// The address of a host, from 0.
    pub(crate) fn v4(host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// Its IPv6 address.
    pub(crate) fn v6(host: usize) -> String {
        format!("fd77::{:x}", host + 1)
    }

    /// Sends one HTTP request from a host, as [`super::net::http`] does from here.
    pub(crate) fn http(&self, host: usize, to: SocketAddr, request: &str) -> io::Result<(String, Vec<u8>)> {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", CALL, &to.ip().to_string(), &to.port().to_string(), request]);
        split_http(self.on(host, &python).output()?.stdout)
    }

    /// Bytes that a host has sent, with all heads.
    pub(crate) fn sent(&self, host: usize) -> u64 {
        let count = self.shell(host, "cat /sys/class/net/eth0/statistics/tx_bytes");
        count.trim().parse().unwrap_or_else(|_| panic!("a count of bytes: {count:?}"))
    }

    fn ip(&self, host: usize, args: &[&str]) {
        ip(&[&["-n", &self.hosts[host]], args].concat());
    }

    /// The command, to be run on a host.
    pub(crate) fn on(&self, host: usize, command: &Command) -> Command {
        let mut there = as_root("ip", "iproute2");
        there.args(["netns", "exec", &self.hosts[host]]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => there.env(key, value),
                None => there.env_remove(key),
            };
        }
        there
    }

    /// What `script` prints there.
    pub(crate) fn shell(&self, host: usize, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let output = self.on(host, &command).output().expect("a shell starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in &self.hosts {
            let pids = as_root("ip", "iproute2").args(["netns", "pids", host]).output();
            let pids =
                pids.map(|pids| String::from_utf8_lossy(&pids.stdout).into_owned()).unwrap_or_default();
            for pid in pids.lines() {
                let _ = as_root("kill", "procps").args(["-9", pid]).status();
            }
            let _ = as_root("ip", "iproute2").args(["netns", "del", host]).status();
        }
    }
}

fn as_root(name: &str, package: &str) -> Command {
    let program = program(name, package);
    if rustix::process::geteuid().is_root() {
        return program;
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "--preserve-env"]).arg(program.get_program());
    sudo
}

fn ip(args: &[&str]) {
    let status = as_root("ip", "iproute2").args(args).status().expect("`ip` starts");
    assert!(status.success(), "ip {args:?}: {status}");
}
