//! Which addresses of the network may be asked: a playlist of somebody's names them, and it is us who connect.
//!
//! From a public address nothing leads to a private one. From an address of this machine, or of a private network, links
//! lead to the same kind, and to the public. The kinds are those of the IANA registries for special purposes ([IPv4],
//! [IPv6]); an IPv6 address that stands for one of IPv4 is what that one is.
//!
//! [IPv4]: https://www.iana.org/assignments/iana-ipv4-special-registry
//! [IPv6]: https://www.iana.org/assignments/iana-ipv6-special-registry

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    Public,
    /// In networks of one's own.
    Private,
    /// On this machine.
    Loopback,
    /// On one wire, or for a purpose of its own: cloud machines are told their secrets there.
    Special,
}

impl Reach {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let is_special = matches!(
            address.octets(),
            [0 | 224..=255, ..]
                | [169, 254, ..]
                | [192, 0, 0 | 2, _]
                | [192, 88, 99, _]
                | [198, 18 | 19, ..]
                | [198, 51, 100, _]
                | [203, 0, 113, _]
        );
        match address.octets() {
            _ if address.is_loopback() => Self::Loopback,
            _ if address.is_private() => Self::Private,
            // Between a provider and its customers.
            [100, 64..=127, ..] => Self::Private,
            _ if is_special => Self::Special,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let v4 = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0, 0, 0, 0, 0, 0xffff, high, low]
            | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
            | [0x2002, high, low, ..] => v4(high, low),
            [0xfc00..=0xfdff, ..] => Self::Private,
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Special,
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Special,
        }
    }
}

/// What may be asked, from one place on.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    from: Reach,
    own: Vec<IpAddr>,
}

impl Gate {
    /// From what has these addresses on. Nobody knows where a name without any is: it counts as public.
    pub(crate) fn new(addresses: &[IpAddr]) -> Self {
        let mut kinds = addresses.iter().copied().map(Reach::of);
        let first = kinds.next().unwrap_or(Reach::Public);
        let from = if kinds.any(|kind| kind == Reach::Public) { Reach::Public } else { first };
        let own = addresses.iter().copied().filter(|_| from != Reach::Public).collect();
        Self { from, own }
    }

    pub(crate) fn lets(&self, address: IpAddr) -> bool {
        match Reach::of(address) {
            Reach::Public => true,
            Reach::Special => self.own.contains(&address),
            kind => kind == self.from || self.own.contains(&address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(addresses: &[&str]) -> impl Fn(&str) -> bool {
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let gate = Gate::new(&addresses);
        move |address| gate.lets(address.parse().unwrap())
    }

    const PRIVATE: [&str; 6] =
        ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"];
    const LOOPBACK: [&str; 4] = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"];
    const SPECIAL: [&str; 12] = [
        "0.0.0.0",
        "169.254.169.254",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "fe80::1",
        "ff02::1",
        "64:ff9b::a9fe:a9fe",
        "2001:db8::1",
        "2002:a9fe:a9fe::1",
    ];
    const PUBLIC: [&str; 5] =
        ["93.184.215.14", "172.32.0.1", "100.128.0.1", "2606:4700::6810:1", "64:ff9b::808:808"];

    #[test]
    fn a_link_leads_to_the_public_or_stays_where_it_is() {
        let (public, unknown) = (gate(&["1.1.1.1"]), gate(&[]));
        let mixed = gate(&["127.0.0.1", "1.1.1.1"]);
        let (private, loopback) = (gate(&["10.0.0.1"]), gate(&["::1", "127.0.0.1"]));
        for address in PUBLIC {
            assert!(public(address) && private(address) && loopback(address), "{address}");
        }
        for address in PRIVATE {
            assert!(private(address) && !public(address) && !loopback(address), "{address}");
        }
        for address in LOOPBACK {
            assert!(loopback(address) && !public(address) && !private(address), "{address}");
        }
        for address in SPECIAL {
            assert!(!public(address) && !private(address) && !loopback(address), "{address}");
        }
        for address in PRIVATE.iter().chain(&LOOPBACK).chain(&SPECIAL) {
            assert!(!unknown(address) && !mixed(address), "{address}");
        }
        assert!(gate(&["169.254.1.1"])("169.254.1.1"), "it was named itself");
    }
}
