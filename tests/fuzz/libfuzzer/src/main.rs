//! The targets under libFuzzer: one program for all, of which `RCPTSYNC_FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::LazyLock;

use fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("RCPTSYNC_FUZZ_TARGET").expect("RCPTSYNC_FUZZ_TARGET names a target");
    Target::named(&name).expect("a known target")
});

libfuzzer_sys::fuzz_target!(|octets: &[u8]| (TARGET.check)(octets));
