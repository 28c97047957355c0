//! The templates that come with the program: `templates/*.j2`, by the name that a configuration uses.

/// A template that comes with the program.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// All of them.
pub fn shipped() -> &'static [Shipped] {
    &SHIPPED
}

const SHIPPED: [Shipped; 6] = [
    Shipped {
        name: "exim-lsearch",
        text: include_str!("../../../../templates/exim-lsearch.j2"),
    },
    Shipped {
        name: "haraka",
        text: include_str!("../../../../templates/haraka.j2"),
    },
    Shipped {
        name: "opensmtpd",
        text: include_str!("../../../../templates/opensmtpd.j2"),
    },
    Shipped {
        name: "qmail-validrcptto",
        text: include_str!("../../../../templates/qmail-validrcptto.j2"),
    },
    Shipped {
        name: "rspamd",
        text: include_str!("../../../../templates/rspamd.j2"),
    },
    Shipped {
        name: "sendmail-access",
        text: include_str!("../../../../templates/sendmail-access.j2"),
    },
];
