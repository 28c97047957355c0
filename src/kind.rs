//! What kind of recipient an object is, by `msExchRecipientTypeDetails`.
//!
//! The attribute is a 64-bit integer of Exchange's schema; without it (Samba, no Exchange schema) nothing is known and
//! `proxyAddresses` alone decides. The table is that of the public enumeration `RecipientTypeDetails`. A value that is
//! not in it is a kind of a later Exchange: it counts as a recipient, because a refused customer is worse than a bounce.

/// What a kind means for the question whether mail is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody answers: mailboxes, contacts, groups, public folders, here or in the cloud.
    Recipient,
    /// Exchange's own: health, arbitration, discovery and the like.
    System,
    /// Not mail-enabled; an address on it is unexpected.
    NotMailEnabled,
    /// A value that this version does not know.
    Unknown,
}

const KINDS: &[(u64, &str, Class)] = &[
    (1, "user mailbox", Class::Recipient),
    (2, "linked mailbox", Class::Recipient),
    (4, "shared mailbox", Class::Recipient),
    (8, "legacy mailbox", Class::Recipient),
    (16, "room mailbox", Class::Recipient),
    (32, "equipment mailbox", Class::Recipient),
    (64, "mail contact", Class::Recipient),
    (128, "mail user", Class::Recipient),
    (256, "distribution group", Class::Recipient),
    (512, "non-universal distribution group", Class::Recipient),
    (1024, "mail-enabled security group", Class::Recipient),
    (2048, "dynamic distribution group", Class::Recipient),
    (4096, "mail-enabled public folder", Class::Recipient),
    (8192, "system attendant mailbox", Class::System),
    (16384, "system mailbox", Class::System),
    (32768, "mail forest contact", Class::Recipient),
    (0x1_0000, "user without mail", Class::NotMailEnabled),
    (0x2_0000, "contact without mail", Class::NotMailEnabled),
    (0x4_0000, "group without mail", Class::NotMailEnabled),
    (0x8_0000, "group without mail", Class::NotMailEnabled),
    (0x10_0000, "group without mail", Class::NotMailEnabled),
    (0x20_0000, "disabled user", Class::NotMailEnabled),
    (0x40_0000, "Microsoft Exchange recipient", Class::System),
    (0x80_0000, "arbitration mailbox", Class::System),
    (0x100_0000, "mailbox plan", Class::System),
    (0x200_0000, "linked user", Class::NotMailEnabled),
    (0x1000_0000, "room list", Class::Recipient),
    (0x2000_0000, "discovery mailbox", Class::System),
    (0x4000_0000, "role group", Class::System),
    (0x8000_0000, "remote user mailbox", Class::Recipient),
    (0x1_0000_0000, "computer", Class::NotMailEnabled),
    (0x2_0000_0000, "remote room mailbox", Class::Recipient),
    (0x4_0000_0000, "remote equipment mailbox", Class::Recipient),
    (0x8_0000_0000, "remote shared mailbox", Class::Recipient),
    (0x10_0000_0000, "public folder mailbox", Class::System),
    (0x20_0000_0000, "team mailbox", Class::Recipient),
    (0x40_0000_0000, "remote team mailbox", Class::Recipient),
    (0x80_0000_0000, "monitoring mailbox", Class::System),
    (0x100_0000_0000, "group mailbox", Class::Recipient),
    (0x200_0000_0000, "linked room mailbox", Class::Recipient),
    (0x400_0000_0000, "audit log mailbox", Class::System),
    (0x1000_0000_0000, "scheduling mailbox", Class::Recipient),
    (
        0x4000_0000_0000,
        "auxiliary audit log mailbox",
        Class::System,
    ),
    (
        0x8000_0000_0000,
        "supervisory review mailbox",
        Class::System,
    ),
];

/// The class of a value of `msExchRecipientTypeDetails`.
pub fn class(recipient_type: u64) -> Class {
    find(recipient_type).map_or(Class::Unknown, |(_, _, class)| *class)
}

/// Whether it is a mailbox in the cloud that the directory only knows of.
pub fn is_remote(recipient_type: u64) -> bool {
    name(recipient_type).starts_with("remote ")
}

/// Its name for people: `shared mailbox`.
pub fn name(recipient_type: u64) -> &'static str {
    find(recipient_type).map_or(
        "recipient of a kind unknown to this version",
        |(_, name, _)| *name,
    )
}

fn find(recipient_type: u64) -> Option<&'static (u64, &'static str, Class)> {
    KINDS.iter().find(|(value, _, _)| *value == recipient_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_mailboxes_are_known() {
        let remote = [
            0x8000_0000,
            0x2_0000_0000,
            0x4_0000_0000,
            0x8_0000_0000,
            0x40_0000_0000,
        ];
        let found: Vec<u64> = KINDS
            .iter()
            .map(|(value, _, _)| *value)
            .filter(|value| is_remote(*value))
            .collect();
        assert_eq!(found, remote);
        assert!(!is_remote(128));
    }

    #[test]
    fn kinds_are_those_of_exchange() {
        for (value, name_expected, class_expected) in [
            (1, "user mailbox", Class::Recipient),
            (4, "shared mailbox", Class::Recipient),
            (2_147_483_648, "remote user mailbox", Class::Recipient),
            (34_359_738_368, "remote shared mailbox", Class::Recipient),
            (536_870_912, "discovery mailbox", Class::System),
            (68_719_476_736, "public folder mailbox", Class::System),
            (549_755_813_888, "monitoring mailbox", Class::System),
            (2_097_152, "disabled user", Class::NotMailEnabled),
            (
                3,
                "recipient of a kind unknown to this version",
                Class::Unknown,
            ),
            (
                0,
                "recipient of a kind unknown to this version",
                Class::Unknown,
            ),
        ] {
            assert_eq!(
                (name(value), class(value)),
                (name_expected, class_expected),
                "{value}"
            );
        }
    }
}
