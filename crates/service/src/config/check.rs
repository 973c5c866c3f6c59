//! Rules that more than one role has for its settings.

use std::fmt::Display;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

use super::{Faults, Period};

/// A DNS name has no more, and a join token has no room for more.
const ADDRESS_BYTES_MAX: usize = 255;

/// Whether `text` is `host:port` with a host that can be put into a URL.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = match bracketed {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(name),
    };
    host && text.len() <= ADDRESS_BYTES_MAX && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// This machine's name.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Where others call a role: what it was told, or this machine's name and the port of `listen`.
pub fn advertised(advertise: Option<&str>, listen: SocketAddr) -> String {
    let here = || format!("{}:{}", host_name(), listen.port());
    advertise.map_or_else(here, str::to_owned)
}

impl Faults {
    /// An address, if there is one, is `host:port`.
    pub fn check_address(&mut self, key: &str, address: Option<&str>) {
        if address.is_some_and(|address| !is_address(address)) {
            self.add(key, "write host:port, such as node-1.example:7443");
        }
    }

    /// A name, if there is one, can be read.
    pub fn check_name(&mut self, key: &str, name: Option<&str>) {
        if name.is_some_and(|name| name.trim().is_empty()) {
            self.add(key, "leave the name out or write one");
        }
    }

    /// A path does not depend on where the process was started.
    pub fn check_path(&mut self, key: &str, path: &Path) {
        if !path.is_absolute() {
            self.add(key, "write an absolute path");
        }
    }

    /// A number lies in `range`.
    pub fn check_number<T: PartialOrd + Display>(
        &mut self,
        key: &str,
        number: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&number) {
            let (least, most) = range.into_inner();
            self.add(key, format!("write a number from {least} to {most}"));
        }
    }

    /// A length of time lies in `range`.
    pub fn check_period(&mut self, key: &str, period: Period, range: RangeInclusive<Period>) {
        if !range.contains(&period) {
            let (least, most) = range.into_inner();
            self.add(key, format!("write a time from \"{least}\" to \"{most}\""));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in [
            "proxy-1:7444",
            "127.0.0.1:1",
            "[::1]:7444",
            "a_b.example:65535",
        ] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "proxy",
            ":7444",
            "proxy:0",
            "proxy:65536",
            "::1:7444",
            "a b:1",
            "a/b:1",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
        assert!(!is_address(&format!("{}:7444", "a".repeat(300))));
    }

    #[test]
    fn a_role_is_called_where_it_says_or_at_its_machine_and_port() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 7444));
        assert_eq!(advertised(Some("p:1"), listen), "p:1");
        assert_eq!(advertised(None, listen), format!("{}:7444", host_name()));
    }

    #[track_caller]
    fn check(found: impl FnOnce(&mut Faults), expected: Option<&str>) {
        let mut faults = Faults::default();
        found(&mut faults);
        let messages: Vec<_> = faults.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(messages, Vec::from_iter(expected));
    }

    #[test]
    fn what_breaks_a_rule_is_told_what_to_write() {
        let minute = Period(Duration::from_secs(60));
        let up_to_an_hour = || minute..=Period(Duration::from_secs(3600));
        check(|faults| faults.check_address("k", None), None);
        check(|faults| faults.check_address("k", Some("a:1")), None);
        let told = Some("write host:port, such as node-1.example:7443");
        check(|faults| faults.check_address("k", Some("a")), told);
        check(|faults| faults.check_name("k", Some("a")), None);
        let told = Some("leave the name out or write one");
        check(|faults| faults.check_name("k", Some(" ")), told);
        check(|faults| faults.check_path("k", Path::new("/a")), None);
        let told = Some("write an absolute path");
        check(|faults| faults.check_path("k", Path::new("a")), told);
        check(|faults| faults.check_number("k", 3, 1..=3), None);
        let told = Some("write a number from 1 to 3");
        check(|faults| faults.check_number("k", 0, 1..=3), told);
        check(|faults| faults.check_number("k", 4, 1..=3), told);
        check(
            |faults| faults.check_period("k", minute, up_to_an_hour()),
            None,
        );
        let told = Some("write a time from \"1m\" to \"1h\"");
        let long = Period(Duration::from_secs(3601));
        check(
            |faults| faults.check_period("k", long, up_to_an_hour()),
            told,
        );
    }
}
