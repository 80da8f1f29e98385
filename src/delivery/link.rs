//! A signal that all lanes hear: the link may be up again.
//!
//! After an outage every lane sits in a back-off of up to a minute. [`LinkUp`] ends that early (RULES S31): when the
//! kernel reports a new route or address ([`watch_kernel`]), when another integration's far end accepts something again,
//! or when the operator says so. A lane that hears it starts an attempt within two seconds.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::watch;

/// Network changes come in bursts (address, then route, then the next family): one signal a burst.
const BURST: Duration = Duration::from_millis(500);

/// Says and hears that the link may be up.
#[derive(Clone, Debug)]
pub struct LinkUp {
    say: watch::Sender<u64>,
    hear: watch::Receiver<u64>,
}

impl LinkUp {
    /// A signal that nobody has given yet.
    pub fn new() -> LinkUp {
        let (say, hear) = watch::channel(0);
        LinkUp { say, hear }
    }

    /// Wakes every lane that waits.
    pub fn signal(&self) {
        self.say.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Wakes every lane that waits but this one: whoever brings the news must not cut short a wait of its own.
    pub(super) fn signal_others(&mut self) {
        let unheard = self.hear.has_changed().unwrap_or(false);
        self.signal();
        if !unheard {
            self.hear.mark_unchanged();
        }
    }

    /// Waits for the next signal. Safe to cancel.
    pub async fn heard(&mut self) {
        // The sender lives in this very struct, so the channel can't be closed.
        let _ = self.hear.changed().await;
    }
}

impl Default for LinkUp {
    fn default() -> Self {
        LinkUp::new()
    }
}

/// Signals `link_up` whenever the kernel reports a change of addresses or routes. Returns only on trouble: a gateway
/// without rtnetlink has the other signals and its back-off.
///
/// # Errors
/// What the kernel said.
pub async fn watch_kernel(link_up: LinkUp) -> std::io::Result<()> {
    // The runtime can wait for a datagram socket and does not ask of which family; a type for rtnetlink it has not.
    let socket = tokio::net::UdpSocket::from_std(std::net::UdpSocket::from(open_rtnetlink()?))?;
    loop {
        socket.readable().await?;
        if drain(&socket) {
            // A modem that flaps, or IPv6 that renews its routes every minute, must not fill the log.
            log::debug!("link: addresses or routes changed; trying again now");
            link_up.signal();
        }
        tokio::time::sleep(BURST).await;
    }
}

/// An rtnetlink socket that hears of links, addresses and routes (rtnetlink(7)).
fn open_rtnetlink() -> std::io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};
    // RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
    // No protocol means NETLINK_ROUTE, which is 0.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// Empties the socket; whether anything was in it. What exactly changed does not matter: an attempt will tell.
fn drain(socket: &tokio::net::UdpSocket) -> bool {
    let mut buffer = [0u8; 4096];
    let mut any = false;
    while socket.try_recv(&mut buffer).is_ok_and(|n| n > 0) {
        any = true;
    }
    any
}
