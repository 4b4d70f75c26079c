//! Hosts on a network of their own: each is a network namespace, joined to the other by a cable that the kernel plays.

use super::process::program;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Two hosts with a cable between them, and no way to anybody else. Gone, with all that runs there, when dropped.
pub(crate) struct Lan {
    hosts: [String; 2],
}

impl Lan {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("seedring-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lan = Self { hosts: ["a", "b"].map(|host| format!("{name}-{host}")) };
        lan.hosts.iter().for_each(|host| ip(&["netns", "add", host]));
        let [a, b] = &lan.hosts;
        ip(&["-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b]);
        for (number, host) in lan.hosts.iter().enumerate() {
            ip(&["-n", host, "link", "set", "lo", "up"]);
            ip(&["-n", host, "link", "set", "eth0", "up"]);
            ip(&["-n", host, "addr", "add", &format!("{}/24", Self::v4(number)), "dev", "eth0"]);
            // At once: nobody else is there who could have it.
            ip(&["-n", host, "addr", "add", &format!("{}/64", Self::v6(number)), "dev", "eth0", "nodad"]);
        }
        lan
    }

    /// The address of a host, 0 or 1.
    pub(crate) fn v4(host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// Its IPv6 address.
    pub(crate) fn v6(host: usize) -> String {
        format!("fd77::{}", host + 1)
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
