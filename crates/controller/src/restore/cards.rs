//! What a restored VM's network cards are plugged into.

use stillwater_types::{Fault, Reason};
use stillwater_vsphere::{NewNic, NicNetwork, SiteNetwork};

use super::Draft;
use crate::point::{Section, Surroundings};

/// A network card that is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its label.
    pub label: String,
    /// What it was plugged into; none when that has no name.
    pub from: Option<String>,
    /// What it is plugged into.
    pub to: String,
    /// The reference of that.
    pub reference: Option<String>,
    /// Whether it is plugged in when the VM starts.
    pub is_connected: bool,
    /// The address that it keeps.
    pub mac: Option<String>,
}

impl Draft<'_> {
    /// Each card is plugged into what was asked for, else into the network of the same name. Without
    /// one it is made all the same, disconnected: a guest knows its cards by their place.
    pub(super) fn take_cards(&mut self, section: &Section) -> Result<(), Fault> {
        let around = section.surroundings.as_ref();
        let nics = std::mem::take(&mut self.vm.nics);
        let names: Vec<Option<String>> = nics
            .iter()
            .map(|nic| name_of(&nic.network, around))
            .collect();
        self.check_changes(&names);
        for (nic, from) in nics.into_iter().zip(names) {
            self.take_card(nic, from);
        }
        Ok(())
    }

    fn check_changes(&mut self, names: &[Option<String>]) {
        for (from, to) in &self.work.options.networks {
            if !names.iter().flatten().any(|name| name == from) {
                let known: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
                let message = format!(
                    "no card of the vm was plugged into network {from:?}; its networks are {known:?}"
                );
                let fault = Fault::new(Reason::BadField, message).with("network", from);
                self.refusals.push(fault);
            }
            if find(&self.site.networks, to).is_none() {
                let host = &self.site.placement.host_name;
                let message = format!("host {host} has no network {to:?}");
                let fault = Fault::new(Reason::PlacementNotFound, message).with("network", to);
                self.refusals.push(fault);
            }
        }
    }

    fn take_card(&mut self, nic: NewNic, from: Option<String>) {
        let changes = &self.work.options.networks;
        let change = changes
            .iter()
            .find(|(old, _)| Some(old) == from.as_ref())
            .map(|(_, new)| new.as_str());
        let wanted = change.or(from.as_deref());
        let found = wanted
            .and_then(|name| find(&self.site.networks, name))
            .cloned();
        let (network, is_connected) = match found {
            Some(network) => (network, nic.start_connected),
            None => match placeholder(&self.site.networks).cloned() {
                Some(network) => {
                    let loss = format!(
                        "{}: network {} is not there; the card is made disconnected, on {}",
                        nic.label,
                        from.as_deref().unwrap_or("without a name"),
                        network.name
                    );
                    self.losses.push(loss);
                    (network, false)
                }
                None => {
                    let loss = format!(
                        "{}: the host has no network; the card is left out",
                        nic.label
                    );
                    self.losses.push(loss);
                    return;
                }
            },
        };
        self.cards.push(Card {
            label: nic.label.clone(),
            from,
            to: network.name,
            reference: Some(network.reference),
            is_connected,
            mac: None,
        });
        self.vm.nics.push(NewNic {
            network: network.network,
            start_connected: is_connected,
            ..nic
        });
    }
}

/// What people call a network that a saved card names.
fn name_of(network: &NicNetwork, around: Option<&Surroundings>) -> Option<String> {
    match network {
        NicNetwork::Standard(name) => Some(name.clone()),
        NicNetwork::Distributed { portgroup_key, .. } => {
            let known = around.map_or(&[][..], |around| &around.networks);
            known
                .iter()
                .find(|known| known.portgroup_key.as_ref() == Some(portgroup_key))
                .map(|known| known.name.clone())
        }
        NicNetwork::Opaque { id, .. } => Some(id.clone()),
    }
}

fn find<'a>(networks: &'a [SiteNetwork], name: &str) -> Option<&'a SiteNetwork> {
    let is_it = |network: &&SiteNetwork| {
        let is_opaque = matches!(&network.network, NicNetwork::Opaque { id, .. } if id == name);
        network.name == name || is_opaque
    };
    networks.iter().find(is_it)
}

/// What a card without a network is plugged into, disconnected: it must be plugged into something.
fn placeholder(networks: &[SiteNetwork]) -> Option<&SiteNetwork> {
    let is_standard = |network: &&SiteNetwork| matches!(network.network, NicNetwork::Standard(_));
    networks
        .iter()
        .find(is_standard)
        .or_else(|| networks.first())
}
