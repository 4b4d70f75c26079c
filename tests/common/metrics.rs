//! The page of figures, read as Prometheus reads it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The samples of `/metrics`, by name and labels.
#[derive(Debug)]
pub(crate) struct Samples(BTreeMap<String, u64>);

impl Samples {
    /// As the page is now.
    pub(crate) fn fetch(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, page) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let samples = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse::<f64>().expect("a number") as u64)
        });
        Self(samples.collect())
    }

    /// The sum of all series of this name that have these labels, written as on the page.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let wanted = |key: &str| {
            let (series, rest) = key.split_once('{').unwrap_or((key, ""));
            series == name && labels.iter().all(|label| rest.contains(label))
        };
        self.0.iter().filter(|(key, _)| wanted(key)).map(|(_, value)| value).sum()
    }

    /// A figure of each core, in their order.
    pub(crate) fn by_core(&self, name: &str, labels: &[&str]) -> Vec<u64> {
        let has = |core: &String| self.0.keys().any(|key| key.starts_with(name) && key.contains(core));
        let cores = (0..).map(|core| format!("core=\"{core}\"")).take_while(has);
        cores.map(|core| self.sum(name, &[&[core.as_str()], labels].concat())).collect()
    }
}
