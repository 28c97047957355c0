//! Records of DNS as Active Directory keeps them: values of `dnsRecord` (MS-DNSP 2.3.2.2) on objects of class `dnsNode`.
//!
//! Written over LDAP, they are in force with the next question; no part of the DNS protocol is needed.

use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::directory::BASE;

const DOMAIN: &str = "corp.example";
const TTL_SECONDS: u32 = 60;
const TYPE_A: u16 = 1;
const TYPE_SRV: u16 = 33;

/// An address of a name.
pub fn address(address: Ipv4Addr) -> Vec<u8> {
    record(TYPE_A, &address.octets())
}

/// A place of a service. The port is the one of LDAP, whatever the service: nobody may rely on it.
pub fn service(priority: u16, weight: u16, target: &str) -> Vec<u8> {
    let mut data = Vec::new();
    for number in [priority, weight, 389] {
        data.extend(number.to_be_bytes());
    }
    let mut name = Vec::new();
    for label in target.split('.') {
        name.push(octet(label.len()));
        name.extend(label.as_bytes());
    }
    name.push(0);
    data.extend([octet(name.len()), octet(target.split('.').count())]);
    data.extend(name);
    record(TYPE_SRV, &data)
}

/// LDIF that makes a name.
pub fn addition(name: &str, records: &[Vec<u8>]) -> String {
    format!(
        "dn: {}\nchangetype: add\nobjectClass: dnsNode\n{}",
        dn(name),
        values(records)
    )
}

/// LDIF that gives a name other records.
pub fn replacement(name: &str, records: &[Vec<u8>]) -> String {
    format!(
        "dn: {}\nchangetype: modify\nreplace: dnsRecord\n{}-\n",
        dn(name),
        values(records)
    )
}

fn values(records: &[Vec<u8>]) -> String {
    records
        .iter()
        .map(|record| format!("dnsRecord:: {}\n", STANDARD.encode(record)))
        .collect()
}

/// Two zones: what is below `_msdcs` belongs to the forest.
fn dn(name: &str) -> String {
    let below = name
        .strip_suffix(DOMAIN)
        .and_then(|rest| rest.strip_suffix('.'))
        .expect("a name below the domain");
    match below.strip_suffix("._msdcs") {
        Some(below) => {
            format!("DC={below},DC=_msdcs.{DOMAIN},CN=MicrosoftDNS,DC=ForestDnsZones,{BASE}")
        }
        None => format!("DC={below},DC={DOMAIN},CN=MicrosoftDNS,DC=DomainDnsZones,{BASE}"),
    }
}

fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    const VERSION: u8 = 5;
    const RANK_ZONE: u8 = 0xf0;
    let length = u16::try_from(data.len()).expect("a short record");
    let mut record = Vec::new();
    record.extend(length.to_le_bytes());
    record.extend(kind.to_le_bytes());
    record.extend([VERSION, RANK_ZONE, 0, 0]);
    record.extend(1_u32.to_le_bytes());
    record.extend(TTL_SECONDS.to_be_bytes());
    // Reserved, and a time stamp of 0: this record does not age.
    record.extend([0; 8]);
    record.extend(data);
    record
}

fn octet(count: usize) -> u8 {
    u8::try_from(count).expect("names are short")
}
