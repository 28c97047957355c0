//! What a process inherits from whoever starts it (cron, sudo, a supervisor, a shell), where it would change what a run does.
//!
//! Not here: the environment of programs that are run, which is theirs alone (`hook`, `postfix::program`). Standard
//! descriptors that are closed are opened by Rust's own start, before anything else can take their numbers.

use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use signal_hook::consts::{SIGCHLD, SIGXFSZ};

/// Makes the same of every inheritance: to be called first.
pub fn settle() {
    // What we write has its mode from us, and must not be hidden from ourselves. What the caller hides from others stays
    // hidden, in what hooks write, too.
    let given = umask(Mode::from_raw_mode(0o077));
    umask(given.difference(Mode::RWXU));
    // Whoever ignores SIGCHLD (some supervisors do) would keep us from learning how a program ended. And a limit on the size
    // of files is to end in an error of the file, and not in our death. Without a handler both go on as they were.
    for signal in [SIGCHLD, SIGXFSZ] {
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    // A core would hold the passwords that were read.
    let limit = getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..limit
    };
    let _ = setrlimit(Resource::Core, none);
}
