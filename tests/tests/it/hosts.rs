//! Hosts with separate network stacks, joined by a switch: network namespaces that can be partitioned. They are removed at the
//! end of the test.

use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use super::process::run;

/// Hosts, and the switch between them.
pub struct Hosts {
    /// The prefix of the namespaces' names.
    name: String,
    count: usize,
}

impl Hosts {
    /// Creates this many hosts. Requires root.
    pub fn new(count: usize) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let name = format!("sl{:x}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let hosts = Self { name, count };
        // The switch has its own namespace, too: the machine's own packet filters do not see its traffic.
        let switch = hosts.namespace("s");
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add br0 type bridge"));
        ip(&format!("-n {switch} link set br0 up"));
        for number in 0..count {
            let host = hosts.namespace(&number.to_string());
            ip(&format!("netns add {host}"));
            ip(&format!("-n {host} link set lo up"));
            ip(&format!("-n {host} link add eth0 type veth peer name h{number} netns {switch}"));
            ip(&format!("-n {host} addr add {}/24 dev eth0", hosts.address(number)));
            ip(&format!("-n {host} link set eth0 up"));
            ip(&format!("-n {switch} link set h{number} master br0 up"));
        }
        hosts
    }

    fn namespace(&self, of: &str) -> String {
        format!("{}{of}", self.name)
    }

    /// The address of a host.
    pub fn address(&self, number: usize) -> String {
        format!("10.99.0.{}", number + 1)
    }

    /// A command that runs on a host.
    pub fn command(&self, number: usize, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace(&number.to_string()))).arg(program);
        command
    }

    /// Drops all packets from one host to another.
    pub fn cut(&self, from: usize, to: usize) {
        self.filter(to, &["-I", "INPUT", "-s", &self.address(from), "-j", "DROP"]);
    }

    /// Removes all partitions.
    pub fn heal(&self) {
        (0..self.count).for_each(|host| self.filter(host, &["-F", "INPUT"]));
    }

    fn filter(&self, number: usize, rule: &[&str]) {
        let answer = run(self.command(number, "iptables".as_ref()).arg("-w").args(rule));
        assert_eq!(answer.code, 0, "{rule:?}: {answer:?}");
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let hosts = (0..self.count).map(|number| number.to_string());
        for host in hosts.chain(["s".to_owned()]) {
            // It may not exist yet.
            run(Command::new("ip").args(["netns", "del", &self.namespace(&host)]));
        }
    }
}

fn ip(line: &str) {
    let answer = run(Command::new("ip").args(line.split(' ')));
    assert_eq!(answer.code, 0, "ip {line}: {answer:?}");
}
